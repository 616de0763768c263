# SPDX-License-Identifier: Apache-2.0
"""The accelerator: untracked denials of host endpoints, dropped in the driver."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from dataplanes.api import Capability, Evidence, HostError, Node, Planned, ProgramKind, Snapshot, SnapshotDelta
from dataplanes.xdp.filter import InterfaceFilter
from dataplanes.xdp.layout import SOURCE, VALUES, program_name
from dataplanes.xdp.lists import Kind
from dataplanes.xdp.plan import InterfacePlan, plan_of

__all__ = ["XdpAccelerator"]

FORCE = "POLICYLAB_XDP_LOOKUP"
"""The environment variable that says how sources are looked up, whatever their number."""


class XdpAccelerator:
    """Drops in XDP what untracked policy denies, for as long as the rules beneath say the same.

    One program an interface, attached when there is a rule to take up, even while its set is empty. What is detached
    or taken out of a map by somebody else is put back by the next ``apply`` that does not say what has changed.
    """

    name: ClassVar[str] = "xdp"
    api_version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.IPV4,
            Capability.IPV6,
            Capability.TCP,
            Capability.UDP,
            Capability.SCTP,
            Capability.ICMP,
            Capability.OTHER_PROTOCOLS,
            Capability.NETWORK_SETS,
            Capability.TIERS,
            Capability.LIVE_UPDATE,
            Capability.HOST_ENDPOINTS,
            Capability.APPLY_ON_FORWARD,
            Capability.DO_NOT_TRACK,
        }
    )

    _filter: ClassVar[type[InterfaceFilter]] = InterfaceFilter

    def __init__(self, node: Node) -> None:
        self._node = node
        self._filters: dict[str, InterfaceFilter] = {}
        self._suspended = False
        self._repaired = 0

    @classmethod
    def plan(cls, snapshot: Snapshot) -> Sequence[Planned]:
        """What is dropped early and what is not, rule by rule."""
        return plan_of(snapshot)[1]

    def start(self) -> None:
        """Load a program and let it go again: then bcc, headers or what was kept of them are there, and so is BPF."""
        name = program_name(Kind.TRIE, Kind.TRIE, conditions=False)
        self._node.load_bpf(SOURCE, {name: ProgramKind.XDP}, constants=VALUES).close()
        _forced()

    def prepare(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Give up what the coming snapshot does not deny as well."""
        plans = self._plans(snapshot)
        self._close(name for name in self._filters if name not in plans)
        for interface, each in self._filters.items():
            each.narrow(plans[interface], delta.members if delta else {})

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        """Take up what the snapshot in force denies."""
        plans = self._plans(snapshot)
        self._close(name for name in self._filters if name not in plans)
        for interface, plan in plans.items():
            if interface in self._filters:
                self._filters[interface].widen(plan, delta.members if delta else {})
            else:
                attached = not self._suspended
                made = self._filter(self._node, interface, plan, _forced(), attached=attached)
                self._filters[interface] = made
        if delta is None or delta.is_empty:
            self._repaired += sum(each.repair() for each in self._filters.values())

    def stop(self) -> None:
        """Take all programs and maps away."""
        self._close(list(self._filters))

    def suspend(self) -> None:
        """Take all programs off until ``resume``; maps go on following the policy."""
        self._suspended = True
        for each in self._filters.values():
            each.suspend()

    def resume(self) -> None:
        """Put all programs to work again."""
        self._suspended = False
        for each in self._filters.values():
            each.resume()

    def evidence(self) -> Evidence:
        """Packets by interface, outcome and reason; mode, ways of looking up and losses as facts."""
        counters: dict[str, int] = {}
        facts = {"repaired": str(self._repaired)}
        for interface, each in self._filters.items():
            told = each.counters()
            counters |= {f"{interface}.xdp.{cause}": number for cause, number in told.items()}
            counters[f"{interface}.xdp.dropped"] = sum(told[cause] for cause in told if cause.startswith("dropped"))
            facts |= {f"{interface}.{name}": value for name, value in each.facts().items()}
        return Evidence(counters, facts=facts)

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        """What is to be dropped early on each interface."""
        return plan_of(snapshot)[0]

    def _close(self, interfaces: Iterable[str]) -> None:
        for interface in list(interfaces):
            self._filters.pop(interface).close()


def _forced() -> Kind | None:
    """The way of looking up that the environment asks for; raises HostError for one that is not known."""
    word = os.environ.get(FORCE)
    if not word:
        return None
    known = {kind.name.lower(): kind for kind in Kind}
    if word not in known:
        raise HostError("no such way of looking sources up", place=FORCE, value=word, allowed=", ".join(known))
    return known[word]
