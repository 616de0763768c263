# SPDX-License-Identifier: Apache-2.0
"""Names of everything that the plugin installs, and the packet mark bits that it uses.

Whatever carries the prefix is the plugin's own, and nothing else is ever touched.
"""

from __future__ import annotations

import re
from hashlib import sha1

__all__ = [
    "ACCEPTED",
    "CHAIN_PREFIX",
    "DECIDED",
    "ICMP_HIT",
    "LEGACY_SET_PREFIX",
    "MARK_MASK",
    "NEXT",
    "PASSED",
    "PORT_HIT",
    "PRE_DNAT",
    "REROUTED",
    "SET_PREFIX",
    "UNTRACKED",
    "chain_name",
    "comment",
    "digest",
    "harmless",
    "set_name",
]

CHAIN_PREFIX = "plab-"
SET_PREFIX = "plab"
LEGACY_SET_PREFIX = "plabl"
"""Sets are the same for both backends; one that took the other's for its own could not be run after it."""

# The kernel's limits, less the terminating zero: XT_EXTENSION_MAXNAMELEN, IPSET_MAXNAMELEN, XT_MAX_COMMENT_LEN.
_CHAIN_LENGTH = 28
_SET_LENGTH = 31
_COMMENT_LENGTH = 255
_HASH_DIGITS = 6
_SET_HASH_DIGITS = 8

# Bits of the upper half of the mark, the half that Calico takes too; no rule reads or writes another bit.
ACCEPTED = 0x010000
"""The direction that is being judged accepts the packet."""
PASSED = 0x020000
"""The tier that is being walked hands the packet on to the next one."""
DECIDED = ACCEPTED | PASSED
PORT_HIT = {"source": 0x040000, "destination": 0x080000}
"""One of several alternatives for the ports of a side holds, within one rule."""
ICMP_HIT = 0x100000
"""The packet is the ICMP message that a rule without protocol excludes."""
UNTRACKED = 0x200000
"""A doNotTrack policy accepted the packet: set in table raw, read later on its way, first cleared for every packet."""
PRE_DNAT = 0x400000
"""A preDNAT policy accepted the packet: set in table mangle, read in filter, first cleared for every packet."""
REROUTED = 0x800000
"""The node sent the packet and DNAT sent it elsewhere: which way it leaves is known in mangle POSTROUTING only."""
MARK_MASK = 0xFF0000
"""All of the above: what is cleared before a packet is judged, and when it is accepted."""
NEXT = 0x1000000
"""While several tables change: the packet has begun its way under the new rules, and no table judges it by the old."""

_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")
# All but printable ASCII, and of that the double quote and the backslash.
_UNSAFE_IN_COMMENTS = re.compile(r"[^ !#-\[\]-~]")


def digest(text: str, digits: int = _HASH_DIGITS) -> str:
    """A short hash of a text, to tell names apart that had to be cut."""
    return sha1(text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()[:digits]


def _fitted(text: str, length: int) -> str:
    """The text itself when a kernel name can hold it, otherwise what fits of it and a hash of the whole."""
    safe = _UNSAFE_IN_NAMES.sub("_", text)
    if safe == text and len(text) <= length:
        return text
    return f"{safe[: length - _HASH_DIGITS - 1]}-{digest(text)}"


def chain_name(kind: str, text: str) -> str:
    """A chain's name, ``plab-KIND-TEXT``, cut to what the kernel allows."""
    head = f"{CHAIN_PREFIX}{kind}-"
    return head + _fitted(text, _CHAIN_LENGTH - len(head))


def set_name(set_id: str, family: int, content: str, prefix: str = SET_PREFIX) -> str:
    """A kernel set's name: another content is another name, so that no rule ever sees a set change."""
    head = f"{prefix}{family}-"
    tail = f"-{digest(content, _SET_HASH_DIGITS)}"
    return head + _UNSAFE_IN_NAMES.sub("_", set_id)[: _SET_LENGTH - len(head) - len(tail)] + tail


def harmless(text: str) -> str:
    """A text that fits a comment: single quotes for double ones, ``_`` for all else that could end it or its line."""
    return _UNSAFE_IN_COMMENTS.sub("_", text.replace('"', "'"))[:_COMMENT_LENGTH]


def comment(text: str) -> str:
    """The comment match of a rule."""
    return f'-m comment --comment "{harmless(text)}"'
