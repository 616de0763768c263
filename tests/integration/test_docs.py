# SPDX-License-Identifier: Apache-2.0
"""The documentation: its commands are run and its output compared, its links lead somewhere, its lists are complete.

In a ``console`` block a line ``$ policylab ...`` (or ``./policylab``) is run where the files are that the pages tell
the reader to save, and must end 0, or N where a comment says ``# exits N``. What stands below it is its whole output;
a line ``...`` stands for any number of lines. Other commands are the reader's.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataplanes.api import TRAITS, Capability
from lab.cli import COMMANDS
from lab.conformance.case import load_cases
from lab.conformance.promises import PROMISES
from lab.document import MAX_BYTES, MAX_DEPTH, MAX_VALUES
from lab.schema import MAX_ERRORS
from lab.schemas import schema_names
from lab.traffic.observation import Reason

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "topologies/README.md", *(ROOT / "docs").rglob("*.md")]
)
FOLLOWED = ROOT / "docs/how-to/write-a-dataplane.md"
"""A page with a test of its own, which does more than run its commands."""
POLICYLAB = Path(sys.executable).with_name("policylab")
LONG = {"conformance", "test", "bench"}
"""Commands that take minutes: they have tests of their own, so only their options are looked at here."""
README_LINES = 115

BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
SAVED = re.compile(r"Save this as `([^`]+)`:\n+```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXITS = re.compile(r"#.*\bexits (\d+)")
LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)]+))?\)")

by_path = {"ids": lambda path: str(path.relative_to(ROOT))}


@dataclass(frozen=True)
class Command:
    """A command of a page: its words, what it must end with, and its output if any is shown."""

    words: tuple[str, ...]
    exits: int
    output: str

    def told(self, output: str) -> bool:
        """Whether an output is as shown, each line ``...`` standing for any lines."""
        lines = [r"(.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in self.output.splitlines()]
        trimmed = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
        return not lines or re.fullmatch("".join(lines), trimmed) is not None


def commands(page: Path) -> Iterator[Command]:
    for _, block in BLOCK.findall(page.read_text()):
        for part in re.split(r"^\$ ", textwrap.dedent(block), flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            words = shlex.split(line, comments=True)
            if words[0] in {"policylab", "./policylab"}:
                exits = EXITS.search(line)
                yield Command(tuple(words[1:]), int(exits[1]) if exits else 0, output)


RUN = {
    page: [command for command in commands(page) if command.words[0] not in LONG] for page in PAGES if page != FOLLOWED
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A directory with the shipped topologies, all files that the pages tell to save, and their plugins installed."""
    (tmp_path / "topologies").symlink_to(ROOT / "topologies")
    for page in RUN:
        for name, text in SAVED.findall(page.read_text()):
            file = tmp_path / name
            assert not file.exists(), f"two pages save {name}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    for project in tmp_path.glob("*/pyproject.toml"):
        install(project)
    return tmp_path


def install(project: Path) -> None:
    """What ``pip install`` would leave of a plugin, in its own directory: no network is needed."""
    told = tomllib.loads(project.read_text())["project"]
    metadata = project.parent / f"{told['name']}-{told['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {told['name']}\nVersion: {told['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in told["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups))


