# SPDX-License-Identifier: Apache-2.0
"""Cut a failing scenario down to what still fails: whole resources first, then whatever stands inside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from lab.conformance.scenario import Entry, Scenario
from lab.conformance.states import CHANGEABLE

__all__ = ["shrink"]

Path = tuple[str | int, ...]

SINGLE_FLOWS = 4
"""How many flows are tried alone; when they do not fail alone, the others rarely do."""


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], seconds: float) -> Scenario:
    """The smallest scenario found in ``seconds`` of which ``fails`` still holds.

    ``fails`` is asked about scenarios that may not load; it must answer False then.
    """
    deadline = time.monotonic() + seconds
    changed = True
    while changed and time.monotonic() < deadline:
        changed = False
        for candidate in _smaller(scenario):
            if time.monotonic() >= deadline:
                break
            if fails(candidate):
                scenario, changed = candidate, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Every scenario that is one cut smaller, the boldest cuts first."""
    if len(scenario.flows) > 1:
        yield from (replace(scenario, flows=(flow,)) for flow in scenario.flows[:SINGLE_FLOWS])
        yield from (replace(scenario, flows=kept) for kept in _halves(scenario.flows))
    if scenario.conversations:
        yield from (replace(scenario, conversations=kept) for kept in _fewer_words(scenario.conversations))
        return  # under less policy ends would say what no stack says, of which the model knows nothing
    for number in range(len(scenario.before)):
        yield replace(scenario, before=_without(scenario.before, number))
    yield from (replace(scenario, resources=kept) for kept in _halves(scenario.resources))
    for number, document in enumerate(scenario.resources):
        for smaller in _documents(document):
            yield replace(scenario, resources=_swap(scenario.resources, number, smaller))
    for step, documents in enumerate(scenario.before):
        for kept in _halves(documents):
            yield replace(scenario, before=_swap(scenario.before, step, kept))


def _fewer_words(conversations: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    """One conversation alone, or half of them; or one of them without its last packets."""
    if len(conversations) > 1:
        yield from ((each,) for each in conversations)
        yield from _halves(conversations)
    for number, entry in enumerate(conversations):
        packets = list(cast("Sequence[Entry]", entry["packets"]))
        for size in (len(packets) // 2, len(packets) - 1):
            if size:
                yield _swap(conversations, number, {**entry, "packets": packets[:size]})


def _halves(items: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    """``items`` less a half, a quarter, an eighth, ... and at last less a single one."""
    size = max(len(items) // 2, 1)
    while items:
        for start in range(0, len(items), size):
            yield items[:start] + items[start + size :]
        if size == 1:
            return
        size //= 2


def _documents(document: Entry) -> Iterator[Entry]:
    """A document less one list item or one mapping key of its ``spec``; the biggest parts go first.

    Of what the cluster knows, less something of one of its sections.
    """
    for key in ("spec", *CHANGEABLE):
        for path in _paths(document.get(key), (key,)):
            cut = _cut(document, path)
            assert isinstance(cut, Mapping)  # noqa: S101  (a mapping less something deep inside it)
            yield cut


def _paths(value: object, path: Path) -> Iterator[Path]:
    """Where something can be cut out below ``path``, shallow places first."""
    parts: list[tuple[str | int, object]] = []
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    yield from ((*path, key) for key, _ in parts)
    for key, part in parts:
        yield from _paths(part, (*path, key))


def _cut(value: object, path: Path) -> object:
    """A copy of ``value`` without what stands at ``path``."""
    head, *rest = path
    if isinstance(value, Mapping):
        kept = {key: part for key, part in value.items() if rest or key != head}
        return {key: _cut(part, tuple(rest)) if rest and key == head else part for key, part in kept.items()}
    assert isinstance(value, list)  # noqa: S101  (paths lead through mappings and lists only)
    kept_items = [part for number, part in enumerate(value) if rest or number != head]
    return [_cut(part, tuple(rest)) if rest and number == head else part for number, part in enumerate(kept_items)]


def _without(items: tuple[tuple[Entry, ...], ...], number: int) -> tuple[tuple[Entry, ...], ...]:
    return items[:number] + items[number + 1 :]


def _swap(items: tuple, number: int, item: object) -> tuple:  # type: ignore[type-arg]  # a tuple of anything
    return (*items[:number], item, *items[number + 1 :])
