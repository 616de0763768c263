# SPDX-License-Identifier: Apache-2.0
"""``policylab bench dos``: what a flood costs the machine that drops it, way by way, and what is left for others.

Every way stands ready on a node of its own; in each round all are flooded in turn. A row is the work of a CPU for each
packet in nanoseconds, generator and receiver together; the limit, an XDP program that looks at nothing, is most of all
the generator's. Listed sources are spread over the whole list: *hot* are 1,024 of them, *cold* four million.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

import numpy as np

from dataplanes.xdp.lists import Kind
from lab.bench.dos_lists import COLD, HOT, NetList, Words, ipv4_list, ipv6_list
from lab.bench.dos_victim import Kept, flooded
from lab.bench.dos_ways import Way, blocklist, ipset, linear, nft_set, nothing, tc, unconditional
from lab.bench.result import BenchResult, Row, Spread, describe_host, interleave, ratio
from lab.errors import DataplaneError
from lab.fabric.bpf import XdpMode
from lab.fabric.lab import Lab
from lab.topology import Address, External, Node, Pools, Topology
from lab.traffic.flood import Flood, Sources

__all__ = ["run"]

_MILLION: Final = 1_000_000
_UNIT: Final = "ns a packet"
# Packets of one measurement: XDP takes some tenths of a second for them, a long chain of rules about one second.
_MANY, _SOME, _FEW = 1_000_000, 200_000, 4_000
_SIZES: Final = ("1", "1k", "100k", "1m")
_LONG: Final = ("100k", "1m")
"""In lists so long, sources can be spread so far that tables leave near caches."""
_CLIENT: Final = "client"
_NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class _Course:
    """One row: which way is flooded with what, and how many packets each time."""

    way: str
    flood: str
    sources: int
    packets: int = _MANY
    all_dropped: bool = False


def _xdp_rows() -> dict[str, _Course]:
    rows = {}
    for version in (4, 6):
        for size in _SIZES:
            way, flood = f"xdp-{size}-{version}", f"listed-{size}-{version}"
            rows[f"xdp {size}, ipv{version}, hot"] = _Course(way, flood, HOT, all_dropped=True)
            if size in _LONG:
                rows[f"xdp {size}, ipv{version}, cold"] = _Course(way, flood, COLD, all_dropped=True)
    return rows


_COURSES: Final[Mapping[str, _Course]] = {
    "limit, ipv4, hot": _Course("limit", "listed-1m-4", HOT),
    "limit, ipv4, cold": _Course("limit", "listed-1m-4", COLD),
    "limit, ipv6, hot": _Course("limit", "listed-1m-6", HOT),
    "limit, ipv6, cold": _Course("limit", "listed-1m-6", COLD),
    "one read of a 2 MB table": _Course("read", "listed-1m-4", COLD),
    **_xdp_rows(),
    "xdp 1m, ipv4, unlisted": _Course("xdp-1m-4", "others-1m-4", COLD, _SOME),
    "xdp 1m, ipv6, unlisted": _Course("xdp-1m-6", "others-1m-6", COLD, _SOME),
    "lpm trie 1m, hot": _Course("lpm-1m-4", "listed-1m-4", HOT, _SOME, all_dropped=True),
    "lpm trie 1m, cold": _Course("lpm-1m-4", "listed-1m-4", COLD, _SOME, all_dropped=True),
    "xdp generic, no look-up": _Course("generic", "listed-1m-4", COLD, _SOME),
    "tc, no look-up": _Course("tc", "listed-1m-4", COLD, _SOME),
    "ipset 1m, cold": _Course("ipset-1m", "listed-1m-4", COLD, _SOME),
    "nftables set 100k, cold": _Course("nft-100k", "listed-100k-4", COLD, _SOME),
    "iptables 10k rules, nft": _Course("linear-nft", "listed-10k-4", HOT, _FEW),
    "iptables 10k rules, legacy": _Course("linear-legacy", "listed-10k-4", HOT, _FEW),
    "nothing attached": _Course(_NOTHING, "listed-1m-4", COLD, _SOME),
    "nothing attached, unlisted": _Course(_NOTHING, "others-1m-4", COLD, _SOME),
}


def run(rounds: int = 7, most: int = _MILLION) -> BenchResult:
    """Measure so many rounds; ``most`` is how many networks stand for a million of them.

    Raises HostError or BpfError when the host cannot, DataplaneError when a filter lets a listed packet pass.
    """
    generator = np.random.default_rng()
    lists = {4: ipv4_list(generator, most), 6: ipv6_list(generator, most)}
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(_topology()))
        ways = _ways(stack, lab, lists)
        floods = _floods(stack, lab, generator, lists)
        measured = {what: partial(_measure, lab, ways, floods, course) for what, course in _COURSES.items()}
        figures = interleave(rounds, measured)
        kept: dict[str, list[Kept]] = {"xdp": [], "ipset": []}
        for _ in range(rounds):
            kept["xdp"].append(flooded(lab, _CLIENT, "xdp-1m-4", floods["listed-1m-4"]))
            kept["ipset"].append(flooded(lab, _CLIENT, "ipset-1m", floods["listed-1m-4"]))
    rows = [Row(what, _UNIT, Spread.of(sample), _details(what)) for what, sample in figures.items()]
    for way, sample in kept.items():
        rows.append(Row(f"victim, {way}: goodput", "MB/s", Spread.of(each.megabytes for each in sample)))
        rows.append(Row(f"victim, {way}: latency", "ms", Spread.of(each.milliseconds for each in sample)))
        rows.append(
            Row(
                f"victim, {way}: flood",
                "packets/s",
                Spread.of(each.flood.packets / each.flood.seconds for each in sample),
            )
        )
    ratios = {name: ratio(figures[over], figures[under]) for name, (over, under) in _RATIOS.items()}
    ratios["victim.goodput"] = ratio(
        [each.megabytes for each in kept["xdp"]], [each.megabytes for each in kept["ipset"]]
    )
    return BenchResult("dos", describe_host(), rounds, tuple(rows), ratios)


_RATIOS: Final = {
    "xdp.of_limit_hot": ("limit, ipv4, hot", "xdp 1m, ipv4, hot"),
    "xdp.of_limit_cold": ("limit, ipv4, cold", "xdp 1m, ipv4, cold"),
    "xdp.of_limit_hot_ipv6": ("limit, ipv6, hot", "xdp 1m, ipv6, hot"),
    "xdp.of_limit_cold_ipv6": ("limit, ipv6, cold", "xdp 1m, ipv6, cold"),
    "xdp.over_lpm": ("lpm trie 1m, cold", "xdp 1m, ipv4, cold"),
    "xdp.over_ipset": ("ipset 1m, cold", "xdp 1m, ipv4, cold"),
    "xdp.over_iptables": ("iptables 10k rules, nft", "xdp 1m, ipv4, cold"),
    "xdp.over_iptables_legacy": ("iptables 10k rules, legacy", "xdp 1m, ipv4, cold"),
}
"""Which row is divided by which: so many times less work."""


def _topology() -> Topology:
    """A node for each way, and a client outside."""
    underlay = Pools(IPv4Network("198.19.0.0/24"), IPv6Network("fd00:19::/64"))
    names = dict.fromkeys(course.way for course in _COURSES.values())
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
    nodes, whole, numbers = lab.nodes, lists[4], _numbers(lists[4])
    ways = {
        f"xdp-{size}-{version}": blocklist(stack, nodes[f"xdp-{size}-{version}"], listed.first(number))
        for version, listed in lists.items()
        for size, number in _numbers(listed).items()
        if size in _SIZES
    }
    return ways | {
        "limit": unconditional(stack, nodes["limit"], "drop_all"),
        "read": unconditional(stack, nodes["read"], "drop_after_reading"),
        "generic": unconditional(stack, nodes["generic"], "drop_all", XdpMode.GENERIC),
        "tc": tc(stack, nodes["tc"]),
        "lpm-1m-4": blocklist(stack, nodes["lpm-1m-4"], whole, Kind.TRIE),
        "ipset-1m": ipset(nodes["ipset-1m"], whole),
        "nft-100k": nft_set(nodes["nft-100k"], whole.first(numbers["100k"])),
        "linear-nft": linear(nodes["linear-nft"], whole.first(numbers["10k"]), "iptables-nft"),
        "linear-legacy": linear(nodes["linear-legacy"], whole.first(numbers["10k"]), "iptables-legacy"),
        _NOTHING: nothing(nodes[_NOTHING]),
    }


def _floods(
    stack: ExitStack, lab: Lab, generator: np.random.Generator, lists: Mapping[int, NetList]
) -> dict[str, Flood]:
    """Floods by what their sources are. All are for one address: only where nothing drops them does it matter."""
    to: dict[int, Address] = {address.version: address for address in lab.upstream(_NOTHING).addresses}
    floods = {}
    for version, listed in lists.items():
        for size, number in _numbers(listed).items():
            high, low = listed.first(number).sources(generator, COLD if size in _LONG else HOT)
            floods[f"listed-{size}-{version}"] = stack.enter_context(Flood(_of(version, high, low), to[version]))
        high, low = listed.others(generator, COLD)
        floods[f"others-1m-{version}"] = stack.enter_context(Flood(_of(version, high, low), to[version]))
    return floods


def _numbers(whole: NetList) -> dict[str, int]:
    """How many networks each name of a size stands for."""
    most = len(whole)
    return {"1": 1, "1k": most // 1000, "10k": most // 100, "100k": most // 10, "1m": most}


def _of(version: int, high: Words, low: Words) -> Sources:
    return low if version == 4 else (high, low)


def _measure(lab: Lab, ways: Mapping[str, Way], floods: Mapping[str, Flood], course: _Course) -> float:
    """Nanoseconds a packet; raises DataplaneError when not all came, or not all were dropped that should have been."""
    way, flood = ways[course.way], floods[course.flood]
    flood.narrow(course.sources)
    before = way.received(), way.dropped() if way.dropped else 0
    spent = flood.send(lab.upstream(course.way), course.packets)
    received = way.received() - before[0]
    if received < spent.packets:
        raise DataplaneError(
            "packets of a flood were lost on the way", place=course.way, value=spent.packets - received
        )
    if course.all_dropped and way.dropped and way.dropped() - before[1] != spent.packets:
        raise DataplaneError("a filter let listed packets pass", place=course.way, next_step="its figures mean nothing")
    return spent.nanoseconds


def _details(what: str) -> dict[str, object]:
    course = _COURSES[what]
    return {"packets": course.packets, "sources": course.sources}
