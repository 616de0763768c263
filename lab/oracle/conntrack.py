# SPDX-License-Identifier: Apache-2.0
"""Which first packets Linux's connection tracking calls INVALID: those that cannot begin anything.

Source: the kernel's net/netfilter/nf_conntrack_proto_{icmp,icmpv6,udp}.c; held against kernel 6.18 with one packet
of each protocol and each type of ICMP.
"""

from __future__ import annotations

from lab.oracle.packet import Packet
from lab.protocols import ICMP, ICMPV6, UDPLITE
from lab.topology import Flow

__all__ = ["UNTRACKED_6", "is_invalid"]

# Echo, timestamp, information and address mask requests; whatever else comes unasked is a reply or an error.
_REQUESTS = frozenset({8, 13, 15, 17})
# Echo and node information requests.
_REQUESTS_6 = frozenset({128, 139})
# Multicast listeners, neighbours, multicast routers (those only on recent kernels): not tracked, so not invalid.
UNTRACKED_6 = frozenset({*range(130, 137), 143, 151, 152})
_NO_NEXT_HEADER = 59


def is_invalid(packet: Packet | Flow, *, sent_here: bool = False) -> bool:
    """Whether a packet that belongs to no connection is INVALID rather than NEW or untracked.

    ``sent_here`` tells that the node which tracks it sends it itself: then no checksum is looked at. One that
    comes in by UDP-Lite is always wrong, as the kernel reckons it as if the protocol were UDP.
    """
    if packet.protocol == ICMP:
        return packet.family != 4 or packet.icmp is None or packet.icmp.type not in _REQUESTS
    if packet.protocol == ICMPV6:
        return packet.family != 6 or packet.icmp is None or packet.icmp.type not in _REQUESTS_6 | UNTRACKED_6
    if packet.protocol == UDPLITE:
        return not sent_here
    return packet.family == 6 and packet.protocol == _NO_NEXT_HEADER
