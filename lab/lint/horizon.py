# SPDX-License-Identifier: Apache-2.0
"""How far packets come among the rules that apply to an end, told by what matches everything: rules and tier ends."""

from __future__ import annotations

from collections.abc import Iterator

from lab.oracle.table import Entry, RuleTable
from lab.policy.resources import Action

__all__ = ["Horizon", "bits"]


def bits(mask: int) -> Iterator[int]:
    """The positions of a mask's bits, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


class Horizon:
    """Finds in one table what is asked at all; ``cut_by`` says for the rest what ends the walk before it."""

    def __init__(self, table: RuleTable) -> None:
        self._table = table
        self._total = self._passing = 0
        self._starts: dict[int, int] = {}
        start = 0
        for position, entry in enumerate(table.entries):
            if entry.rule is None or not entry.rule.conditions:
                self._total |= 1 << position
            if entry.rule is not None and entry.rule.action is Action.PASS:
                self._passing |= 1 << position
            if entry.rule is None:
                self._starts[position + 1] = start
                start = position + 1

    def alive(self, chain: int) -> int:
        """The bits of a chain that some packet might get to."""
        alive = 0
        for segment, _, _ in self._walk(chain):
            alive |= segment
        return alive

    def cut_by(self, chain: int, position: int) -> Entry | None:
        """What keeps all packets from a bit of a chain, None for one that is alive."""
        cut: Entry | None = None
        for segment, entry, resumes in self._walk(chain):
            if segment >> position & 1:
                return None
            cut = entry
            if resumes is None or position < resumes:
                return cut
        return cut

    def _walk(self, chain: int) -> Iterator[tuple[int, Entry | None, int | None]]:
        """Segments of a chain that are asked, each with what ends it and where it goes on, None for nowhere."""
        rest, alive = chain, 0
        while rest:
            stops = rest & self._total
            if not stops:
                yield rest, None, None
                return
            stop = (stops & -stops).bit_length() - 1
            entry = self._table.entries[stop]
            segment = rest & ((2 << stop) - 1)
            alive |= segment
            # A rule of the tier that passes some packets on lets these by, whatever stops the others.
            leaks = (alive & self._passing) >> self._starts[entry.behind]
            goes_on = entry.verdict is None or leaks != 0
            resumes = (stop + 1 if entry.rule is None else entry.behind) if goes_on else None
            yield segment, entry, resumes
            if resumes is None:
                return
            rest = rest >> resumes << resumes
