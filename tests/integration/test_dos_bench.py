# SPDX-License-Identifier: Apache-2.0
"""``bench dos`` with short lists: every way drops what it should, and every ratio that is promised is told."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from lab.bench import dos, dos_victim
from lab.bench.dos_lists import NetList
from lab.bench.dos_ways import Way
from lab.errors import DataplaneError
from lab.fabric.lab import Lab
from lab.traffic.flood import Spent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PROMISED = {
    "xdp.of_limit_hot", "xdp.of_limit_cold", "xdp.of_limit_hot_ipv6", "xdp.of_limit_cold_ipv6", "xdp.over_lpm",
    "xdp.over_ipset", "xdp.over_iptables", "xdp.over_iptables_legacy", "victim.goodput",
}  # fmt: skip
ROWS = {
    "one read of a 2 MB table, cold", "xdp generic, no look-up, cold", "tc, no look-up, cold", "tc 1m, ipv4, cold",
    "nftables set 1m, ipv4, cold", "iptables 10k rules, nft, hot", "iptables 10k rules, legacy, hot",
    *(f"lpm trie 1m, ipv{version}, {series}" for version in (4, 6) for series in ("hot", "cold", "unlisted", "mixed")),
    *(f"{way}, ipv4, {kind}" for way in ("xdp 1m", "nothing attached") for kind in ("syn", "fragments", "unlisted")),
    *(f"victim, {what}, {way}" for what in ("goodput", "latency") for way in ("no flood", "xdp 1m", "ipset 1m")),
}  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few packets of few sources: figures that mean nothing, made in the same way."""
    monkeypatch.setattr(dos, "COLD", 1 << 12)
    monkeypatch.setattr(dos_victim, "_SECONDS", 0.1)
    courses = {
        what: replace(course, packets=2000, sources=min(course.sources, dos.COLD))
        for what, course in dos.COURSES.items()
    }
    monkeypatch.setattr(dos, "COURSES", courses)


@pytest.mark.usefixtures("short")
def test_every_row_and_every_ratio_that_is_promised_is_there() -> None:
    said: list[str] = []
    told = dos.run(1, most=4000, tell=said.append).to_dict()
    assert [line.split()[0] for line in said] == ["setting", "measuring", "measuring", "measuring"]
    assert set(told["ratios"]) >= PROMISED
    rows = {row["what"]: row for row in told["rows"]}
    assert set(rows) >= ROWS | set(dos.COURSES)
    assert all(row["median"] > 0 for row in rows.values())
    for name, course in dos.COURSES.items():
        assert rows[name]["generator_ns"] == pytest.approx(rows[course.generator]["median"], abs=0.1)


@pytest.mark.usefixtures("short")
def test_filter_that_lets_listed_packets_pass_spoils_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = dos.blocklist

    def leaky(stack: object, node: object, listed: NetList, *more: object, **named: object) -> Way:
        return sound(stack, node, listed.first(max(1, len(listed) // 2)), *more, **named)

    monkeypatch.setattr(dos, "blocklist", leaky)
    with pytest.raises(DataplaneError, match="a filter let listed packets pass"):
        dos.run(1, most=4000)


@pytest.mark.usefixtures("short")
def test_full_measures_three_times_the_rounds_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float]] = []
    sound = dos.interleave

    def one(rounds: int, measured: dict[str, Callable[[], float]], until: float = math.inf) -> dict[str, list[float]]:
        asked.append((rounds, until))
        return sound(1, measured)

    monkeypatch.setattr(dos, "interleave", one)
    dos.run(5, dos.FULL, most=4000)
    assert asked[0] == (15, math.inf)


def test_latency_is_that_of_the_answer_under_way_at_any_moment() -> None:
    kept = dos_victim.Kept.of([0.001] * 900 + [0.1], Spent(1, 1.0, 0.5))
    assert kept.milliseconds == pytest.approx((900 * 0.001**2 + 0.1**2) / 1.0 * 1e3)
    assert kept.megabytes == pytest.approx(901 * 4096 / 1e6)


def test_flood_that_fails_is_told_and_waited_for_by_nobody() -> None:
    class Broken:
        def send(self, *_: object) -> None:
            os._exit(1)

    with Lab(dos._topology()) as lab, pytest.raises(DataplaneError, match="ended before its time"):
        dos_victim.flooded(lab, "client", dos.NOTHING, Broken())
