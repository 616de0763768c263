# SPDX-License-Identifier: Apache-2.0
"""Broken XDP: filters with one mistake in their C text, accelerators with one in what they do."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from dataplanes.api import BpfSource, Evidence, MembersChange, Snapshot, SnapshotDelta, XdpMode
from dataplanes.xdp import XdpAccelerator
from dataplanes.xdp.filter import InterfaceFilter
from dataplanes.xdp.layout import LAYOUT, SOURCE
from dataplanes.xdp.plan import InterfacePlan

BLOCKLIST = "host.do-not-track.blocklist-stops-everything"


@dataclass(frozen=True)
class TextFault:
    """A mistake in the filter: ``good`` stands in ``file`` and is replaced by ``bad``."""

    name: str
    file: str
    good: str
    bad: str

    def laid(self, folder: Path, program: str = "FILTER(1, 1, 0)") -> BpfSource:
        """A copy of the filter with the mistake in it, and with one program alone: the others take time to compile."""
        shutil.copytree(SOURCE.path.parent, folder)
        path = folder / self.file
        text = path.read_text()
        assert text.count(self.good) == 1, self.name
        path.write_text(text.replace(self.good, self.bad))
        main = folder / SOURCE.path.name
        only = re.sub(r"^FILTER\(.*\n", "", main.read_text(), flags=re.MULTILINE)
        main.write_text(f"{only}{program}\n")
        return BpfSource(main)


TEXT_FAULTS = (
    TextFault("takes-every-vlan", "parse.h", "if (tag->control & bpf_htons(0x0fff))", "if (0)"),
    TextFault("takes-no-tag-off", "parse.h", "type != ETHERTYPE_TAG && type != ETHERTYPE_SERVICE_TAG", "1"),
    TextFault(
        "skips-no-extension-header", "parse.h",
        "	if (is_extension(protocol))\n		return -1;\n	packet->protocol = protocol;",
        "	packet->protocol = header->nexthdr;",
    ),
    TextFault("skips-extensions-of-one-length", "parse.h", "(extension[1] + 1) * 8;", "8;"),
    TextFault("reads-ports-in-later-fragments", "parse.h", "if (!(header->frag_off & bpf_htons(0x1fff)))", "if (1)"),
    TextFault("takes-later-fragments-for-plain", "parse.h", "header->frag_off & bpf_htons(0x1fff) || more", "more"),
    TextFault(
        "takes-options-for-plain", "parse.h",
        "(start & bpf_htonl(0xffffff00)) == bpf_htonl(ETHERTYPE_IPV4 << 16 | 0x4500)",
        "(start & bpf_htonl(0xfffff000)) == bpf_htonl(ETHERTYPE_IPV4 << 16 | 0x4000)",
    ),
    TextFault("takes-what-is-cut-short-for-plain", "parse.h", "|| more > (u64)end - (u64)behind ||", "||"),
    TextFault("takes-short-ipv6-for-plain", "parse.h", "(header->payload_len) - 4;", "(header->payload_len);"),
    TextFault("reads-ports-in-later-ipv6-fragments", "parse.h", "	if (!later)\n", "	if (1)\n"),
    TextFault(
        "mixes-up-the-byte-order", "parse.h",
        "header->saddr;\n	packet->protocol = header->protocol;\n	if",
        "bpf_ntohl(header->saddr);\n	packet->protocol = header->protocol;\n	if",
    ),
    TextFault(
        "mixes-up-the-byte-order-of-plain-packets", "parse.h",
        "header->saddr;\n	packet->protocol = header->protocol;\n	packet->source_port",
        "bpf_ntohl(header->saddr);\n	packet->protocol = header->protocol;\n	packet->source_port",
    ),
    TextFault(
        "mixes-up-the-byte-order-of-ports", "xdp_filter.c",
        "failsafes_of[packet->destination_port] &", "failsafes_of[bpf_ntohs(packet->destination_port) & 0xffff] &",
    ),
    TextFault("takes-a-header-for-20-bytes", "parse.h", "length = header->ihl * 4;", "length = 20;"),
    TextFault(
        "drops-short-packets", "parse.h", "room < 4 || (void *)(ports + 2) > end)\n		return;",
        "room < 4 || (void *)(ports + 2) > end) {\n		packet->protocol = CLASS_NONE;\n		return;\n	}",
    ),
    TextFault(
        "forgets-answers-of-failsafe-ports", "xdp_filter.c", "(inbound | answer) &", "inbound &",
    ),
    TextFault("takes-failsafe-ports-for-none", "xdp_filter.c", "return !(answer | inbound);", "return 1;"),
    TextFault("asks-for-one-port-only", "xdp_filter.c", "!(answer | inbound)", "!inbound"),
    TextFault("forgets-ipv6", "parse.h", "	if (type == ETHERTYPE_IPV6)\n", "	if (0)\n"),
)  # fmt: skip


TABLE_FAULTS = (
    TextFault("looks-for-no-slot", "lists_v4.h", "if (bit_in_v4_slots(slots, hash, address))", "if (0)"),
    TextFault(
        "follows-no-mark", "lists_v4.h", "if ((codes->halves[1] >> 48 ^ ~V4_ELSEWHERE)", "if ((1 | codes->halves[1])"
    ),
    TextFault("looks-at-half-a-place", "lists_v4.h", "& others_in_v4_codes(place->halves[1], own)", ""),
    TextFault("takes-neighbours-for-one", "lists_v4.h", "| last_byte << 1", "| (last_byte << 1 & 0x1f0)"),
    TextFault("looks-at-no-second-line", "lists_v6.h", "net_in_v6_line(line, mixed, V6_SECOND)", "0"),
    TextFault("takes-second-lines-for-first-ones", "lists_v6.h", "V6_SHIFT_BITS) | second", "V6_SHIFT_BITS)"),
    TextFault("looks-at-no-level", "lists_v6.h", "found |= net_in_v6_line(line, mixed, 0);", ""),
    TextFault(
        "forgets-whole-addresses",
        "lists_v6.h",
        "if (has_bits(last",
        "if (0 && has_bits(last",
    ),
    TextFault("takes-part-of-a-line", "lists_v6.h", "slot < V6_LINE_NETS; slot++", "slot < V6_LINE_NETS - 1; slot++"),
)
"""Mistakes in how long lists are looked up, which lists show that crowd in few places."""


class ForgetsIpv6(XdpAccelerator):
    """Takes up IPv4 alone, and says nothing of it."""

    name: ClassVar[str] = "forgets-ipv6"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        plans = super()._plans(snapshot)
        return {
            name: replace(plan, plain=tuple(replace(source, version=4) for source in plan.plain))
            for name, plan in plans.items()
        }


class SourcePortFailsafesClosed(XdpAccelerator):
    """Drops answers of failsafe ports, as Calico's own program does."""

    name: ClassVar[str] = "source-port"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        plans = super()._plans(snapshot)
        inbound = LAYOUT["FAILSAFE_INBOUND"]
        return {
            name: replace(plan, failsafes=frozenset(each for each in plan.failsafes if each[1] == inbound))
            for name, plan in plans.items()
        }


