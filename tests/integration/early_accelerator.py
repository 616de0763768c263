# SPDX-License-Identifier: Apache-2.0
"""An accelerator for tests: it drops denied networks ahead of the dataplane, by iptables rules of its own.

It takes up the first untracked policy of the first tier on an interface of the host, when its first rule denies
networks and asks for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from dataplanes.api import (
    Action,
    Capability,
    DataplaneError,
    Evidence,
    Net,
    Node,
    Planned,
    Snapshot,
    SnapshotDelta,
    SnapshotRule,
    SnapshotSide,
)

Drop = tuple[str, Net]
"""An interface, and a network of which nothing may come in by it."""


class EarlyAccelerator:
    name: ClassVar[str] = "early"
    api_version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, node: Node) -> None:
        self._node = node
        self._drops: set[Drop] = set()
        self._wanted: set[Drop] = set()
        self._suspended = False

    @classmethod
    def plan(cls, snapshot: Snapshot) -> Sequence[Planned]:
        dropped = {interface for interface, _ in _drops(snapshot)}
        return [
            Planned(interface, interface in dropped, "first untracked rule denies networks, or does not")
            for interface in snapshot.host_endpoints
        ]

    def start(self) -> None:
        pass

    def prepare(self, snapshot: Snapshot, _delta: SnapshotDelta | None = None) -> None:
        self._hold(self._drops & set(_drops(snapshot)))

    def apply(self, snapshot: Snapshot, _delta: SnapshotDelta | None = None) -> None:
        self._wanted = set(_drops(snapshot))
        if not self._suspended:
            self._hold(self._wanted)

    def suspend(self) -> None:
        self._suspended = True
        self._hold(set())

    def resume(self) -> None:
        self._suspended = False
        self._hold(self._wanted)

    def stop(self) -> None:
        self._hold(set())

    def evidence(self) -> Evidence:
        counters: dict[str, int] = {}
        listings = []
        for version in (4, 6):
            listing = self._iptables(version, "-L", "PREROUTING", "-vnx")
            listings.append(listing)
            for line in listing.splitlines():
                words = line.split()
                if "early" in words:
                    name = f"{words[words.index('early') - 1]}.dropped"
                    interface = next(word for word in words if word.startswith(("eth", "cali")))
                    key = f"{interface}.{name}"
                    counters[key] = counters.get(key, 0) + int(words[0])
        return Evidence(counters, "\n".join(listings), {"early.suspended": str(self._suspended)})

    def _hold(self, drops: set[Drop]) -> None:
        # Put anew even where they stand already: the dataplane may have gone before them.
        for interface, net in self._drops:
            self._iptables(net.version, "-D", *self._rule(interface, net))
        for interface, net in drops:
            self._iptables(net.version, "-I", *self._rule(interface, net))
        self._drops = drops

    @staticmethod
    def _rule(interface: str, net: Net) -> tuple[str, ...]:
        comment = ("-m", "comment", "--comment", "early")
        return ("PREROUTING", "-i", interface, "-s", str(net), *comment, "-j", "DROP")

    def _iptables(self, version: int, *words: str) -> str:
        command = "iptables-nft" if version == 4 else "ip6tables-nft"
        done = self._node.run((command, "-w", "-t", "raw", *words))
        if done.returncode != 0:
            raise DataplaneError(f"{command} failed: {done.stderr}", place=f"node {self._node.name}")
        return done.stdout


def _drops(snapshot: Snapshot) -> Iterator[Drop]:
    for interface, endpoint in snapshot.host_endpoints.items():
        for tier in endpoint.untracked_tiers[:1]:
            for policy_id in tier.ingress[:1]:
                rules = snapshot.policies[policy_id].ingress
                for rule in rules[:1]:
                    nets = rule.source.nets
                    if rule == SnapshotRule(Action.DENY, rule.ip_version, source=SnapshotSide(nets=nets)):
                        yield from ((interface, net) for net in nets)


class IdleAccelerator(EarlyAccelerator):
    """Claims, and leaves everything to the dataplane."""

    name = "idle"

    def _hold(self, drops: set[Drop]) -> None:
        pass

    def evidence(self) -> Evidence:
        return Evidence({"eth0.*.dropped": 0})


class StaleAccelerator(EarlyAccelerator):
    """Gives nothing up."""

    name = "stale"

    def prepare(self, snapshot: Snapshot, _delta: SnapshotDelta | None = None) -> None:
        pass

    def _hold(self, drops: set[Drop]) -> None:
        super()._hold(drops | (self._drops if not self._suspended else set()))
