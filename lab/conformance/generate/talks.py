# SPDX-License-Identifier: Apache-2.0
"""Conversations of two ends through a change of policy: as they are spoken, disturbed, or out of place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.clusters import cluster_document, clusters
from lab.conformance.generate.facts import Facts
from lab.conformance.generate.flows import borders
from lab.conformance.generate.picks import chance, pick
from lab.conformance.generate.policies import resources
from lab.conformance.generate.topologies import topologies, topology_document
from lab.conformance.needs import needed_by_document, needed_by_flow
from lab.conformance.scenario import Entry, Scenario
from lab.protocols import ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, protocol_number
from lab.topology import Topology

__all__ = ["talks"]

_FEWEST, _MOST = 5, 10
"""Conversations of a scenario; each is some packets, and each packet is waited for, but a change takes much longer."""
_FIRST_PORT: Final = 41000
"""Each has a source port of its own: the numbers of another one's segments would be out of its window."""

_Word = tuple[str, bool]
"""What is said, and whether it comes back."""

_TCP: Final[tuple[_Word, ...]] = (
    ("syn", False), ("syn+ack", True), ("ack", False), ("data", False), ("ack", True), ("data", True), ("ack", False),
    ("fin+ack", False), ("ack", True), ("data", True), ("fin+ack", True), ("ack", False), ("syn", False),
)  # fmt: skip
_BOTH_OPEN: Final[tuple[_Word, ...]] = (
    ("syn", False), ("syn", True), ("syn+ack", False), ("syn+ack", True), ("ack", False), ("data", False),
    ("data", True), ("ack", False),
)  # fmt: skip
_SCRIPTS: Final = (_TCP, _TCP, _TCP, _BOTH_OPEN)
_SCTP: Final[tuple[_Word, ...]] = (
    ("init", False), ("init-ack", True), ("cookie-echo", False), ("cookie-ack", True), ("data", False), ("data", True),
    ("again", False), ("data", False), ("shutdown", False), ("shutdown-ack", True), ("shutdown-complete", False),
)  # fmt: skip
_STRAY: Final = ("syn+ack", "ack", "data", "rst", "fin+ack", "fin", "none", "syn+fin", "fin+psh+urg", "psh", "urg")
_ERRORS: Final = ("unreachable", "time-exceeded", "parameter-problem")
_WORDS: Final[Mapping[int, tuple[str, ...]]] = {
    UDP: ("data", "data", "again", *_ERRORS),
    UDPLITE: ("data",),
    ICMP: ("request", "reply", "again", *_ERRORS),
    ICMPV6: ("request", "reply", "again", *_ERRORS),
}
_REFERRING: Final = frozenset({"again", *_ERRORS})
"""Words that are about what was said before."""
_OTHERS: Final = ("data", "data", "again", "unreachable")
_ECHO: Final = {ICMP: 8, ICMPV6: 128}
_SHAPES: Final[Mapping[str, tuple[Entry, ...]]] = {
    "ipv4": (
        {"fragments": 32, "payload": 100},
        {"options": "01010101"},
        {"options": "07070400000000"},
        {"wrong_header_checksum": True},
    ),
    "ipv6": ({"fragments": 32, "payload": 100}, {"extensions": [60]}, {"extensions": [0, 60]}, {"extensions": [43]}),
}
_LONGEST: Final[Mapping[str, Entry]] = {
    "ipv4": {"fragments": 1480, "payload": 65507},
    "ipv6": {"fragments": 1448, "payload": 65527},
}
"""Of UDP: the longest datagram that a family has."""
_ODD: Final[tuple[Entry, ...]] = (
    {"payload": 0},
    {"payload": 1400},
    {"wrong_checksum": True},
    {"fragments": 32, "payload": 100, "first_only": True},
    {"fragments": 32, "payload": 100, "later_only": True},
    {"fragments": 32, "payload": 100, "overlap": True},
)
_GROUPS: Final = {
    "ipv4": ("224.0.0.1", "239.255.255.250", "255.255.255.255"),
    "ipv6": ("ff02::1", "ff05::2", "ff0e::1"),
}
"""Where packets go nowhere: groups and everybody."""
_MARTIANS: Final = {"ipv4": ("127.0.0.1", "224.0.0.5"), "ipv6": ("::1", "ff02::1")}
"""Addresses that nobody can have."""
_OF_NODES: Final = frozenset(each for each in Capability if each.value.startswith("host."))
"""The model of connections says nothing of what nodes do ahead of tracking, or to their own packets."""