class LimitedFailsafesClosed(XdpAccelerator):
    """Drops what is for a failsafe port, as if no source had a right to it."""

    name: ClassVar[str] = "no-failsafes"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        return {name: replace(plan, failsafes=frozenset()) for name, plan in super()._plans(snapshot).items()}


class WrongInterface(XdpAccelerator):
    """Attaches its programs to the loopback."""

    name: ClassVar[str] = "wrong-interface"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        return {"lo": plan for name, plan in super()._plans(snapshot).items() if name == "eth0"}  # noqa: B035 - that is wrong


class BeforeItsTurn(XdpAccelerator):
    """Drops whatever any denial names, also behind a rule that lets it pass."""

    name: ClassVar[str] = "before-its-turn"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        policies = {
            key: replace(policy, ingress=tuple(rule for rule in policy.ingress if rule.action.value == "Deny"))
            for key, policy in snapshot.policies.items()
        }
        return super()._plans(replace(snapshot, policies=policies))


class _KeepsEntries(InterfaceFilter):
    def narrow(self, plan: InterfacePlan, changes: Mapping[str, MembersChange]) -> None:
        pass


class KeepsRemovedEntries(XdpAccelerator):
    """Never takes a source out of its list."""

    name: ClassVar[str] = "keeps-entries"
    _filter = _KeepsEntries


