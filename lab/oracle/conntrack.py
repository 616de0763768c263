# SPDX-License-Identifier: Apache-2.0
"""Which first packets Linux's connection tracking calls INVALID: those that cannot begin anything.

Source: the kernel's net/netfilter/nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c.
"""

from __future__ import annotations

from lab.oracle.packet import Packet
from lab.protocols import ICMP, ICMPV6

__all__ = ["is_invalid"]

# Echo, timestamp, information and address mask requests; whatever else comes unasked is a reply or an error.
_REQUESTS = frozenset({8, 13, 15, 17})
# Echo and node information requests.
_REQUESTS_6 = frozenset({128, 139})
# Multicast listener and neighbour discovery is not tracked at all, which is not the same as invalid.
_UNTRACKED_6 = frozenset({*range(130, 137), 143})


def is_invalid(packet: Packet) -> bool:
    """Whether a packet that belongs to no connection is INVALID rather than NEW or untracked."""
    if packet.protocol == ICMP:
        return packet.family != 4 or packet.icmp is None or packet.icmp.type not in _REQUESTS
    if packet.protocol == ICMPV6:
        return packet.family != 6 or packet.icmp is None or packet.icmp.type not in _REQUESTS_6 | _UNTRACKED_6
    return False
