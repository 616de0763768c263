# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the verdict engine, in its shortest form."""

from __future__ import annotations

import os
import time

import pytest

from lab.bench.verdicts import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="labs are built by root only")

PROMISED = 50_000
"""Verdicts a second on the two-node lab."""


def test_verdicts_come_at_the_promised_rate_and_beside_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    # The processor's time and not the clock's: the machine may be busy with other things.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    result = run(3)
    rows = {row.what: row for row in result.rows}
    assert list(rows) == ["verdicts", "limit", "verdicts.end_to_end"]
    assert set(result.ratios) == {"verdicts.of_limit", "verdicts.end_to_end"}
    assert rows["verdicts"].spread.max >= PROMISED
    assert rows["verdicts"].details["policies"] == 100
    assert 0 < rows["verdicts"].details["allowed"] < rows["verdicts"].details["flows"]
