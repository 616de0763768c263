# SPDX-License-Identifier: Apache-2.0
"""How one state of the table takes another's place: lists of libnftables-json(5) commands, a transaction each.

A transaction is all or nothing, and while the kernel walks the chains of one hook it sees the rules of one moment. So
most changes are one transaction. Where rules of several hooks change that one packet may meet one after another, a
packet between two of them would be judged half by the old rules and half by the new; such a change takes three:

1. The new chains stand beside the old ones, which hand packets with the mark bit NEXT over to them. None has it.
2. Every packet that begins its way gets the bit. What comes over the loopback has begun its way before, in output.
3. The new rules take the place of the old ones, for all packets, and the bit is given no more.

``nft`` reads all sets, and for some commands their elements, before it changes anything: so elements are added by
naming the set again, and leave a small set by its being filled anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dataplanes.api import Direction
from dataplanes.nftables.graph import Graph, Replaced
from dataplanes.nftables.hooks import Entry
from dataplanes.nftables.names import NEXT, TABLE
from dataplanes.nftables.parts import Chain, Hooked, KernelObject, Part, Set, VerdictMap
from dataplanes.nftables.words import Json, Rule, goto, has_bits, match, meta, rule, set_bits
from dataplanes.nftables.workloads import WorkloadRules

__all__ = ["Transaction", "complete", "removal", "transactions"]

Transaction = Sequence[Json]

_HOME: Final = {"family": "inet", "table": TABLE}
_TABLE: Final = {"table": {"family": "inet", "name": TABLE}}
# Up to this size a set is filled anew when elements leave it.
_FILLED_ANEW: Final = 500

# No packet meets more than one of these.
_EXCLUSIVE: Final = frozenset({Entry("filter-input"), Entry("filter-forward")})
_NO_VERDICT: Final = frozenset({Entry("nat-postrouting")})
# Ahead of all else that a packet meets but the reassembly of fragments.
_FIRST: Final = -301
_STAMP: Final = "judged by the new rules"
_NOT_BEGUN_HERE: Final = match(meta("iifname"), "lo", "!=")
_STAMPS: Final = (
    Chain("next-prerouting", "", (rule(_NOT_BEGUN_HERE, set_bits(NEXT), about=_STAMP),), Hooked("prerouting", _FIRST)),
    Chain("next-output", "", (rule(set_bits(NEXT), about=_STAMP),), Hooked("output", _FIRST)),
)


def removal() -> Transaction:
    """What takes the table away, be it there or not."""
    return [{"add": _TABLE}, {"delete": _TABLE}]


def complete(objects: Iterable[KernelObject]) -> Transaction:
    """What puts the table there with these objects in it, whatever is in its place."""
    return [*removal(), {"add": _TABLE}, *_made(list(objects))]


def transactions(graph: Graph) -> list[Transaction]:
    """What the change of a graph asks of the kernel, in this order; none when there is nothing to do."""
    change = graph.change()
    if not change:
        return []
    if _met_one_after_another(graph, change):
        steps = _in_three(change)
        return [[{"add": _TABLE}, *steps[0]], *steps[1:]]
    return [[{"add": _TABLE}, *_at_once(change)]]


def _met_one_after_another(graph: Graph, change: Sequence[Replaced]) -> bool:
    """Whether a packet may meet rules of two hooks that change."""
    hooks: set[Part] = set()
    for each in change:
        if isinstance(each.part, Entry):
            hooks.add(each.part)
        elif each.old is not None and each.new is not None:
            hooks |= _entries_above(graph, each.part)
    hooks -= _NO_VERDICT
    return len(hooks) > 1 and not hooks <= _EXCLUSIVE


def _entries_above(graph: Graph, part: Part) -> set[Part]:
    """Where packets come from that meet a part."""
    found: set[Part] = set()
    for above in graph.above(part, stop=WorkloadRules):
        if isinstance(above, WorkloadRules):
            found |= _EXCLUSIVE if above.direction is Direction.EGRESS else {Entry("filter-forward")}
        elif isinstance(above, Entry):
            found.add(above)
    return found


def _at_once(change: Sequence[Replaced]) -> Iterator[Json]:
    yield from _made(_new(change))
    yield from _elements_changed(change)
    for old, new in _changed_chains(change):
        yield _flush("chain", old.name)
        yield from _rules(new.name, new.rules)
    yield from _gone(_old(change))


def _in_three(change: Sequence[Replaced]) -> list[Transaction]:
    """See the head of this module. A chain that the kernel enters counts as empty before it comes and after it goes."""
    entries = [each for each in _new(change) if isinstance(each, Chain) and each.hooked]
    leaving = [each for each in _old(change) if isinstance(each, Chain) and each.hooked]
    changed = [
        *((new.name, new.rules) for _, new in _changed_chains(change)),
        *((found.name, found.rules) for found in entries),
        *((found.name, ()) for found in leaving),
    ]
    beside = [
        *_made([found for found in _new(change) if found not in entries]),
        *(_add_chain(replace(found, rules=())) for found in entries),
        *_made([Chain(_beside(name), "", rules) for name, rules in changed]),
        *(_insert(name, rule(has_bits(NEXT), goto(_beside(name)), about="new rules to come")) for name, _ in changed),
    ]
    begun = [*_elements_changed(change), *_made(_STAMPS)]
    settled = [
        *_gone(_STAMPS),
        *(_flush("chain", name) for name, _ in changed),
        *(each for name, rules in changed for each in _rules(name, rules)),
        *_gone([Chain(_beside(name), "", ()) for name, _ in changed]),
        *_gone(_old(change)),
    ]
    return [beside, begun, settled]


def _beside(name: str) -> str:
    return f"next/{name}"


def _new(change: Iterable[Replaced]) -> list[KernelObject]:
    return [each.new for each in change if each.old is None and each.new is not None]


def _old(change: Iterable[Replaced]) -> list[KernelObject]:
    return [each.old for each in change if each.new is None and each.old is not None]


def _changed_chains(change: Iterable[Replaced]) -> Iterator[tuple[Chain, Chain]]:
    for each in change:
        if isinstance(each.old, Chain) and isinstance(each.new, Chain) and each.old.rules != each.new.rules:
            yield each.old, each.new


def _made(made: Sequence[KernelObject]) -> Iterator[Json]:
    """New objects with all that is in them; chains first without rules, because they name one another."""
    yield from (_add_set(found, found.elements.values()) for found in made if isinstance(found, Set))
    yield from (_add_chain(found) for found in made if isinstance(found, Chain))
    yield from (_add_map(found, found.chains) for found in made if isinstance(found, VerdictMap))
    for found in made:
        if isinstance(found, Chain):
            yield from _rules(found.name, found.rules)


def _gone(gone: Sequence[KernelObject]) -> Iterator[Json]:
    """Take objects away; first the rules in them, because they name one another."""
    chains = [found.name for found in gone if isinstance(found, Chain)]
    yield from (_flush("chain", name) for name in chains)
    yield from (_delete("map", found.name) for found in gone if isinstance(found, VerdictMap))
    yield from (_delete("chain", name) for name in chains)
    yield from (_delete("set", found.name) for found in gone if isinstance(found, Set))


def _elements_changed(change: Iterable[Replaced]) -> Iterator[Json]:
    for each in change:
        if isinstance(each.old, Set) and isinstance(each.new, Set):
            yield from _set_elements(each.new, each.old.elements)
        elif isinstance(each.old, VerdictMap) and isinstance(each.new, VerdictMap):
            yield from _map_elements(each.new, each.old.chains)


def _set_elements(new: Set, old: Mapping[str, Any]) -> Iterator[Json]:
    removed = [value for text, value in old.items() if text not in new.elements]
    if removed and len(new.elements) <= _FILLED_ANEW:
        yield _flush("set", new.name)
        yield _add_set(new, new.elements.values())
        return
    if removed:
        yield {"delete": {"element": {**_HOME, "name": new.name, "elem": removed}}}
    added = [value for text, value in new.elements.items() if text not in old]
    if added:
        yield _add_set(new, added)


def _map_elements(new: VerdictMap, old: Mapping[str, str]) -> Iterator[Json]:
    removed = [[interface, goto(chain)] for interface, chain in old.items() if interface not in new.chains]
    if removed:
        yield {"delete": {"element": {**_HOME, "name": new.name, "elem": removed}}}
    added = {interface: chain for interface, chain in new.chains.items() if interface not in old}
    if added:
        yield _add_map(new, added)


# --- commands ----------------------------------------------------------------------------------------------------


def _add_set(found: Set, elements: Iterable[Any]) -> Json:
    """A set, or more elements of one that is there."""
    kind = found.type if isinstance(found.type, str) else list(found.type)
    words: Json = {**_HOME, "name": found.name, "type": kind}
    words |= {"flags": ["interval"]} if found.interval else {}
    held = list(elements)
    return {"add": {"set": {**words, "elem": held} if held else words}}


def _add_map(found: VerdictMap, chains: Mapping[str, str]) -> Json:
    words: Json = {**_HOME, "name": found.name, "type": "ifname", "map": "verdict"}
    held = [[interface, goto(chain)] for interface, chain in chains.items()]
    return {"add": {"map": {**words, "elem": held} if held else words}}


def _add_chain(found: Chain) -> Json:
    words: Json = {**_HOME, "name": found.name}
    if found.hooked is not None:
        hooked = found.hooked
        words |= {"type": hooked.type, "hook": hooked.hook, "prio": hooked.priority, "policy": "accept"}
    return {"add": {"chain": words}}


def _rules(chain: str, rules: Iterable[Rule]) -> Iterator[Json]:
    for found in rules:
        yield {"add": {"rule": {**_HOME, "chain": chain, **found}}}


def _insert(chain: str, found: Rule) -> Json:
    return {"insert": {"rule": {**_HOME, "chain": chain, **found}}}


def _flush(kind: str, name: str) -> Json:
    return {"flush": {kind: {**_HOME, "name": name}}}


def _delete(kind: str, name: str) -> Json:
    return {"delete": {kind: {**_HOME, "name": name}}}