def talks(topology: Topology | None, capabilities: frozenset[Capability]) -> st.SearchStrategy[Scenario]:
    """Scenarios of conversations under two policies, one after the other, for a dataplane with these capabilities."""
    drawn_for = capabilities - _OF_NODES
    if topology is not None:
        return _talk(Facts(topology_document(topology), drawn_for))
    return topologies(tunnels=False).flatmap(lambda document: _talk(Facts(document, drawn_for)))


@st.composite
def _talk(draw: st.DrawFn, facts: Facts) -> Scenario:
    before, after = (_held_to(facts, resources(draw, facts)) for _ in range(2))
    kinds: dict[int, list[Mapping[str, Any]]] = {}
    for packet in borders(facts, (*before, *after)):
        if _can_be_spoken(packet):
            kinds.setdefault(_number(packet), []).append(packet)
    # By protocol first: there are many more ports than echoes.
    protocols = (*kinds, *(kind for kind in kinds if kind == TCP))
    conversations = [
        entry
        for number in range(draw(st.integers(_FEWEST, _MOST)))
        if (entry := _conversation(draw, facts, pick(draw, kinds[pick(draw, protocols)]), number)) is not None
    ]
    known = tuple(_held_to(facts, cluster_document(clusters(draw, facts)))) if chance(draw, 4) else ()
    kept = tuple(entry for entry in conversations if needed_by_flow(entry) <= facts.capabilities)
    return Scenario(facts.document, (*known, *after), (), (before,), conversations=kept)


