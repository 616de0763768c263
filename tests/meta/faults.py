# SPDX-License-Identifier: Apache-2.0
"""Dataplanes broken on purpose: a fault is laid over a sound dataplane, whichever it is.

The sound one still does all the work. What is changed is what it is told (the snapshot, or the step from the one
in force to the next), or the way of the packets around it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from dataplanes.api import Capability, Dataplane, Evidence, Node, Snapshot, SnapshotDelta

__all__ = ["Detour", "Door", "Fault", "Obstacle", "Switch", "both_families", "lay"]


@dataclass(frozen=True, slots=True)
class Detour:
    """An iptables rule of someone else's, at the top of a built-in chain of the node.

    ``command`` is e.g. ``ip6tables-nft``; ``rule`` is all that follows the chain.
    """

    command: str
    table: str
    chain: str
    rule: str

    def lay(self, node: Node) -> None:
        """Put the rule first, wherever it stood before."""
        self.lift(node)
        done = node.run((self.command, "-t", self.table, "-I", self.chain, "1", *self.rule.split()))
        if done.returncode != 0:
            raise RuntimeError(f"{self}: {done.stderr}")

    def lift(self, node: Node) -> None:
        """Take the rule away; no matter if it is not there."""
        node.run((self.command, "-t", self.table, "-D", self.chain, *self.rule.split()))


@dataclass(frozen=True, slots=True)
class Door:
    """A rule of someone else's, at the top of every chain that tables of family inet have at a hook.

    In nftables no table can open what another one closes: who wants a way past a dataplane has to reach into its own.
    """

    hook: str
    rule: str

    def lay(self, node: Node) -> None:
        """Put the rule first, wherever it stood before."""
        self.lift(node)
        for chain in self._found(node, "chain"):
            if chain.get("hook") == self.hook:
                place = ("inet", chain["table"], chain["name"])
                done = node.run(("nft", "insert", "rule", *place, *self.rule.split(), "comment", f'"{self._name}"'))
                if done.returncode != 0:
                    raise RuntimeError(f"{self}: {done.stderr}")

    def lift(self, node: Node) -> None:
        """Take the rule away; no matter if it is not there."""
        for rule in self._found(node, "rule"):
            if rule.get("comment") == self._name:
                node.run(("nft", "delete", "rule", "inet", rule["table"], rule["chain"], "handle", str(rule["handle"])))

    @property
    def _name(self) -> str:
        return f"door: {self.rule}"

    @staticmethod
    def _found(node: Node, kind: str) -> list[dict[str, Any]]:
        listed = json.loads(node.run(("nft", "-j", "list", "ruleset", "inet")).stdout)["nftables"]
        return [each[kind] for each in listed if kind in each]


@dataclass(frozen=True, slots=True)
class Switch:
    """A sysctl of the node that is nobody's business but its own."""

    sysctl: str
    on: str
    off: str

    def lay(self, node: Node) -> None:
        """Turn it on."""
        node.write_sysctl(self.sysctl, self.on)

    def lift(self, node: Node) -> None:
        """Turn it off."""
        node.write_sysctl(self.sysctl, self.off)


class Obstacle(Protocol):
    """What is laid in the way of a node's packets, and lifted again."""

    def lay(self, node: Node) -> None: ...

    def lift(self, node: Node) -> None: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake, made in exactly one of four places, and the expectation that must catch it.

    ``snapshot`` changes every snapshot; ``step`` is asked when one is in force already, and gets that and the
    next one; ``path`` is laid anew after each apply, because many a dataplane then puts its own rules first; ``during``
    puts a snapshot in force in another way than at once.
    """

    name: str
    wrong: str
    caught_by: str
    snapshot: Callable[[Snapshot], Snapshot] | None = None
    step: Callable[[Snapshot, Snapshot], Snapshot] | None = None
    path: tuple[Obstacle, ...] = ()
    during: Callable[[Dataplane, Node, Snapshot], None] | None = None

    def __post_init__(self) -> None:
        if sum(map(bool, (self.snapshot, self.step, self.path, self.during))) != 1:
            raise ValueError(f"{self.name} is not made in exactly one place")

    def instead_of(self, wanted: Snapshot, in_force: Snapshot | None) -> Snapshot:
        """What the sound dataplane is told when it should be told ``wanted``."""
        if self.snapshot is not None:
            return self.snapshot(wanted)
        if self.step is not None and in_force is not None:
            return self.step(in_force, wanted)
        return wanted


class _Broken:
    """A dataplane with a fault over it; ``lay`` makes a class of its own for each pair."""

    name: ClassVar[str]
    api_version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[Capability]]
    fault: ClassVar[Fault]
    sound: ClassVar[type[Dataplane]]

    def __init__(self, node: Node) -> None:
        self._node = node
        self._plane = self.sound(node)
        self._in_force: Snapshot | None = None

    def start(self) -> None:
        self._plane.start()

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:  # noqa: ARG002 - of what it is not told
        told = self.fault.instead_of(snapshot, self._in_force)
        if self.fault.during is None or self._in_force is None:
            self._plane.apply(told)
        else:
            self.fault.during(self._plane, self._node, told)
        self._in_force = told
        for detour in self.fault.path:
            detour.lay(self._node)

    def stop(self) -> None:
        for detour in self.fault.path:
            detour.lift(self._node)
        self._plane.stop()

    def evidence(self) -> Evidence:
        return self._plane.evidence()


def lay(fault: Fault, dataplane: type[Dataplane]) -> type[Dataplane]:
    """The dataplane with the fault, named after both: ``iptables+forgets-ipv6``."""
    name = f"{dataplane.name}+{fault.name}"
    body = {"name": name, "capabilities": dataplane.capabilities, "fault": fault, "sound": dataplane}
    return type(name, (_Broken,), body)


def both_families(backends: tuple[str, ...], table: str, chain: str, rule: str) -> Iterator[Detour]:
    """The same rule for IPv4 and IPv6, on each of the backends ("nft", "legacy")."""
    for backend in backends:
        for command in ("iptables", "ip6tables"):
            yield Detour(f"{command}-{backend}", table, chain, rule)
