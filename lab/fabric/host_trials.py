# SPDX-License-Identifier: Apache-2.0
"""Tries in a throw-away network namespace what a lab needs of the kernel and its tools.

Runs as a process of its own (``python -m lab.fabric.host_trials``) and prints its findings as JSON; the namespace
and all in it go when the process ends. Without root it tries in a user namespace of its own, where a failure proves
nothing about root: it is reported as inconclusive.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lab.errors import BpfError
from lab.fabric.apt import apt_install
from lab.fabric.bpf import BpfProgram, ProgramKind, XdpMode, attach_xdp
from lab.fabric.finding import Finding, State, last_line
from lab.fabric.host import capabilities, dump

__all__ = ["main", "try_all"]

# unshare(2) flags and a capability bit (linux/sched.h, linux/capability.h).
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CAP_SYS_ADMIN = 21

COMMAND_SECONDS = 10.0

EVERY_LAB = "every lab"
IPTABLES = "--dataplane iptables"
LEGACY = "--dataplane iptables-legacy"
BOTH = "--dataplane iptables, iptables-legacy"
NFTABLES = "--dataplane nftables"

SIDECARS = "topologies with sidecars"

# Linux 5.9 has links for XDP (the kernel's BPF_LINK_CREATE), and native mode on a veth for longer.
_WITHOUT_XDP = "use Linux 5.9 or later, or leave the accelerator out; the rules beneath it say the same"

# Where iptables lies; not in every user's path.
SYSTEM_PATH = "/usr/sbin:/sbin"

# What a set match and a connection match look like, in the wording of every backend.
_SET_RULE = ("-A", "FORWARD", "-m", "set", "--match-set", "policylab-trial", "src", "-j", "DROP")
_CONNTRACK_RULE = ("-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
_OF_SIDECARS = ("-p", "tcp", "-m", "owner", "--uid-owner", "1337")
_REDIRECT = ("iptables", "-t", "nat", "-A", "OUTPUT", *_OF_SIDECARS, "-j", "REDIRECT", "--to-ports", "15001")
_PLAIN_RULE = ("-A", "FORWARD", "-j", "DROP")
_NFT_TABLE = "add table inet trial; add chain inet trial rules"
_NFT_TRIALS = (
    ("nft", _NFT_TABLE, "a table was made"),
    ("conntrack, nft", f"{_NFT_TABLE}; add rule inet trial rules ct state established accept", "a rule was made"),
    (
        "sets and maps, nft",
        (
            f"{_NFT_TABLE}; add set inet trial nets {{ type ipv4_addr; flags interval; }}; "
            "add map inet trial chains { type ifname : verdict; }; add rule inet trial rules ip saddr @nets drop; "
            "add rule inet trial rules iifname vmap @chains"
        ),
        "rules were made",
    ),
)
_FLOWTABLE = "add table inet trial; add flowtable inet trial flows { hook ingress priority 0; devices = { lo }; }"


def main() -> None:
    """Print every finding as JSON."""
    sys.stdout.write(dump(try_all()))


def try_all() -> list[Finding]:
    """Enter a namespace and try everything there; the process stays in it."""
    privileged = bool(capabilities() >> CAP_SYS_ADMIN & 1)
    try:
        _enter_namespace(privileged)
    except OSError as error:
        state: State = "no" if privileged else "inconclusive"
        detail = f"unshare(2): {error.strerror}" + ("" if privileged else "; only root can tell")
        return [Finding("network namespaces", state, detail, EVERY_LAB)]
    own = "in a user namespace: you are not root"
    found = [Finding("network namespaces", "yes", "one was made" + ("" if privileged else f" {own}"), EVERY_LAB)]
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    # iptables-legacy locks a file that only root may open; nobody else's rules are in this namespace.
    os.environ["XTABLES_LOCKFILE"] = os.devnull
    found.extend(_try_links())
    found.extend(_try_tools())
    return found if privileged else [_doubted(finding) for finding in found]


def _enter_namespace(privileged: bool) -> None:
    """Move this process to a new network namespace, as that namespace's root."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET if privileged else CLONE_NEWNET | CLONE_NEWUSER):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if not privileged:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def _doubted(finding: Finding) -> Finding:
    """A failure without root proves nothing, unless it is a tool that is not there."""
    if finding.state == "no" and finding.mend is None:
        return replace(finding, state="inconclusive", detail=f"{finding.detail}; only root can tell")
    return finding


def _try_links() -> Iterator[Finding]:
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as route:
        try:
            route.link("add", ifname="trial0", kind="veth", peer="trial1")
            for name in ("trial0", "trial1"):
                route.link("set", index=route.link_lookup(ifname=name)[0], state="up")
        except NetlinkError as error:
            yield Finding("veth", "no", str(error), EVERY_LAB)
            return
    yield Finding("veth", "yes", "a pair was made", EVERY_LAB)
    yield _try_packets()
    yield _try_ipv6()
    yield from _try_xdp()


