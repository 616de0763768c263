# SPDX-License-Identifier: Apache-2.0
"""Which of many networks cover an address: one dictionary a prefix length, so that thousands of them cost little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from lab.topology import Address, Net

__all__ = ["NetIndex"]

Value = TypeVar("Value")


class NetIndex(Generic[Value]):
    """Values filed under networks of both families, found again by an address."""

    def __init__(self, entries: Iterable[tuple[Net, Value]]) -> None:
        self._by_shift: dict[int, dict[int, dict[int, list[Value]]]] = {4: {}, 6: {}}
        for net, value in entries:
            shift = net.max_prefixlen - net.prefixlen
            prefixes = self._by_shift[net.version].setdefault(shift, {})
            prefixes.setdefault(int(net.network_address) >> shift, []).append(value)

    def covering(self, address: Address) -> Iterator[Value]:
        """The values of all networks that hold the address."""
        number = int(address)
        for shift, prefixes in self._by_shift[address.version].items():
            yield from prefixes.get(number >> shift, ())

    def covers(self, address: Address) -> bool:
        """Whether any network holds the address."""
        number = int(address)
        for shift, prefixes in self._by_shift[address.version].items():  # noqa: SIM110 - quicker than any()
            if number >> shift in prefixes:
                return True
        return False

    def has_family(self, family: int) -> bool:
        """Whether there is any network of the family (4 or 6)."""
        return bool(self._by_shift[family])
