# SPDX-License-Identifier: Apache-2.0
"""The parts that the table consists of at the moment, who uses whom, and what one change does to them.

A part is there as long as another one uses it; those that the kernel enters by itself are there until they are
dropped. A change touches parts one by one; it can be undone as a whole as long as it is not settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter

from dataplanes.api import DataplaneError, Snapshot
from dataplanes.nftables.hooks import Entry
from dataplanes.nftables.parts import KernelObject, Part, Set

__all__ = ["Graph", "Replaced"]

_NOBODY: frozenset[Part] = frozenset()
# Two names are enough: the old set is gone when the next change comes.
_OTHER = "/b"


@dataclass(frozen=True, slots=True)
class Replaced:
    """What stood for a part before a change and what does after it; None for nothing."""

    part: Part
    old: KernelObject | None
    new: KernelObject | None


@dataclass(slots=True)
class _Recorder:
    """The scene of one definition: it writes down what the definition uses."""

    graph: Graph
    snapshot: Snapshot
    used: dict[Part, None]

    def use(self, part: Part) -> str:
        self.used[part] = None
        return self.graph.name_of(part)


class Graph:
    """All parts, with what they hold; empty at first."""

    def __init__(self) -> None:
        self.objects: dict[Part, KernelObject] = {}
        self._uses: dict[Part, frozenset[Part]] = {}
        self._users: dict[Part, set[Part]] = {}
        self._owners: dict[str, Part] = {}
        self._renamed: set[Part] = set()
        self._before: dict[Part, tuple[KernelObject | None, frozenset[Part], bool]] = {}
        self._loose: dict[Part, None] = {}

    def name_of(self, part: Part) -> str:
        """The kernel's name of a part that is there or is to come.

        A set that goes and comes back within one change takes another name: the old one is still looked at.
        """
        if part not in self.objects and part in self._before:
            old, _, _ = self._before[part]
            if isinstance(old, Set):
                self._renamed = self._renamed | {part} if old.name == part.name else self._renamed - {part}
        return f"{part.name}{_OTHER}" if part in self._renamed else part.name

    def users(self, part: Part) -> frozenset[Part]:
        """Who uses a part."""
        return frozenset(self._users.get(part, ()))

    def touched(self, part: Part) -> bool:
        """Whether a part was defined anew since the last change was settled."""
        return part in self._before

    def put(self, part: Part, snapshot: Snapshot) -> None:
        """Define a part anew, and those that it uses and that are not there yet."""
        waiting = [part]
        while waiting:
            current = waiting.pop()
            scene = _Recorder(self, snapshot, {})
            defined = current.define(scene)
            self._set(current, replace(defined, name=self.name_of(current)), frozenset(scene.used))
            # In the order in which they are named, so that the table reads from its entries on.
            waiting += [used for used in reversed(scene.used) if used not in self.objects]

    def rename(self, part: Part, snapshot: Snapshot) -> None:
        """Define a part anew under another name, and all that use it: no rule sees the part itself change."""
        self._remember(part)
        self._renamed ^= {part}
        self.put(part, snapshot)
        for user in sorted(self.users(part), key=attrgetter("name")):
            self.put(user, snapshot)

    def drop(self, part: Part) -> None:
        """Take a part away that the kernel enters by itself."""
        self._set(part, None, _NOBODY)

    def sweep(self) -> None:
        """Take away what nobody uses any more."""
        while self._loose:
            part, _ = self._loose.popitem()
            if part in self.objects and not self._users.get(part) and not isinstance(part, Entry):
                self._set(part, None, _NOBODY)

    def above(self, part: Part, stop: type[Part]) -> Iterator[Part]:
        """A part, all that use it, and so on; of parts of the kind ``stop`` not what uses them."""
        seen, waiting = {part}, [part]
        while waiting:
            current = waiting.pop()
            yield current
            new = set() if isinstance(current, stop) else self._users.get(current, set()) - seen
            seen |= new
            waiting += new

    def change(self) -> tuple[Replaced, ...]:
        """What is not as it was when the last change was settled."""
        return tuple(self._replaced())

    def _replaced(self) -> Iterator[Replaced]:
        for part, (old, _, _) in self._before.items():
            new = self.objects.get(part)
            if old is not None and new is not None and old.name != new.name:
                yield Replaced(part, old, None)
                yield Replaced(part, None, new)
            elif old != new:
                yield Replaced(part, old, new)

    def settle(self) -> None:
        """Take the change for done."""
        self._before = {}

    def undo(self) -> None:
        """Have everything as it was when the last change was settled."""
        before, self._before, self._loose = self._before, {}, {}
        for part, (old, uses, renamed) in before.items():
            self._set(part, old, uses)
            self._renamed = self._renamed | {part} if renamed else self._renamed - {part}
        self._before, self._loose = {}, {}

    def _remember(self, part: Part) -> None:
        if part not in self._before:
            self._before[part] = (self.objects.get(part), self._uses.get(part, _NOBODY), part in self._renamed)

    def _set(self, part: Part, found: KernelObject | None, uses: frozenset[Part]) -> None:
        self._remember(part)
        old = self._uses.get(part, _NOBODY)
        for used in sorted(old - uses, key=attrgetter("name")):
            self._users[used].discard(part)
            if not self._users[used]:
                del self._users[used]
            self._loose[used] = None
        for used in uses - old:
            self._users.setdefault(used, set()).add(part)
        if found is None:
            self._forget(part)
            return
        if self._owners.setdefault(part.name, part) != part:
            raise DataplaneError(
                f"two owners would share the name {part.name}", value=str(part), next_step="rename one"
            )
        self.objects[part], self._uses[part] = found, uses

    def _forget(self, part: Part) -> None:
        self.objects.pop(part, None)
        self._uses.pop(part, None)
        self._renamed.discard(part)
        if self._owners.get(part.name) == part:
            del self._owners[part.name]
