# SPDX-License-Identifier: Apache-2.0
"""Plugins are found by entry point, a stranger's as ours are, and a bad one is named."""

from __future__ import annotations

import sys

import pytest

from dataplanes.api import DataplaneError
from dataplanes.registry import dataplane_names, load_dataplane
from lab.errors import LabError

PLUGIN = """
class Good:
    name = "good"
    capabilities = frozenset()
    def start(self): ...
    def apply(self, snapshot): ...
    def stop(self): ...
    def evidence(self): ...

class Lame:
    name = "lame"
    capabilities = frozenset()
    def start(self): ...
"""


@pytest.fixture(autouse=True)
def stranger(tmp_path, monkeypatch):
    """A package of somebody else's, installed beside ours."""
    (tmp_path / "stranger_plugin.py").write_text(PLUGIN)
    (tmp_path / "stranger_broken.py").write_text("raise RuntimeError('out of order')\n")
    metadata = tmp_path / "stranger-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    points = {
        "good": "stranger_plugin:Good",
        "lame": "stranger_plugin:Lame",
        "absent": "stranger_plugin:Absent",
        "broken": "stranger_broken:Plugin",
        "function": "stranger_plugin:Good.apply",
    }
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text("[policylab.dataplanes]\n" + "".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in ("stranger_plugin", "stranger_broken"):
        sys.modules.pop(module, None)


def test_installed_plugin_is_listed_and_loaded():
    assert "good" in dataplane_names()
    assert load_dataplane("good").name == "good"


def test_unknown_name_lists_what_is_installed():
    with pytest.raises(LabError, match=r"'acme'.*good,.* lame") as raised:
        load_dataplane("acme")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lame", "lacks apply, stop, evidence"),
        ("absent", "cannot be imported"),
        ("broken", "out of order"),
        ("function", "not a dataplane"),
    ],
)
def test_plugin_that_breaks_the_contract_is_named(name, message):
    with pytest.raises(DataplaneError, match=message):
        load_dataplane(name)
