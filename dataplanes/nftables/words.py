# SPDX-License-Identifier: Apache-2.0
"""The words of libnftables-json(5) that our rules are made of: conditions, mark bits, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from dataplanes.api import Net
from dataplanes.nftables.names import MARK_MASK, harmless

__all__ = [
    "ACCEPT",
    "CLEAR_MARK",
    "COUNT",
    "DROP",
    "ESTABLISHED",
    "INVALID",
    "RETURN",
    "Family",
    "Json",
    "Rule",
    "address",
    "ahead_of",
    "clear_bits",
    "goto",
    "has_bits",
    "jump",
    "lacks_bits",
    "lookup",
    "match",
    "meta",
    "net_value",
    "of_family",
    "only_bits",
    "rule",
    "set_bits",
    "transport",
    "verdict_of",
]

Family = Literal[4, 6]
Json = dict[str, Any]
Rule = Json
"""A rule as nft reads it, without its place: ``expr`` and, where there is something to say, ``comment``."""

_ALL_BITS: Final = 0xFFFFFFFF
_IP: Final[Mapping[Family, str]] = {4: "ip", 6: "ip6"}
_PROTO: Final[Mapping[Family, str]] = {4: "ipv4", 6: "ipv6"}

DROP: Final[Json] = {"drop": None}
ACCEPT: Final[Json] = {"accept": None}
RETURN: Final[Json] = {"return": None}
COUNT: Final[Json] = {"counter": None}


def rule(*expressions: Json, about: str = "") -> Rule:
    """A rule with a comment."""
    written: Rule = {"expr": list(expressions)}
    return {**written, "comment": harmless(about)} if about else written


def match(left: Json, right: object, operator: str = "==") -> Json:
    """The condition that two things are in a relation; "in" asks whether one of several flags is set."""
    return {"match": {"op": operator, "left": left, "right": right}}


def meta(key: str) -> Json:
    """What the kernel knows of a packet: ``iifname``, ``oifname``, ``l4proto``, ``mark``, ``nfproto``."""
    return {"meta": {"key": key}}


def of_family(family: Family) -> Json:
    """The condition that a packet is of a family."""
    return match(meta("nfproto"), _PROTO[family])


def ahead_of(family: Family, written: Rule) -> Rule:
    """The same rule for one family alone."""
    return {**written, "expr": [of_family(family), *written["expr"]]}


def address(family: Family, field: str) -> Json:
    """A packet's ``saddr`` or ``daddr``."""
    return {"payload": {"protocol": _IP[family], "field": field}}


def transport(field: str) -> Json:
    """A packet's ``sport`` or ``dport``, whatever the protocol."""
    return {"payload": {"protocol": "th", "field": field}}


def net_value(net: Net) -> str | Json:
    """A network as a value: an address where it holds no more than one."""
    whole = net.prefixlen == net.max_prefixlen
    return str(net.network_address) if whole else {"prefix": {"addr": str(net.network_address), "len": net.prefixlen}}


def verdict_of(key: Json, verdicts: str | Iterable[tuple[str, Json]]) -> Json:
    """A verdict looked up by a key, in a named map or in one of the rule's own."""
    data = lookup(verdicts) if isinstance(verdicts, str) else {"set": [list(pair) for pair in verdicts]}
    return {"vmap": {"key": key, "data": data}}


def lookup(name: str) -> str:
    """A set or map as what a condition compares with."""
    return f"@{name}"


def jump(chain: str) -> Json:
    """Ask a chain, and go on here when it returns."""
    return {"jump": {"target": chain}}


def goto(chain: str) -> Json:
    """Hand over to a chain; when it returns, so does this one."""
    return {"goto": {"target": chain}}


def has_bits(bits: int) -> Json:
    """The condition that any of these mark bits is set."""
    return match({"&": [meta("mark"), bits]}, 0, "!=")


def lacks_bits(bits: int) -> Json:
    """The condition that none of these mark bits is set."""
    return match({"&": [meta("mark"), bits]}, 0)


def only_bits(wanted: int, among: int) -> Json:
    """The condition that of some mark bits just the wanted ones are set."""
    return match({"&": [meta("mark"), among]}, wanted)


def set_bits(bits: int, *, clear: int = 0) -> Json:
    """Set mark bits, and clear others first."""
    kept = {"&": [meta("mark"), _ALL_BITS & ~clear]} if clear else meta("mark")
    return {"mangle": {"key": meta("mark"), "value": {"|": [kept, bits]}}}


def clear_bits(bits: int) -> Json:
    """Clear mark bits."""
    return {"mangle": {"key": meta("mark"), "value": {"&": [meta("mark"), _ALL_BITS & ~bits]}}}


CLEAR_MARK: Final = clear_bits(MARK_MASK)
ESTABLISHED: Final = match({"ct": {"key": "state"}}, ["established", "related"], "in")
INVALID: Final = match({"ct": {"key": "state"}}, "invalid", "in")
