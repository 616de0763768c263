# SPDX-License-Identifier: Apache-2.0
"""Ways to drop a flood, each set up once on a node of its own, so that they can be measured in turns."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from dataplanes.xdp.conditions import Failsafes
from dataplanes.xdp.layout import CAUSES, LAYOUT, SOURCE, VALUES, program_name
from dataplanes.xdp.lists import Kind, SourceList
from dataplanes.xdp.nets import Prefix
from lab.bench.dos_lists import NetList
from lab.errors import HostError
from lab.fabric.bpf import BpfObject, BpfSource, ProgramKind, XdpMode, attach_tc, load, shipped_bpf
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.node import Completed
from lab.topology import Address

__all__ = [
    "FAILSAFES",
    "Way",
    "blocklist",
    "ipset",
    "linear",
    "nft_set",
    "nothing",
    "own",
    "tc",
    "tc_blocklist",
    "unconditional",
]

FAILSAFES: Final = frozenset(
    {
        (LAYOUT["CLASS_TCP"], LAYOUT["FAILSAFE_INBOUND"], 22),
        (LAYOUT["CLASS_UDP"], LAYOUT["FAILSAFE_INBOUND"], 68),
        (LAYOUT["CLASS_UDP"], LAYOUT["FAILSAFE_ANSWER"], 53),
        (LAYOUT["CLASS_UDP"], LAYOUT["FAILSAFE_ANSWER"], 67),
    }
)
"""Those of Calico's default that a flood of UDP or SYNs has to be compared with."""

_INTERFACE: Final = "eth0"
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_SGRO: Final = 0x2C


@dataclass(frozen=True, slots=True)
class Way:
    """A node that drops in one way. ``dropped`` counts what it has dropped so far, where it can tell."""

    node: NamespaceNode
    dropped: Callable[[], int] | None = None

    def received(self) -> int:
        """Packets that have come to the node so far, whatever became of them."""
        links = {link.get("ifname"): link.get("stats64") or {} for link in self.node.interfaces()}
        return int(links[_INTERFACE]["rx_packets"])


def own(node: NamespaceNode, addresses: Iterable[Address]) -> None:
    """Let these be the node's addresses as well: what is for them and is not dropped goes all the way there."""
    for address in addresses:
        _run(node, "ip", "address", "add", f"{address}/{address.max_prefixlen}", "dev", "lo")


def nothing(node: NamespaceNode) -> Way:
    """Nothing is attached: packets go all the way."""
    _poll(node)
    return Way(node)


def unconditional(stack: ExitStack, node: NamespaceNode, program: str, mode: XdpMode | None = None) -> Way:
    """An XDP program without a list: the limit, in generic mode too; after one far read; one that passes all."""
    loaded = stack.enter_context(load(shipped_bpf("flood.c"), {program: ProgramKind.XDP}, sizes=_SMALL))
    if mode is XdpMode.GENERIC:
        _poll(node)
    stack.enter_context(node.attach_xdp(loaded.programs[program], _INTERFACE, mode))
    return Way(node)


def tc(stack: ExitStack, node: NamespaceNode) -> Way:
    """A classifier that drops everything, as soon as there is a socket buffer."""
    loaded = stack.enter_context(load(shipped_bpf("flood.c"), {"shot_all": ProgramKind.SCHED_CLS}, sizes=_SMALL))
    _poll(node)
    stack.enter_context(node.inside(partial(attach_tc, loaded.programs["shot_all"], _INTERFACE)))
    return Way(node)


def blocklist(
    stack: ExitStack, node: NamespaceNode, listed: NetList, kind: Kind | None = None, mode: XdpMode | None = None
) -> Way:
    """The filter of the accelerator xdp with a list; ``Kind.TRIE`` looks sources up as Calico does."""
    lists = _source_lists(listed, kind)
    name = program_name(lists[0].kind, lists[1].kind, conditions=False)
    loaded = stack.enter_context(_loaded(node, SOURCE, {name: ProgramKind.XDP}, lists))
    if mode is XdpMode.GENERIC:
        _poll(node)
    stack.enter_context(node.attach_xdp(loaded.programs[name], _INTERFACE, mode))
    return Way(node, partial(_dropped, loaded))