class HalfOpen(InterfaceFilter):
    """Empties its list to fill it anew."""

    def widen(self, plan: InterfacePlan, changes: Mapping[str, MembersChange]) -> None:  # noqa: ARG002 - it does all anew
        super().narrow(InterfacePlan(failsafes=plan.failsafes), {})
        time.sleep(0.02)  # as long as a list takes that is worth the trouble
        super().widen(plan, {})


class FakedEvidence(XdpAccelerator):
    """Attaches nothing, and counts packets that it never saw."""

    name: ClassVar[str] = "faked"
    _invented = count(1)

    def prepare(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        pass

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:
        pass

    def evidence(self) -> Evidence:
        number = next(self._invented)
        names = ("dropped", "dropped-ipv4", "dropped-ipv6", "passed-unlisted")
        return Evidence({f"eth0.xdp.{name}": number for name in names}, facts={"eth0.xdp": "native"})


class StaysWhenSuspended(XdpAccelerator):
    """Goes on dropping when it is told to let the dataplane decide."""

    name: ClassVar[str] = "stays"

    def suspend(self) -> None:
        pass


class GivesEmptySetsUp(XdpAccelerator):
    """Attaches nothing where there is nobody to drop."""

    name: ClassVar[str] = "gives-up"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        plans = super()._plans(snapshot)
        return {name: plan for name, plan in plans.items() if any(source.nets for source in plan.plain)}


class StaysWithoutPolicy(XdpAccelerator):
    """Leaves an empty program attached when no rule calls for one."""

    name: ClassVar[str] = "lingers"

    def _plans(self, snapshot: Snapshot) -> Mapping[str, InterfacePlan]:
        return {name: InterfacePlan() for name in self._filters} | dict(super()._plans(snapshot))


class _Blind(InterfaceFilter):
    def repair(self) -> int:
        return 0

    def facts(self) -> dict[str, str]:
        return super().facts() | {"xdp": "native", "lost": "0"}


class BlindForDrift(XdpAccelerator):
    """Neither sees nor mends what somebody has detached or taken out."""

    name: ClassVar[str] = "blind"
    _filter = _Blind


class _Node:
    """A node on which every program ends up in generic mode, and the link says otherwise."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def attach_xdp(self, program: Any, interface: str) -> Any:
        link = self._node.attach_xdp(program, interface, XdpMode.GENERIC)
        link.mode = XdpMode.NATIVE
        return link


class GenericForNative(XdpAccelerator):
    """Says native and is generic."""

    name: ClassVar[str] = "generic"

    def __init__(self, node: Any) -> None:
        super().__init__(_Node(node))


ACCELERATOR_FAULTS = {
    ForgetsIpv6: BLOCKLIST,
    SourcePortFailsafesClosed: BLOCKLIST,
    LimitedFailsafesClosed: "host.do-not-track.failsafe-limited-to-a-net",
    WrongInterface: BLOCKLIST,
    BeforeItsTurn: "host.do-not-track.denials-add-up",
    KeepsRemovedEntries: "host.do-not-track.sets-that-share-a-net",
    FakedEvidence: BLOCKLIST,
}
"""Each broken accelerator, and the expectation that catches it."""

PROMISE_FAULTS = {
    StaysWhenSuspended: ("plugin.acceleration.falls-back", "suspended: node-1: stays counter eth0.xdp.dropped-ipv4"),
    FakedEvidence: ("plugin.acceleration.falls-back", "suspended: node-1: faked counter eth0.xdp.dropped-ipv4"),
    GivesEmptySetsUp: (
        "plugin.acceleration.follows-policy",
        "with a denial whose set is empty eth0 of node-1 is to have an XDP program",
    ),
    StaysWithoutPolicy: (
        "plugin.acceleration.follows-policy",
        "with no policy eth0 of node-1 is to have no XDP program",
    ),
    BlindForDrift: (
        "plugin.acceleration.survives-tampering",
        "applied again after its program was detached: node-1: blind counter eth0.xdp.dropped-ipv4 must have grown",
    ),
}
"""Each accelerator that breaks a promise, the promise, and what is said of it."""
