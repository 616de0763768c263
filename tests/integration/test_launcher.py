# SPDX-License-Identifier: Apache-2.0
"""The launcher with a real venv and a real pip, offline: the checkout and what it depends on are tiny packages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "policylab"

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

# A build backend that notes each build and, while the checkout holds a file "wait", does not end.
BACKEND = """
import pathlib, sys, time
sys.path.insert(0, "WHEELS")
from make_wheel import make_wheel

def build_editable(directory, config_settings=None, metadata_directory=None):
    here = pathlib.Path.cwd()
    with (here / "builds").open("a") as notes:
        notes.write("build\\n")
    while (here / "wait").exists():
        time.sleep(0.01)
    return make_wheel(directory, "policylab", str(here), ["pytest"])
"""

MODULE = "import sys\n\ndef main():\n    print({said!r}, *sys.argv[1:])\n"

SET_UP_SECONDS = 120.0


def make_wheel(directory: str, name: str, said: str, requires: list[str]) -> str:
    """A wheel with one command, which prints ``said`` and its arguments."""
    wheel = f"{name}-99-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n" + "".join(
        f"Requires-Dist: {it}\n" for it in requires
    )
    files = {
        f"{name}_module.py": MODULE.format(said=said),
        f"{name}-99.dist-info/METADATA": metadata,
        f"{name}-99.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-99.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {name}_module:main\n",
    }
    with zipfile.ZipFile(Path(directory, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{name}-99.dist-info/RECORD", "".join(f"{path},,\n" for path in files))
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheels")
    for name in ("pytest", "tox"):
        make_wheel(str(directory), name, name, [])
    source = Path(__file__).read_text()
    start, end = source.index("MODULE = "), source.index("@pytest.fixture")
    (directory / "make_wheel.py").write_text("import zipfile\nfrom pathlib import Path\n" + source[start:end])
    return directory


@pytest.fixture
def checkout(tmp_path: Path, wheels: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "pyproject.toml").write_text(PROJECT + '\n[project]\nname = "policylab"\nversion = "99"\n')
    (root / "backend.py").write_text(BACKEND.replace("WHEELS", str(wheels)))
    shutil.copy(LAUNCHER, root)
    return root


@pytest.fixture
def environment(wheels: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PIP_")}
    return own | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}


def start(root: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [root / "policylab", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def run(root: Path, environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    process = start(root, environment, *arguments)
    stdout, stderr = process.communicate(timeout=SET_UP_SECONDS)
    return process.returncode, stdout, stderr


def builds(root: Path) -> int:
    notes = root / "builds"
    return len(notes.read_text().splitlines()) if notes.exists() else 0


def wait_for_build(root: Path, count: int) -> None:
    deadline = time.monotonic() + SET_UP_SECONDS
    while builds(root) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_set_up_killed_in_mid_pip_is_taken_up_again(
    checkout: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["TMPDIR"] = str(tmp_path / "temporary")
    (tmp_path / "temporary").mkdir()
    (checkout / "wait").touch()
    killed = start(checkout, environment, "ls")
    wait_for_build(checkout, 1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    (checkout / "wait").unlink()
    code, stdout, stderr = run(checkout, environment, "ls", "--yes")
    assert (code, stdout) == (0, f"{checkout} ls\n"), stderr
    assert {"pip", "pytest", "tox", "policylab"} <= {path.name for path in (checkout / ".venv/bin").iterdir()}
    assert not list((tmp_path / "temporary").iterdir())
    assert not (checkout / ".venv/tmp").exists()


def test_two_at_once_set_up_once(checkout: Path, environment: dict[str, str]) -> None:
    (checkout / "wait").touch()
    first = start(checkout, environment, "first")
    wait_for_build(checkout, 1)
    second = start(checkout, environment, "second")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    (checkout / "wait").unlink()
    said = [process.communicate(timeout=SET_UP_SECONDS)[0] for process in (first, second)]
    assert said == [f"{checkout} first\n", f"{checkout} second\n"]
    assert builds(checkout) == 1


def test_copied_checkout_heals_and_leaves_the_first_alone(
    checkout: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run(checkout, environment, "ls")
    (checkout / ".tox").mkdir()
    other = tmp_path / "other"
    shutil.copytree(checkout, other, symlinks=True)
    assert run(other, environment, "ls")[1] == f"{other} ls\n"
    assert not (other / ".tox").exists()
    assert run(checkout, environment, "ls") == (0, f"{checkout} ls\n", "")


@pytest.mark.parametrize("lost", ["bin/python", "lib", "bin/pip"])
def test_broken_venv_is_made_anew(checkout: Path, environment: dict[str, str], lost: str) -> None:
    run(checkout, environment, "ls")
    place = checkout / ".venv" / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert run(checkout, environment, "ls")[:2] == (0, f"{checkout} ls\n")


@pytest.fixture
def bare_host() -> Iterator[list[str]]:
    """A command prefix: a mount namespace of its own in which the system's tools are hidden."""
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /usr/sbin && exec "$@"', "sh"]


def test_missing_tools_without_anybody_to_ask_are_named_in_one_error(
    checkout: Path, environment: dict[str, str], bare_host: list[str]
) -> None:
    ended = subprocess.run(
        [*bare_host, checkout / "policylab", "conformance"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SET_UP_SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "apt-get install --no-install-recommends iptables ipset" in ended.stderr
    assert "--yes" in ended.stderr
    assert not (checkout / ".venv").exists()


def test_tests_in_a_checkout_that_cannot_be_written_are_refused_in_one_error(
    checkout: Path, environment: dict[str, str]
) -> None:
    read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$0/policylab" test'
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", read_only, checkout],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SET_UP_SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (f"policylab: cannot write in {checkout}: run the tests as its owner, or clone your own\n")
