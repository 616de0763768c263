# SPDX-License-Identifier: Apache-2.0
"""A chain as data, and the chains that bring a packet from the hook to its endpoints' own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from dataplanes.iptables.names import CHAIN_PREFIX, MARK_MASK, comment

__all__ = [
    "ALLOW",
    "CLEAR_MARK",
    "FORWARD",
    "PASS",
    "WORKLOAD_PREFIX",
    "Chain",
    "dispatch_chains",
    "entry_chains",
]

WORKLOAD_PREFIX = "cali"
"""How the names of all workload interfaces begin (Calico's InterfacePrefix)."""

# A longer list of interfaces is split by the next letter of their names, so that no packet walks a long one.
_DISPATCH_LENGTH = 20

FORWARD = f"{CHAIN_PREFIX}forward"
ALLOW = f"{CHAIN_PREFIX}allow"
PASS = f"{CHAIN_PREFIX}pass"
_ACCEPT = f"{CHAIN_PREFIX}accept"
_FROM = f"{CHAIN_PREFIX}from"
_TO = f"{CHAIN_PREFIX}to"

CLEAR_MARK = f"-j MARK --set-xmark 0x0/{MARK_MASK:#x}"


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain: ``rules`` are iptables rules without the chain, ``about`` is what it stands for in reports."""

    name: str
    about: str
    rules: tuple[str, ...]


def entry_chains() -> Iterator[Chain]:
    """What stands between the FORWARD hook and the endpoints; traffic without a workload goes straight through."""
    incoming, outgoing = f"-i {WORKLOAD_PREFIX}+", f"-o {WORKLOAD_PREFIX}+"
    yield Chain(
        FORWARD,
        "forwarded packets",
        (
            f"{incoming} {comment('egress of the workload that sent it')} -j {_FROM}",
            f"{outgoing} {comment('ingress of the workload that it goes to')} -j {_TO}",
            f"{incoming} {comment('every workload concerned accepted')} -g {_ACCEPT}",
            f"{outgoing} {comment('every workload concerned accepted')} -g {_ACCEPT}",
        ),
    )
    yield Chain(_ACCEPT, "accepted packets", (f"{comment('leave no mark behind')} {CLEAR_MARK}", "-j ACCEPT"))


def dispatch_chains(egress: Mapping[str, str], ingress: Mapping[str, str]) -> Iterator[Chain]:
    """From an interface to its endpoint's chain, both directions; a ``cali*`` interface that is in none drops."""
    yield from _dispatch(_FROM, "-i", egress, WORKLOAD_PREFIX)
    yield from _dispatch(_TO, "-o", ingress, WORKLOAD_PREFIX)


def _dispatch(root: str, option: str, chains: Mapping[str, str], prefix: str) -> Iterator[Chain]:
    name = root if prefix == WORKLOAD_PREFIX else f"{root}-{prefix}"
    rules: list[str] = []
    below: list[Chain] = []
    for start, interfaces in _split(sorted(chains), prefix):
        if len(interfaces) == 1:
            rules.append(f"{option} {interfaces[0]} -g {chains[interfaces[0]]}")
        else:
            rules.append(f"{option} {start}+ -g {root}-{start}")
            below += _dispatch(root, option, {interface: chains[interface] for interface in interfaces}, start)
    rules.append(f"{comment('no workload is known behind this interface')} -j DROP")
    yield Chain(name, f"dispatch {option} {prefix}+", tuple(rules))
    yield from below


def _split(interfaces: Sequence[str], prefix: str) -> Iterator[tuple[str, list[str]]]:
    """A short list one by one, a long one by the letter behind the prefix."""
    if len(interfaces) <= _DISPATCH_LENGTH:
        for interface in interfaces:
            yield interface, [interface]
        return
    for start, group in groupby(interfaces, key=lambda interface: interface[: len(prefix) + 1]):
        yield start, list(group)
