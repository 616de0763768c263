# SPDX-License-Identifier: Apache-2.0
"""A snapshot as chains, one family at a time: pure data, nothing applied.

How a packet walks (every chain carries the prefix ``plab-``), and which tables there are for what:

    raw     PREROUTING           from a workload: nothing with a source that is not its own
            PREROUTING, OUTPUT   doNotTrack policies: raw-in, raw-out
    mangle  PREROUTING           preDNAT policies: dnat-in
    filter  INPUT                from a workload: to-host (from, then the endpoint-to-host action)
                                 otherwise, unless accepted in raw or mangle: host-in
            FORWARD              fwd-in (unless accepted in raw or mangle), from, to, fwd-out
            OUTPUT               unless accepted in raw, or to a workload: host-out
    mangle  POSTROUTING          what the node sent and DNAT sent elsewhere: host-out
    nat     POSTROUTING          masquerade

and within them

    from    -> egress-INTERFACE  -> te-TIER -> pe-POLICY ...  -> re-PROFILE ...
    to      -> ingress-INTERFACE -> ti-TIER -> pi-POLICY ...  -> ri-PROFILE ...
    host-in -> host-in-INTERFACE -> failsafe-in, then the same as ingress

A chain in that place returns only when it accepts the packet or has no say in it, and drops it otherwise; so what
comes to the end of FORWARD was accepted by every endpoint concerned. Only filter and raw PREROUTING are always there. A
host endpoint brings mangle, since the way out of what DNAT has sent elsewhere is not known in filter OUTPUT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network

from dataplanes.api import UDP, Action, Direction, PortRange, Snapshot, SnapshotRule, SnapshotSide
from dataplanes.iptables.chains import ACCEPT, Chain, Table, TableName, accept_chain, answer_chains, table
from dataplanes.iptables.hosts import (
    EVERY_OTHER,
    HostChains,
    host_interfaces,
    on_interface,
    pre_dnat_hosts,
    untracked_hosts,
)
from dataplanes.iptables.names import CHAIN_PREFIX, MARK_MASK, PRE_DNAT, REROUTED, SET_PREFIX, UNTRACKED, comment
from dataplanes.iptables.policies import PolicyChains
from dataplanes.iptables.sets import Family, KernelSet, SetCollector
from dataplanes.iptables.workloads import FROM, TO, TO_HOST, WORKLOAD_PREFIX, to_host_chain, workload_chains

__all__ = ["Ruleset", "render"]

_VXLAN_PORT = 4789
_PREROUTING, _POSTROUTING = f"{CHAIN_PREFIX}prerouting", f"{CHAIN_PREFIX}postrouting"
_INPUT, _FORWARD, _OUTPUT = f"{CHAIN_PREFIX}input", f"{CHAIN_PREFIX}forward", f"{CHAIN_PREFIX}output"
_FROM_WORKLOAD, _TO_WORKLOAD = f"-i {WORKLOAD_PREFIX}+", f"-o {WORKLOAD_PREFIX}+"

# By the way back: packets to that address would leave by another interface (Felix: rules/static.go).
_UNSPOOFED = f"{_FROM_WORKLOAD} -m rpfilter --validmark --invert {comment('not the address of this workload')} -j DROP"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The tables of one family that need be, with chains in the order in which they are read, and their sets."""

    family: Family
    tables: Mapping[TableName, Table]
    sets: Mapping[str, KernelSet]


def render(snapshot: Snapshot, family: Family, set_prefix: str = SET_PREFIX) -> Ruleset:
    """The ruleset of a family; raises DataplaneError for what iptables cannot express."""
    renderer = _Renderer(snapshot, family, set_prefix)
    return Ruleset(family, dict(renderer.tables()), renderer.sets.sets)


