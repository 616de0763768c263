# SPDX-License-Identifier: Apache-2.0
"""The launcher, around a .venv whose interpreter is a shell script: what is asked of pip, and when."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "policylab"

PROJECT = '[project]\nname = "x"\ndependencies = ["one"]\n\n[tool.ruff]\nline-length = 100\n'

# What stands for .venv/bin/python: it notes what is installed, and then the commands are there.
INTERPRETER = """#!/bin/sh
case "$*" in
*"pip install"*)
    echo "$*" >>"{root}/installs"
    if [ -e "{root}/broken" ]; then echo 'no such package'; exit 1; fi
    mkdir -p "{venv}/lib/python3/site-packages/policylab-1.dist-info"
    touch "{venv}/lib/python3/site-packages/policylab-1.dist-info/RECORD"
    for name in policylab pytest tox; do cp "{root}/command" "{venv}/bin/$name"; done ;;
esac
"""

COMMAND = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv))
sys.exit(7 if "fail" in sys.argv else 0)
"""


class Checkout:
    """A directory that looks like a checkout whose .venv has pip, and nothing else in it yet."""

    def __init__(self, root: Path) -> None:
        self.root, self.venv = root, root / ".venv"
        (self.venv / "bin").mkdir(parents=True)
        (root / "pyproject.toml").write_text(PROJECT)
        self.script(root / "policylab", LAUNCHER.read_text())
        self.script(root / "command", COMMAND)
        self.script(self.venv / "bin/python", INTERPRETER.format(root=root, venv=self.venv))
        self.script(self.venv / "bin/pip", f"#!{self.venv}/bin/python\n")

    @staticmethod
    def script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def run(
        self, *arguments: str, launcher: Path | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        return subprocess.run(
            [launcher or self.root / "policylab", *arguments],
            env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def installs(self) -> int:
        notes = self.root / "installs"
        return len(notes.read_text().splitlines()) if notes.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    root = tmp_path / "with a space"
    root.mkdir()
    return Checkout(root)


def argv(ended: subprocess.CompletedProcess[str]) -> list[str]:
    return json.loads(ended.stdout)


def test_first_run_installs_and_says_so_on_stderr_only(checkout: Checkout) -> None:
    ended = checkout.run("expect", "a.yaml", "--output", "json")
    assert argv(ended)[1:] == ["expect", "a.yaml", "--output", "json"]
    assert "setting up" in ended.stderr
    assert checkout.installs == 1


def test_second_run_installs_nothing_and_says_nothing(checkout: Checkout) -> None:
    checkout.run("ls")
    ended = checkout.run("ls")
    assert (ended.stderr, checkout.installs) == ("", 1)


def test_second_run_costs_less_than_half_a_second(checkout: Checkout) -> None:
    checkout.run("ls")
    checkout.script(checkout.venv / "bin/policylab", "#!/bin/sh\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    checkout.run("ls")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The processor's time and not the clock's: the machine may be busy with other things.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_other_dependencies_are_installed(checkout: Checkout) -> None:
    checkout.run("ls")
    (checkout.root / "pyproject.toml").write_text(PROJECT.replace("one", "two"))
    checkout.run("ls")
    assert checkout.installs == 2


def test_other_tool_settings_install_nothing(checkout: Checkout) -> None:
    checkout.run("ls")
    (checkout.root / "pyproject.toml").write_text(PROJECT.replace("100", "120"))
    checkout.run("ls")
    assert checkout.installs == 1


def test_lost_command_is_installed_again(checkout: Checkout) -> None:
    checkout.run("ls")
    (checkout.venv / "bin/tox").unlink()
    checkout.run("ls")
    assert checkout.installs == 2


def test_failed_installation_shows_why_and_is_tried_again(checkout: Checkout) -> None:
    (checkout.root / "broken").touch()
    ended = checkout.run("ls")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no such package" in ended.stderr
    (checkout.root / "broken").unlink()
    assert checkout.run("ls").returncode == 0


def test_link_from_elsewhere_finds_its_checkout(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout.root / "policylab")
    ended = checkout.run("ls", launcher=link, cwd=Path("/"))
    assert argv(ended)[0] == str(checkout.venv / "bin/policylab")


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--yes", "ls", "a b"], ["ls", "a b"]),
        (["ls", "", "--yes"], ["ls", ""]),
        (["ls", "--", "--yes"], ["ls", "--", "--yes"]),
        ([], []),
    ],
)
def test_yes_is_kept_from_the_command_up_to_a_double_dash(
    checkout: Checkout, given: list[str], passed: list[str]
) -> None:
    assert argv(checkout.run(*given))[1:] == passed


def test_exit_code_is_the_commands_own(checkout: Checkout) -> None:
    assert checkout.run("fail").returncode == 7


def test_test_is_tox_with_both_environments(checkout: Checkout) -> None:
    program, *arguments = argv(checkout.run("test", "--help", "--yes", "--", "-k", "x"))
    assert program == str(checkout.venv / "bin/tox")
    assert arguments[-6:] == ["-e", "unit,integration", "--help", "--", "-k", "x"]


def test_test_with_an_environment_named_runs_that_one(checkout: Checkout) -> None:
    assert argv(checkout.run("test", "-e", "unit"))[-2:] == ["-e", "unit"]
    assert "unit,integration" not in argv(checkout.run("test", "-e", "unit"))