@pytest.mark.parametrize("page", [page for page, found in RUN.items() if found], **by_path)
def test_commands_of_a_page_do_what_it_says(page: Path, workspace: Path) -> None:
    plugins = os.pathsep.join(str(project.parent) for project in workspace.glob("*/pyproject.toml"))
    environment = os.environ | {"PYTHONPATH": plugins, "NO_COLOR": "1"}
    for command in RUN[page]:
        ended = subprocess.run(
            [POLICYLAB, *command.words],
            cwd=workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        shown = f"policylab {shlex.join(command.words)}\n{ended.stdout}"
        assert ended.returncode == command.exits, shown
        assert command.told(ended.stdout), f"the page shows\n{command.output}\nbut\n{shown}"


def test_pages_show_commands_that_are_run() -> None:
    assert {command.words[0] for found in RUN.values() for command in found} >= {
        "expect",
        "explain",
        "verify",
        "replay",
    }


def test_long_commands_of_the_pages_exist_with_their_options() -> None:
    shown = [command.words for page in PAGES for command in commands(page) if command.words[0] in LONG]
    assert {words[0] for words in shown} >= {"conformance", "test"}
    for name, *rest in shown:
        if name == "test":  # the launcher's own
            assert "test" in (ROOT / "policylab").read_text()
            continue
        told = subprocess.run([POLICYLAB, name, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(word.partition("=")[0] in told for word in rest if word.startswith("--"))


@pytest.mark.parametrize("page", PAGES, **by_path)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        file = page if not target else (page.parent / target).resolve()
        assert file.exists(), f"{target} of {page.name}"
        assert not heading or heading in headings(file), f"{target}#{heading} of {page.name}"


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made of their words."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_table_of_broken_dataplanes_is_that_of_the_faults_and_of_what_was_measured() -> None:
    written = runpy.run_path(str(ROOT / "tests/meta/write_faults.py"))["page"]()
    assert (ROOT / "docs/reference/faults.md").read_text() == written, "run tests/meta/write_faults.py"


def test_list_of_expectations_is_that_of_the_files() -> None:
    written = runpy.run_path(str(ROOT / "tests/meta/write_expectations.py"))["page"]()
    assert (ROOT / "docs/reference/expectations.md").read_text() == written, "run tests/meta/write_expectations.py"


def test_every_command_and_option_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text()
    for name in COMMANDS:
        _, _, section = text.partition(f"\n## {name}\n")
        assert section, name
        told = subprocess.run([POLICYLAB, name, "--help"], capture_output=True, text=True, check=True).stdout
        missing = {option for option in re.findall(r"--[a-z-]+", told) if option not in section.partition("\n## ")[0]}
        assert missing <= {"--help"}, name


def test_formats_and_their_limits_are_in_the_reference() -> None:
    text = (ROOT / "docs/reference/formats.md").read_text()
    assert all(f"`{name}.json`" in text for name in schema_names())
    limits = (f"{MAX_BYTES >> 20} MiB", f"{MAX_VALUES:,} values", f"{MAX_DEPTH} levels", f"{MAX_ERRORS} errors")
    assert [limit for limit in limits if limit not in text] == []


def test_every_capability_is_in_the_reference_with_its_trait() -> None:
    text = (ROOT / "docs/reference/plugins.md").read_text()
    for capability in Capability:
        trait = TRAITS[capability]
        level = trait.level if trait.min_kernel is None else f"{trait.level}, kernel {trait.min_kernel}"
        assert f"| `{capability.value}` | {level} | {trait.means} |" in text


def test_every_reason_for_inconclusive_is_in_the_design_notes() -> None:
    text = (ROOT / "docs/design/verdicts.md").read_text()
    assert [reason.value for reason in Reason if reason.value not in text] == []


@pytest.mark.parametrize(
    ("output", "told"), [("a\nb\nc\n", True), ("a  \nc\n", True), ("a\nb\n", False), ("x\na\nc\n", False)]
)
def test_shown_output_is_held_to_what_was_printed(output: str, told: bool) -> None:
    assert Command(("expect",), 0, "a\n...\nc\n").told(output) is told


def test_installed_command_is_there() -> None:
    assert shutil.which(str(POLICYLAB))


def test_every_difference_is_held_by_expectations_that_exist() -> None:
    known = {*(case.id for case in load_cases()), *(promise.id for promise in PROMISES)}
    rows = re.findall(r"^\| .* \| (`.*) \|$", (ROOT / "docs/design/differences.md").read_text(), re.MULTILINE)
    assert rows
    assert {name for row in rows for name in re.findall(r"`([a-z0-9.-]+)`", row)} - known == set()
