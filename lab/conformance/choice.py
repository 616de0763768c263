# SPDX-License-Identifier: Apache-2.0
"""Which expectations are chosen: words that ids hold, with ``and``, ``or``, ``not`` and parentheses between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from lab.conformance.case import load_cases
from lab.conformance.changing import CHANGES
from lab.conformance.generated import DRAWS, SHIPPED
from lab.conformance.promises import PROMISES
from lab.conformance.talking import TALKS
from lab.errors import LabError
from lab.schema import suggestion

__all__ = ["OF_KNOWN_BROKEN", "Choice", "expectation_ids"]

OF_KNOWN_BROKEN: Final = "plugin.known-broken.exists"
"""What is asked of the list of exceptions itself; nothing excuses it."""

_TOKENS: Final = re.compile(r"[()]|[^\s()]+")
_OPERATORS: Final = frozenset({"and", "or", "not", "(", ")"})

Holds = Callable[[str, str], bool]
"""Whether an expectation, by its id, is chosen with something that is judged, by its name."""


def expectation_ids() -> list[str]:
    """The ids of all expectations that a plugin is held to."""
    return [
        CHANGES,
        TALKS,
        *(each.id for each in (*DRAWS, SHIPPED, *PROMISES)),
        *(case.id for case in load_cases()),
    ]


@dataclass(slots=True)
class Choice:
    """A choice as a user writes it: ``update and not (update.window or nftables)``.

    A word stands for the ids that it is a part of, or, where it is the whole name of something that is judged
    (``iptables+xdp``), for that. Raises LabError for what cannot be read.
    """

    text: str
    words: list[str] = field(init=False, default_factory=list)
    _left: list[str] = field(init=False)
    _holds: Holds = field(init=False)

    def __post_init__(self) -> None:
        self._left = _TOKENS.findall(self.text)
        self._holds = self._either()
        if self._left:
            raise self._unreadable("'and' or 'or' between two words")

    def holds(self, expectation: str, judged: str) -> bool:
        """Whether an expectation is chosen with something that is judged."""
        return self._holds(expectation, judged)

    def check(self, judged: Collection[str]) -> None:
        """Raise LabError where a word stands for nothing, or nothing at all is chosen with what is judged."""
        ids = [*expectation_ids(), OF_KNOWN_BROKEN]
        for word in self.words:
            if not any(_stands(word, each, name) for each in ids for name in judged):
                raise LabError(
                    "no expectation has such an id",
                    place="--only",
                    value=word,
                    allowed="ids, or parts of them, as docs/reference/expectations.md lists them",
                    next_step=suggestion(word, ids),
                )
        if not any(self._holds(each, name) for each in ids for name in judged):
            raise LabError("nothing is chosen", place="--only", value=self.text)

    def _either(self) -> Holds:
        found = [self._both()]
        while self._take("or"):
            found.append(self._both())
        return partial(_any, found)

    def _both(self) -> Holds:
        found = [self._one()]
        while self._take("and"):
            found.append(self._one())
        return partial(_all, found)

    def _one(self) -> Holds:
        if self._take("not"):
            return partial(_not, self._one())
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise self._unreadable("')' for each '('")
            return inner
        if not self._left or self._left[0] in _OPERATORS:
            raise self._unreadable("a word behind each 'and', 'or', 'not', '('")
        self.words.append(self._left.pop(0).lower())
        return partial(_stands, self.words[-1])

    def _take(self, token: str) -> bool:
        if self._left[:1] != [token]:
            return False
        del self._left[0]
        return True

    def _unreadable(self, allowed: str) -> LabError:
        where = f"at {self._left[0]!r}" if self._left else "at its end"
        return LabError(f"cannot be read, {where}", place="--only", value=self.text, allowed=allowed)


def _stands(word: str, expectation: str, judged: str) -> bool:
    return word in expectation or word == judged.lower()


def _any(several: Collection[Holds], expectation: str, judged: str) -> bool:
    return any(each(expectation, judged) for each in several)


def _all(several: Collection[Holds], expectation: str, judged: str) -> bool:
    return all(each(expectation, judged) for each in several)


def _not(one: Holds, expectation: str, judged: str) -> bool:
    return not one(expectation, judged)
