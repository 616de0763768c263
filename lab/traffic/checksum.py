# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum (RFC 1071) and CRC32c (RFC 9260, appendix A), in forms that can be patched.

Both are linear: what an id adds to them does not depend on the rest of the packet. A template keeps the
value without the id, and stamping an id costs a few additions or look-ups instead of a walk over the packet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

__all__ = ["crc32c", "crc32c_of_word", "fold", "words"]

_CASTAGNOLI: Final = 0x82F63B78
"""The polynomial 0x1EDC6F41, bits reversed."""
_ALL_ONES: Final = 0xFFFFFFFF


def words(data: bytes) -> int:
    """The sum of the 16-bit words of ``data`` in network order, an odd last byte padded with zero."""
    padded = data + b"\0" if len(data) & 1 else data
    number = int.from_bytes(padded, "big")
    # 2**16 is 1 modulo 0xFFFF, so the whole number has the same remainder as the sum of its digits.
    return number % 0xFFFF or (0xFFFF if number else 0)


def fold(total: int) -> int:
    """The checksum that belongs to a sum of words."""
    return (0xFFFF - total % 0xFFFF) % 0xFFFF if total else 0xFFFF


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        register = value
        for _ in range(8):
            register = register >> 1 ^ (_CASTAGNOLI if register & 1 else 0)
        table.append(register)
    return tuple(table)


def _run(register: int, data: bytes) -> int:
    table = _table()
    for byte in data:
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register


def crc32c(data: bytes) -> int:
    """CRC32c of ``data``; SCTP writes it into the packet with the least significant byte first."""
    return _run(_ALL_ONES, data) ^ _ALL_ONES


@lru_cache(maxsize=16)
def crc32c_of_word(behind: int) -> Callable[[int], int]:
    """What a 32-bit word in network order, followed by ``behind`` bytes, adds (by xor) to the CRC32c of zeros there."""
    rests = (bytes(behind + 3 - place) for place in range(4))
    first, second, third, fourth = (tuple(_run(0, bytes((value,)) + rest) for value in range(256)) for rest in rests)

    def added(word: int) -> int:
        return first[word >> 24] ^ second[word >> 16 & 0xFF] ^ third[word >> 8 & 0xFF] ^ fourth[word & 0xFF]

    return added