class _Renderer:
    def __init__(self, snapshot: Snapshot, family: Family, set_prefix: str) -> None:
        self._snapshot = snapshot
        self._family = family
        self._hosts = snapshot.host_endpoints
        self._untracked = bool(untracked_hosts(self._hosts))
        self._pre_dnat = bool(pre_dnat_hosts(self._hosts))
        self.sets = SetCollector(family, snapshot.ip_sets, set_prefix)

    def tables(self) -> Iterator[tuple[TableName, Table]]:
        yield "filter", self._filter()
        if self._hosts:
            yield "mangle", self._mangle()
        yield "raw", self._raw() if self._untracked else _raw_without_policies()
        masquerade = tuple(self._masquerade())
        if masquerade:
            yield "nat", table({"POSTROUTING": _POSTROUTING}, Chain(_POSTROUTING, "masquerade", masquerade))

    def _policies(self) -> PolicyChains:
        return PolicyChains(self._snapshot, self._family, self.sets)

    def _filter(self) -> Table:
        policies = self._policies()
        hosts = HostChains(policies)
        hooks = {"INPUT": _INPUT, "FORWARD": _FORWARD}
        chains = [
            Chain(_INPUT, "packets to the node", tuple(self._input(hosts))),
            Chain(_FORWARD, "forwarded packets", tuple(self._forward(hosts))),
        ]
        if self._hosts:
            hooks["OUTPUT"] = _OUTPUT
            chains.append(Chain(_OUTPUT, "packets of the node", tuple(self._output(hosts))))
        chains += [to_host_chain(policies), accept_chain(), *answer_chains(), *workload_chains(policies)]
        return table(hooks, *chains, *hosts.chains(), *policies.chains())

    def _early(self) -> int:
        """The mark bits by which filter knows what an earlier table accepted."""
        return (UNTRACKED if self._untracked else 0) | (PRE_DNAT if self._pre_dnat else 0)

    def _tunnelled(self, direction: Direction) -> Iterator[str]:
        """What nodes carry for each other is let through; what others send by the same port is not taken for it."""
        peers = tuple(ip_network(address) for address in self._snapshot.settings.tunnel_peers)
        if not any(net.version == self._family for net in peers):
            return
        inbound, port = direction is Direction.INGRESS, (PortRange(_VXLAN_PORT, _VXLAN_PORT),)
        carried = SnapshotRule(
            Action.ALLOW,
            protocol=UDP,
            source=SnapshotSide(nets=peers if inbound else ()),
            destination=SnapshotSide(nets=() if inbound else peers, ports=port),
        )
        yield from self._policies().lines(carried, f"-g {ACCEPT}", "VXLAN between nodes")
        if inbound:
            forged = replace(carried, source=SnapshotSide())
            yield from self._policies().lines(forged, "-j DROP", "VXLAN of anybody else")

    def _input(self, hosts: HostChains) -> Iterator[str]:
        yield from self._tunnelled(Direction.INGRESS)
        yield f"{_FROM_WORKLOAD} {comment('from a workload of this node')} -g {TO_HOST}"
        if self._early():
            yield f"-m mark ! --mark 0x0/{self._early():#x} {comment('accepted in raw or mangle')} -g {ACCEPT}"
        if self._hosts:
            yield f"-j {hosts.normal(Direction.INGRESS, f'-g {ACCEPT}')}"

    def _forward(self, hosts: HostChains) -> Iterator[str]:
        entering, leaving = hosts.forwarded(Direction.INGRESS), hosts.forwarded(Direction.EGRESS)
        if entering:
            early = f"-m mark --mark 0x0/{self._early():#x} " if self._early() else ""
            yield f"{early}{comment('host endpoint that it comes in by')} -j {entering}"
        yield f"{_FROM_WORKLOAD} {comment('egress of the workload that sent it')} -j {FROM}"
        yield f"{_TO_WORKLOAD} {comment('ingress of the workload that it goes to')} -j {TO}"
        if leaving:
            yield f"{comment('host endpoint that it leaves by')} -j {leaving}"
        yield from self._accept_forwarded()

    def _accept_forwarded(self) -> Iterator[str]:
        """What no endpoint is concerned with goes straight on to the node's own rules."""
        accept = f"{comment('every endpoint concerned accepted')} -g {ACCEPT}"
        if EVERY_OTHER in self._hosts:
            yield accept
            return
        yield f"{_FROM_WORKLOAD} {accept}"
        yield f"{_TO_WORKLOAD} {accept}"
        for interface in host_interfaces(self._hosts):
            yield from (f"{on_interface(option, interface)}{accept}" for option in ("-i", "-o"))

    def _output(self, hosts: HostChains) -> Iterator[str]:
        if self._untracked:
            yield f"-m mark --mark {UNTRACKED:#x}/{UNTRACKED:#x} {comment('accepted in raw')} -g {ACCEPT}"
        yield from self._tunnelled(Direction.EGRESS)
        sent_elsewhere = f"-m conntrack --ctstate DNAT {comment('judged behind routing, in mangle')}"
        yield f"{sent_elsewhere} -j MARK --set-xmark {REROUTED:#x}/{MARK_MASK:#x}"
        yield f"{sent_elsewhere} -j RETURN"
        yield f"{_TO_WORKLOAD} {comment('the node always reaches its workloads')} -j RETURN"
        yield f"-j {hosts.normal(Direction.EGRESS, f'-g {ACCEPT}')}"

    def _mangle(self) -> Table:
        policies = self._policies()
        hosts = HostChains(policies)
        chains = []
        hooks = {"POSTROUTING": _POSTROUTING}
        if self._pre_dnat:
            hooks["PREROUTING"] = _PREROUTING
            chains.append(Chain(_PREROUTING, "packets ahead of DNAT", tuple(self._ahead_of_dnat(hosts))))
        rerouted = f"-m mark --mark {REROUTED:#x}/{REROUTED:#x}"
        rules = (
            f"-m mark --mark 0x0/{REROUTED:#x} {comment('already judged, in filter')} -j RETURN",
            f"{_TO_WORKLOAD} {comment('the node always reaches its workloads')} -j MARK --set-xmark 0x0/{MARK_MASK:#x}",
            f"{rerouted} -j {hosts.normal(Direction.EGRESS)}",
            _left_clean(0),
        )
        chains.append(Chain(_POSTROUTING, "packets of the node that DNAT sent elsewhere", rules))
        return table(hooks, *chains, *answer_chains(), *hosts.chains(), *policies.chains())

    def _ahead_of_dnat(self, hosts: HostChains) -> Iterator[str]:
        yield _unforged(PRE_DNAT)
        if self._untracked:
            yield f"-m mark --mark {UNTRACKED:#x}/{UNTRACKED:#x} {comment('accepted in raw')} -j RETURN"
        yield f"-j {hosts.pre_dnat()}"
        yield _left_clean(PRE_DNAT)

    def _raw(self) -> Table:
        policies = self._policies()
        hosts = HostChains(policies)
        kept = _unforged(UNTRACKED)
        from_workload = f"{_FROM_WORKLOAD} {comment('what workloads send is always tracked')} -j RETURN"
        incoming = (_UNSPOOFED, kept, from_workload, f"-j {hosts.untracked(Direction.INGRESS)}", _left_clean(UNTRACKED))
        outgoing = (kept, f"-j {hosts.untracked(Direction.EGRESS)}", _left_clean(UNTRACKED))
        return table(
            {"PREROUTING": _PREROUTING, "OUTPUT": _OUTPUT},
            Chain(_PREROUTING, "packets ahead of conntrack", incoming),
            Chain(_OUTPUT, "packets of the node ahead of conntrack", outgoing),
            *answer_chains(),
            *hosts.chains(),
            *policies.chains(),
        )

    def _masquerade(self) -> Iterator[str]:
        """What leaves the pools for an address in no pool takes the node's own address."""
        settings = self._snapshot.settings
        if settings.masquerade:
            leaving = SnapshotRule(
                Action.ALLOW,
                source=SnapshotSide(nets=settings.masquerade),
                destination=SnapshotSide(not_nets=settings.pools),
            )
            yield from self._policies().lines(leaving, "-j MASQUERADE", "natOutgoing: from a pool to none")


def _raw_without_policies() -> Table:
    chain = Chain(_PREROUTING, "packets ahead of conntrack", (_UNSPOOFED,))
    return table({"PREROUTING": _PREROUTING}, chain)


def _unforged(bit: int) -> str:
    return f"{comment('nobody else sets this bit')} -j MARK --set-xmark 0x0/{bit:#x}"


def _left_clean(kept: int) -> str:
    return f"{comment('leave no other mark behind')} -j MARK --set-xmark 0x0/{MARK_MASK & ~kept:#x}"
