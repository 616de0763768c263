# SPDX-License-Identifier: Apache-2.0
"""Plugins are found by entry point, a stranger's as ours are, and a bad one is named."""

from __future__ import annotations

import sys

import pytest

from dataplanes import trial
from dataplanes.api import DataplaneError
from dataplanes.registry import accelerator_names, dataplane_names, load_accelerator, load_dataplane
from lab.errors import LabError

PLUGIN = """
class Good:
    name = "good"
    api_version = 1
    capabilities = frozenset()
    def start(self): ...
    def apply(self, snapshot, delta=None): ...
    def stop(self): ...
    def evidence(self): ...

class Fast(Good):
    name = "fast"
    def plan(self, snapshot): ...
    def prepare(self, snapshot, delta=None): ...
    def suspend(self): ...
    def resume(self): ...

class Misnamed(Good):
    name = "other"

class Boastful(Good):
    name = "boastful"
    capabilities = frozenset({"family.ipv4"})

class Vague(Good):
    name = "vague"
    known_broken = ["a.b"]

class Unversioned(Good):
    api_version = None

class Future(Good):
    api_version = 2

class Truthful(Good):
    api_version = True

class Talks(Good):
    name = "talks"

class Ancient(Good):
    name = "ancient"
    min_kernel = "new"

class Lame:
    name = "lame"
    api_version = 1
    capabilities = frozenset()
    def start(self): ...
"""


@pytest.fixture(autouse=True)
def stranger(tmp_path, monkeypatch):
    """A package of somebody else's, installed beside ours."""
    (tmp_path / "stranger_plugin.py").write_text(PLUGIN)
    (tmp_path / "stranger_broken.py").write_text("raise RuntimeError('out of order')\n")
    (tmp_path / "stranger_exits.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "stranger_killed.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    (tmp_path / "stranger_hangs.py").write_text("import time\nwhile True: time.sleep(1)\n")
    (tmp_path / "stranger_talks.py").write_text(f"import os\nprint('bla' * 9999)\nos.write(1, b'x' * 99999)\n{PLUGIN}")
    metadata = tmp_path / "stranger-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    points = {
        "good": "stranger_plugin:Good",
        "lame": "stranger_plugin:Lame",
        "absent": "stranger_plugin:Absent",
        "broken": "stranger_broken:Plugin",
        "exits": "stranger_exits:Plugin",
        "killed": "stranger_killed:Plugin",
        "hangs": "stranger_hangs:Plugin",
        "talks": "stranger_talks:Talks",
        "function": "stranger_plugin:Good.apply",
        "unversioned": "stranger_plugin:Unversioned",
        "future": "stranger_plugin:Future",
        "truthful": "stranger_plugin:Truthful",
        "misnamed": "stranger_plugin:Misnamed",
        "boastful": "stranger_plugin:Boastful",
        "ancient": "stranger_plugin:Ancient",
        "vague": "stranger_plugin:Vague",
    }
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    accelerators = "fast = stranger_plugin:Fast\nslow = stranger_plugin:Good\nlater = stranger_plugin:Future\n"
    text = f"[policylab.dataplanes]\n{''.join(lines)}[policylab.accelerators]\n{accelerators}"
    (metadata / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in ("stranger_plugin", "stranger_broken", "stranger_talks"):
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
        ("exits", r"dataplane exits \(stranger_exits:Plugin\) ends its process with status 0 while it is imported"),
        ("killed", "ends its process by SIGKILL while it is imported"),
        ("function", "not a dataplane"),
        (
            "unversioned",
            r"unversioned .*not made for this contract: it states no api_version; allowed: api_version = 1",
        ),
        ("future", r"it states api_version 2; allowed: api_version = 1; next: install releases"),
        ("misnamed", "calls itself by another name than its entry point; given: 'other'; allowed: misnamed"),
        ("boastful", "declares what are no capabilities; given: .*family.ipv4.*; allowed: a frozenset of members"),
        ("vague", "known_broken of dataplane vague .* is not what it should be"),
        ("ancient", "min_kernel of dataplane ancient .* given: \"'new'\"; allowed: the first two numbers of a release"),
        ("truthful", r"it states api_version True"),
    ],
)
def test_plugin_that_breaks_the_contract_is_named(name, message):
    with pytest.raises(DataplaneError, match=message):
        load_dataplane(name)


def test_plugin_that_hangs_while_it_is_imported_is_given_up(monkeypatch):
    monkeypatch.setattr(trial, "IMPORT_SECONDS", 0.5)
    with pytest.raises(DataplaneError, match=r"hangs .* is not imported within 0\.5 s"):
        load_dataplane("hangs")


def test_what_a_plugin_prints_while_it_is_imported_goes_nowhere(capfd):
    assert load_dataplane("talks").name == "talks"
    assert capfd.readouterr() == ("", "")


def test_accelerators_are_found_in_a_group_of_their_own():
    assert {"fast", "slow", "later"} <= set(accelerator_names())
    assert not {"good", "lame"} & set(accelerator_names())
    assert load_accelerator("fast").name == "fast"


def test_unknown_accelerator_lists_those_that_are_installed():
    with pytest.raises(LabError, match=r"no such accelerator; given: 'good'; allowed: .*fast.*policylab.accelerators"):
        load_accelerator("good")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slow", "is not an accelerator; given: 'lacks plan, prepare, suspend, resume'"),
        ("later", "accelerator later .*states api_version 2"),
    ],
)
def test_accelerator_that_breaks_the_contract_is_named(name, message):
    with pytest.raises(DataplaneError, match=message):
        load_accelerator(name)
