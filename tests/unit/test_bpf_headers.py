# SPDX-License-Identifier: Apache-2.0
"""Which kernel headers are chosen, and how two halves of them become one directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric.bpf import headers
from lab.fabric.bpf.headers import find_headers


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without headers and with an empty cache."""
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(headers, "_SOURCES", tmp_path / "src")
    monkeypatch.setattr(headers, "_MODULES", tmp_path / "modules")
    monkeypatch.setattr(headers.platform, "release", lambda: "7.7.7-own")
    (tmp_path / "src").mkdir()
    return tmp_path


def split(machine: Path, version: str, flavour: str = "amd64") -> None:
    common, own = (machine / "src" / f"linux-headers-{version}-{half}" for half in ("common", flavour))
    for path, text in (
        (common / "include/linux/kernel.h", f"common {version}"),
        (common / "Makefile", "common"),
        (own / "include/generated/autoconf.h", "own"),
        (own / "include/config/kernel.release", "own"),
        (own / "Makefile", "own"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_headers_of_the_running_kernel_come_before_all_others(machine: Path) -> None:
    split(machine, "9.9.9-1")
    (machine / "modules/7.7.7-own/build").mkdir(parents=True)
    found = find_headers()
    assert found.own
    assert found.folder is None


def test_headers_that_the_user_names_come_before_the_running_kernels(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "modules/7.7.7-own/build").mkdir(parents=True)
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/somewhere")
    assert find_headers().folder == Path("/somewhere")


def test_newest_of_other_kernels_headers_is_taken_by_number_not_by_letter(machine: Path) -> None:
    split(machine, "6.1.0-9")
    split(machine, "6.1.0-56")
    assert find_headers().name == "linux-headers-6.1.0-56-amd64"


def test_half_of_a_pair_alone_is_not_taken(machine: Path) -> None:
    split(machine, "6.1.0-9")
    (machine / "src/linux-headers-6.12.0-1-amd64").mkdir()
    assert find_headers().name == "linux-headers-6.1.0-9-amd64"


def test_machine_without_headers_is_told_what_to_install() -> None:
    with pytest.raises(HostError, match=r"apt-get install .*linux-headers-"):
        find_headers()


def test_two_halves_become_one_directory_that_holds_the_files_of_both(machine: Path) -> None:
    split(machine, "6.1.0-9")
    found = find_headers()
    found.prepare()
    assert found.folder is not None
    assert (found.folder / "include/linux/kernel.h").read_text() == "common 6.1.0-9"
    assert (found.folder / "include/generated/autoconf.h").read_text() == "own"
    assert (found.folder / "Makefile").read_text() == "own"
    found.prepare()
    assert [path.name for path in found.folder.parent.iterdir()] == [found.name]


def test_cache_that_cannot_be_written_is_told_with_its_place(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split(machine, "6.1.0-9")
    (machine / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "file"))
    with pytest.raises(HostError, match="XDG_CACHE_HOME"):
        find_headers().prepare()
