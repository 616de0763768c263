# SPDX-License-Identifier: Apache-2.0
"""Names of what the plugin installs, all of it in one table of its own, and the packet mark bits that it uses."""

from __future__ import annotations

import re
from hashlib import sha1

__all__ = [
    "ACCEPTED",
    "DECIDED",
    "EXCLUDED",
    "MARK_MASK",
    "NEXT",
    "PASSED",
    "PORT_HIT",
    "PRE_DNAT",
    "REROUTED",
    "TABLE",
    "UNTRACKED",
    "digest",
    "harmless",
    "named",
]

TABLE = "policylab"
"""The table's name, of family inet; nothing outside of it is ever touched."""

# Bits of the upper half of the mark, the half that Calico takes too; no rule reads or writes another bit.
ACCEPTED = 0x010000
"""The direction that is being judged accepts the packet."""
PASSED = 0x020000
"""The tier that is being walked hands the packet on to the next one."""
DECIDED = ACCEPTED | PASSED
PORT_HIT = {"source": 0x040000, "destination": 0x080000}
"""One of several alternatives for the ports of a side holds, within one rule."""
EXCLUDED = 0x100000
"""What a rule without protocol excludes holds for the packet."""
UNTRACKED = 0x200000
"""A doNotTrack policy accepted the packet: set ahead of conntrack, read later, first cleared for every packet."""
PRE_DNAT = 0x400000
"""A preDNAT policy accepted the packet: set ahead of DNAT, read behind it, first cleared for every packet."""
REROUTED = 0x800000
"""The node sent the packet and DNAT sent it elsewhere: which way it leaves is known behind routing only."""
MARK_MASK = 0xFF0000
"""All of the above: what is cleared before a packet is judged, and when it is accepted."""
NEXT = 0x1000000
"""While rules of several hooks change: the packet has begun its way under the new ones, and meets none of the old."""

# The kernel's limits, less the terminating zero: NFT_NAME_MAXLEN and NFTNL_UDATA_COMMENT_MAXLEN. Names leave room
# for what a change puts before or behind them for a moment.
_NAME_LENGTH = 240
_COMMENT_LENGTH = 127
_HASH_DIGITS = 8

# What nft reads as one word where it reads text, so that a listing can be typed in again.
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9_./-]")
# All but printable ASCII, and of that the double quote and the backslash.
_UNSAFE_IN_COMMENTS = re.compile(r"[^ !#-\[\]-~]")


def digest(text: str) -> str:
    """A short hash of a text, to tell names apart that do not say all."""
    return sha1(text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()[:_HASH_DIGITS]


def named(kind: str, text: str) -> str:
    """The name ``KIND/TEXT``; a text that no name can hold is cut, or has ``_`` in it, and ends with its hash."""
    safe = _UNSAFE_IN_NAMES.sub("_", text)
    room = _NAME_LENGTH - len(kind)
    if safe != text or len(text) > room:
        safe = f"{safe[: room - _HASH_DIGITS - 1]}-{digest(text)}"
    return f"{kind}/{safe}"


def harmless(text: str) -> str:
    """A text that fits a comment: single quotes for double ones, ``_`` for all else that could end it or its line."""
    return _UNSAFE_IN_COMMENTS.sub("_", text.replace('"', "'"))[:_COMMENT_LENGTH]
