# SPDX-License-Identifier: Apache-2.0
"""A host that cannot: not root, a tool missing, a full disk. Exit 3, one message, nothing half-done."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_world import DENY, POLICYLAB, TOPOLOGY, install_strangers, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def in_private_mounts(script: str, cwd: Path, *plugins: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script with mounts that nobody else sees."""
    return run(["unshare", "--mount", "sh", "-c", script], cwd, *plugins)


@pytest.fixture
def public() -> Iterator[Path]:
    """An empty directory that everybody may enter; pytest's own ones are closed to others."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def nobody(public: Path) -> tuple[str, ...]:
    """What runs a command as a user without rights; skips where that user cannot even reach the program."""
    if run([*NOBODY, sys.executable, "-c", "import click, lab"], public).returncode != 0:
        pytest.skip("the interpreter or the checkout lies where only root may read")
    return NOBODY


@pytest.mark.parametrize(
    "words",
    [f"verify {TOPOLOGY} --dataplane iptables", "conformance --dataplane iptables", "bench lab", "bench verdicts"],
)
def test_process_without_rights_is_sent_to_root(tmp_path: Path, words: str) -> None:
    refused(run([*NO_CAPABILITIES, *shlex.split(f"{POLICYLAB} {words}")], tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_user_who_may_write_nowhere_is_sent_to_root(public: Path, nobody: tuple[str, ...]) -> None:
    refused(run([*nobody, *shlex.split(f"{POLICYLAB} conformance --dataplane iptables")], public))


def test_user_without_rights_may_ask_what_is_expected(public: Path, nobody: tuple[str, ...]) -> None:
    ended = run([*nobody, *shlex.split(f"{POLICYLAB} expect {TOPOLOGY} {DENY}")], public)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "864 rows" in ended.stdout


def refused(ended: subprocess.CompletedProcess[str]) -> None:
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("policylab: ")
    assert "as root" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("dataplane", "tools", "package"),
    [
        ("iptables", "iptables*", "iptables"),
        ("iptables-legacy", "iptables*", "iptables"),
        ("iptables", "ipset", "ipset"),
        ("nftables", "nft", "nftables"),
    ],
)
def test_missing_tool_is_named_with_its_package(tmp_path: Path, dataplane: str, tools: str, package: str) -> None:
    script = f"""
        mkdir real && mount --bind /usr/sbin real && mount -t tmpfs none /usr/sbin
        ln -s $PWD/real/* /usr/sbin/ && rm /usr/sbin/{tools}
        exec {POLICYLAB} verify {TOPOLOGY} --dataplane {dataplane}
    """
    ended = in_private_mounts(script, tmp_path)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert f"next: apt-get install {package}\n" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "conformance --dataplane iptables --report full/report",
        f"verify {TOPOLOGY} --dataplane iptables --report full/r",
    ],
)
def test_full_disk_for_the_report_is_told_before_the_run(tmp_path: Path, words: str) -> None:
    ended = in_private_mounts(f"mkdir full && mount -t tmpfs -o size=32k none full && {POLICYLAB} {words}", tmp_path)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("policylab: full/r")
    assert "the report cannot be written; given: 'No space left on device'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_disk_that_fills_up_during_the_run_leaves_no_half_bundle(tmp_path: Path) -> None:
    install_strangers(tmp_path)
    script = f"""
        mkdir full && mount -t tmpfs -o nr_inodes=7 none full  # room for the proof, and not for all files
        {POLICYLAB} verify {TOPOLOGY} {DENY} --dataplane open --report full/report
        status=$?; find full -type f >&2; exit $status
    """
    ended = in_private_mounts(script, tmp_path, tmp_path)
    assert ended.returncode == 3
    assert "the counterexample cannot be saved; given: 'No space left on device'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_full_disk_for_the_counterexample_is_told_after_the_rows(tmp_path: Path) -> None:
    install_strangers(tmp_path)
    script = f"""
        mkdir full && mount -t tmpfs -o size=64k none full && cd full && head -c 64k /dev/zero >filling 2>&1
        exec {POLICYLAB} verify {TOPOLOGY} {DENY} --dataplane open
    """
    ended = in_private_mounts(script, tmp_path, tmp_path)
    assert ended.returncode == 3
    assert "282 mismatches" in ended.stdout
    assert ended.stderr.startswith("policylab: policylab-report: the report cannot be written")
    assert ended.stderr.count("\n") == 1


NO_CGROUPS = """
for place in $(awk '$3 == "cgroup2" { print $2 }' /proc/mounts); do umount "$place"; done
"""


def test_without_cgroup_v2_sockmap_is_refused_and_the_rest_works(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(
        "- {from: shop/frontend, to: shop/cart, protocol: TCP, port: 8080, http: {method: GET, path: /}}\n"
    )
    verify = f"{POLICYLAB} verify sidecars --flows flows.yaml --dataplane iptables"
    told = in_private_mounts(f"{NO_CGROUPS} {POLICYLAB} doctor", tmp_path)
    assert re.search(r"cgroup v2 +no +--accelerator sockmap", told.stdout)
    assert told.returncode == 0
    with_it = in_private_mounts(f"{NO_CGROUPS} {verify} --accelerator sockmap", tmp_path)
    assert (with_it.returncode, with_it.stdout) == (3, "")
    assert "no cgroup v2" in with_it.stderr
    assert "run without the accelerator" in with_it.stderr
    without = in_private_mounts(f"{NO_CGROUPS} {verify}", tmp_path)
    assert without.returncode == 0, without.stderr
    assert "1 rows, 1 allowed, 0 denied, 0 mismatches, 0 inconclusive" in without.stdout
