# SPDX-License-Identifier: Apache-2.0
"""The reference model of flows with state: which packets belong to a connection that was let through before.

Policy decides on what begins a connection and on what belongs to none. What belongs to one passes, in both directions,
and so do ICMP errors about it, whatever policy has become since (Calico: "connection tracking"; Felix accepts RELATED
and ESTABLISHED ahead of policy). Each node tracks for itself what passed it.

Source of what belongs to what: the kernel's net/netfilter/nf_conntrack_core.c and nf_conntrack_proto_*.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lab.oracle.conntrack import is_invalid
from lab.oracle.partial import PartialOracle
from lab.oracle.verdict import DefaultDecision, Verdict
from lab.protocols import ICMP, ICMPV6, TCP
from lab.topology import DEFAULT_SOURCE_PORT, Flow, Topology, Workload

__all__ = ["Said", "Tracker"]

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_ORDERLY: Final = _FIN | _SYN | _RST | _ACK
_MAY_GO_WITH_MORE: Final = frozenset({_SYN, _SYN | _ACK, _ACK, _FIN | _ACK, _RST, _RST | _ACK})
"""Which of these flags a segment may bear (tcp_valid_flags); others belong to nothing."""

_ESTABLISHED: Final = Verdict(True, DefaultDecision(None, "established"))
_RELATED: Final = Verdict(True, DefaultDecision(None, "related"))
_NOBODY: Final = Verdict(True, DefaultDecision(None, "no-policy"))
_DROPPED: Final = Verdict(False, DefaultDecision(None, "no-whole-packet"))
_SPOOFED: Final = Verdict(False, DefaultDecision(None, "spoofed-source"))
_TO_NOBODY: Final = Verdict(False, DefaultDecision(None, "not-forwarded"))

Key = tuple[int, int, str, int, str, int]


@dataclass(frozen=True, slots=True)
class Said:
    """One packet: as a flow of its own, and what beside it matters.

    ``flags`` are TCP's. ``about`` is the packet that an ICMP error quotes. ``broken``: its checksum does not hold.
    ``whole``: False for fragments of which no packet can be made. ``init``: False for SCTP's other chunks.
    ``spoofed``: it bears another source than its sender's. ``elsewhere``: it is addressed to no end, but to a group of
    them, to all, or to nobody.
    """

    flow: Flow
    flags: int = 0
    about: Flow | None = None
    broken: bool = False
    whole: bool = True
    init: bool = True
    spoofed: bool = False
    elsewhere: bool = False


@dataclass(slots=True)
class _Connection:
    """What one node knows of a connection."""

    by_syn: bool = False
    """It began with a SYN, and was not taken up in its midst."""
    replied: bool = False
    both_open: bool = False
    """Each end has sent a SYN, and nothing else yet: a simultaneous open (RFC 9293, 3.5)."""
    ended: bool = False
    """Both have said all, or one broke it off: a SYN of either end begins a new one."""
    finished: set[bool] = field(default_factory=set)
    """Which directions (True: that of the first packet) have said that they are done."""
    broken_off_by: bool | None = None


class Tracker:
    """Follows conversations packet by packet, on all nodes of a topology; ``judge`` must be told of each in its order.

    Of some packets it has no opinion: ``knows`` tells.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._tables: dict[str, dict[Key, _Connection]] = {name: {} for name in topology.nodes}

    def knows(self, said: Said) -> bool:
        """Whether both ends are workloads or externals, two of them, and a source that is forged is a workload's.

        A host outside the cluster may be anybody: what comes of that depends on whose address it takes.
        """
        ends = {said.flow.source, said.flow.destination}
        if (len(ends) == 1 and said.about is None) or ends & self._topology.nodes.keys():
            return False
        return not said.spoofed or said.flow.source in self._topology.workloads

    def forget(self) -> None:
        """Conntrack was emptied."""
        for table in self._tables.values():
            table.clear()

    def judge(self, said: Said, oracle: PartialOracle) -> Verdict:
        """The verdict of a packet under the policy that an oracle speaks for; raises as ``Oracle.verdict`` does."""
        verdict = _NOBODY
        unknown = oracle.unknown(said.flow)
        if unknown is not None:
            return unknown
        if not said.whole:
            return _DROPPED
        if said.spoofed:  # ahead of all that is asked about packets (Felix: rules/static.go, StaticRawPreroutingChain)
            return _SPOOFED
        if said.elsewhere:  # who routes neither groups nor broadcasts passes none on (RFC 1812, 5.2.1 and 5.3.5)
            return _TO_NOBODY
        for node in self._way(said.flow):
            verdict = self._at(node, said, oracle)
            if not verdict.allowed:
                return verdict
        return verdict

    def _way(self, flow: Flow) -> list[str]:
        """The nodes that a packet passes, in that order."""
        ends = (self._topology.end(flow.source), self._topology.end(flow.destination))
        return list(dict.fromkeys(end.node for end in ends if isinstance(end, Workload)))

    def _at(self, node: str, said: Said, oracle: PartialOracle) -> Verdict:
        table = self._tables[node]
        key, connection, forward = _found(table, said.flow)
        if said.about is not None:
            related = _found(table, said.about)[1] is not None and not said.broken
            return _RELATED if related else oracle.verdict_at(said.flow, node)
        if said.broken or (said.flow.protocol == TCP and _disorderly(said.flags)):
            return oracle.verdict_at(said.flow, node)
        if connection is not None and _reopens(connection, said, forward=forward):
            del table[key]
            key, connection, forward = _key(said.flow), None, True
        if connection is None:
            return self._first(node, key, said, oracle)
        if not forward and _is_out_of_place(connection, said):
            return oracle.verdict_at(said.flow, node)
        if forward and not connection.replied:
            verdict = oracle.verdict_at(said.flow, node)
            if not verdict.allowed:
                return verdict
        else:
            verdict = _ESTABLISHED
        _note(connection, said, forward=forward)
        return verdict

    def _first(self, node: str, key: Key, said: Said, oracle: PartialOracle) -> Verdict:
        verdict = oracle.verdict_at(said.flow, node)
        if verdict.allowed and _begins(said):
            self._tables[node][key] = _Connection(by_syn=said.flags & _ORDERLY == _SYN)
        return verdict


