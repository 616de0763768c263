# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of the IP protocols that a policy can name (semantics: Calico v3 ``numorstring.Protocol``)."""

from __future__ import annotations

__all__ = [
    "ICMP",
    "ICMPV6",
    "PORT_PROTOCOLS",
    "PROTOCOL_NAMES",
    "SCTP",
    "TCP",
    "UDP",
    "UDPLITE",
    "protocol_label",
    "protocol_number",
]

ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58
SCTP = 132
UDPLITE = 136

PROTOCOL_NAMES = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMPV6: "ICMPv6", SCTP: "SCTP", UDPLITE: "UDPLite"}
# UDP-Lite has ports on the wire, but no policy can name them.
PORT_PROTOCOLS = frozenset({TCP, UDP, SCTP})

_NUMBERS = {name.lower(): number for number, name in PROTOCOL_NAMES.items()}


def protocol_label(number: int) -> str | int:
    """The canonical name of a protocol as results print it, or the number where it has no name."""
    return PROTOCOL_NAMES.get(number, number)


def protocol_number(name: str) -> int | None:
    """The number of a protocol's name in any case, or None when no policy can use that name."""
    return _NUMBERS.get(name.lower())
