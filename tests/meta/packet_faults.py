# SPDX-License-Identifier: Apache-2.0
"""Faults about single packets that are out of the ordinary: addresses, fragments, headers, lengths, checksums."""

from __future__ import annotations

from collections.abc import Iterator

from faults import Detour, Door, Fault, both_families
from obstacles import EITHER, Sluice, Wall, lost, past

__all__ = ["PACKET_FAULTS"]

_SERVERS = ("198.18.1.10", "198.18.1.11")
"""Addresses of x/server in the suite's topology, and of the first workload in drawn ones."""
_UNCHECKED = Door("prerouting", "iifname cali* accept")


def _from_workloads(family: str, net: str) -> Iterator[Detour]:
    yield from (Detour(f"{family}-{each}", "raw", "PREROUTING", f"-i cali+ -s {net} -j ACCEPT") for each in EITHER)


PACKET_FAULTS = (
    Fault(
        "believes-sources",
        "Does not look whether a workload speaks with its own address.",
        "packet.source.spoofed",
        path=(*both_families(EITHER, "raw", "PREROUTING", "-i cali+ -j ACCEPT"), _UNCHECKED),
    ),
    Fault(
        "believes-sources-within-the-node",
        "Takes the address of any workload of the node for that of whoever speaks.",
        "packet.source.spoofed",
        path=(
            *(
                part
                for family, net in (("iptables", "198.18.1.8/29"), ("ip6tables", "fd00:18:1::8/125"))
                for part in _from_workloads(family, net)
            ),
            *(
                Door("prerouting", f"iifname cali* {family} saddr {net} accept")
                for family, net in (("ip", "198.18.1.8/29"), ("ip6", "fd00:18:1::8/125"))
            ),
        ),
    ),
    Fault(
        "martians-pass",
        "Hands on what bears a loopback address as its source.",
        "packet.source.martian",
        path=(Sluice("ip saddr 127.0.0.0/8", _SERVERS),),
    ),
    Fault(
        "everybody-reaches-himself",
        "Lets a packet through without asking whose source and destination are the same.",
        "packet.source.own-destination",
        path=(
            *past("-s 198.18.1.10 -d 198.18.1.10", families=("iptables",)),
            *past("-s fd00:18:1::a -d fd00:18:1::a", families=("ip6tables",)),
        ),
    ),
    Fault(
        "repeats-groups",
        "Hands what is addressed to a group to its workloads.",
        "packet.destination.group",
        path=(Sluice("ip daddr 224.0.0.0/4", _SERVERS),),
    ),
    Fault(
        "repeats-broadcasts",
        "Hands what is addressed to everybody to its workloads.",
        "packet.destination.broadcast",
        path=(Sluice("ip daddr 255.255.255.255", _SERVERS),),
    ),
    Fault(
        "headers-unread",
        "Hands on what is meant for one workload without looking whether its header is sound.",
        "packet.checksum.wrong-header",
        path=(Sluice(f"ip daddr {{ {', '.join(_SERVERS)} }}", _SERVERS),),
    ),
    Fault(
        "longest-packets-lost",
        "Has no room for the longest packets that there are.",
        "packet.payload.largest",
        path=lost("-m length --length 65500:65535"),
    ),
    Fault(
        "no-room-for-fragments",
        "Puts no fragments together.",
        "packet.fragments.ports-enforced",
        path=(Wall(("ip frag-off & 0x3fff != 0", "exthdr frag exists")),),
    ),
    Fault(
        "later-fragments-pass",
        "Asks about first fragments: nobody can use the others without.",
        "packet.fragments.parts-get-nowhere",
        path=(Sluice("ip frag-off & 0x1fff != 0", _SERVERS),),
    ),
    Fault(
        "extension-headers-pass",
        "Does not look behind destination options.",
        "packet.extensions.ports-enforced",
        path=past("-m ipv6header --header dst --soft", families=("ip6tables",)),
    ),
    Fault(
        "routing-headers-lost",
        "Drops whatever has a routing header, though it has no segments left.",
        "packet.extensions.ports-enforced",
        path=lost("-m ipv6header --header route --soft", families=("ip6tables",)),
    ),
    Fault(
        "options-pass",
        "Looks for ports where they would stand without options.",
        "packet.options.ports-enforced",
        path=past("-m u32 --u32 0>>24&0xf=6:15", families=("iptables",)),
    ),
    Fault(
        "long-packets-lost",
        "Has no room for packets as long as the link takes them.",
        "packet.payload.any-length",
        path=lost("-m length --length 1400:65535"),
    ),
    Fault(
        "invalid-passes",
        "Lets through what connection tracking calls invalid.",
        "packet.checksum.wrong",
        path=past("-m conntrack --ctstate INVALID"),
    ),
)
