# SPDX-License-Identifier: Apache-2.0
"""``policylab bench dos``: what a flood costs the machine that drops it, way by way, and what is left for others.

Every way stands ready on a node of its own; in each round all are flooded in turn. A row is the work of a CPU for each
packet in nanoseconds, generator and receiver together; what the generator takes by itself has rows of its own, and is
said in every other. Listed sources are spread over the whole list: *hot* are 1,024 of them, *cold* four million.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import chain
from typing import Final, cast

import numpy as np

from dataplanes.xdp.lists import Kind
from lab.bench.dos_courses import COURSES, LISTENER, NOTHING, RATIOS, SIZES, Course
from lab.bench.dos_lists import COLD, NetList, ipv4_list, ipv6_list, mixed
from lab.bench.dos_victim import Kept, flooded
from lab.bench.dos_ways import Way, blocklist, ipset, linear, nft_set, nothing, own, tc, tc_blocklist, unconditional
from lab.bench.result import BenchResult, Row, Spread, describe_host, interleave, ratio
from lab.errors import DataplaneError
from lab.fabric.bpf import XdpMode
from lab.fabric.lab import Lab
from lab.topology import Address, External, Node, Pools, Topology
from lab.traffic.flood import Flood, FloodKind

__all__ = ["FULL", "USUAL", "Effort", "run"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How many times the rounds that are asked for, and the seconds after which none begins that can be left out."""

    times: int
    seconds: float


USUAL: Final = Effort(1, 9 * 60)
"""On a busy machine, too, it is to end within 15 minutes."""
FULL: Final = Effort(3, math.inf)

_SHARES: Final = {name: rows for name, rows in RATIOS.items() if name.startswith("xdp.of_limit")}
"""Figures that are near what they are divided by: each is measured many times in turns, for a machine that others use
goes from one pace to another within a second."""
_TURNS: Final = 10
"""In each round."""
_SHORT: Final = 1 << 18
"""Packets of a turn."""

_MILLION: Final = 1_000_000
_UNIT: Final = "ns a packet"
_CLIENT: Final = "client"
_VICTIMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "no flood": (NOTHING, None),
    "xdp 1m": ("xdp-1m-4", "listed-1m-4"),
    "ipset 1m": ("ipset-1m", "listed-1m-4"),
    "nothing attached": (NOTHING, "listed-1m-4"),
    "xdp 1m, syn": ("xdp-1m-4", "syn-1m-4"),
    "ipset 1m, syn": ("ipset-1m", "syn-1m-4"),
    "nothing attached, syn": (NOTHING, "syn-1m-4"),
}
"""Who is flooded while a connection goes on, and with what."""


def run(
    rounds: int = 7, effort: Effort = USUAL, tell: Callable[[str], None] | None = None, most: int = _MILLION
) -> BenchResult:
    """Measure so many rounds; ``tell`` hears how far it is; ``most`` is how many networks stand for a million of them.

    Raises HostError or BpfError when the host cannot, DataplaneError when a filter lets a listed packet pass.
    """
    rounds, until = rounds * effort.times, time.monotonic() + effort.seconds
    generator = np.random.default_rng()
    lists = {4: ipv4_list(generator, most), 6: ipv6_list(generator, most)}
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(_topology()))
        say = tell or _nothing
        say(f"setting up {len(lab.nodes)} ways to drop, with up to {most:,} networks")
        ways = _ways(stack, lab, lists)
        floods = _floods(stack, lab, generator, lists)
        # What is divided by what comes one after the other: a machine that others use is not the same all the time.
        names = dict.fromkeys((*chain(*RATIOS.values()), *COURSES))
        measured = {name: partial(_measure, lab, ways, floods, COURSES[name]) for name in names}
        say(f"measuring {len(measured)} rows in {rounds} rounds")
        figures = interleave(rounds, measured, until)
        rounds = len(figures[RATIOS["xdp.over_lpm"][0]])
        say(f"measuring shares of the limit in {rounds * _TURNS} turns")
        shares = interleave(
            rounds * _TURNS,
            {
                name: partial(_measure, lab, ways, floods, _shortened(COURSES[name]))
                for name in chain(*_SHARES.values())
            },
        )
        say(f"measuring what a connection keeps in {rounds} rounds")
        kept = _victims(lab, floods, rounds)
    rows = [
        Row(each.line, _UNIT, Spread.of(figures[name]), _details(each, figures), each.series)
        for name, each in COURSES.items()
    ]
    ratios = {
        name: ratio(*((shares if name in _SHARES else figures)[row] for row in rows)) for name, rows in RATIOS.items()
    }
    return BenchResult("dos", describe_host(), rounds, (*rows, *_victim_rows(kept)), ratios | _victim_ratios(kept))


