# SPDX-License-Identifier: Apache-2.0
"""Broken accelerators: sockmap's own program with one thought left out, and the check that must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import test_sockmap as sound
import test_sockmap_integrity as whole
import test_sockmap_refusals as refusals
from sockmap_world import World

from dataplanes.api import BpfSource, Snapshot, SnapshotDelta
from dataplanes.sockmap import SockmapAccelerator

__all__ = ["ACCELERATOR_FAULTS", "FAULTS", "Fault", "broken"]

Check = Callable[[World], None]
PATIENCE = 5  # seconds; what is lost never comes


@dataclass(frozen=True, slots=True)
class Fault:
    """What is put in the place of what, and who has to notice."""

    name: str
    edits: tuple[tuple[str, str], ...]
    caught_by: Check
    macros: tuple[tuple[str, str], ...] = ()


def broken(fault: Fault, directory: Path) -> type[SockmapAccelerator]:
    """The accelerator with that fault."""
    text = SockmapAccelerator.program.path.read_text(encoding="utf-8")
    for old, new in fault.edits:
        assert text.count(old) == 1, f"{fault.name}: the source has changed, and not once in it is {old!r}"
        text = text.replace(old, new)
    source = directory / "sockmap.c"
    source.write_text(text, encoding="utf-8")
    header = SockmapAccelerator.program.path.with_name("sockmap.h")
    (directory / header.name).write_text(header.read_text(encoding="utf-8"), encoding="utf-8")

    class Broken(SockmapAccelerator):
        program: ClassVar[BpfSource] = BpfSource(source, fault.macros)

    return Broken


def _with_sockets(check: Callable[..., None]) -> Check:
    def run(world: World) -> None:
        with world.sockets(world.leg("veth-ipv4")) as sockets:
            check(sockets)

    return run


def _apart(family: str) -> Check:
    return lambda world: sound.test_the_same_addresses_and_ports_in_two_namespaces_stay_apart(world, family)


def _counted(leg: str) -> Check:
    return lambda world: sound.test_redirected_bytes_are_counted_and_seen_on_no_interface(world, leg)


def _integrity(world: World) -> None:
    whole.integrity_run(world, PATIENCE)


_PORTS = """	mine = context->local_port;
	theirs = bpf_ntohl(context->remote_port);
"""
_SEQUENCES = """	mine = OWN(u32, tcp, MEMBER_WRITE_SEQ);
	theirs = OWN(u32, tcp, MEMBER_RCV_NXT);
"""
_PORTS_OF_IPV6 = """	u32 near = context->local_port, far = bpf_ntohl(context->remote_port), family = context->family;

	asm volatile("" : "+r"(near), "+r"(far));
	mine = family == 10 ? near : mine;
	theirs = family == 10 ? far : theirs;
"""
# The last one to come is the one that is found.
_MEET = (
    ("notes.insert(&fresh.own, &note)", "notes.update(&fresh.own, &note)"),
    ("&fresh.own, BPF_NOEXIST)", "&fresh.own, BPF_ANY)"),
)
_UNREAD = "	if (read != written)\n		return COUNT_PASSED_UNREAD;\n"
_READER = "	if (flow->by_tcp && has_reader(peer))\n		return COUNT_PASSED_READER;\n"
_QUEUE = "	if (!empty && *queued + size > given->queue_bytes)\n		return COUNT_PASSED_QUEUE;\n"
_LEAVE = "	if (why >= 0)\n		return by_tcp(flow, why, size);\n"
_SWALLOW = """	if (why == COUNT_PASSED_PEER && flow->redirected)
		return bpf_msg_pop_data(message, 0, size, 0), SK_PASS;
"""
_LOSE = "	if (why == COUNT_PASSED_QUEUE)\n		bpf_msg_pop_data(message, 0, size / 2, 0);\n"
_GO_BY_TCP = "		return by_tcp(flow, COUNT_PASSED_PEER, size);\n"
_OTHER_HOST = "	if (message->remote_ip4 != message->local_ip4)\n" + _GO_BY_TCP
_ACCEPTED = "	if (flow->own.accepted)\n" + _GO_BY_TCP
_REDIRECT = "	verdict = sockets.msg_redirect_hash(message, &flow->peer, BPF_F_INGRESS);\n"

FAULTS = (
    Fault("namespaces-meet", ((_SEQUENCES, _PORTS), *_MEET), _apart("ipv4")),
    Fault(
        "ipv6-keys-wrong",
        ((_SEQUENCES, _SEQUENCES + _PORTS_OF_IPV6), *_MEET),
        _apart("ipv6"),
    ),
    Fault("redirects-again-too-early", ((_UNREAD, ""),), _integrity),
    Fault("does-not-look-for-readers", ((_READER, ""),), _integrity),
    Fault("no-bound", ((_QUEUE, ""),), _integrity),
    Fault(
        "sends-after-shutdown",
        (
            ("!(OWN(u8, tcp, MEMBER_SHUTDOWN) & TCP_SEND_SHUTDOWN)", "1"),
            ("(state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT)", "state"),
            (_UNREAD, ""),
        ),
        _with_sockets(sound.test_after_shutdown_nothing_more_is_taken),
    ),
    Fault("loses-bytes-on-backpressure", ((_LEAVE, _LOSE + _LEAVE),), _integrity),
    Fault(
        "swaps-order",
        ((_UNREAD, "	if (flow->redirected && !flow->by_tcp)\n		return COUNT_PASSED_UNREAD;\n"),),
        _integrity,
    ),
    Fault(
        "swallows-after-close",
        ((_LEAVE, _SWALLOW + _LEAVE),),
        _with_sockets(sound.test_writing_to_an_end_that_has_closed_fails_as_by_tcp),
    ),
    Fault("fakes-evidence", ((_REDIRECT, "	verdict = SK_PASS;\n"),), _counted("veth-ipv4")),
    Fault("one-leg-only", ((_REDIRECT, _OTHER_HOST + _REDIRECT),), _counted("veth-ipv4")),
    Fault("one-way-only", ((_REDIRECT, _ACCEPTED + _REDIRECT),), _counted("loopback-ipv4")),
    Fault(
        "nodes-meet",
        (("|| !members.lookup(&namespace)", ""),),
        sound.test_workloads_that_did_not_ask_for_it_are_left_alone,
    ),
    Fault(
        "forgets-no-note",
        (("		notes.delete(&flow->own);\n	return 1;", "		return 1;\n	return 1;"),),
        sound.test_ten_thousand_connections_leave_nothing_behind,
    ),
    Fault(
        "fails-when-a-cgroup-is-full",
        (("	return is_near_limit(flow, size);\n", "	return 0;\n"),),
        lambda world: refusals.overrun_with_little_memory(world, PATIENCE),
    ),
    Fault("naive", (), _integrity, (("NAIVE", "1"),)),
)


class Idle(SockmapAccelerator):
    """Claims to accelerate, and lets nobody's sockets join."""

    name: ClassVar[str] = "idle-sockmap"

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        super().apply(replace(snapshot, endpoints={}), delta)


ACCELERATOR_FAULTS = {Idle: "http.acceleration.same-verdicts"}
