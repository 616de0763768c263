# SPDX-License-Identifier: Apache-2.0
"""The BPF loader against the kernel: compiled once, verified, attached by links, gone with its descriptors."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import BpfError, HostError, Place
from lab.fabric.bpf import (
    BpfMap,
    BpfObject,
    BpfSource,
    MapDefinition,
    MapKind,
    ProgramKind,
    VerifierError,
    XdpMode,
    attach_cgroup,
    attach_sockets,
    attach_tc,
    compiler,
    load,
    maps,
)
from lab.fabric.bpf.syscall import ENOTSUPP, Command, bpf
from lab.fabric.lab import Lab
from lab.topology import Topology
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_topology

TRIAL = Path(__file__).with_name("bpf") / "trial.c"
XDP = {"by_first_byte": ProgramKind.XDP}
ZERO = bytes(4)
XDP_DROP, XDP_PASS = 1, 2


def packet(first: int) -> bytes:
    return bytes(12) + b"\x88\xb5" + bytes([first]) + bytes(45)


@pytest.fixture(scope="module")
def topology() -> Topology:
    path = shipped_topology("one-node")
    assert path is not None
    return load_topology(path)


@pytest.fixture
def lab(topology: Topology) -> Iterator[Lab]:
    with Lab(topology) as up:
        yield up


@pytest.fixture
def trial() -> Iterator[BpfObject]:
    with load(BpfSource(TRIAL), XDP | {"always_drop": ProgramKind.XDP}) as loaded:
        yield loaded


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own_copy(tmp_path: Path) -> BpfSource:
    shutil.copytree(TRIAL.parent, tmp_path / "own")
    return BpfSource(tmp_path / "own" / TRIAL.name)


def seen(loaded: BpfObject) -> int:
    return sum(int.from_bytes(each, "little") for each in loaded.maps["seen"].per_cpu(ZERO))


# --- compiling -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_cache")
def test_source_that_was_compiled_before_needs_neither_bcc_nor_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiler.compiled(BpfSource(TRIAL))
    monkeypatch.setattr(compiler, "BCC_FOLDER", "/nowhere")
    assert compiler.compiled(BpfSource(TRIAL)) == first
    with pytest.raises(HostError, match="python3-bpfcc"):
        compiler.compiled(BpfSource(TRIAL, (("OTHER", "1"),)))


@pytest.mark.usefixtures("empty_cache")
def test_change_of_a_header_beside_the_source_is_noticed(own_copy: BpfSource) -> None:
    compiler.compiled(own_copy)
    header = own_copy.path.with_name("trial.h")
    header.write_text(header.read_text().replace("256", "512"))
    assert {each.name: each.max_entries for each in compiler.compiled(own_copy).maps}["listed"] == 512


def test_cache_that_is_damaged_or_read_only_is_done_without(empty_cache: Path) -> None:
    first = compiler.compiled(BpfSource(TRIAL))
    (kept,) = (empty_cache / "policylab/bpf").rglob("*.json")
    kept.write_text(kept.read_text()[:-9])
    assert compiler.compiled(BpfSource(TRIAL)) == first
    shutil.rmtree(empty_cache / "policylab/bpf")
    (empty_cache / "policylab/bpf").write_text("in the way")
    assert compiler.compiled(BpfSource(TRIAL)) == first


def test_error_of_the_compiler_names_file_line_and_column(own_copy: BpfSource) -> None:
    text = own_copy.path.read_text()
    line = text.splitlines().index("\treturn XDP_DROP;") + 1
    own_copy.path.write_text(text.replace("\treturn XDP_DROP;", "\treturn XDP_DROPP;"))
    with pytest.raises(BpfError, match="undeclared identifier 'XDP_DROPP'") as caught:
        load(own_copy, XDP)
    assert caught.value.place == Place(str(own_copy.path), line, 9)


def test_function_that_is_not_there_is_told_by_the_compiler_and_not_by_the_verifier(own_copy: BpfSource) -> None:
    text = own_copy.path.read_text()
    line = text.splitlines().index("\treturn XDP_DROP;") + 1
    own_copy.path.write_text(text.replace("\treturn XDP_DROP;", "\treturn nothing_there();"))
    with pytest.raises(BpfError, match="nothing_there") as caught:
        load(own_copy, XDP)
    assert caught.value.place == Place(str(own_copy.path), line, 9)


def test_refusal_of_the_verifier_names_the_line_that_reads_too_far() -> None:
    with pytest.raises(VerifierError, match="invalid access to packet") as caught:
        load(BpfSource(TRIAL, (("UNCHECKED", "1"),)), XDP)
    header = TRIAL.with_name("trial.h")
    line = header.read_text().splitlines().index("\treturn *byte;") + 1
    assert caught.value.place == Place(str(header), line)
    assert len(caught.value.log) > len(str(caught.value))


def test_name_that_the_source_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(BpfError, match="allowed: always_drop, always_shot, by_constants, by_first_byte"):
        load(BpfSource(TRIAL), {"nothing": ProgramKind.XDP})
    with pytest.raises(BpfError, match="allowed: listed, notes, row, seen"):
        load(BpfSource(TRIAL), XDP, sizes={"list": 1})


# --- maps ------------------------------------------------------------------------------------------------------


def test_map_gives_back_what_was_set_and_forgets_what_was_deleted() -> None:
    numbers = BpfMap(MapDefinition("numbers", MapKind.HASH, 4, 8, 4))
    keys = [struct.pack("=I", each) for each in range(4)]
    numbers.set_many(keys, [struct.pack("=Q", each * each) for each in range(4)])
    assert sorted(numbers.keys()) == keys
    assert numbers.get(keys[3]) == struct.pack("=Q", 9)
    assert numbers.delete(keys[3])
    assert not numbers.delete(keys[3])
    assert numbers.get(keys[3]) is None
    numbers.close()


def test_keys_are_set_one_by_one_where_the_kernel_takes_no_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 5.14 with tries, which the kernel matrix has."""
    numbers = BpfMap(MapDefinition("numbers", MapKind.HASH, 4, 4, 2))

    def refuse(command: Command, attributes: bytearray) -> int:
        if command is Command.MAP_UPDATE_BATCH:
            raise OSError(ENOTSUPP, "Unknown error 524")
        return bpf(command, attributes)

    monkeypatch.setattr(maps, "bpf", refuse)
    keys = [struct.pack("=I", each) for each in range(3)]
    numbers.set_many(keys[:2], keys[:2])
    assert [numbers.get(each) for each in keys] == [*keys[:2], None]
    with pytest.raises(BpfError, match="at most 2 entries"):
        numbers.set_many(keys, keys)
    numbers.close()


