# SPDX-License-Identifier: Apache-2.0
"""Where the kernel enters the table, and how a packet walks from there.

    raw     prerouting           from a workload: nothing with a source that is not its own
            prerouting, output   doNotTrack policies
    mangle  prerouting           preDNAT policies
    filter  input                from a workload: its egress policy, then the endpoint-to-host action
                                 otherwise, unless accepted early: the host endpoint it comes in by
            forward              host endpoint it comes in by (unless accepted early), workload that sent it, workload
                                 that it goes to, host endpoint that it leaves by
            output               unless accepted early, or to a workload: the host endpoint that it leaves by
    mangle  postrouting          what the node sent and DNAT sent elsewhere: the host endpoint that it leaves by
    nat     postrouting          masquerade

Whatever is asked returns only when it accepts the packet or has no say in it, and drops it otherwise; so what comes to
the end was accepted by every endpoint concerned, and goes on to the tables of others. Only raw prerouting, input and
forward are always there. A host endpoint brings output and mangle postrouting, since the way out of what DNAT has sent
elsewhere is not known in output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from dataplanes.api import UDP, Action, Direction, PortRange, Snapshot, SnapshotRule, SnapshotSide
from dataplanes.nftables.hosts import Hosts, Stage, concerned
from dataplanes.nftables.matches import rules_of
from dataplanes.nftables.names import MARK_MASK, PRE_DNAT, REROUTED, UNTRACKED
from dataplanes.nftables.parts import Chain, Hooked, Scene
from dataplanes.nftables.words import (
    ACCEPT,
    CLEAR_MARK,
    COUNT,
    DROP,
    Rule,
    clear_bits,
    goto,
    has_bits,
    jump,
    lacks_bits,
    match,
    of_family,
    rule,
    set_bits,
)
from dataplanes.nftables.workloads import FROM_WORKLOAD, TO_WORKLOAD, Workloads, WorkloadsToNode

__all__ = ["Entry", "every_entry", "wanted_entries"]

_VXLAN_PORT = 4789
# The kernel's own priorities (NF_IP_PRI_*), by the names that iptables has for them.
_RAW, _MANGLE, _FILTER, _SNAT = -300, -150, 0, 100
_PLACES: Final[Mapping[str, Hooked]] = {
    "raw-prerouting": Hooked("prerouting", _RAW),
    "raw-output": Hooked("output", _RAW),
    "mangle-prerouting": Hooked("prerouting", _MANGLE),
    "mangle-postrouting": Hooked("postrouting", _MANGLE),
    "filter-input": Hooked("input", _FILTER),
    "filter-forward": Hooked("forward", _FILTER),
    "filter-output": Hooked("output", _FILTER),
    "nat-postrouting": Hooked("postrouting", _SNAT, "nat"),
}
# Packets to that address would leave by another interface (Felix: rules/static.go).
_NO_WAY_BACK: Final = match({"fib": {"result": "oif", "flags": ["saddr", "mark", "iif"]}}, 0)
_DNATED: Final = match({"ct": {"key": "status"}}, "dnat", "in")


@dataclass(frozen=True, slots=True)
class Entry:
    """A chain that the kernel enters by itself."""

    name: str

    def define(self, scene: Scene) -> Chain:
        """Its rules; where IPv6 is left alone, it is at every one of them."""
        rules = tuple(_RULES[self.name](scene))
        if not scene.snapshot.settings.ipv6:
            rules = (rule(of_family(6), ACCEPT, about="IPv6 is not ours here"), *rules)
        return Chain(self.name, f"packets in {self.name}", rules, _PLACES[self.name])


def every_entry() -> frozenset[Entry]:
    """All that there may be."""
    return frozenset(map(Entry, _PLACES))


def wanted_entries(snapshot: Snapshot) -> frozenset[Entry]:
    """Those that a snapshot needs."""
    names = {"raw-prerouting", "filter-input", "filter-forward"}
    if snapshot.host_endpoints:
        names |= {"filter-output", "mangle-postrouting"}
    if _pre_dnat(snapshot):
        names.add("mangle-prerouting")
    if _untracked(snapshot):
        names.add("raw-output")
    if snapshot.settings.masquerade:
        names.add("nat-postrouting")
    return frozenset(map(Entry, names))


def _untracked(snapshot: Snapshot) -> bool:
    return bool(concerned(snapshot, Stage.UNTRACKED, Direction.INGRESS))


def _pre_dnat(snapshot: Snapshot) -> bool:
    return bool(concerned(snapshot, Stage.PRE_DNAT, Direction.INGRESS))


def _early(snapshot: Snapshot) -> int:
    """The mark bits by which a hook knows what an earlier one accepted."""
    return (UNTRACKED if _untracked(snapshot) else 0) | (PRE_DNAT if _pre_dnat(snapshot) else 0)


def _tunnelled(scene: Scene, direction: Direction) -> Iterator[Rule]:
    """What nodes carry for each other is let through; what others send by the same port is not taken for it."""
    peers = tuple(ip_network(address) for address in scene.snapshot.settings.tunnel_peers)
    if not peers:
        return
    inbound, port = direction is Direction.INGRESS, (PortRange(_VXLAN_PORT, _VXLAN_PORT),)
    carried = SnapshotRule(
        Action.ALLOW,
        protocol=UDP,
        source=SnapshotSide(nets=peers if inbound else ()),
        destination=SnapshotSide(nets=() if inbound else peers, ports=port),
    )
    yield from rules_of(carried, scene, (CLEAR_MARK, ACCEPT), "VXLAN between nodes")
    if inbound:
        yield from rules_of(replace(carried, source=SnapshotSide()), scene, (DROP,), "VXLAN of anybody else")


def _input(scene: Scene) -> Iterator[Rule]:
    yield from _tunnelled(scene, Direction.INGRESS)
    yield rule(FROM_WORKLOAD, goto(scene.use(WorkloadsToNode())), about="from a workload of this node")
    if scene.snapshot.host_endpoints:
        if _early(scene.snapshot):
            yield rule(has_bits(_early(scene.snapshot)), CLEAR_MARK, ACCEPT, about="accepted early")
        yield rule(jump(scene.use(Hosts(Stage.NORMAL, Direction.INGRESS))), about="host endpoint that it comes in by")
        yield _left_clean()


def _forward(scene: Scene) -> Iterator[Rule]:
    snapshot = scene.snapshot
    if concerned(snapshot, Stage.FORWARD, Direction.INGRESS):
        undecided = (lacks_bits(_early(snapshot)),) if _early(snapshot) else ()
        entering = jump(scene.use(Hosts(Stage.FORWARD, Direction.INGRESS)))
        yield rule(*undecided, entering, about="host endpoint that it comes in by")
    sender, receiver = (jump(scene.use(Workloads(way))) for way in (Direction.EGRESS, Direction.INGRESS))
    yield rule(FROM_WORKLOAD, sender, about="egress of the workload that sent it")
    yield rule(TO_WORKLOAD, receiver, about="ingress of the workload that it goes to")
    if concerned(snapshot, Stage.FORWARD, Direction.EGRESS):
        leaving = jump(scene.use(Hosts(Stage.FORWARD, Direction.EGRESS)))
        yield rule(leaving, about="host endpoint that it leaves by")
    if snapshot.host_endpoints:
        yield _left_clean()
    else:  # a packet that no endpoint is concerned with keeps what others may have marked it with
        yield from (rule(condition, CLEAR_MARK, about=_CLEAN) for condition in (FROM_WORKLOAD, TO_WORKLOAD))


def _output(scene: Scene) -> Iterator[Rule]:
    if _untracked(scene.snapshot):
        yield rule(has_bits(UNTRACKED), CLEAR_MARK, ACCEPT, about="accepted ahead of conntrack")
    yield from _tunnelled(scene, Direction.EGRESS)
    yield rule(_DNATED, set_bits(REROUTED, clear=MARK_MASK), ACCEPT, about="judged behind routing")
    yield rule(TO_WORKLOAD, ACCEPT, about="the node always reaches its workloads")
    yield rule(jump(scene.use(Hosts(Stage.NORMAL, Direction.EGRESS))), about="host endpoint that it leaves by")
    yield _left_clean()


def _behind_dnat(scene: Scene) -> Iterator[Rule]:
    yield rule(lacks_bits(REROUTED), ACCEPT, about="already judged")
    yield rule(TO_WORKLOAD, CLEAR_MARK, ACCEPT, about="the node always reaches its workloads")
    yield rule(jump(scene.use(Hosts(Stage.NORMAL, Direction.EGRESS))), about="host endpoint that it leaves by")
    yield _left_clean()


def _ahead_of_dnat(scene: Scene) -> Iterator[Rule]:
    yield _unforged(PRE_DNAT)
    if _untracked(scene.snapshot):
        yield rule(has_bits(UNTRACKED), ACCEPT, about="accepted ahead of conntrack")
    yield rule(jump(scene.use(Hosts(Stage.PRE_DNAT, Direction.INGRESS))))
    yield _left_clean(PRE_DNAT)


def _arriving(scene: Scene) -> Iterator[Rule]:
    yield rule(FROM_WORKLOAD, _NO_WAY_BACK, COUNT, DROP, about="not the address of this workload")
    if not _untracked(scene.snapshot):
        return
    yield _unforged(UNTRACKED)
    yield rule(FROM_WORKLOAD, ACCEPT, about="what workloads send is always tracked")
    yield rule(jump(scene.use(Hosts(Stage.UNTRACKED, Direction.INGRESS))))
    yield _left_clean(UNTRACKED)


def _setting_out(scene: Scene) -> Iterator[Rule]:
    yield _unforged(UNTRACKED)
    yield rule(jump(scene.use(Hosts(Stage.UNTRACKED, Direction.EGRESS))))
    yield _left_clean(UNTRACKED)


def _masquerade(scene: Scene) -> Iterator[Rule]:
    """What leaves the pools for an address in no pool takes the node's own address."""
    settings = scene.snapshot.settings
    leaving = SnapshotRule(
        Action.ALLOW,
        source=SnapshotSide(nets=settings.masquerade),
        destination=SnapshotSide(not_nets=settings.pools),
    )
    yield from rules_of(leaving, scene, ({"masquerade": None},), "natOutgoing: from a pool to none")


_RULES: Final[Mapping[str, Callable[[Scene], Iterator[Rule]]]] = {
    "raw-prerouting": _arriving,
    "raw-output": _setting_out,
    "mangle-prerouting": _ahead_of_dnat,
    "mangle-postrouting": _behind_dnat,
    "filter-input": _input,
    "filter-forward": _forward,
    "filter-output": _output,
    "nat-postrouting": _masquerade,
}
_CLEAN = "leave no mark behind"


def _unforged(bit: int) -> Rule:
    return rule(clear_bits(bit), about="nobody else sets this bit")


def _left_clean(kept: int = 0) -> Rule:
    return rule(clear_bits(MARK_MASK & ~kept), about=_CLEAN)
