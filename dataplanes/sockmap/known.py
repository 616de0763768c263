# SPDX-License-Identifier: Apache-2.0
"""What no design with a sockmap can hide from a program; why acceleration has to be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["KNOWN_BROKEN"]

KNOWN_BROKEN: Final[Mapping[str, str]] = {
    "read.blocking-says-again": "a blocking recv() may fail with EAGAIN, on any socket in the map, when its own FIN is"
    " acknowledged or the connection is reset",
    "read.fionread-misses-tcp": "FIONREAD tells 0 for bytes that came by TCP, on any socket in the map",
    "read.splice-misses-redirected": "splice() from the socket does not see redirected bytes",
    "read.waitall-is-short": "recv() with MSG_WAITALL returns what there is",
    "read.low-water-mark-ignored": "SO_RCVLOWAT is ignored: one byte makes the socket readable",
    "read.truncate-fails": "recv() with MSG_TRUNC does not throw bytes away",
    "read.short-is-not-the-end": "after a short read there may be more, without a new event: an edge-triggered"
    " reader has to read until EAGAIN",
    "write.urgent-in-band": "a byte sent with MSG_OOB comes among the others",
    "write.zero-copy-never-completes": "a write with MSG_ZEROCOPY is never told to be complete",
    "close.unread-is-no-reset": "close() with unread bytes ends the connection with a FIN, not with a reset",
    "count.tcp-info-misses-redirected": "TCP_INFO and TCP_INQ do not count redirected bytes",
    "count.interfaces-miss-redirected": "captures, interface, rule and connection counters, faults of links and a"
    " policy that comes later neither see nor stop redirected bytes",
}
"""By name. The lab suspends the accelerator before a fault, a capture, or a case about cutting what is established."""