def test_full_map_says_how_much_it_holds() -> None:
    numbers = BpfMap(MapDefinition("numbers", MapKind.HASH, 4, 4, 2))
    keys = [struct.pack("=I", each) for each in range(3)]
    with pytest.raises(BpfError, match=r"after 2 of them.*at most 2 entries"):
        numbers.set_many(keys, keys)
    with pytest.raises(BpfError, match="at most 2 entries"):
        numbers.set(keys[2], keys[2])
    with pytest.raises(BpfError, match="wrong size; given: 3; allowed: 4 bytes"):
        numbers.set(b"123", keys[0])
    numbers.close()


def test_program_sees_at_once_what_is_written_to_a_map_in_memory(trial: BpfObject) -> None:
    program = trial.programs["by_first_byte"]
    with trial.maps["listed"].memory() as listed:
        assert program.run(packet(7)).returned == XDP_PASS
        struct.pack_into("=Q", listed, 7 * 8, 1)
        assert program.returns([packet(7), packet(8)]) == [XDP_DROP, XDP_PASS]
    assert seen(trial) == 3


@pytest.mark.parametrize("wanted", [7, (5 << 40) + 7])
def test_constants_stand_in_the_program_from_the_start(wanted: int) -> None:
    kinds = {"by_constants": ProgramKind.XDP}
    with load(BpfSource(TRIAL), kinds, sizes={"row": 4}, constants={0: "row", 1: wanted}) as loaded:
        program = loaded.programs["by_constants"]
        assert program.run(packet(0)).returned == XDP_PASS
        loaded.maps["row"].set(ZERO, struct.pack("=4Q", 0, 0, 0, wanted))
        assert program.run(packet(0)).returned == XDP_DROP


def test_read_behind_the_one_value_of_a_map_is_refused() -> None:
    kinds = {"by_constants": ProgramKind.XDP}
    with pytest.raises(VerifierError, match="invalid access to map value"):
        load(BpfSource(TRIAL), kinds, sizes={"row": 3}, constants={0: "row", 1: 7})


def test_constant_that_nobody_gave_is_told() -> None:
    with pytest.raises(BpfError, match="constant 1 of a BPF program has no value"):
        load(BpfSource(TRIAL), {"by_constants": ProgramKind.XDP}, sizes={"row": 4}, constants={0: "row"})


def test_map_of_one_object_can_be_shared_with_another(trial: BpfObject) -> None:
    trial.maps["listed"].set(struct.pack("=I", 7), struct.pack("=Q", 1))
    with load(BpfSource(TRIAL), XDP, shared={"listed": trial.maps["listed"]}) as other:
        assert other.programs["by_first_byte"].run(packet(7)).returned == XDP_DROP
        assert (seen(other), seen(trial)) == (1, 0)
    assert trial.programs["by_first_byte"].run(packet(7)).returned == XDP_DROP


# --- interfaces ------------------------------------------------------------------------------------------------


def arrives(lab: Lab, sender: str, receiver: str) -> bool:
    """Whether a datagram from one workload comes to another, told by the next one on the loopback."""
    to = str(next(address for address in lab.ports[receiver].addresses if address.version == 4))
    with (
        lab.hosts[receiver].socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        lab.hosts[sender].socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        lab.hosts[receiver].socket(socket.AF_INET, socket.SOCK_DGRAM) as marker,
    ):
        far.bind(("", 4000))
        far.settimeout(10)
        near.sendto(b"packet", (to, 4000))
        marker.sendto(b"marker", (to, 4000))
        return far.recv(16) == b"packet"