def _held_to(facts: Facts, documents: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(each for each in documents if needed_by_document(each) <= facts.capabilities)


def _can_be_spoken(packet: Mapping[str, Any]) -> bool:
    """ICMP is spoken as echo only, each kind in its own family."""
    number = _number(packet)
    if number in _ECHO:
        home = "ipv4" if number == ICMP else "ipv6"
        return packet.get("icmp") == {"type": _ECHO[number], "code": 0} and packet.get("family", home) == home
    return "http" not in packet


def _number(packet: Mapping[str, Any]) -> int:
    protocol = packet["protocol"]
    return protocol if isinstance(protocol, int) else protocol_number(protocol) or 0


def _conversation(draw: st.DrawFn, facts: Facts, packet: Mapping[str, Any], number: int) -> Entry | None:
    """What two ends say to each other; None where they have no family for it."""
    source, target = pick(draw, facts.pairs)
    shared = [f"ipv{family}" for family in sorted(facts.families_of(source) & facts.families_of(target))]
    home = {ICMP: "ipv4", ICMPV6: "ipv6"}.get(_number(packet))
    families = [family for family in shared if packet.get("family", home or family) == family]
    if not families:
        return None
    family = pick(draw, families)
    opening = {"from": source, "to": target, **packet, "family": family}
    if "port" in packet:
        opening["source_port"] = packet.get("source_port", _FIRST_PORT + number)
    words = list(_spoken(draw, _number(packet)))
    changes_at = draw(st.integers(0, len(words)))
    lines: list[Entry] = []
    spoke: set[bool] = set()
    for at, (word, back) in enumerate(words):
        step = int(at >= changes_at)
        if word not in _REFERRING:
            strays = (stray(draw, facts, opening, (word, back)) for stray in (_impostor, _to_many))
            lines += [{**each, "step": step} for each in strays if each is not None]
        line = _line(draw, facts, opening, (word, back), spoke)
        if line is not None:
            lines.append({**line, "step": step})
    return {**opening, "packets": lines} if lines else None


def _spoken(draw: st.DrawFn, protocol: int) -> Iterator[_Word]:
    """TCP as it is spoken, disturbed now and then and broken off at some time, or a segment of nothing; or babble."""
    if protocol == SCTP:  # in its order: of anything else the model says nothing
        yield from _up_to_some_word(draw, _SCTP)
        return
    if protocol != TCP:
        words = _WORDS.get(protocol, _OTHERS)
        yield from ((pick(draw, words), chance(draw, 2)) for _ in range(draw(st.integers(2, 8))))
        return
    if chance(draw, 5):
        yield pick(draw, _STRAY), chance(draw, 2)
        return
    for word, back in _up_to_some_word(draw, pick(draw, _SCRIPTS)):
        yield word, back
        if chance(draw, 8):
            yield pick(draw, ("again", *_ERRORS)), chance(draw, 2)
    if chance(draw, 4):
        yield pick(draw, ("rst", "rst+ack")), chance(draw, 2)


def _up_to_some_word(draw: st.DrawFn, script: tuple[_Word, ...]) -> tuple[_Word, ...]:
    """Every other time all of it."""
    return script if chance(draw, 2) else script[: draw(st.integers(1, len(script)))]


def _line(
    draw: st.DrawFn, facts: Facts, opening: Mapping[str, Any], said: _Word, spoke: set[bool]
) -> dict[str, Any] | None:
    """A packet; None for what refers to nothing that was said. ``spoke`` takes who has said something."""
    word, back = said
    line: dict[str, Any] = {"answer" if back else "send": word}
    if word in _ERRORS:
        if (not back) not in spoke:
            return None
        if chance(draw, 3):
            line["forged"] = True
        if others := _others(facts, opening):
            line |= {"by": pick(draw, others)} if chance(draw, 4) else {}
        return line
    if word == "again":
        return line if back in spoke else None
    spoke.add(back)
    if word == "data" and _number(opening) in (TCP, UDP) and chance(draw, 6):
        family: str = opening["family"]
        shapes = (*_SHAPES[family], *_ODD, *([_LONGEST[family]] if _number(opening) == UDP else []))
        line["shape"] = dict(pick(draw, shapes))
    return line


def _impostor(draw: st.DrawFn, facts: Facts, opening: Mapping[str, Any], said: _Word) -> Entry | None:
    """Now and then a workload says it before, with another's address: a third one, or an end with that of a third.

    Or with one that nobody has.
    """
    word, back = said
    if Capability.OWN_SOURCE not in facts.capabilities or not chance(draw, 12):
        return None
    sender, others = opening["to" if back else "from"], _others(facts, opening)
    line: dict[str, Any] = {"answer" if back else "send": word}
    if sender in facts.workloads and chance(draw, 2):
        return {**line, "source": pick(draw, (*others, *_MARTIANS[opening["family"]]))}
    if strangers := [name for name in others if name in facts.workloads]:
        return {**line, "by": pick(draw, strangers), "source": sender}
    return None


def _to_many(draw: st.DrawFn, _facts: Facts, opening: Mapping[str, Any], said: _Word) -> Entry | None:
    """Now and then a datagram goes to a group or to everybody before it goes where it should."""
    word, back = said
    if _number(opening) != UDP or not chance(draw, 12):
        return None
    return {"answer" if back else "send": word, "destination": pick(draw, _GROUPS[opening["family"]])}


def _others(facts: Facts, opening: Mapping[str, Any]) -> Sequence[str]:
    """Ends that take no part in a conversation, with an address of its family."""
    family = int(opening["family"].removeprefix("ipv"))
    both = (opening["from"], opening["to"])
    return [name for name in facts.ends if name not in both and family in facts.families_of(name)]
