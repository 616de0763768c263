# SPDX-License-Identifier: Apache-2.0
"""Chains and tables as data, and what every part of the rules has in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dataplanes.api import NodeSettings
from dataplanes.iptables.names import ACCEPTED, CHAIN_PREFIX, MARK_MASK, PASSED, comment

__all__ = [
    "ACCEPT",
    "ALLOW",
    "CLEAR_MARK",
    "IF_ACCEPTED",
    "PASS",
    "Chain",
    "Table",
    "TableName",
    "accept_chain",
    "answer_chains",
    "conntrack_rules",
    "table",
]

TableName = Literal["raw", "mangle", "filter", "nat"]

ALLOW = f"{CHAIN_PREFIX}allow"
PASS = f"{CHAIN_PREFIX}pass"
ACCEPT = f"{CHAIN_PREFIX}accept"

CLEAR_MARK = f"-j MARK --set-xmark 0x0/{MARK_MASK:#x}"
IF_ACCEPTED = f"-m mark --mark {ACCEPTED:#x}/{ACCEPTED:#x}"
_ESTABLISHED = f"-m conntrack --ctstate RELATED,ESTABLISHED {comment('part of a flow that was accepted')} -j RETURN"
_INVALID = f"-m conntrack --ctstate INVALID {comment('conntrack cannot place it')} -j DROP"


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain: ``rules`` are iptables rules without the chain, ``about`` is what it stands for in reports."""

    name: str
    about: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """What is to stand in one table: chains by name, and which of them each built-in chain jumps to first of all."""

    chains: Mapping[str, Chain]
    hooks: Mapping[str, str]


def table(hooks: Mapping[str, str], *chains: Chain) -> Table:
    """A table of these chains, in the order in which they are to be read."""
    return Table({chain.name: chain for chain in chains}, hooks)


def accept_chain() -> Chain:
    """Where filter sends what is accepted."""
    return Chain(ACCEPT, "accepted packets", (f"{comment('leave no mark behind')} {CLEAR_MARK}", "-j ACCEPT"))


def answer_chains() -> Iterator[Chain]:
    """How a rule answers: by a mark bit that its policy's callers read."""
    yield Chain(ALLOW, "allow", (f"-j MARK --set-xmark {ACCEPTED:#x}/{ACCEPTED:#x}",))
    yield Chain(PASS, "pass", (f"-j MARK --set-xmark {PASSED:#x}/{PASSED:#x}",))


def conntrack_rules(settings: NodeSettings) -> tuple[str, ...]:
    """How every chain begins that judges tracked packets: what belongs to an accepted flow is accepted.

    Packets that conntrack calls INVALID are left to the policy unless the settings say otherwise, such as an ICMP
    echo reply without a request or protocol 1 over IPv6.
    """
    return (_ESTABLISHED, _INVALID) if settings.drop_invalid else (_ESTABLISHED,)