@pytest.mark.parametrize("mode", XdpMode)
def test_program_drops_what_an_interface_receives_until_its_link_is_closed(
    lab: Lab, trial: BpfObject, mode: XdpMode
) -> None:
    receiver, sender = list(lab.ports)[:2]
    assert arrives(lab, sender, receiver)
    with lab.hosts[receiver].attach_xdp(trial.programs["always_drop"], "eth0", mode) as link:
        assert link.mode is mode
        assert link.attached
        assert not arrives(lab, sender, receiver)
    assert arrives(lab, sender, receiver)


def test_native_mode_is_tried_first(lab: Lab, trial: BpfObject) -> None:
    with next(iter(lab.hosts.values())).attach_xdp(trial.programs["always_drop"], "eth0") as link:
        assert link.mode is XdpMode.NATIVE


@pytest.mark.parametrize("mode", XdpMode)
def test_program_of_somebody_else_is_never_replaced(lab: Lab, trial: BpfObject, mode: XdpMode) -> None:
    receiver, sender = list(lab.ports)[:2]
    host = lab.hosts[receiver]
    with host.attach_xdp(trial.programs["always_drop"], "eth0", mode):
        number = trial.programs["always_drop"].id
        with pytest.raises(BpfError, match=f"has an XDP program already: number {number}, {mode.value}"):
            host.attach_xdp(trial.programs["by_first_byte"], "eth0")
        assert not arrives(lab, sender, receiver)


def test_link_swaps_programs_and_tells_which_is_at_work(lab: Lab, trial: BpfObject) -> None:
    receiver, sender = list(lab.ports)[:2]
    drop, count = trial.programs["always_drop"], trial.programs["by_first_byte"]
    with lab.hosts[receiver].attach_xdp(count, "eth0") as link:
        assert (link.program_id, arrives(lab, sender, receiver)) == (count.id, True)
        link.replace(drop)
        assert (link.program_id, arrives(lab, sender, receiver)) == (drop.id, False)
    assert seen(trial) == 1


def test_link_that_was_detached_by_force_says_so(lab: Lab, trial: BpfObject) -> None:
    receiver, sender = list(lab.ports)[:2]
    with lab.hosts[receiver].attach_xdp(trial.programs["always_drop"], "eth0") as link:
        link.detach()
        assert not link.attached
        assert arrives(lab, sender, receiver)


def test_interface_that_does_not_exist_is_refused_with_those_that_do(lab: Lab, trial: BpfObject) -> None:
    with pytest.raises(BpfError, match="given: 'eth7'; allowed: lo, eth0"):
        next(iter(lab.hosts.values())).attach_xdp(trial.programs["always_drop"], "eth7")


def test_program_for_tc_drops_what_an_interface_receives(lab: Lab) -> None:
    receiver, sender = list(lab.ports)[:2]
    with load(BpfSource(TRIAL), {"always_shot": ProgramKind.SCHED_CLS}) as loaded:
        host = lab.hosts[receiver]
        with host.inside(lambda: attach_tc(loaded.programs["always_shot"], "eth0")):
            assert not arrives(lab, sender, receiver)
        assert arrives(lab, sender, receiver)


HOLD_A_PROGRAM = f"""
import os, sys
from pathlib import Path
from lab.fabric.bpf import BpfSource, ProgramKind, attach_xdp, load
loaded = load(BpfSource(Path({str(TRIAL)!r})), {{"always_drop": ProgramKind.XDP}})
link = attach_xdp(loaded.programs["always_drop"], "eth0")
print("attached", flush=True)
sys.stdin.read()
"""


def test_killed_process_leaves_no_program_behind(lab: Lab) -> None:
    receiver, sender = list(lab.ports)[:2]
    host = lab.hosts[receiver]

    def start() -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", HOLD_A_PROGRAM]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with host.inside(start) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "attached\n"
        assert not arrives(lab, sender, receiver)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert arrives(lab, sender, receiver)


# --- sockets ---------------------------------------------------------------------------------------------------


def test_programs_for_sockets_attach_to_a_cgroup_and_a_sockhash() -> None:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    root = next(fields[1] for line in mounts if (fields := line.split())[2] == "cgroup2")
    folder = tempfile.mkdtemp(prefix="policylab-test-", dir=root)
    kinds = {"note_sockets": ProgramKind.SOCK_OPS, "pass_messages": ProgramKind.SK_MSG}
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with load(BpfSource(TRIAL), kinds) as loaded:
            attach_sockets(loaded.programs["pass_messages"], loaded.maps["sockets"])
            with attach_cgroup(loaded.programs["note_sockets"], descriptor) as link:
                assert link.program_id == loaded.programs["note_sockets"].id
    finally:
        os.close(descriptor)
        Path(folder).rmdir()