def _shortened(course: Course) -> Course:
    return replace(course, packets=min(course.packets, _SHORT))


def _nothing(_: str) -> None:
    """Nobody wants to hear it."""


def _topology() -> Topology:
    """A node for each way, and a client outside."""
    underlay = Pools(IPv4Network("198.19.0.0/24"), IPv6Network("fd00:19::/64"))
    names = dict.fromkeys(course.way for course in COURSES.values() if course.way)
    nodes = {
        name: Node(name, "namespace", {}, (underlay.ipv4[place], underlay.ipv6[place]))
        for place, name in enumerate(names, 1)
    }
    return Topology(
        name="dos",
        pods=Pools(IPv4Network("198.18.0.0/16"), IPv6Network("fd00:18::/32")),
        underlay=underlay,
        nodes=nodes,
        namespaces={},
        workloads={},
        externals={_CLIENT: External(_CLIENT, (IPv4Address("203.0.113.9"),), ())},
    )


def _ways(stack: ExitStack, lab: Lab, lists: Mapping[int, NetList]) -> dict[str, Way]:
    """Everything that drops, set up on its node."""
    nodes, whole = lab.nodes, lists[4]
    for name, node in nodes.items():
        if name != NOTHING:
            own(node, lab.upstream(NOTHING).addresses)
    ways = {
        f"xdp-{size}-{version}": blocklist(stack, nodes[f"xdp-{size}-{version}"], _part(listed, size))
        for version, listed in lists.items()
        for size in SIZES
    }
    tries = {
        f"lpm-1m-{version}": blocklist(stack, nodes[f"lpm-1m-{version}"], listed, Kind.TRIE)
        for version, listed in lists.items()
    }
    listener = stack.enter_context(nodes[NOTHING].socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.bind(("", LISTENER))
    listener.listen()
    return {
        **ways,
        **tries,
        "limit": unconditional(stack, nodes["limit"], "drop_all"),
        "read": unconditional(stack, nodes["read"], "drop_after_reading"),
        "pass": unconditional(stack, nodes["pass"], "pass_all"),
        "generic": unconditional(stack, nodes["generic"], "drop_all", XdpMode.GENERIC),
        "generic-1m": blocklist(stack, nodes["generic-1m"], whole, mode=XdpMode.GENERIC),
        "tc": tc(stack, nodes["tc"]),
        "tc-1m": tc_blocklist(stack, nodes["tc-1m"], whole),
        "ipset-1m": ipset(nodes["ipset-1m"], whole),
        "nft-100k": nft_set(nodes["nft-100k"], _part(whole, "100k")),
        "nft-1m": nft_set(nodes["nft-1m"], whole),
        "linear-nft": linear(nodes["linear-nft"], _part(whole, "10k"), "iptables-nft"),
        "linear-legacy": linear(nodes["linear-legacy"], _part(whole, "10k"), "iptables-legacy"),
        NOTHING: nothing(nodes[NOTHING]),
    }


def _floods(
    stack: ExitStack, lab: Lab, generator: np.random.Generator, lists: Mapping[int, NetList]
) -> dict[str, Flood]:
    """Floods by what their sources are. All are for the same address, which every node has."""
    to: dict[int, Address] = {address.version: address for address in lab.upstream(NOTHING).addresses}
    floods = {}
    for name in dict.fromkeys(course.flood for course in COURSES.values()):
        what, size, version = name.split("-")
        listed = _part(lists[int(version)], size)
        if what == "unlisted":
            high, low = listed.others(generator, COLD)
        elif what == "mixed":
            high, low = mixed(listed, generator, COLD)
        else:
            number = max(course.sources for course in COURSES.values() if course.flood == name)
            high, low = listed.sources(generator, number)
        kind = cast("FloodKind", what) if what in ("syn", "fragments") else "udp"
        port = LISTENER if kind == "syn" else 9
        flood = Flood((high, low) if version == "6" else low, to[int(version)], kind, port)
        floods[name] = stack.enter_context(flood)
    return floods


def _part(whole: NetList, size: str) -> NetList:
    """As many of the networks as stand for so many of a million."""
    most = len(whole)
    return whole.first({"1": 1, "1k": most // 1000, "10k": most // 100, "100k": most // 10, "1m": most}[size])


def _measure(lab: Lab, ways: Mapping[str, Way], floods: Mapping[str, Flood], course: Course) -> float:
    """Nanoseconds a packet; raises DataplaneError when not all came, or not all were dropped that should have been."""
    flood = floods[course.flood]
    flood.narrow(course.sources)
    if not course.way:
        return flood.discard(lab.upstream(NOTHING), course.packets).nanoseconds
    way = ways[course.way]
    before = way.received(), way.dropped() if way.dropped else 0
    spent = flood.send(lab.upstream(course.way), course.packets)
    received = way.received() - before[0]
    if received < spent.packets:
        raise DataplaneError(
            "packets of a flood were lost on the way", place=course.way, value=spent.packets - received
        )
    if course.all_listed and way.dropped and way.dropped() - before[1] != spent.packets:
        raise DataplaneError("a filter let listed packets pass", place=course.way, next_step="its figures mean nothing")
    return spent.nanoseconds


def _details(course: Course, figures: Mapping[str, list[float]]) -> dict[str, object]:
    """How a row was measured, and what of its figure is the generator's."""
    generator = Spread.of(figures[course.generator]).median
    return {"packets": course.packets, "sources": course.sources, "generator_ns": round(generator, 1)}


# --- what the victim keeps -------------------------------------------------------------------------------------------


def _victims(lab: Lab, floods: Mapping[str, Flood], rounds: int) -> dict[str, list[Kept]]:
    """What a connection got through, round by round."""
    kept: dict[str, list[Kept]] = {name: [] for name in _VICTIMS}

    def measure(name: str) -> float:
        node, flood = _VICTIMS[name]
        kept[name].append(flooded(lab, _CLIENT, node, floods[flood] if flood else None))
        return kept[name][-1].megabytes

    for flood in floods.values():
        flood.narrow(COLD)
    interleave(rounds, {name: partial(measure, name) for name in _VICTIMS})
    return kept


def _victim_rows(kept: Mapping[str, list[Kept]]) -> list[Row]:
    rows = []
    for name, sample in kept.items():
        rates = [each.flood.packets / each.flood.seconds for each in sample]
        told = {"flood_packets_per_second": round(Spread.of(rates).median)}
        rows += [
            Row("victim, goodput", "MB/s", Spread.of(each.megabytes for each in sample), told, name),
            Row("victim, latency", "ms", Spread.of(each.milliseconds for each in sample), told, name),
        ]
    return rows


def _victim_ratios(kept: Mapping[str, list[Kept]]) -> dict[str, Spread]:
    """With XDP over without: the dataplane's own rules are beneath it, and drop when it is not there."""
    rates = {name: [each.megabytes for each in sample] for name, sample in kept.items()}
    waits = {name: [each.milliseconds for each in sample] for name, sample in kept.items()}
    return {
        "victim.goodput": ratio(rates["xdp 1m"], rates["ipset 1m"]),
        "victim.goodput_syn": ratio(rates["xdp 1m, syn"], rates["nothing attached, syn"]),
        "victim.goodput_over_nothing": ratio(rates["xdp 1m"], rates["nothing attached"]),
        "victim.goodput_of_no_flood": ratio(rates["xdp 1m"], rates["no flood"]),
        "victim.latency": ratio(waits["ipset 1m"], waits["xdp 1m"]),
    }
