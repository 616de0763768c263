# SPDX-License-Identifier: Apache-2.0
"""``bench lab`` with few hosts and one round: the figures mean nothing, the rest must hold."""

from pathlib import Path

import pytest

from lab.bench import fabric
from lab.bench.fabric_ip_batch import IpBatch
from lab.errors import HostError, LabError


def test_bench_compares_all_three_and_leaves_nothing():
    def host() -> tuple[list[str], str]:
        return sorted(map(str, Path("/run").iterdir())), Path("/proc/self/mounts").read_text()

    before = host()
    result = fabric.run(rounds=1, hosts=2).to_dict()
    assert (result["benchmark"], result["rounds"]) == ("lab", 1)
    assert set(result["ratios"]) == {"lab.ip_batch", "lab.pyroute2"}
    assert [row["what"] for row in result["rows"]] == [
        f"{way}, {what}" for what in ("up", "down") for way in ("policylab", "ip -batch", "pyroute2")
    ]
    assert all(row["min"] > 0 and row["hosts"] == 2 for row in result["rows"])
    assert host() == before


def test_rival_that_builds_something_else_is_no_rival(monkeypatch: pytest.MonkeyPatch):
    def forgetful(self: IpBatch) -> dict[str, list[str]]:
        files = complete(self)
        return files | {"n2": [line for line in files["n2"] if "lladdr" not in line]}

    complete = IpBatch._files
    monkeypatch.setattr(IpBatch, "_files", forgetful)
    with pytest.raises(LabError, match="ip -batch built something else than policylab: 2 things differ"):
        fabric.run(rounds=1, hosts=2)


def test_rival_that_fails_is_told_with_its_own_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(IpBatch, "_files", lambda _: {"up.sh": ["echo no such thing >&2", "exit 3"]})
    with pytest.raises(HostError, match="ip -batch does not bring the lab up: no such thing"):
        fabric.run(rounds=1, hosts=2)