def tc_blocklist(stack: ExitStack, node: NamespaceNode, listed: NetList) -> Way:
    """The same look-up in a classifier, for lists of IPv4."""
    name = "tc_flat_v4"
    lists = _source_lists(listed, Kind.FLAT)
    loaded = stack.enter_context(_loaded(node, shipped_bpf("tc_filter.c"), {name: ProgramKind.SCHED_CLS}, lists))
    _poll(node)
    stack.enter_context(node.inside(partial(attach_tc, loaded.programs[name], _INTERFACE)))
    return Way(node, partial(_dropped, loaded))


def ipset(node: NamespaceNode, listed: NetList) -> Way:
    """One rule ahead of conntrack and a set of networks."""
    _poll(node)
    _feed(node, ("ipset", "restore"), (
        f"create flood hash:net family inet hashsize {1 << 19} maxelem {1 << 21}",
        *(f"add flood {net}" for net in listed.text()),
    ))  # fmt: skip
    _run(
        node, "iptables-nft", "-t", "raw", "-A", "PREROUTING", "-m", "set", "--match-set", "flood", "src", "-j", "DROP"
    )
    return Way(node)


def linear(node: NamespaceNode, listed: NetList, command: str) -> Way:
    """A rule for each network, ahead of conntrack."""
    _poll(node)
    rules = (f"-A PREROUTING -s {net} -j DROP" for net in listed.text())
    _feed(node, (f"{command}-restore",), ("*raw", *rules, "COMMIT"))
    return Way(node)


def nft_set(node: NamespaceNode, listed: NetList) -> Way:
    """One rule at the earliest hook and a set of networks."""
    _poll(node)
    elements = ", ".join(listed.text())
    chain = f"type filter hook ingress device {_INTERFACE} priority 0; ip saddr @flood drop"
    _feed(node, ("nft", "-f", "-"), (
        "table netdev flood {",
        f"set flood {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {elements} }} }}",
        f"chain in {{ {chain}; }}",
        "}",
    ))  # fmt: skip
    return Way(node)


def _source_lists(listed: NetList, kind: Kind | None) -> tuple[SourceList, SourceList]:
    """The list as the filter takes it, and an empty one of the other family, which its program does not use."""
    other: list[Prefix] = []
    own = listed.prefixes()
    return (
        SourceList(4, own, kind) if listed.version == 4 else SourceList(4, other),
        SourceList(6, own, kind) if listed.version == 6 else SourceList(6, other),
    )


def _loaded(
    node: NamespaceNode, source: BpfSource, kinds: Mapping[str, ProgramKind], lists: tuple[SourceList, SourceList]
) -> BpfObject:
    """Programs with the lists and the usual failsafe ports in their maps."""
    sizes = {name: size for part in lists for name, size in part.sizes().items()}
    numbers = {number: value for part in lists for number, value in part.constants(sizes).items()}
    loaded = node.load_bpf(source, kinds, sizes=sizes, constants={**VALUES, **numbers})
    for part in lists:
        part.fill(loaded.maps)
    Failsafes(loaded.maps).write(FAILSAFES)
    return loaded


_SMALL: Final = {"sources_v4": 1, "sources_v6": 1}


def _dropped(loaded: BpfObject) -> int:
    causes = loaded.maps["causes"]
    return sum(
        sum(int.from_bytes(each, "little") for each in causes.per_cpu(place.to_bytes(4, "little")))
        for place, name in CAUSES.items()
        if name.startswith("dropped")
    )


def _poll(node: NamespaceNode) -> None:
    """Let the interface take frames in bulk without an XDP program, as it does with one: by switching GRO on."""

    def switch() -> None:
        value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 1))
        request = struct.pack("16sQ8x", _INTERFACE.encode(), ctypes.addressof(value))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            fcntl.ioctl(own, _SIOCETHTOOL, request)

    node.inside(switch)


def _feed(node: NamespaceNode, command: tuple[str, ...], lines: Iterable[str]) -> None:
    _check(node.run(command, stdin="\n".join((*lines, "")), timeout=300))


def _run(node: NamespaceNode, *command: str) -> None:
    _check(node.run(command))


def _check(ended: Completed) -> None:
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        raise HostError(f"{ended.argv[0]} failed: {said[-1]}", next_step="run 'policylab doctor'")