def _key(flow: Flow) -> Key:
    ports = (0, 0) if flow.port is None else (flow.source_port or DEFAULT_SOURCE_PORT, flow.port)
    return flow.protocol, flow.family, flow.source, ports[0], flow.destination, ports[1]


def _found(table: dict[Key, _Connection], flow: Flow) -> tuple[Key, _Connection | None, bool]:
    """The connection of a packet, and whether the packet goes in the direction of its first one."""
    key = _key(flow)
    back = (*key[:2], key[4], key[5], key[2], key[3])
    if key in table and not _is_echo_reply(flow):
        return key, table[key], True
    if back in table and not _is_echo_request(flow):
        return back, table[back], False
    return key, None, True


def _is_echo_request(flow: Flow) -> bool:
    return flow.icmp is not None and (flow.protocol, flow.icmp.type) in ((ICMP, 8), (ICMPV6, 128))


def _is_echo_reply(flow: Flow) -> bool:
    return flow.icmp is not None and not _is_echo_request(flow)


def _begins(said: Said) -> bool:
    """Whether connection tracking makes a connection of a first packet; not that of one that it calls INVALID."""
    flow = said.flow
    if flow.protocol == TCP:
        # A segment in the middle of a connection is taken for one that began elsewhere (nf_conntrack_tcp_loose).
        return said.flags & _ORDERLY in (_SYN, _ACK)
    return said.init and not is_invalid(flow)


def _disorderly(flags: int) -> bool:
    return flags & _ORDERLY not in _MAY_GO_WITH_MORE


def _reopens(connection: _Connection, said: Said, *, forward: bool) -> bool:
    """Whether a SYN begins anew (RFC 9293, 3.6.1), as it may when a FIN was sent or this end broke off last."""
    if said.flow.protocol != TCP or said.flags & _ORDERLY != _SYN or not connection.ended:
        return False
    return bool(connection.finished) or connection.broken_off_by is forward


def _is_out_of_place(connection: _Connection, said: Said) -> bool:
    """Whether an answer is INVALID: a FIN to a SYN, said in the connection before; a SYN to anything but a SYN.

    A SYN that answered one may be said again. (Source: Linux, nf_conntrack_proto_tcp.c, tcp_conntracks.)
    """
    if said.flow.protocol != TCP:
        return False
    opening = (connection.by_syn and not connection.replied) or connection.both_open
    return bool(said.flags & _FIN) if opening else said.flags & _ORDERLY == _SYN


def _note(connection: _Connection, said: Said, *, forward: bool) -> None:
    is_first_answer = not forward and not connection.replied
    connection.replied = connection.replied or not forward
    if said.flow.protocol != TCP:
        return
    connection.both_open = said.flags & _ORDERLY == _SYN and (is_first_answer or connection.both_open)
    if said.flags & _RST:
        connection.ended, connection.broken_off_by = True, forward
        return
    if said.flags & _FIN:
        connection.finished.add(forward)
    elif len(connection.finished) == 2 and said.flags & _ACK:
        connection.ended = True
