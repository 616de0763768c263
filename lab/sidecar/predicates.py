# SPDX-License-Identifier: Apache-2.0
"""Envoy's matching API as small functions: tests of a connection or request, and how they are put together.

A test that always or never holds is True or False, so that what is put together says no more than it must.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from lab.topology import Net

__all__ = [
    "Predicate",
    "all_of",
    "any_of",
    "negated",
    "with_destination_ip",
    "with_destination_port",
    "with_header",
    "with_peer",
    "with_source_ip",
    "with_source_port",
]

Json = dict[str, Any]
Predicate = Json | bool

_API: Final = "type.googleapis.com/envoy"
_INPUTS: Final = f"{_API}.extensions.matching.common_inputs"
_IP_MATCHER: Final = f"{_API}.extensions.matching.input_matchers.ip.v3.Ip"


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    """Every one of them holds."""
    return _together(predicates, neutral=True, name="and_matcher")


def any_of(predicates: Iterable[Predicate]) -> Predicate:
    """At least one of them holds."""
    return _together(predicates, neutral=False, name="or_matcher")


def _together(predicates: Iterable[Predicate], *, neutral: bool, name: str) -> Predicate:
    given = [each for each in predicates if each is not neutral]
    if any(isinstance(each, bool) for each in given):
        return not neutral
    if len(given) < 2:
        return given[0] if given else neutral
    return {name: {"predicate": given}}


def negated(predicate: Predicate) -> Predicate:
    """It does not hold."""
    return not predicate if isinstance(predicate, bool) else {"not_matcher": predicate}


def with_source_ip(nets: Iterable[Net]) -> Predicate:
    """Who holds the connection is in one of these networks."""
    return _in_nets("source_ip", "SourceIPInput", nets)


def with_destination_ip(nets: Iterable[Net]) -> Predicate:
    """What the connection was made to is in one of these networks."""
    return _in_nets("destination_ip", "DestinationIPInput", nets)


def with_source_port(pattern: str) -> Predicate:
    """The whole source port, in digits, matches."""
    return _matching(_input("source_port", f"{_INPUTS}.network.v3.SourcePortInput"), pattern)


def with_destination_port(pattern: str) -> Predicate:
    """The whole port that the connection was made to, in digits, matches."""
    return _matching(_input("destination_port", f"{_INPUTS}.network.v3.DestinationPortInput"), pattern)


def with_peer(pattern: str) -> Predicate:
    """The identity in the peer's certificate matches; never, where it showed none."""
    return _matching(_input("uri_san", f"{_INPUTS}.ssl.v3.UriSanInput"), pattern)


def with_header(name: str, pattern: str) -> Predicate:
    """A request's header, all of it, matches; pseudo headers begin with a colon."""
    given = _input("header", f"{_API}.type.matcher.v3.HttpRequestHeaderMatchInput")
    given["typed_config"]["header_name"] = name
    return _matching(given, pattern)


def _input(name: str, kind: str) -> Json:
    return {"name": name, "typed_config": {"@type": kind}}


def _matching(given: Json, pattern: str) -> Json:
    return {"single_predicate": {"input": given, "value_match": {"safe_regex": {"google_re2": {}, "regex": pattern}}}}


def _in_nets(name: str, kind: str, nets: Iterable[Net]) -> Predicate:
    ranges = sorted((str(net.network_address), net.prefixlen) for net in nets)
    if not ranges:
        return False
    cidrs = [{"address_prefix": address, "prefix_len": length} for address, length in ranges]
    matcher = {"@type": _IP_MATCHER, "cidr_ranges": cidrs, "stat_prefix": "policylab"}
    given = _input(name, f"{_INPUTS}.network.v3.{kind}")
    return {"single_predicate": {"input": given, "custom_match": {"name": "ip", "typed_config": matcher}}}
