# SPDX-License-Identifier: Apache-2.0
"""What ``iptables-save`` says of us: chains, the rules that lead to them, and counters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from dataplanes.iptables.chains import ALLOW, PASS, Chain, TableName
from dataplanes.iptables.names import CHAIN_PREFIX, comment
from dataplanes.iptables.ruleset import Ruleset

__all__ = ["NOTHING", "Generation", "Held", "Installed", "after", "counters", "hook", "installed", "renamed"]

Generation = Literal[0, 1]
"""Rules that are to stand beside others of ours for a moment bear other names: ``plab.`` for ``plab-``."""

_PREFIXES: Final = (CHAIN_PREFIX, f"{CHAIN_PREFIX[:-1]}.")
_TARGET = re.compile(rf"(?<=-[jg] ){re.escape(CHAIN_PREFIX)}(?=\S+$)")
_OWN = rf"{re.escape(CHAIN_PREFIX[:-1])}[-.]"
_SAVED_TABLE = re.compile(r"^\*(\w+)\n(.*?)^COMMIT$", re.MULTILINE | re.DOTALL)
_SAVED_CHAIN = re.compile(rf"^:({_OWN}\S+)", re.MULTILINE)
# A jump from a chain that is not ours into one that is.
_SAVED_HOOK = re.compile(rf"^-A ((?!{_OWN})\S+ .*-[jg] {_OWN}\S+)$", re.MULTILINE)
# A rule at which a packet's fate changes, or that logs it; what merely sets bits or walks on is not counted.
_ANSWERS = "|".join(re.escape(chain.removeprefix(CHAIN_PREFIX)) for chain in (ALLOW, PASS))
_SAVED_VERDICT = re.compile(
    rf"^\[(\d+):\d+\] -A {_OWN}(\S+) .*(?:-j DROP|-j ACCEPT|-g {_OWN}(?:{_ANSWERS})|-j LOG --log-prefix .*)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Held:
    """What of ours one table holds: chains, and rules of other chains that jump to them."""

    chains: frozenset[str]
    hooks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    """What of ours the tables of one family hold; ``generation`` None: whatever somebody may have left there."""

    tables: Mapping[TableName, Held] = field(default_factory=dict)
    generation: Generation | None = 0


NOTHING = Installed()


def renamed(text: str, generation: Generation) -> str:
    """A chain's name, or a rule with its target, as the generation bears it."""
    if generation == 0:
        return text
    if text.startswith(CHAIN_PREFIX):
        return _PREFIXES[generation] + text.removeprefix(CHAIN_PREFIX)
    return _TARGET.sub(_PREFIXES[generation], text)


def hook(base: str, chain: str, condition: str = "") -> str:
    """The rule of a built-in chain that leads to one of ours."""
    return f"{base} {condition}{comment('policylab')} -j {chain}"


def after(ruleset: Ruleset | None, generation: Generation) -> Installed:
    """What is installed once ``ruleset`` is in force."""
    if ruleset is None:
        return NOTHING
    tables = {
        name: Held(
            frozenset(renamed(chain, generation) for chain in table.chains),
            tuple(hook(base, renamed(chain, generation)) for base, chain in table.hooks.items()),
        )
        for name, table in ruleset.tables.items()
    }
    return Installed(tables, generation)


def installed(saved: str) -> Installed:
    """What of ours the output of ``iptables-save`` shows."""
    found = {
        name: Held(frozenset(_SAVED_CHAIN.findall(text)), tuple(_SAVED_HOOK.findall(text)))
        for name, text in _tables(saved)
    }
    return Installed({name: held for name, held in found.items() if held.chains or held.hooks}, None)


def adopted(saved: str) -> Installed:
    """The same of what a run left whole: its chains tell of which generation they are, unless there are both."""
    found = installed(saved)
    chains = [chain for held in found.tables.values() for chain in held.chains]
    generations: tuple[Generation, Generation] = (0, 1)
    borne = [each for each in generations if any(chain.startswith(_PREFIXES[each]) for chain in chains)]
    return Installed(found.tables, borne[0]) if len(borne) == 1 else found


def counters(saved: str, ruleset: Ruleset) -> dict[str, int]:
    """Packets that met their fate in each chain, from the output of ``iptables-save -c``, by what the chain is."""
    counted: Counter[str] = Counter()
    for name, text in _tables(saved):
        chains: Mapping[str, Chain] = ruleset.tables[name].chains if name in ruleset.tables else {}
        where = f"ipv{ruleset.family}" if name == "filter" else f"ipv{ruleset.family} {name}"
        for packets, rest in _SAVED_VERDICT.findall(text):
            chain = chains.get(CHAIN_PREFIX + rest)
            if chain is not None:
                counted[f"{where} {chain.about}"] += int(packets)
    return dict(counted)


def _tables(saved: str) -> Iterator[tuple[TableName, str]]:
    for name, text in _SAVED_TABLE.findall(saved):
        yield cast("TableName", name), text
