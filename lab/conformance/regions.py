# SPDX-License-Identifier: Apache-2.0
"""The space of flows, cut into regions by the atoms of a policy, and what of it was seen.

A region is all that the reference model decides once: flows of one way (ends, protocol, family, ICMP header) whose
ports no rule that could match on that way tells apart. Two regions are neighbours when a step leads from one to the
other: to the port next door, the protocol next door, the other family, or another end on either side. A region lies at
a border when a neighbour's verdict is not its own; there the faults are, so there flows are sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, permutations, product

from dataplanes.api import Capability
from lab.conformance.needs import needed_by_flow
from lab.oracle import Oracle, Way
from lab.oracle.stretches import Stretches
from lab.policy.resources import Resources
from lab.protocols import ICMP, ICMPV6, PORT_PROTOCOLS, SCTP, TCP, UDP
from lab.topology import DEFAULT_SOURCE_PORT, Flow, IcmpHeader, Topology, address_of
from lab.topology.flows import FAMILIES
from lab.topology.flows_file import flow_to_dict

__all__ = ["Coverage", "Region", "Regions"]

Region = tuple[Way, int | None, int | None]
"""A way (ends, protocol, family, ICMP header), and the stretches of source and destination port."""
_Place = tuple[Way, int | None, int | None]
"""A flow as a tuple, for there are very many: a way, source and destination port."""

_NEXT_PROTOCOL = {TCP: UDP, UDP: SCTP, SCTP: TCP}
_WITHOUT_PORTS = 253
"""For experiments (RFC 3692): the neighbour of every protocol that a rule names by its number."""
_SOURCE_PORTS = (None, 61000, 1023, 53)
"""Where no rule names source ports they make no difference: a usual one, one above those that Linux draws, one that
only root may use, and one that careless rules let in for its answers."""
_UNSENDABLE = frozenset({0, 44})
"""IPv6 reads these as headers of its own: options that stand first, and fragments, which are put together."""
_LAST_PROTOCOL, _LAST_CODE = 255, 255
_MOST_A_WAY, _SPREAD = 200, 64
"""Where rules tell very many source ports and very many destination ports apart, not all of them meet."""
_MOST_PAIRS = 200
"""Of more pairs of ends as many are looked at, spread over all."""
_ECHOES = {ICMP: IcmpHeader(8, 0), ICMPV6: IcmpHeader(128, 0)}


@dataclass(frozen=True)
class Regions:
    """The regions of a topology under some resources, between workloads and externals."""

    topology: Topology
    oracle: Oracle
    declared: frozenset[Capability] = frozenset(Capability)
    """What is asked is only what a dataplane that declares this is held to."""

    @classmethod
    def of(
        cls, topology: Topology, resources: Resources, declared: frozenset[Capability] = frozenset(Capability)
    ) -> Regions:
        """The regions that some resources make."""
        return cls(topology, Oracle(topology, resources), declared)

    def ways(self) -> Iterator[Way]:
        """Each way that is asked about."""
        pairs = [
            (source, destination)
            for source, destination in permutations(self._ends, 2)
            if not {source, destination}.isdisjoint(self.topology.workloads)
        ]
        for source, destination in pairs[:: -(-len(pairs) // _MOST_PAIRS) or 1]:
            yield from filter(self._is_asked, self._between(source, destination))

    def _is_asked(self, way: Way) -> bool:
        _, _, *what = way
        kind = tuple(what)
        if kind not in self._asked:
            self._asked[kind] = needed_by_flow(flow_to_dict(_flow((way, None, None)))) <= self.declared
        return self._asked[kind]

    def flows(self) -> Iterator[Flow]:
        """First and last of every region: what stands at its borders, or alone in it."""
        for way in self.ways():
            yield from _flow((way, None, None)).between(self._borders(way))

    def region(self, flow: Flow) -> Region:
        """The region of a flow."""
        return self._region(_place(flow))

    def _region(self, place: _Place) -> Region:
        way, source_port, port = place
        sources, destinations = self.oracle.stretches(way)
        return way, sources[source_port], destinations[port]

    @cached_property
    def all(self) -> Mapping[Region, _Place]:
        """Every region, with a flow of it."""
        found: dict[Region, _Place] = {}
        for way in self.ways():
            sources, destinations = self.oracle.stretches(way)
            for source_port, port in self._borders(way):
                found.setdefault((way, sources[source_port], destinations[port]), (way, source_port, port))
        return found

    def neighbours(self, flow: Flow) -> Iterator[Flow]:
        """A flow of each neighbouring region, as far as the ends have what it takes."""
        return map(_flow, self._near(_place(flow)))

    def _near(self, place: _Place) -> Iterator[_Place]:
        way, source_port, port = place
        source, destination, protocol, family, icmp = way
        sources, destinations = self.oracle.stretches(way)
        for each in destinations.next_door(port):
            yield way, source_port, each
        if port is not None:
            for each in sources.next_door(source_port or DEFAULT_SOURCE_PORT):
                yield way, each, port
            yield (source, destination, _NEXT_PROTOCOL.get(protocol, TCP), family, icmp), source_port, port
        for other in FAMILIES:
            if other != family and icmp is None and {(source, other), (destination, other)} <= self._addressed:
                yield (source, destination, protocol, other, icmp), source_port, port
        for end in self._ends:
            if end not in (source, destination) and (end, family) in self._addressed:
                yield (end, destination, protocol, family, icmp), source_port, port
                yield (source, end, protocol, family, icmp), source_port, port

    def opposites(self, flow: Flow) -> Iterator[Flow]:
        """A flow of each neighbouring region of the other verdict."""
        return map(_flow, self._opposite(_place(flow)))

    def opposite_regions(self, place: _Place) -> Iterator[Region]:
        """Each neighbouring region of the other verdict."""
        return map(self._region, self._opposite(place))

    def _opposite(self, place: _Place) -> Iterator[_Place]:
        allows = self.oracle.allows
        allowed = allows(*place)
        return (other for other in self._near(place) if allows(*other) is not allowed and self._is_asked(other[0]))

    def missing(self, sent: Iterable[Flow]) -> list[Flow]:
        """A flow of each region that no flow of these is in."""
        seen = set(map(self.region, sent))
        return [_flow(place) for region, place in self.all.items() if region not in seen]

    @cached_property
    def _asked(self) -> dict[tuple[object, ...], bool]:
        """Of protocol, family and ICMP header, whether a dataplane is held to them."""
        return {}

    @cached_property
    def _ends(self) -> Sequence[str]:
        return [end.name for end in self.topology.endpoints()]

    @cached_property
    def _addressed(self) -> frozenset[tuple[str, int]]:
        ends = (self.topology.end(name) for name in self._ends)
        return frozenset((end.name, family) for end in ends for family in FAMILIES if end and address_of(end, family))

    def _between(self, source: str, destination: str) -> Iterator[Way]:
        for family in FAMILIES:
            if {(source, family), (destination, family)} <= self._addressed:
                yield from ((source, destination, number, family, None) for number in self._protocols)
                number = ICMP if family == 4 else ICMPV6
                yield from ((source, destination, number, family, header) for header in self._icmp_headers[number])

    @cached_property
    def _protocols(self) -> Sequence[int]:
        """Those with ports, those that a rule names with the ones next door, and one that hardly any rule does."""
        named = self.oracle.named_protocols() - {ICMP, ICMPV6, *PORT_PROTOCOLS}
        near = {number for each in named for number in (each, each + 1)} - {ICMP, ICMPV6, *PORT_PROTOCOLS, *_UNSENDABLE}
        return (TCP, UDP, SCTP, *sorted(number for number in near if number <= _LAST_PROTOCOL), _WITHOUT_PORTS)

    @cached_property
    def _icmp_headers(self) -> Mapping[int, Collection[IcmpHeader]]:
        """Echo requests, and what rules name with the code next door."""
        named = sorted(self.oracle.named_icmp(), key=lambda match: (match.type, match.code or 0))
        codes = [(match.type, code) for match in named for code in ((match.code or 0), (match.code or 0) + 1)]
        told = [IcmpHeader(kind, code) for kind, code in codes if code <= _LAST_CODE]
        return {number: dict.fromkeys((echo, *told)) for number, echo in _ECHOES.items()}

    def _borders(self, way: Way) -> Sequence[tuple[int | None, int | None]]:
        """Source and destination ports of the first and last flow of each region of a way."""
        if way[2] not in PORT_PROTOCOLS:
            return ((None, None),)
        sources, destinations = self.oracle.stretches(way)
        told_apart = (port for port in _edges(sources) if sources[port] != sources[None])
        source_ports, ports = [*dict.fromkeys((*_SOURCE_PORTS, *told_apart))], [*_edges(destinations)]
        if len(source_ports) * len(ports) <= _MOST_A_WAY:
            return [*product(source_ports, ports)]
        return [
            (source_port, port)
            for number, source_port in enumerate(source_ports)
            for port in (ports if source_port is None else ports[number % len(ports) :: _SPREAD])
        ]


def _edges(stretches: Stretches) -> Iterable[int]:
    """First and last port of each stretch; no flow has port 0."""
    return dict.fromkeys(max(port, 1) for port in chain.from_iterable(stretches.bounds()))


def _place(flow: Flow) -> _Place:
    return (flow.source, flow.destination, flow.protocol, flow.family, flow.icmp), flow.source_port, flow.port


def _flow(place: _Place) -> Flow:
    (source, destination, protocol, family, icmp), source_port, port = place
    return Flow(source, destination, protocol, port, family, source_port, icmp)


@dataclass(slots=True)
class Coverage:
    """How much of the regions was seen: ``hit`` of ``regions``, and ``both_sides`` of those ``at_borders``.

    A region is seen from both sides when a flow of it was sent, and one of a neighbour of the other verdict.
    """

    regions: int = 0
    hit: int = 0
    at_borders: int = 0
    both_sides: int = 0

    @classmethod
    def of(cls, regions: Regions, sent: Iterable[Flow]) -> Coverage:
        """What flows that were sent have seen of some regions."""
        seen = set(map(regions.region, sent))
        found = cls()
        for region, place in regions.all.items():
            found._count(regions.opposite_regions(place), seen, hit=region in seen)
        return found

    def _count(self, opposites: Iterator[Region], seen: Collection[Region], *, hit: bool) -> None:
        self.regions += 1
        self.hit += hit
        first = next(opposites, None)
        if first is not None:
            self.at_borders += 1
            self.both_sides += hit and any(other in seen for other in chain((first,), opposites))

    def add(self, other: Coverage) -> None:
        """Count what was seen of other regions, too."""
        self.regions += other.regions
        self.hit += other.hit
        self.at_borders += other.at_borders
        self.both_sides += other.both_sides

    @property
    def share(self) -> float:
        """How much of what can be seen from both sides was, from 0 to 1."""
        return self.both_sides / self.at_borders if self.at_borders else 1.0

    def to_dict(self) -> dict[str, float]:
        """The counts as the report holds them."""
        return {**asdict(self), "share": round(self.share, 4)}

    def __str__(self) -> str:
        told = f"{self.both_sides} of {self.at_borders} regions at borders seen from both sides ({self.share:.1%})"
        return f"{told}, {self.hit} of {self.regions} hit"