def _try_packets() -> Finding:
    """Send one frame through the pair: the kernel must have carried it over when ``send`` returns."""
    # Addressed to everybody, of an EtherType for local experiments (IEEE 802).
    frame = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + b"\x88\xb5" + bytes(46)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as far:
            far.bind(("trial1", 0x0003))
            far.setblocking(False)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as near:
                near.bind(("trial0", 0))
                near.send(frame)
            while far.recv(2048) != frame:
                pass  # the kernel's own neighbour discovery may come first
    except BlockingIOError:
        detail = "a frame sent on a veth had not arrived when send() returned"
        return Finding("AF_PACKET", "inconclusive", detail, EVERY_LAB)
    except OSError as error:
        return Finding("AF_PACKET", "no", error.strerror or str(error), EVERY_LAB)
    return Finding("AF_PACKET", "yes", "a frame crossed a veth before send() returned", EVERY_LAB)


def _try_ipv6() -> Finding:
    switch = Path("/proc/sys/net/ipv6/conf/trial0/disable_ipv6")
    if not switch.exists():
        return Finding("IPv6", "no", "the kernel runs without it", "flows of family ipv6")
    off = switch.read_text(encoding="ascii").strip() != "0"
    detail = "off in new namespaces; a lab turns it on" if off else "on in new namespaces"
    return Finding("IPv6", "yes", detail, "flows of family ipv6")


def _try_xdp() -> Iterator[Finding]:
    """Attach a program that lets everything pass to one end of the pair, in each mode."""
    needed = "--accelerator xdp"
    # r0 = XDP_PASS; exit
    code = bytes.fromhex("b7000000020000009500000000000000")
    for mode in XdpMode:
        name = f"{mode.value} XDP"
        try:
            program = BpfProgram("trial", ProgramKind.XDP, code, "GPL")
            with attach_xdp(program, "trial0", mode):
                yield Finding(name, "yes", "a program was attached to a veth", needed)
        except BpfError as error:
            yield Finding(name, "no", f"{error.what}: {_WITHOUT_XDP}", needed)


def _try_tools() -> Iterator[Finding]:
    yield _try_command("ipset", ("ipset", "create", "policylab-trial", "hash:net"), BOTH, "ipset", "a set was made")
    for tool, needed in (
        ("iptables-nft", IPTABLES),
        ("ip6tables-nft", IPTABLES),
        ("iptables-legacy", LEGACY),
        ("ip6tables-legacy", LEGACY),
    ):
        yield _try_command(tool, (tool, *_PLAIN_RULE), needed, "iptables", "a rule was made")
    for tool, needed in (("iptables-nft", IPTABLES), ("iptables-legacy", LEGACY)):
        yield _try_command(f"set match, {tool}", (tool, *_SET_RULE), needed, "iptables", "a rule was made")
        yield _try_command(f"conntrack, {tool}", (tool, *_CONNTRACK_RULE), needed, "iptables", "a rule was made")
    yield _try_command("redirect, iptables", _REDIRECT, SIDECARS, "iptables", "a rule was made")
    yield _read_sctp()
    for name, script, done in _NFT_TRIALS:
        yield _try_command(name, ("nft", script), NFTABLES, "nftables", done)
    needed = "--accelerator flowtable"
    yield _try_command("flowtables, nft", ("nft", _FLOWTABLE), needed, "nftables", "a flowtable was made")
    yield _try_command("ip", ("ip", "-Version"), "bench lab", "iproute2", "found")


def _try_command(name: str, command: tuple[str, ...], needed_for: str, package: str, done: str) -> Finding:
    if shutil.which(command[0]) is None:
        return Finding(name, "no", f"no command {command[0]}", needed_for, apt_install(package))
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Finding(name, "inconclusive", f"{command[0]} took longer than {COMMAND_SECONDS:.0f} s", needed_for)
    if ended.returncode:
        return Finding(name, "no", _complaint(ended.stderr) or f"status {ended.returncode}", needed_for)
    return Finding(name, "yes", done, needed_for)


def _complaint(said: str) -> str:
    """What is wrong; nft says so first, and then shows where."""
    return next((line for line in said.splitlines() if line.startswith("Error: ")), last_line(said))


def _read_sctp() -> Finding:
    """Whether conntrack follows SCTP; its settings appear in a namespace whose rules look at connections."""
    needed = f"{BOTH}, nftables"
    settings = Path("/proc/sys/net/netfilter")
    if not Path(settings, "nf_conntrack_max").exists():
        return Finding("SCTP conntrack", "inconclusive", "conntrack is not in use in the trial", needed)
    there = Path(settings, "nf_conntrack_sctp_timeout_established").exists()
    return Finding(
        "SCTP conntrack", "yes" if there else "no", "its settings are " + ("there" if there else "not there"), needed
    )


if __name__ == "__main__":
    main()
