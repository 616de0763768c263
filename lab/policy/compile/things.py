# SPDX-License-Identifier: Apache-2.0
"""Everything that selectors match, with the labels that profiles lend it, as it comes, changes and goes."""

from __future__ import annotations

from collections.abc import Callable

from lab.policy.compile.index import SelectorIndex
from lab.policy.compile.labels import Labelled, Source, ThingKey, inherits_from, labelled, thing_key
from lab.policy.resources import Profile

__all__ = ["Moved", "Things"]

Moved = Callable[[str, ThingKey, Labelled, bool], None]
"""Told of a selector (its canonical text) that a thing begins (True) or ceases (False) to match."""


class Things:
    """Workloads, host endpoints and network sets; ``moved`` hears of every watched selector that gains or loses one."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self.index: SelectorIndex[ThingKey] = SelectorIndex()
        self.sources: dict[ThingKey, Source] = {}
        self.labelled: dict[ThingKey, Labelled] = {}
        self._heirs: dict[str, set[ThingKey]] = {}
        self._profiles: dict[str, Profile] = {}

    def put(self, source: Source) -> None:
        """A thing comes or changes."""
        key = thing_key(source)
        self._disinherit(key)
        self.sources[key] = source
        for name in inherits_from(source):
            self._heirs.setdefault(name, set()).add(key)
        self._refresh(key)

    def remove(self, key: ThingKey) -> None:
        """A thing goes."""
        self._disinherit(key)
        self._leave(key)
        del self.sources[key]
        del self.labelled[key]

    def _disinherit(self, key: ThingKey) -> None:
        if key in self.sources:
            for name in inherits_from(self.sources[key]):
                self._heirs[name].discard(key)

    def put_profile(self, name: str, profile: Profile | None) -> None:
        """A profile comes, changes, or goes (None); its heirs take over its labels."""
        old = self._profiles.pop(name, None)
        if profile is not None:
            self._profiles[name] = profile
        if (old and old.labels_to_apply) != (profile and profile.labels_to_apply):
            for key in self._heirs.get(name, ()):
                self._refresh(key)

    def _refresh(self, key: ThingKey) -> None:
        """Look at a thing anew; one with other addresses or ports leaves all sets and enters them again."""
        old = self.labelled.get(key)
        new = labelled(self.sources[key], self._profiles)
        if old is not None and (old.nets, old.ports) != (new.nets, new.ports):
            self._leave(key)
        self.labelled[key] = new
        for canonical, entered in self.index.put(key, new.labels):
            self._moved(canonical, key, new, entered)

    def _leave(self, key: ThingKey) -> None:
        for canonical in self.index.remove(key):
            self._moved(canonical, key, self.labelled[key], False)
