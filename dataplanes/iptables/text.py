# SPDX-License-Identifier: Apache-2.0
"""Rulesets as the text of one ``iptables-restore --noflush`` transaction, and what ``iptables-save`` says back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dataplanes.iptables.chains import ALLOW, FORWARD, PASS, Chain
from dataplanes.iptables.names import CHAIN_PREFIX, comment
from dataplanes.iptables.ruleset import Ruleset

__all__ = ["NOTHING", "Installed", "after", "counters", "installed", "transaction"]

_HOOK = f"{comment('policylab')} -j {FORWARD}"
_OWN = re.escape(CHAIN_PREFIX)
_SAVED_CHAIN = re.compile(rf"^:({_OWN}\S+)", re.MULTILINE)
# A jump from a chain that is not ours into one that is.
_SAVED_HOOK = re.compile(rf"^-A ((?!{_OWN})\S+ .*-[jg] {_OWN}\S+)$", re.MULTILINE)
# A rule at which a packet's fate changes, or that logs it; what merely sets bits or walks on is not counted.
_SAVED_VERDICT = re.compile(
    rf"^\[(\d+):\d+\] -A (\S+) .*(?:-j DROP|-j ACCEPT|-g {ALLOW}|-g {PASS}|-j LOG --log-prefix .*)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Installed:
    """What of ours the filter table of one family holds: chains, and rules of other chains that jump to them."""

    chains: frozenset[str] = frozenset()
    hooks: tuple[str, ...] = ()


NOTHING = Installed()


def after(ruleset: Ruleset | None) -> Installed:
    """What is installed once the transaction for ``ruleset`` is through."""
    return NOTHING if ruleset is None else Installed(frozenset(ruleset.chains), (f"FORWARD {_HOOK}",))


def transaction(ruleset: Ruleset | None, before: Installed) -> str:
    """The text that puts ``ruleset`` (None: nothing) in the place of what is installed, all in one commit.

    Every line names a chain of ours or a rule that jumps to one: what others have in the table stays as it is.
    """
    chains: Mapping[str, Chain] = {} if ruleset is None else ruleset.chains
    gone = sorted(before.chains - chains.keys())
    lines = ["*filter"]
    lines += [f":{name} - [0:0]" for name in (*chains, *gone)]
    lines += [f"-D {hook}" for hook in before.hooks]
    lines += [f"-A {chain.name} {rule}" for chain in chains.values() for rule in chain.rules]
    if ruleset is not None:
        lines.append(f"-I FORWARD 1 {_HOOK}")
    lines += [f"-X {name}" for name in gone]
    lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def installed(saved: str) -> Installed:
    """What of ours the output of ``iptables-save`` shows."""
    return Installed(frozenset(_SAVED_CHAIN.findall(saved)), tuple(_SAVED_HOOK.findall(saved)))


def counters(saved: str, ruleset: Ruleset) -> dict[str, int]:
    """Packets that met their fate in each chain, from the output of ``iptables-save -c``, by what the chain is."""
    counted: Counter[str] = Counter()
    for packets, chain in _SAVED_VERDICT.findall(saved):
        if chain in ruleset.chains:
            counted[f"ipv{ruleset.family} {ruleset.chains[chain].about}"] += int(packets)
    return dict(counted)
