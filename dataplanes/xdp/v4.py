# SPDX-License-Identifier: Apache-2.0
"""IPv4 sources in flat tables: a bit for each /24 that is listed as a whole, and a slot for each /28 that has others.

Both are read side by side. A slot is a tag and a bit for each of sixteen addresses; four of them share sixteen bytes,
and what finds no room there is in a second, small table, or in the trie. A slot stays its key's until all is built
anew, even when it has no bits left: a reader may have seen its tag before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplanes.xdp.layout import LAYOUT
from dataplanes.xdp.nets import Listed, Prefix, Words, split
from dataplanes.xdp.slots import Factors, Number, merged, place_of, ranks
from dataplanes.xdp.trie import Trie

__all__ = ["V4Tables", "v4_constants", "v4_sizes"]

_EACH, _KEY_BITS = LAYOUT["V4_SLOTS_EACH"], LAYOUT["V4_KEY_BITS"]
_MORE, _TAG = LAYOUT["V4_MORE"], (1 << LAYOUT["V4_TAG_BITS"]) - 1
_BLOCKS = 1 << 24
_FULL = (1 << 16) - 1
# At this load one key in thirty has to look elsewhere; a fourth of the places more makes it one in fifty.
_LOAD = 0.5
# Of fewer places, the hashes of one have more lower bits than a tag has.
_FEWEST = 1 << (_KEY_BITS - LAYOUT["V4_TAG_BITS"])
_SECOND = 8
"""How many times smaller the second table is."""
# A shorter network than this is taken out by building anew: it covers too many blocks to look at each.
_SHORTEST_TO_REMOVE = 14


def v4_sizes(prefixes: Iterable[Prefix]) -> dict[str, int]:
    """How large the maps must be for a list, with room to grow."""
    slots = sum(1 << max(0, _KEY_BITS - length) for _, length in prefixes if length > 24)
    places = max(_FEWEST, int(slots / _EACH / _LOAD))
    return {"v4_slots": places, "v4_more": max(_FEWEST, places // _SECOND)}


def v4_constants(sizes: Mapping[str, int], factors: Factors) -> dict[int, int]:
    """What stands in the filter for such tables."""
    return {
        LAYOUT["NUMBER_V4_SLOTS"]: sizes["v4_slots"],
        LAYOUT["NUMBER_V4_MORE"]: sizes["v4_more"],
        LAYOUT["NUMBER_V4_FACTOR"]: factors.first,
        LAYOUT["NUMBER_V4_MORE_FACTOR"]: factors.second,
    }


class V4Tables:
    """The tables of one filter: ``arrays`` are its maps' words by name; ``rest`` has what found no slot."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], factors: Factors, rest: Trie) -> None:
        self._blocks: Words = arrays["v4_blocks"]
        self._slots = (
            _Slots(arrays["v4_slots"], factors.first),
            _Slots(arrays["v4_more"], factors.second),
        )
        self._rest = rest

    @property
    def load(self) -> float:
        """How full the fuller one of the two tables with slots is."""
        return max(slots.load for slots in self._slots)

    def build(self, prefixes: Iterable[Prefix]) -> None:
        """Fill empty tables."""
        upper, lower, lengths = split(prefixes, 16)
        values = upper << np.uint64(16) | lower
        long = lengths > 24
        keys, bits = _keys(values[long], lengths[long])
        for slots in self._slots:
            keys, bits = slots.fill(keys, bits)
        for key, its_bits in zip(keys.tolist(), bits.tolist(), strict=True):
            self._put_in_rest(key, its_bits)
        blocks = np.zeros(_BLOCKS, np.bool_)
        for value, length in zip(values[~long].tolist(), lengths[~long].tolist(), strict=True):
            first = value >> 8
            blocks[first : first + (1 << (24 - length))] = True
        self._blocks[:] = np.packbits(blocks, bitorder="little").view(np.uint64)

    def add(self, prefix: Prefix) -> bool:
        """List a network; its sources are found from the moment on at which this returns, others never."""
        value, length = prefix
        if length <= 24:
            self._mark(value >> 8, 1 << (24 - length))
            return True
        for key, bits in _slots(prefix):
            self._put(key, self._bits(key) | bits)
        return True

    def remove(self, prefix: Prefix, listed: Listed) -> bool:
        """Take a network out of the list, of which ``listed`` knows what remains; False: build anew instead."""
        value, length = prefix
        if length < _SHORTEST_TO_REMOVE:
            return False
        if length > 24:
            for key, _ in _slots(prefix):
                self._put(key, _covered(key, listed))
            return True
        for block in range(value >> 8, (value >> 8) + (1 << (24 - length))):
            if not any(listed(Prefix((block << 8) >> (32 - n) << (32 - n), n)) for n in range(1, 25)):
                self._blocks[block >> 6] &= ~np.uint64(1 << (block & 63))
        return True

    def contains(self, addresses: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which addresses are found, by the same steps as the filter's; of the rest table the first bit only."""
        wide = addresses.astype(np.uint64)
        blocks = wide >> 8
        found: NDArray[np.bool_] = self._blocks[blocks >> 6] >> (blocks & 63) & 1 == 1
        asked = np.flatnonzero(~found)
        for slots in self._slots:
            hit, on = slots.look(wide[asked])
            found[asked[hit]] = True
            asked = asked[on & ~hit]
        found[asked] = [self._rest.has(Prefix(int(addresses[place]), 32)) for place in asked]
        return found

    def lost(self, prefixes: Collection[Prefix]) -> list[Prefix]:
        """Which of these networks are not found, by their first and their last address."""
        first = np.fromiter((value for value, _ in prefixes), np.uint32, len(prefixes))
        last = np.fromiter((value | (1 << 32 - length) - 1 for value, length in prefixes), np.uint32, len(prefixes))
        found = self.contains(first) & self.contains(last)
        return [prefix for prefix, there in zip(prefixes, found.tolist(), strict=True) if not there]

    def _bits(self, key: int) -> int:
        """The bits of a key, wherever they are."""
        for slots in self._slots:
            if (at := slots.find(key)) is not None:
                return slots.bits(at)
        return sum(1 << bit for bit in range(16) if self._rest.has(Prefix(key << 4 | bit, 32))) if self._rest else 0

    def _put(self, key: int, bits: int) -> None:
        """Give a key these bits, wherever it is or finds a slot."""
        for slots in self._slots:
            if (at := slots.find(key)) is not None:
                slots.write(at, bits)
                return
        for slots in self._slots if bits else ():
            if slots.take(key, bits):
                self._put_in_rest(key, 0)
                return
        self._put_in_rest(key, bits)

    def _put_in_rest(self, key: int, bits: int) -> None:
        for bit in range(16) if self._rest or bits else ():
            address = Prefix(key << 4 | bit, 32)
            if bits >> bit & 1:
                self._rest.add(address)
            elif self._rest.has(address):
                self._rest.remove(address)

    def _mark(self, first: int, count: int) -> None:
        """Set the bit of so many blocks in a row, a word of 64 blocks at a time."""
        for word in range(first >> 6, (first + count - 1 >> 6) + 1):
            low, high = max(first, word << 6) & 63, min(first + count - 1, word << 6 | 63) & 63
            self._blocks[word] |= np.uint64((1 << (high + 1)) - (1 << low))


class _Slots:
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
        places = place_of(hashes, _KEY_BITS, len(self._tags))
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
        places = place_of(hashes, _KEY_BITS, len(self._tags))
        tags, bits = self._tags[places], self._bits[places]
        same = tags & _TAG == (hashes & _TAG)[:, None]
        hit = (same & (bits >> (15 - (addresses & 15))[:, None] & 1 == 1)).any(axis=1)
        return hit, tags[:, 0] & _MORE != 0

    def find(self, key: int) -> tuple[int, int] | None:
        """Where a key is."""
        known = self._hash(key)
        place = place_of(known, _KEY_BITS, len(self._tags))
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
        place = place_of(known, _KEY_BITS, len(self._tags))
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

    def _hash(self, keys: Number) -> Number:
        return keys * (self._factor & (1 << _KEY_BITS) - 1) & (1 << _KEY_BITS) - 1


def _keys(values: Words, lengths: NDArray[np.uint8]) -> tuple[Words, Words]:
    """The keys (/28) of networks longer than /24, each once, with their bits."""
    keys, bits = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for length in range(25, 33):
        of_length = values[lengths == length]
        for block in range(1 << max(0, _KEY_BITS - length)):
            keys.append((of_length >> 4) + np.uint64(block))
            whole = np.uint64((1 << min(16, 1 << (32 - length))) - 1)
            bits.append(whole << (of_length & 15) if length > _KEY_BITS else np.full_like(of_length, whole))
    return merged(np.concatenate(keys), np.concatenate(bits))


def _slots(prefix: Prefix) -> Iterator[tuple[int, int]]:
    """The keys (/28) of a network longer than /24, each with the bits that it sets there."""
    value, length = prefix
    whole = (1 << min(16, 1 << (32 - length))) - 1
    for block in range(1 << max(0, _KEY_BITS - length)):
        yield (value >> 4) + block, whole << (value & 15) if length > _KEY_BITS else whole


def _covered(key: int, listed: Listed) -> int:
    """The bits of a /28 that networks longer than /24 cover."""
    bits = 0
    for length in range(25, _KEY_BITS + 1):
        if listed(Prefix((key << 4) >> (32 - length) << (32 - length), length)):
            return _FULL
    for length in range(_KEY_BITS + 1, 33):
        size = 1 << (32 - length)
        for first in range(0, 16, size):
            if listed(Prefix(key << 4 | first, length)):
                bits |= ((1 << size) - 1) << first
    return bits


def _mirrored(bits: NDArray[Any]) -> NDArray[Any]:
    """Sixteen bits in the other direction, many times."""
    bits = (bits & 0x5555) << 1 | bits >> 1 & 0x5555
    bits = (bits & 0x3333) << 2 | bits >> 2 & 0x3333
    bits = (bits & 0x0F0F) << 4 | bits >> 4 & 0x0F0F
    return (bits & 0x00FF) << 8 | bits >> 8


def _mirrored_one(bits: int) -> int:
    return int(f"{bits:016b}"[::-1], 2)
