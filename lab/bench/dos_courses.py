# SPDX-License-Identifier: Apache-2.0
"""What ``bench dos`` measures: each way of dropping, under each kind of flood that tells something of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lab.bench.dos_lists import COLD, HOT

__all__ = ["COURSES", "LISTENER", "LONG", "NOTHING", "RATIOS", "SIZES", "Course"]

NOTHING: Final = "nothing"
"""The way that drops nothing."""

LISTENER: Final = 80
"""Where somebody listens on that way's node: SYNs that arrive are answered."""

SIZES: Final = ("1", "1k", "100k", "1m")
LONG: Final = ("100k", "1m")
"""In lists so long, sources can be spread so far that tables leave near caches."""

# Packets of one measurement: XDP takes some tenths of a second for them, a long chain of rules about one second.
_MANY, _SOME, _FEW = 1_000_000, 200_000, 4_000
# Floods of whose sources nothing is dropped by a list, or not all.
_NOT_ALL: Final = ("unlisted", "mixed")


@dataclass(frozen=True, slots=True)
class Course:
    """One row: which way is flooded with what, and how many packets each time; ``series`` says what the flood is.

    ``way`` is "" where frames are made and not sent. ``generator`` is the series of the row that tells what making
    such frames costs.
    """

    line: str
    series: str
    way: str
    flood: str
    packets: int = _MANY
    sources: int = COLD

    @property
    def all_listed(self) -> bool:
        """Whether a filter has to drop every packet."""
        return self.series not in _NOT_ALL

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.line}, {self.series}"

    @property
    def generator(self) -> str:
        """The name of the row that tells what the generator alone costs."""
        like = self.series if self.series in ("syn", "fragments") else "hot" if self.sources == HOT else "cold"
        return f"generator alone, ipv{self.flood[-1]}, {like}"


def _courses() -> Iterator[Course]:
    for version in (4, 6):
        yield from _listed("generator alone", "", version)
        yield from _listed("limit", "limit", version)
        for size in SIZES:
            yield from _listed(f"xdp {size}", f"xdp-{size}-{version}", version, size)
        yield from _rest(f"xdp 1m, ipv{version}", f"xdp-1m-{version}", version)
        yield from _listed("lpm trie 1m", f"lpm-1m-{version}", version, packets=_SOME)
        yield from _rest(f"lpm trie 1m, ipv{version}", f"lpm-1m-{version}", version)
        yield Course(f"xdp that passes all, ipv{version}", "unlisted", "pass", f"unlisted-1m-{version}", _SOME)
        yield Course(f"nothing attached, ipv{version}", "unlisted", NOTHING, f"unlisted-1m-{version}", _SOME)
    yield Course("one read of a 2 MB table", "cold", "read", "listed-1m-4")
    yield Course("xdp generic, no look-up", "cold", "generic", "listed-1m-4", _SOME)
    yield Course("xdp generic 1m, ipv4", "cold", "generic-1m", "listed-1m-4", _SOME)
    yield Course("tc, no look-up", "cold", "tc", "listed-1m-4", _SOME)
    for line, way in (("tc 1m", "tc-1m"), ("ipset 1m", "ipset-1m"), ("nftables set 1m", "nft-1m")):
        yield from _listed(line, way, 4, packets=_SOME)
        yield Course(f"{line}, ipv4", "unlisted", way, "unlisted-1m-4", _SOME)
    yield Course("nftables set 100k, ipv4", "cold", "nft-100k", "listed-100k-4", _SOME)
    yield Course("iptables 10k rules, nft", "hot", "linear-nft", "listed-10k-4", _FEW, HOT)
    yield Course("iptables 10k rules, legacy", "hot", "linear-legacy", "listed-10k-4", _FEW, HOT)
    yield Course("nothing attached, ipv4", "cold", NOTHING, "listed-1m-4", _SOME)
    for kind in ("syn", "fragments"):
        yield Course("generator alone, ipv4", kind, "", f"{kind}-1m-4")
        yield Course("xdp 1m, ipv4", kind, "xdp-1m-4", f"{kind}-1m-4")
        yield Course("ipset 1m, ipv4", kind, "ipset-1m", f"{kind}-1m-4", _SOME)
        yield Course("nothing attached, ipv4", kind, NOTHING, f"{kind}-1m-4", _SOME)


def _listed(line: str, way: str, version: int, size: str = "1m", packets: int = _MANY) -> Iterator[Course]:
    """The rows of listed sources."""
    for series, sources in (("hot", HOT), ("cold", COLD)):
        if series == "hot" or size in LONG:
            flood = f"listed-{size}-{version}"
            yield Course(f"{line}, ipv{version}", series, way, flood, packets, sources)


def _rest(line: str, way: str, version: int) -> Iterator[Course]:
    """The rows of sources that are not listed, or not all of them."""
    for series in _NOT_ALL:
        yield Course(line, series, way, f"{series}-1m-{version}", _SOME)


def _by_line() -> Iterator[Course]:
    """All of them, rows of one line together."""
    known = list(_courses())
    for line in dict.fromkeys(course.line for course in known):
        yield from (course for course in known if course.line == line)


COURSES: Final = {course.name: course for course in _by_line()}
"""Everything, by the names of rows."""

RATIOS: Final = {
    "xdp.of_limit_hot": ("limit, ipv4, hot", "xdp 1m, ipv4, hot"),
    "xdp.of_limit_cold": ("limit, ipv4, cold", "xdp 1m, ipv4, cold"),
    "xdp.of_limit_hot_ipv6": ("limit, ipv6, hot", "xdp 1m, ipv6, hot"),
    "xdp.of_limit_cold_ipv6": ("limit, ipv6, cold", "xdp 1m, ipv6, cold"),
    "xdp.over_lpm": ("lpm trie 1m, ipv4, cold", "xdp 1m, ipv4, cold"),
    "xdp.over_lpm_ipv6": ("lpm trie 1m, ipv6, cold", "xdp 1m, ipv6, cold"),
    "xdp.over_ipset": ("ipset 1m, ipv4, cold", "xdp 1m, ipv4, cold"),
    "xdp.over_ipset_syn": ("ipset 1m, ipv4, syn", "xdp 1m, ipv4, syn"),
    "xdp.over_ipset_fragments": ("ipset 1m, ipv4, fragments", "xdp 1m, ipv4, fragments"),
    "xdp.over_nftables": ("nftables set 1m, ipv4, cold", "xdp 1m, ipv4, cold"),
    "xdp.over_tc": ("tc 1m, ipv4, cold", "xdp 1m, ipv4, cold"),
    "xdp.over_iptables": ("iptables 10k rules, nft, hot", "xdp 1m, ipv4, cold"),
    "xdp.over_iptables_legacy": ("iptables 10k rules, legacy, hot", "xdp 1m, ipv4, cold"),
}
"""Which row is divided by which: so many times less work."""
