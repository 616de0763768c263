# SPDX-License-Identifier: Apache-2.0
"""What a flat rule asks of a TCP connection or an HTTP request that comes to a workload, as tests of Envoy's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Final

from lab.policy.resources import HttpMatch, PortRange
from lab.policy.snapshot import EndpointPolicy, PortMember, Snapshot, SnapshotRule, SnapshotSide
from lab.protocols import TCP
from lab.sidecar.chains import Gate
from lab.sidecar.patterns import methods_pattern, one_of, paths_pattern, ports_pattern
from lab.sidecar.predicates import (
    Predicate,
    all_of,
    any_of,
    negated,
    with_destination_ip,
    with_destination_port,
    with_header,
    with_peer,
    with_source_ip,
    with_source_port,
)
from lab.topology import Address, Net

__all__ = ["RuleTests"]

_EVERY_ADDRESS: Final = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


class RuleTests:
    """Makes the tests of rules at one gate of a workload.

    At a gate for requests they are of requests; else of connections that carry something else, to which a rule with
    an ``http`` match never applies: what is no request cannot be the one that is allowed.
    """

    def __init__(
        self, snapshot: Snapshot, endpoint: EndpointPolicy, gate: Gate, identities: Mapping[Address, str]
    ) -> None:
        self._sets = snapshot.ip_sets
        self._addresses = endpoint.addresses
        self._identities = identities
        self._gate = gate

    def of(self, rule: SnapshotRule) -> Predicate:
        """The test that a rule stands for."""
        if rule.protocol not in (None, TCP) or rule.not_protocol == TCP or rule.icmp is not None:
            return False
        family = True if rule.ip_version is None else with_source_ip([_EVERY_ADDRESS[rule.ip_version]])
        return all_of(
            [family, self._source(rule.source), self._destination(rule.destination), self._request(rule.http)]
        )

    def _request(self, match: HttpMatch | None) -> Predicate:
        if match is None or not self._gate.http:
            return match is None
        methods, paths = methods_pattern(match), paths_pattern(match)
        return all_of(
            [
                True if methods is None else with_header(":method", methods),
                True if paths is None else with_header(":path", paths),
            ]
        )

    # -- who asks -----------------------------------------------------------------------------------------------

    def _source(self, side: SnapshotSide) -> Predicate:
        return all_of(
            [
                with_source_ip(side.nets) if side.nets else True,
                negated(with_source_ip(side.not_nets)),
                *(with_source_ip(self._sets[each].nets) for each in side.sets),
                *(negated(with_source_ip(self._sets[each].nets)) for each in side.not_sets),
                self._source_ports(side.ports, side.port_sets) if side.ports or side.port_sets else True,
                negated(self._source_ports(side.not_ports, side.not_port_sets)),
                self._proven(side) if side.by_account and self._gate.proven else True,
            ]
        )

    def _source_ports(self, ranges: tuple[PortRange, ...], sets: Iterable[str]) -> Predicate:
        named = (
            all_of([with_source_ip([ip_network(member.address)]), with_source_port(str(member.port))])
            for member in self._members(sets)
        )
        return any_of([with_source_port(ports_pattern(ranges)) if ranges else False, *named])

    def _proven(self, side: SnapshotSide) -> Predicate:
        """The peer's certificate is that of one for whom the sets stand."""
        sets = [self._sets[each].nets for each in side.sets]
        meant = {
            identity for address, identity in self._identities.items() if all(_holds(nets, address) for nets in sets)
        }
        return with_peer(one_of(sorted(meant))) if meant else False

    # -- who is asked: the workload's own addresses, all of which are known ----------------------------------------

    def _destination(self, side: SnapshotSide) -> Predicate:
        tests = {address: self._at(side, address) for address in self._addresses}
        first = next(iter(tests.values()), False)
        if all(test == first for test in tests.values()):
            return first
        return any_of(all_of([with_destination_ip([ip_network(to)]), test]) for to, test in tests.items())

    def _at(self, side: SnapshotSide, own: Address) -> Predicate:
        """What a side asks when it is about one address of the workload."""
        is_meant = (
            (not side.nets or _holds(side.nets, own))
            and not _holds(side.not_nets, own)
            and all(_holds(self._sets[each].nets, own) for each in side.sets)
            and not any(_holds(self._sets[each].nets, own) for each in side.not_sets)
        )
        if not is_meant:
            return False
        asked = self._own_ports(side.ports, side.port_sets, own) if side.ports or side.port_sets else True
        return all_of([asked, negated(self._own_ports(side.not_ports, side.not_port_sets, own))])

    def _own_ports(self, ranges: tuple[PortRange, ...], sets: Iterable[str], own: Address) -> Predicate:
        named = [PortRange(each.port, each.port) for each in self._members(sets) if each.address == own]
        meant = [*ranges, *named]
        return with_destination_port(ports_pattern(meant)) if meant else False

    def _members(self, sets: Iterable[str]) -> list[PortMember]:
        """The members of port sets that are of TCP, in an order that is always the same."""
        members = {each for name in sets for each in self._sets[name].ports if each.protocol == TCP}
        return sorted(members, key=lambda each: (each.address.version, each.address.packed, each.port))


def _holds(nets: Iterable[Net], address: Address) -> bool:
    return any(address.version == net.version and address in net for net in nets)
