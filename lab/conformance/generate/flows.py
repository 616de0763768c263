# SPDX-License-Identifier: Apache-2.0
"""Flows at the borders of a policy: its ports and their neighbours, its protocols and the ones next door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from math import gcd
from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.facts import Facts
from lab.conformance.generate.requests import requests
from lab.conformance.generate.rules import near
from lab.conformance.scenario import Entry
from lab.protocols import ICMP, ICMPV6, PORT_PROTOCOLS, protocol_label, protocol_number

__all__ = ["borders", "flows"]

_MOST = 100
"""Packets of a scenario, each in one or two families: sending one costs much less than applying a policy."""
MAX_FLOWS = 2 * _MOST
Packet = Mapping[str, Any]
"""The part of a flow that says what is sent, not between whom; ``family`` only where it matters."""

_FAMILY_NAMES = {4: "ipv4", 6: "ipv6"}
_NEIGHBOUR_PROTOCOL = {"TCP": "UDP", "UDP": "SCTP", "SCTP": "TCP"}
_ECHOES: tuple[Packet, ...] = (
    {"protocol": "ICMP", "icmp": {"type": 8, "code": 0}, "family": "ipv4"},
    {"protocol": "ICMPv6", "icmp": {"type": 128, "code": 0}, "family": "ipv6"},
)
# Types that conntrack takes for the beginning of something; errors such as 3 belong to flows of their own.
_ICMP_TYPES = {ICMP: (0, 8, 13), ICMPV6: (128, 129)}
_LAST_PROTOCOL = 255
_ABOUT_NODES = {"HostEndpoint", "FelixConfiguration", "Service", "AdminNetworkPolicy", "ClusterNetworkPolicy"}
# Failsafe ports in, out and both ways, ports next to them, and that of VXLAN.
_HOST_PORTS = (("TCP", 22), ("UDP", 22), ("UDP", 53), ("TCP", 179), ("TCP", 180), ("UDP", 4789))


def flows(draw: st.DrawFn, facts: Facts, documents: Iterable[Entry]) -> tuple[Entry, ...]:
    """Between one and MAX_FLOWS different flows; a packet of no family in particular is sent in each.

    Every packet between every pair, or of them as many as may be, spread evenly from a drawn one on. They are not
    drawn one by one: that takes longer than to send them, and whatever is wrong would rarely be among them.
    """
    documents = list(documents)
    packets = borders(facts, documents)
    about_nodes = any(document["kind"] in _ABOUT_NODES for document in documents)
    pairs = facts.pairs_with_nodes if about_nodes else facts.pairs
    number = len(pairs) * len(packets)
    first = draw(st.integers(0, number - 1)) if number > _MOST else 0
    entries = [
        entry
        for index in _spread(number, first)
        for entry in _in_families(facts, *pairs[index % len(pairs)], packets[index // len(pairs)])
    ]
    # The first packet is one of a declared port, which every pair can send.
    return tuple(entries or _in_families(facts, *pairs[0], packets[0]))


def _spread(number: int, first: int) -> Iterator[int]:
    """Different ones of ``number`` indexes, _MOST of them if there are so many."""
    # A stride that has a factor in common with the number of pairs would leave pairs out.
    stride = next(each for each in count(-(-number // _MOST)) if gcd(each, number) == 1)
    return ((first + stride * step) % number for step in range(min(number, _MOST)))


def _in_families(facts: Facts, source: str, target: str, packet: Packet) -> Iterator[Entry]:
    """The packet in its own family, or else in all that both ends have; there may be none.

    A request can only be made of who has a sidecar.
    """
    if "http" in packet and target not in facts.sidecars:
        return
    for family in facts.families_of(source) & facts.families_of(target):
        name = _FAMILY_NAMES[family]
        if packet.get("family", name) == name:
            copied = {key: dict(value) if isinstance(value, dict) else value for key, value in packet.items()}
            yield {"from": source, "to": target, **copied, "family": name}


def borders(facts: Facts, documents: Iterable[Entry]) -> tuple[Packet, ...]:
    """Every packet worth sending: what the documents name, what is next to it, and what the ends serve."""
    found: dict[str, Packet] = {}
    packets: list[Packet] = [{"protocol": protocol, "port": port} for protocol, port in facts.ports]
    packets += _ECHOES
    packets += [packet for document in documents for packet in _of_nodes(document)]
    for rule in _rules(documents):
        packets += _of_rule(facts, rule)
    if facts.sidecars:
        asked = requests(_rules(documents))
        packets += [{"protocol": "TCP", "port": port, "http": each} for each in asked for port in facts.request_ports]
    for packet in packets:
        found.setdefault(repr(packet), packet)
    return tuple(found.values())


def _of_nodes(document: Mapping[str, Any]) -> Iterator[Packet]:
    """Node ports, the port of tunnels, and failsafe ports with one that is none."""
    spec: Any = document.get("spec") or {}
    if document["kind"] == "Service":
        yield from ({"protocol": port["protocol"], "port": port["nodePort"]} for port in spec["ports"])
    if document["kind"] in {"HostEndpoint", "FelixConfiguration"}:
        yield from ({"protocol": protocol, "port": port} for protocol, port in _HOST_PORTS)


def _rules(documents: Iterable[Entry]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        spec: Any = document.get("spec") or {}
        for direction in ("ingress", "egress"):
            yield from spec.get(direction) or ()


def _of_rule(facts: Facts, rule: Mapping[str, Any]) -> Iterator[Packet]:
    """The borders of one rule of Calico, or of one of Kubernetes."""
    given = rule.get("protocol", rule.get("notProtocol"))
    if entries := rule.get("ports") or rule.get("protocols"):
        for entry in entries:
            for protocol, ports in _of_entry(entry):
                yield from _at_ports(protocol, _edges(facts, ports))
        return
    if given is not None:
        yield from _of_protocol(given, rule)
    elif "notICMP" in rule:
        yield from _of_protocol("ICMPv6" if rule["notICMP"]["type"] in _ICMP_TYPES[ICMPV6] else "ICMP", rule)
    side = rule.get("destination") or {}
    named = [*side.get("ports", ()), *side.get("notPorts", ())]
    protocols = [given] if given is not None else list(_NEIGHBOUR_PROTOCOL)
    for protocol in protocols:
        yield from _at_ports(protocol, _edges(facts, named))
    for port in _edges(facts, (rule.get("source") or {}).get("ports", ())):
        served = facts.ports[0]
        yield {"protocol": _name(given) if given is not None else served[0], "port": served[1], "source_port": port}


def _of_entry(entry: Mapping[str, Any]) -> Iterator[tuple[str, list[int | str]]]:
    """Protocol and ports of an entry of a Kubernetes policy, or of an admin policy of either version."""
    for key, value in entry.items():
        if key in {"namedPort", "destinationNamedPort"}:
            yield from ((protocol, [value]) for protocol in _NEIGHBOUR_PROTOCOL)
        elif key == "portNumber":
            yield value["protocol"], [value["port"]]
        elif key == "portRange":
            yield value["protocol"], [f"{value['start']}:{value['end']}"]
        elif key.upper() in _NEIGHBOUR_PROTOCOL:
            at = value["destinationPort"]
            yield key.upper(), [at["number"] if "number" in at else f"{at['range']['start']}:{at['range']['end']}"]
    if "port" in entry:
        yield entry.get("protocol", "TCP"), [port for port in (entry["port"], entry.get("endPort")) if port]


def _edges(facts: Facts, ports: Iterable[int | str]) -> tuple[int, ...]:
    """First and last of each range, and the port on the outer side of each."""
    edges: dict[int, None] = {}
    for port in ports:
        for first, last in _ranges(facts, port):
            edges |= dict.fromkeys((first, last, near(first, -1), near(last, 1)))
    return tuple(edges)


def _ranges(facts: Facts, port: int | str) -> Iterator[tuple[int, int]]:
    if isinstance(port, int):
        yield port, port
    elif ":" in port:
        first, _, last = port.partition(":")
        yield int(first), int(last)
    else:
        yield from ((served.port, served.port) for served in facts.served if served.name == port)


def _at_ports(protocol: str | int, ports: Iterable[int]) -> Iterator[Packet]:
    """The ports under the protocol and under the one next door."""
    name = _name(protocol)
    if _number(protocol) not in PORT_PROTOCOLS:
        return
    for port in ports:
        yield {"protocol": name, "port": port}
        yield {"protocol": _NEIGHBOUR_PROTOCOL[str(name)], "port": port}


def _of_protocol(protocol: str | int, rule: Mapping[str, Any]) -> Iterator[Packet]:
    """Packets of a protocol and of the one next door; ICMP with the types and codes that the rule asks for."""
    number = _number(protocol)
    if number in PORT_PROTOCOLS:
        return
    if number in _ICMP_TYPES:
        match = rule.get("icmp") or rule.get("notICMP") or {}
        types = (*_ICMP_TYPES[number], *([match["type"]] if match else ()))
        codes = dict.fromkeys((0, match.get("code", 0), match.get("code", 0) + 1))
        home = _FAMILY_NAMES[4 if number == ICMP else 6]
        for kind in dict.fromkeys(types):
            yield from (
                {"protocol": _name(number), "icmp": {"type": kind, "code": code}, "family": home} for code in codes
            )
        yield {
            "protocol": number,
            "icmp": {"type": types[0], "code": 0},
            "family": "ipv6" if number == ICMP else "ipv4",
        }
        return
    yield {"protocol": _name(number)}
    if number < _LAST_PROTOCOL - 1:
        yield {"protocol": number + 1}


def _number(protocol: str | int) -> int:
    return protocol if isinstance(protocol, int) else protocol_number(protocol) or 0


def _name(protocol: str | int) -> str | int:
    return protocol_label(_number(protocol))
