# SPDX-License-Identifier: Apache-2.0
"""Losses that are no policy's doing, as the kernel counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.traffic import losses
from lab.traffic.losses import LossMeter, backlog_drops
from lab.traffic.observation import Reason

ROW = "00000010 {dropped:08x} 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 {cpu:08x} 00000000 00000000\n"  # noqa: E501  (a row is one line)


class Counter:
    """Stands for a node's conntrack: each look finds so many more drops."""

    def __init__(self, more: int) -> None:
        self.more, self.count = more, 5

    def read(self) -> int:
        self.count += self.more
        return self.count

    def backlog(self) -> int:
        return 7


@pytest.fixture
def softnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "softnet_stat"
    file.write_text(ROW.format(dropped=3, cpu=0) + ROW.format(dropped=26, cpu=2))
    monkeypatch.setattr(losses, "_SOFTNET", file)
    return file


@pytest.mark.parametrize(("cpu", "dropped"), [(0, 3), (1, 0), (2, 26)])
@pytest.mark.usefixtures("softnet")
def test_backlog_drops_are_those_of_the_cpu(cpu: int, dropped: int) -> None:
    assert backlog_drops(cpu) == dropped


@pytest.mark.usefixtures("softnet")
def test_counters_that_stand_still_mean_no_losses() -> None:
    assert LossMeter({"n": Counter(0)}, 0).losses() is None


@pytest.mark.usefixtures("softnet")
def test_conntrack_drops_are_told_with_their_node() -> None:
    meter = LossMeter({"still": Counter(0), "full": Counter(4)}, 0)
    assert meter.losses() == (Reason.CONNTRACK, "4 on full")


def test_backlog_drops_are_told_with_their_cpu(softnet: Path) -> None:
    meter = LossMeter({}, 2)
    softnet.write_text(ROW.format(dropped=30, cpu=2))
    assert meter.losses() == (Reason.BACKLOG, "4 on CPU 2")


@pytest.mark.usefixtures("softnet")
def test_losses_beside_nodes_are_told_with_their_place() -> None:
    wires = {"the wire to node-3": 1}
    meter = LossMeter({"n": Counter(0)}, 0, lambda: dict(wires))
    assert meter.losses() is None
    wires["the wire to node-3"] = 4
    assert meter.losses() == (Reason.BACKLOG, "3 on the wire to node-3")
