# SPDX-License-Identifier: Apache-2.0
"""Rules of Calico policies: a shape first, then what stands in it, so that a rule stays as small as it can."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.picks import chance, pick
from lab.conformance.generate.requests import http_match
from lab.conformance.generate.selectors import selectors
from lab.topology import DEFAULT_SOURCE_PORT

__all__ = ["Direction", "near", "rules"]

Direction = Literal["ingress", "egress"]
Draft = dict[str, Any]
"""A rule or one side of it while it is being put together."""

MAX_PORT = 65535
_MANY_NETS = (
    tuple(f"192.0.2.{number}/32" for number in range(101)),
    tuple(f"2001:db8:2::{number:x}/128" for number in range(101)),
)
"""Networks in which nobody is, of IPv4 and of IPv6."""

_PEERS = ("selector", "selector", "selector", "notSelector", "namespaceSelector", "both", "signs", "names", "account")
_ACTIONS = ("Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log")
_PROFILE_ACTIONS = ("Allow", "Allow", "Deny", "Log")  # what Pass means in a profile differs between dataplanes
_SHAPES: tuple[tuple[str, ...], ...] = (
    (),
    ("peer",),
    ("ports",),
    ("peer", "ports"),
    ("nets",),
    ("nets", "ports"),
    ("icmp",),
    ("protocol",),
    ("version",),
    ("version", "ports"),
    ("peer", "nets"),
    ("subject",),
    ("subject", "peer", "ports"),
    ("source-ports", "ports"),
    ("named",),
    ("peer", "named"),
    ("not-icmp",),
    ("not-protocol",),
    ("service",),
)
_REQUEST_SHAPES: tuple[tuple[str, ...], ...] = (
    (),
    ("peer",),
    ("peer", "ports"),
    ("ports",),
    ("nets",),
    ("version",),
    ("subject",),
    ("peer", "named"),
)
# Round the port that a flow comes from unless it says otherwise.
_SOURCE_PORTS: tuple[str | int, ...] = (
    DEFAULT_SOURCE_PORT,
    f"{DEFAULT_SOURCE_PORT - 1}:{DEFAULT_SOURCE_PORT}",
    f"{DEFAULT_SOURCE_PORT + 1}:{DEFAULT_SOURCE_PORT + 2}",
)
_PORT_PROTOCOLS: tuple[str | int, ...] = ("TCP", "UDP", "SCTP", 6)
_PROTOCOLS: tuple[str | int, ...] = ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6", 1, 58, "UDPLite", 253)
_ICMP: tuple[Draft, ...] = (
    {"type": 8},
    {"type": 0},
    {"type": 8, "code": 0},
    {"type": 0, "code": 0},
    {"type": 8, "code": 1},
)
_ICMPV6: tuple[Draft, ...] = ({"type": 128}, {"type": 129}, {"type": 128, "code": 0}, {"type": 128, "code": 1})


@st.composite
def rules(draw: st.DrawFn, facts: Facts, direction: Direction, *, profile: bool = False) -> Draft:
    """One rule that the API takes; where there are sidecars, most that may are about requests."""
    about_requests = bool(facts.sidecars) and direction == "ingress" and not profile and not chance(draw, 3)
    actions = ("Allow",) if about_requests else _PROFILE_ACTIONS if profile else _ACTIONS
    rule: Draft = {"action": pick(draw, actions)}
    sides: dict[str, Draft] = {"source": {}, "destination": {}}
    peer, subject = ("source", "destination") if direction == "ingress" else ("destination", "source")
    shape = pick(draw, _REQUEST_SHAPES if about_requests else _SHAPES)
    if "peer" in shape:
        sides[peer] |= _peer(draw, facts)
    if "subject" in shape:
        sides[subject] |= {"selector": selectors(draw, facts.pod_labels)}
    if "nets" in shape:
        sides[pick(draw, (peer, peer, subject))] |= _nets(draw, facts)
    if "version" in shape:
        rule["ipVersion"] = pick(draw, (4, 6))
    if "ports" in shape:
        rule["protocol"] = pick(draw, ("TCP",) if about_requests else _PORT_PROTOCOLS)
        sides["destination"] |= _ports(draw, facts)
    # A sidecar connects from a port that the kernel draws: what depends on it is nothing that a request can be asked.
    if "source-ports" in shape and not facts.sidecars:
        sides["source"] |= {"ports": [pick(draw, _SOURCE_PORTS)]}
    if "named" in shape:
        sides["destination"] |= {pick(draw, ("ports", "ports", "notPorts")): [pick(draw, facts.port_names)]}
    if "service" in shape and Capability.SERVICES in facts.capabilities:
        namespace, name = facts.service
        sides[peer] |= {"services": {"namespace": namespace, "name": name}}
    rule |= _protocol(draw, shape)
    if about_requests:
        rule["http"] = http_match(draw)
    return rule | {name: side for name, side in sides.items() if side}


def _protocol(draw: st.DrawFn, shape: tuple[str, ...]) -> Draft:
    """What a shape says of the protocol itself."""
    if "protocol" in shape:
        return {"protocol": pick(draw, _PROTOCOLS)}
    if "not-protocol" in shape:
        return {"notProtocol": pick(draw, _PROTOCOLS)}
    if "icmp" in shape or "not-icmp" in shape:
        name, types = pick(draw, (("ICMP", _ICMP), ("ICMPv6", _ICMPV6)))
        match = dict(pick(draw, types))
        if "icmp" in shape:
            return {"protocol": name, "icmp": match}
        return {"notICMP": match} | ({} if chance(draw, 3) else {"protocol": name})
    return {}


def _peer(draw: st.DrawFn, facts: Facts) -> Draft:
    """Who is at the other end, by labels."""
    key = pick(draw, _PEERS)
    if key == "both":
        return {
            "selector": selectors(draw, facts.pod_labels),
            "namespaceSelector": selectors(draw, facts.namespace_labels),
        }
    if key == "signs":
        return {"selector": selectors(draw, facts.pod_labels), "notSelector": selectors(draw, facts.pod_labels)}
    if key == "namespaceSelector":
        return {key: selectors(draw, facts.namespace_labels)}
    if key == "names":
        return {"serviceAccounts": {"names": [pick(draw, facts.accounts)]}}
    if key == "account":
        return {"serviceAccounts": {"selector": selectors(draw, facts.account_labels)}}
    return {key: selectors(draw, facts.pod_labels)}


def _nets(draw: st.DrawFn, facts: Facts) -> Draft:
    """Networks of one family whose edges are addresses in use or their neighbours."""
    nets = facts.nets(pick(draw, facts.families))
    form = pick(draw, ("nets", "nets", "several", "notNets", "but", "but-several"))
    first = pick(draw, nets)
    if form == "several":
        more = _MANY_NETS[":" in first] if chance(draw, 6) else (first, pick(draw, nets))
        return {"nets": [*more, pick(draw, nets)]}
    if form == "but":
        return {"nets": [first], "notNets": [pick(draw, nets)]}
    if form == "but-several":
        return {"notNets": [first, pick(draw, nets), pick(draw, nets)]}
    return {form: [first]}


def _ports(draw: st.DrawFn, facts: Facts) -> Draft:
    """Ports at and next to declared ones, as numbers, ranges, names, and many at once."""
    port = pick(draw, facts.ports)[1]
    name = pick(draw, facts.port_names)
    first, last = near(port, -1), near(port, 1)
    many = [near(port, 2 * step) for step in range(16)]
    choices: tuple[Draft, ...] = (
        {"ports": [port]},
        {"ports": [last]},
        {"ports": [f"{port}:{last}"]},
        {"ports": [f"{first}:{port}"]},
        {"ports": [name]},
        {"ports": [last, name]},
        {"notPorts": [port]},
        {"notPorts": [name]},
        {"ports": [f"{first}:{last}"], "notPorts": [port]},
        {"ports": [f"{first}:{last}"], "notPorts": [name]},
        {"ports": many},
        {"notPorts": many},
    )
    return pick(draw, choices)


def near(port: int, distance: int) -> int:
    """A port some way off, kept within what ports can be."""
    return min(max(port + distance, 1), MAX_PORT)
