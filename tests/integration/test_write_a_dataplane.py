# SPDX-License-Identifier: Apache-2.0
"""``docs/how-to/write-a-dataplane.md``, followed word by word: every file saved, every command run, in their order."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_world import CHECKOUT, policylab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

PAGE = CHECKOUT / "docs/how-to/write-a-dataplane.md"
STEP = re.compile(
    r"Save this as `(?P<file>[^`]+)`:\n+```\w*\n(?P<text>.*?)^```|^```console\n(?P<block>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
EXITS = re.compile(r"  # exits (\d+)$")


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has policylab installed; pip works there, and changes nothing here."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (packages / "policylab-beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n{CHECKOUT}\n")
    for name, module in (("policylab", "lab.cli"), ("pytest", "pytest")):
        script = home / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{home}/bin/python" -m {module} "$@"\n')
        script.chmod(0o755)
    return os.environ | {"PATH": f"{home}/bin:{os.environ['PATH']}", "NO_COLOR": "1"}


def commands(block: str) -> Iterator[tuple[str, int, str]]:
    """Each command of a console block, what it must end with, and what is shown of its output."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        exits = EXITS.search(line)
        yield EXITS.sub("", line), int(exits[1]) if exits else 0, output


def shown(output: str, told: str) -> bool:
    """Whether an output is as the page shows it: ``...`` is any lines, or the rest of one."""
    pattern = "".join(
        r"(.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n" for line in told.splitlines()
    )
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in output.splitlines())) is not None


@pytest.mark.timeout(1200)  # the last command is the whole suite
def test_page_is_followed_word_by_word(tmp_path: Path, shell: dict[str, str]) -> None:
    ran = 0
    for step in STEP.finditer(PAGE.read_text()):
        if step["file"]:
            assert (tmp_path / step["file"]).parent.is_dir(), "the page writes into what new-dataplane wrote"
            (tmp_path / step["file"]).write_text(step["text"])
            continue
        for command, exits, told in commands(step["block"]):
            ended = subprocess.run(
                ["sh", "-c", command],
                cwd=tmp_path,
                env=shell,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=900,
                check=False,
            )
            assert ended.returncode == exits, f"$ {command}\n{ended.stdout}"
            assert not told.strip() or shown(ended.stdout, told), f"$ {command}\n{ended.stdout}"
            ran += 1
    assert ran >= 9


def test_every_file_of_the_new_package_names_the_dataplane(tmp_path: Path) -> None:
    made = policylab(tmp_path, "new-dataplane", "my-own")
    assert made.returncode == 0
    package = tmp_path / "policylab-my-own"
    names = sorted(str(file.relative_to(package)) for file in package.rglob("*") if file.is_file())
    assert names == [
        ".github/workflows/conformance.yaml",
        "README.md",
        "policylab_my_own.py",
        "pyproject.toml",
        "tox.ini",
    ]
    assert 'my-own = "policylab_my_own:MyOwnDataplane"' in (package / "pyproject.toml").read_text()
    compiled = compile((package / "policylab_my_own.py").read_text(), "policylab_my_own.py", "exec")
    assert "MyOwnDataplane" in compiled.co_names
    assert not any("$" in file.read_text() for file in package.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Acme", "that is no name for a dataplane; given: 'Acme'"),
        ("9lives", "that is no name for a dataplane"),
        ("../up", "that is no name for a dataplane"),
        ("a" * 25, "at most 24 characters"),
        ("iptables", "a dataplane of that name is installed already"),
        ("there", "policylab-there: it is there already"),
    ],
)
def test_name_that_cannot_be_is_refused_and_nothing_is_written(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "policylab-there").mkdir()
    ended = policylab(tmp_path, "new-dataplane", name)
    assert (ended.returncode, told in ended.stderr) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == ["policylab-there"]
    assert list((tmp_path / "policylab-there").iterdir()) == []
