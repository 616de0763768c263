# SPDX-License-Identifier: Apache-2.0
"""What the XDP filter must make of a frame, written from the rules of the stack and not from the filter.

A frame is dropped only if the rules beneath would deny it for certain. ``judged`` takes the bytes apart in its own
way: by slices of a frame cut to the length that its IP header states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

TCP, UDP, SCTP = 6, 17, 132
WITH_PORTS = (TCP, UDP, SCTP)
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS)
# As many as the filter looks at; what has more is left to the stack.
MOST_TAGS, MOST_EXTENSIONS = 2, 8

Address = tuple[int, int]
"""Version and number: objects would take longer than all the rest."""
Net = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Rules:
    """What is denied: sources whatever they send; sources by protocol and ports; and what never is."""

    plain: tuple[Net, ...] = ()
    conditional: tuple[tuple[Net, int, tuple[tuple[int, int], ...]], ...] = ()
    failsafe_inbound: frozenset[tuple[int, int]] = frozenset()
    failsafe_answers: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame says: ``protocol`` None when that cannot be told, ``ports`` when there are none or they cannot."""

    source: Address
    protocol: int | None
    ports: tuple[int, int] | None


class Nets:
    """Networks, asked by one look-up for each length that occurs."""

    def __init__(self, nets: Iterable[Net]) -> None:
        self._known: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for net in nets:
            shift = net.max_prefixlen - net.prefixlen
            self._known[net.version].setdefault(shift, set()).add(int(net.network_address) >> shift)

    def __contains__(self, address: Address) -> bool:
        version, value = address
        return any(value >> shift in known for shift, known in self._known[version].items())


class Model:
    """Judges frames by rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._plain = Nets(rules.plain)
        self._conditional = [(Nets([net]), protocol, ports) for net, protocol, ports in rules.conditional]

    def dropped(self, frame: bytes) -> bool:
        """Whether the filter must drop a frame."""
        seen = seen_in(frame)
        return seen is not None and self._denied(seen) and not self._maybe_failsafe(seen)

    def _denied(self, seen: Seen) -> bool:
        return seen.source in self._plain or any(
            seen.source in nets and _fulfils(seen, protocol, ports) for nets, protocol, ports in self._conditional
        )

    def _maybe_failsafe(self, seen: Seen) -> bool:
        rules = self.rules
        having = {protocol for protocol, _ in rules.failsafe_inbound | rules.failsafe_answers}
        if seen.protocol is None:
            return bool(having)
        if seen.protocol not in having:
            return False
        if seen.ports is None:
            return True
        source, destination = seen.ports
        asked, answered = (seen.protocol, destination), (seen.protocol, source)
        return asked in rules.failsafe_inbound or answered in rules.failsafe_answers


def _fulfils(seen: Seen, protocol: int, ports: tuple[tuple[int, int], ...]) -> bool:
    if seen.protocol != protocol:
        return False
    return not ports or (seen.ports is not None and any(low <= seen.ports[1] <= high for low, high in ports))


def seen_in(frame: bytes) -> Seen | None:
    """What a frame says of its packet; None for one that the filter must leave alone."""
    kind, rest = frame[12:14], frame[14:]
    for _ in range(MOST_TAGS):
        if kind not in (b"\x81\x00", b"\x88\xa8"):
            break
        if len(rest) < 4 or rest[0] & 0x0F or rest[1]:
            return None
        kind, rest = rest[2:4], rest[4:]
    if kind == b"\x08\x00":
        return _seen_in_ipv4(rest)
    return _seen_in_ipv6(rest) if kind == b"\x86\xdd" else None


def _seen_in_ipv4(data: bytes) -> Seen | None:
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    length, total = (data[0] & 15) * 4, int.from_bytes(data[2:4])
    if length < 20 or not length <= total <= len(data):
        return None
    later = int.from_bytes(data[6:8]) & 0x1FFF
    behind = b"" if later else data[length:total]
    return Seen((4, int.from_bytes(data[12:16])), data[9], _ports(data[9], behind))


def _seen_in_ipv6(data: bytes) -> Seen | None:
    if len(data) < 40 or data[0] >> 4 != 6:
        return None
    total = int.from_bytes(data[4:6])
    if total > len(data) - 40:
        return None
    source, protocol, rest = (6, int.from_bytes(data[8:24])), data[6], data[40 : 40 + total]
    unknown = Seen(source, None, None)
    later = 0
    for _ in range(MOST_EXTENSIONS):
        if protocol not in EXTENSIONS or later:
            break
        if len(rest) < 8:
            return unknown
        length = 8 if protocol == FRAGMENT else (rest[1] + 2) * 4 if protocol == AUTHENTICATION else (rest[1] + 1) * 8
        if len(rest) < length:
            return unknown
        later = protocol == FRAGMENT and int.from_bytes(rest[2:4]) & 0xFFF8
        protocol, rest = rest[0], rest[length:]
    if protocol in EXTENSIONS:
        return unknown
    return Seen(source, protocol, None if later else _ports(protocol, rest))


def _ports(protocol: int, data: bytes) -> tuple[int, int] | None:
    if protocol not in WITH_PORTS or len(data) < 4:
        return None
    return int.from_bytes(data[:2]), int.from_bytes(data[2:4])
