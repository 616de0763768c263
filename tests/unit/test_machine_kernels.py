# SPDX-License-Identifier: Apache-2.0
"""Kernels of machines: how apt is asked for them, and the archive that they start with."""

from __future__ import annotations

import errno
import lzma
import subprocess
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric import tool
from lab.fabric.machine import initrd as module
from lab.fabric.machine import kernels
from lab.fabric.machine.initrd import archive, initrd
from lab.fabric.machine.kernels import KERNELS, Kernel, get_kernel

SHOWN = {
    "linux-image-amd64": "Package: linux-image-amd64\nDepends: linux-image-7.2-amd64 (= 7.2-1), kmod\n",
    "linux-image-7.2-amd64": "Depends: dracut | tools, linux-modules-7.2-amd64 (= 7.2-1), linux-base (>= 4)\n",
    "linux-modules-7.2-amd64": "Depends: \n",
}


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """A mirror of commands: what was asked of apt and dpkg, and answers to it."""
    asked: list[list[str]] = []

    def run(command: list[str], directory: Path | None = None) -> str:
        asked.append(command)
        if command[0] == "dpkg":
            return "amd64\n"
        if "show" in command:
            return SHOWN[command[-1]]
        if "download" in command and directory is not None:
            (directory / "one.deb").write_text("")
        if command[0] == "dpkg-deb":
            for place in ("boot/vmlinuz-7.2-amd64", "lib/modules/7.2-amd64/modules.dep"):
                (Path(command[-1]) / place).parent.mkdir(parents=True, exist_ok=True)
                (Path(command[-1]) / place).write_text("")
        return "http://mirror.example/debian/ Debian\n"

    monkeypatch.setattr(kernels, "_run", run)
    monkeypatch.setattr(kernels, "_KEYRING", Path(__file__))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return asked


def test_kernel_is_fetched_with_all_packages_of_its_version_and_only_once(apt: list[list[str]], tmp_path: Path) -> None:
    kernel = get_kernel("newest")
    assert kernel.release == "7.2-amd64"
    downloads = [command for command in apt if "download" in command]
    assert [command[command.index("download") + 1 :] for command in downloads] == [
        ["linux-image-7.2-amd64", "linux-modules-7.2-amd64"]
    ]
    count = len(apt)
    assert get_kernel("newest") == kernel
    assert len(apt) == count
    assert sorted(each.name for each in (tmp_path / "policylab/kernels").iterdir()) == ["newest", "newest.lock"]


def test_apt_has_lists_and_archives_of_its_own_and_refuses_what_it_cannot_verify(apt: list[list[str]]) -> None:
    get_kernel("5.10")
    update = next(command for command in apt if "update" in command)
    told = dict(word.split("=", 1) for word in update if "=" in word and "::" in word)
    for name in ("Dir::Etc::SourceList", "Dir::Etc::SourceParts", "Dir::State::Lists", "Dir::Cache::Archives"):
        assert "policylab/kernels/5.10.new" in told[name], name
    assert "--error-on=any" in update
    assert not any("allow" in word.lower() or "trusted" in word for command in apt for word in command)


def test_fetch_that_fails_leaves_nothing_in_the_cache(
    apt: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert apt == []

    def fail(command: list[str], directory: Path | None = None) -> str:
        raise HostError(f"{command[0]} failed", value=str(directory))

    monkeypatch.setattr(kernels, "_run", fail)
    with pytest.raises(HostError, match="failed"):
        get_kernel("6.1")
    assert [each.name for each in (tmp_path / "policylab/kernels").iterdir()] == ["6.1.lock"]


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("E: Write error - write (28: No space left on device)", r"make room in .*policylab, or set XDG_CACHE_HOME"),
        ("E: Failed to fetch http://mirror.example/debian", "see whether the mirror is reachable"),
    ],
)
def test_disk_that_fills_up_while_apt_fetches_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, step: str
) -> None:
    monkeypatch.setattr(kernels, "_KEYRING", Path(__file__))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    failed = subprocess.CompletedProcess([], 100, "", f"reading lists\n{said}\n")
    monkeypatch.setattr(tool.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(HostError, match=step) as told:
        get_kernel("6.1")
    assert said in str(told.value)
    assert [each.name for each in (tmp_path / "policylab/kernels").iterdir()] == ["6.1.lock"]


def test_disk_that_fills_up_while_a_kernel_is_unpacked_is_told_as_such(
    apt: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert apt == []

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kernels.Path, "write_text", full)
    with pytest.raises(HostError, match=r"6\.1 cannot be kept: No space left on device.*make room there"):
        get_kernel("6.1")
    assert [each.name for each in (tmp_path / "policylab/kernels").iterdir()] == ["6.1.lock"]


def test_unknown_kernel_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(HostError, match=r"no kernel 4\.19.*5\.10, 6\.1, 6\.12, newest"):
        get_kernel("4.19")
    assert set(KERNELS) == {"5.10", "6.1", "6.12", "newest"}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel with four modules, one of them built in, one compressed, and a busybox that is a text."""
    lines = {
        "kernel/drivers/virtio/virtio_pci.ko": "kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko",
        "kernel/drivers/virtio/virtio_ring.ko": "kernel/drivers/virtio/virtio.ko",
        "kernel/drivers/virtio/virtio.ko": "",
        "kernel/net/9p/9pnet_virtio.ko.xz": "kernel/drivers/virtio/virtio.ko",
        "kernel/fs/9p/9p.ko": "",
    }
    for name in lines:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"content of {name}".encode()
        path.write_bytes(lzma.compress(content) if name.endswith(".xz") else content)
    (tmp_path / "modules.dep").write_text("".join(f"{name}: {needs}\n" for name, needs in lines.items()))
    (tmp_path / "modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\n")
    (tmp_path / "busybox").write_text("busybox")
    monkeypatch.setattr(module, "find_busybox", lambda: tmp_path / "busybox")
    return Kernel("6.1", "6.1.0-x", tmp_path / "vmlinuz", tmp_path)


def unpacked(packed: bytes, place: Path) -> Path:
    """What cpio, which did not write it, makes of an archive (busybox has one)."""
    place.mkdir()
    tool = ["busybox", "cpio", "-i", "--quiet"]
    ended = subprocess.run(tool, input=packed, cwd=place, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return place


def test_archive_is_read_by_cpio(kernel: Kernel, tmp_path: Path) -> None:
    found = unpacked(archive("#!/bin/sh\n", (("a.ko", b"abc"),)), tmp_path / "out")
    assert kernel.name == "6.1"
    assert (found / "init").read_text() == "#!/bin/sh\n"
    assert (found / "init").stat().st_mode & 0o777 == 0o755
    assert (found / "modules/a.ko").read_bytes() == b"abc"
    assert (found / "bin/busybox").read_text() == "busybox"
    assert (found / "dev").is_dir()


def test_modules_come_behind_what_they_need_once_each_and_uncompressed(kernel: Kernel, tmp_path: Path) -> None:
    found = unpacked(initrd(kernel), tmp_path / "out")
    order = (found / "modules/order").read_text().split()
    assert order == ["virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "9p.ko", "9pnet_virtio.ko"]
    assert (found / "modules/9pnet_virtio.ko").read_text() == "content of kernel/net/9p/9pnet_virtio.ko.xz"


def test_kernel_without_a_module_that_is_needed_is_refused(kernel: Kernel) -> None:
    (kernel.modules / "modules.builtin").write_text("")
    with pytest.raises(HostError, match=r"the kernel 6\.1 has no module overlay"):
        initrd(kernel)
