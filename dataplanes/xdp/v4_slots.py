# SPDX-License-Identifier: Apache-2.0
"""IPv4 networks from /28 on that found no room elsewhere: a slot for each /28, four of them in sixteen bytes.

A slot is a tag and a bit for each of sixteen addresses. It stays its key's until all is built anew, even when it has no
bits left: a reader may have seen its tag before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Words
from dataplanes.xdp.slots import Number, place_of, ranks

__all__ = ["KEY_BITS", "Slots", "slot_places_for"]

KEY_BITS = LAYOUT["V4_KEY_BITS"]
"""Length of the networks that have a slot each."""

_EACH = LAYOUT["V4_SLOTS_EACH"]
_MORE, _TAG = LAYOUT["V4_MORE"], (1 << LAYOUT["V4_TAG_BITS"]) - 1
# At this load one key in thirty finds no slot.
_LOAD = 0.5
# Of fewer places, the hashes of one have more lower bits than a tag has.
_FEWEST = 1 << (KEY_BITS - LAYOUT["V4_TAG_BITS"])


def slot_places_for(keys: int) -> int:
    """How many places so many keys need, with room to grow."""
    return max(_FEWEST, int(keys / _EACH / _LOAD))


class Slots:
    """One table of slots: places of four tags and, behind them, the bits of each, the first address's the highest."""

    def __init__(self, words: Words, factor: int) -> None:
        numbers = words.view(np.uint16).reshape(-1, 2 * _EACH)
        self._tags, self._bits = numbers[:, :_EACH], numbers[:, _EACH:]
        self._taken = np.zeros(self._tags.shape, np.bool_)
        self._factor = factor
        self._used = 0

    @property
    def load(self) -> float:
        """The share of slots that are taken."""
        return self._used / self._taken.size

    def fill(self, keys: Words, bits: Words) -> tuple[Words, Words]:
        """Put keys that are not there into an empty table; gives those that found no slot, with their bits."""
        hashes = self._hash(keys)
        places = place_of(hashes, KEY_BITS, len(self._tags))
        order, rank = ranks(places)
        fits = rank < _EACH
        chosen, left = order[fits], order[~fits]
        at = places[chosen], rank[fits]
        self._tags[at] = hashes[chosen] & _TAG
        self._bits[at] = _mirrored(bits[chosen])
        self._taken[at] = True
        self._tags[places[left], 0] |= np.uint16(_MORE)
        self._used = len(chosen)
        return keys[left], bits[left]

    def look(self, addresses: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which addresses are found, and which ones' places have more keys than slots."""
        hashes = self._hash(addresses >> 4)
        places = place_of(hashes, KEY_BITS, len(self._tags))
        tags, bits = self._tags[places], self._bits[places]
        same = tags & _TAG == (hashes & _TAG)[:, None]
        hit = (same & (bits >> (15 - (addresses & 15))[:, None] & 1 == 1)).any(axis=1)
        return hit, tags[:, 0] & _MORE != 0

    def find(self, key: int) -> tuple[int, int] | None:
        """Where a key is."""
        known = self._hash(key)
        place = place_of(known, KEY_BITS, len(self._tags))
        for slot in range(_EACH):
            if self._taken[place, slot] and int(self._tags[place, slot]) & _TAG == known & _TAG:
                return place, slot
        return None

    def bits(self, at: tuple[int, int]) -> int:
        """The bits of a slot, the first address's the lowest."""
        return _mirrored_one(int(self._bits[at]))

    def write(self, at: tuple[int, int], bits: int) -> None:
        """Give a slot other bits."""
        self._bits[at] = _mirrored_one(bits)

    def take(self, key: int, bits: int) -> bool:
        """Find a slot for a key, which it then has: the tag comes first; or mark that it is elsewhere."""
        known = self._hash(key)
        place = place_of(known, KEY_BITS, len(self._tags))
        for slot in range(_EACH):
            if not self._taken[place, slot]:
                mark = int(self._tags[place, slot]) & _MORE
                self._tags[place, slot] = known & _TAG | mark
                self._taken[place, slot] = True
                self._used += 1
                self.write((place, slot), bits)
                return True
        self._tags[place, 0] |= np.uint16(_MORE)
        return False

    def mark(self, key: int) -> None:
        """Say that something of this key is elsewhere."""
        self._tags[place_of(self._hash(key), KEY_BITS, len(self._tags)), 0] |= np.uint16(_MORE)

    def _hash(self, keys: Number) -> Number:
        return keys * (self._factor & (1 << KEY_BITS) - 1) & (1 << KEY_BITS) - 1


def _mirrored(bits: NDArray[Any]) -> NDArray[Any]:
    """Sixteen bits in the other direction, many times."""
    bits = (bits & 0x5555) << 1 | bits >> 1 & 0x5555
    bits = (bits & 0x3333) << 2 | bits >> 2 & 0x3333
    bits = (bits & 0x0F0F) << 4 | bits >> 4 & 0x0F0F
    return (bits & 0x00FF) << 8 | bits >> 8


def _mirrored_one(bits: int) -> int:
    return int(f"{bits:016b}"[::-1], 2)
