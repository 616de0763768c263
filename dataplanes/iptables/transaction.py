# SPDX-License-Identifier: Apache-2.0
"""How one ruleset takes another's place: the text of one ``iptables-restore --noflush`` run for all tables.

Each table changes in one commit, but two tables never in the same one. So that no packet is judged half by the old
rules and half by the new, in such a way that it gets through where both drop it or is cut where both accept it:

- Only ``filter`` has rules of policies, before and after: its one commit is the change. What raw then holds, a check of
  sources that is the same for all, is let alone.
- More tables come into use: raw, mangle, filter. What the old rules do not read does no harm ahead of time, and what
  the new ones drop early is not accepted by both.
- They go out of use: filter, mangle, raw, for the same reasons.
- They are in use before and after: no order will do, so both generations of chains stand side by side for a moment.
  First filter and mangle take the new ones in, for packets with the mark bit NEXT, which none has. Then raw changes,
  and from that commit on gives every packet the bit where its way begins. Then filter and mangle let the old ones
  go, and raw stops giving the bit. What comes over the loopback has begun its way before, in OUTPUT.
- nat decides no verdict on this node, and only changes for new flows: it comes last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dataplanes.iptables.chains import Chain, Table, TableName
from dataplanes.iptables.names import CHAIN_PREFIX, NEXT, comment
from dataplanes.iptables.ruleset import Ruleset
from dataplanes.iptables.text import Generation, Held, Installed, after, hook, renamed

__all__ = ["Change", "change"]

_FIRST_TO_LAST: Final[tuple[TableName, ...]] = ("raw", "mangle", "filter", "nat")
_LAST_TO_FIRST: Final[tuple[TableName, ...]] = ("filter", "mangle", "raw", "nat")
_CHECKS_SOURCES: Final = "prerouting"
"""How the name of the chain ends that raw always has, of either generation."""
_EMPTY: Final = Table({}, {})
_NO_RULES: Final = Held(frozenset(), ())

_STAMP: Final = Chain(
    f"{CHAIN_PREFIX}next",
    "packets that begin their way",
    (f"{comment('judged by the new rules')} -j MARK --set-xmark {NEXT:#x}/{NEXT:#x}",),
)
_OLD_PACKETS: Final = f"-m mark --mark 0x0/{NEXT:#x} "
_NEW_PACKETS: Final = f"-m mark --mark {NEXT:#x}/{NEXT:#x} "


@dataclass(frozen=True, slots=True)
class Change:
    """The text to be run, what it touches, and what is installed when it is through."""

    text: str
    commits: int
    after: Installed


@dataclass(frozen=True, slots=True)
class _Commit:
    """What happens to one table at once. Chains of ``made`` and ``gone`` are emptied first."""

    table: TableName
    made: Sequence[Chain] = ()
    gone: Iterable[str] = ()
    unhooked: Sequence[str] = ()
    hooked: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        gone = sorted(self.gone)
        yield f"*{self.table}"
        yield from (f":{name} - [0:0]" for name in (*(chain.name for chain in self.made), *gone))
        yield from (f"-D {rule}" for rule in self.unhooked)
        yield from (f"-A {chain.name} {rule}" for chain in self.made for rule in chain.rules)
        for rule in self.hooked:
            base, _, rest = rule.partition(" ")
            yield f"-I {base} 1 {rest}"
        yield from (f"-X {name}" for name in gone)
        yield "COMMIT"


def change(ruleset: Ruleset | None, before: Installed) -> Change:
    """What puts ``ruleset`` (None: nothing) in the place of what is installed.

    Every line names a chain of ours or a rule that jumps to one: what others have in a table stays as it is.
    """
    tables: Mapping[TableName, Table] = {} if ruleset is None else ruleset.tables
    held = {name: found.chains for name, found in before.tables.items()}
    if before.generation is not None and _judges_early(held) and _judges_early(_chains(tables)):
        generation: Generation = 0 if before.generation else 1
        commits = list(_side_by_side(tables, before, generation))
    else:
        generation = 0
        commits = list(_one_by_one(tables, before))
    text = "".join(f"{line}\n" for commit in commits for line in commit.lines())
    return Change(text, len(commits), after(ruleset, generation))


def _one_by_one(tables: Mapping[TableName, Table], before: Installed) -> Iterator[_Commit]:
    order = _FIRST_TO_LAST if _judges_early(_chains(tables)) else _LAST_TO_FIRST
    for name in order:
        new, old = tables.get(name, _EMPTY), before.tables.get(name, _NO_RULES)
        kept = name == "raw" and before.generation == 0 and not _judges_early({name: {*new.chains, *old.chains}})
        if (name in tables or name in before.tables) and not (kept and old.chains == new.chains.keys()):
            yield _replaced(name, new, old, 0)


def _chains(tables: Mapping[TableName, Table]) -> Mapping[TableName, Collection[str]]:
    return {name: table.chains for name, table in tables.items()}


def _judges_early(chains: Mapping[TableName, Collection[str]]) -> bool:
    """Whether any policy is asked ahead of filter; where none is, raw has the chain that checks sources, alone."""
    return "mangle" in chains or any(not name.endswith(_CHECKS_SOURCES) for name in chains.get("raw", ()))


def _replaced(name: TableName, new: Table, old: Held, generation: Generation) -> _Commit:
    made = _named(new, generation)
    gone = old.chains - {chain.name for chain in made}
    return _Commit(name, made, gone, old.hooks, _hooks(new, generation))


def _side_by_side(tables: Mapping[TableName, Table], before: Installed, generation: Generation) -> Iterator[_Commit]:
    def new(name: TableName) -> Table:
        return tables.get(name, _EMPTY)

    def old(name: TableName) -> Held:
        return before.tables.get(name, _NO_RULES)

    both: tuple[TableName, ...] = ("filter", "mangle")
    divided = {
        name: [*_conditional(old(name).hooks, _OLD_PACKETS), *_hooks(new(name), generation, _NEW_PACKETS)]
        for name in both
    }
    for name in both:
        yield _Commit(name, _named(new(name), generation), (), old(name).hooks, divided[name])
    raw = _replaced("raw", new("raw"), old("raw"), generation)
    stamps = (hook("PREROUTING", _STAMP.name, "! -i lo "), hook("OUTPUT", _STAMP.name))
    yield _Commit("raw", (*raw.made, _STAMP), raw.gone, raw.unhooked, (*raw.hooked, *stamps))
    for name in both:
        yield _Commit(name, (), old(name).chains, divided[name], _hooks(new(name), generation))
    yield _Commit("raw", (), (_STAMP.name,), stamps)
    if "nat" in tables or "nat" in before.tables:
        yield _replaced("nat", new("nat"), old("nat"), generation)


def _named(new: Table, generation: Generation) -> list[Chain]:
    return [
        Chain(renamed(chain.name, generation), chain.about, tuple(renamed(rule, generation) for rule in chain.rules))
        for chain in new.chains.values()
    ]


def _hooks(new: Table, generation: Generation, condition: str = "") -> list[str]:
    return [hook(base, renamed(chain, generation), condition) for base, chain in new.hooks.items()]


def _conditional(hooks: Sequence[str], condition: str) -> Iterator[str]:
    for rule in hooks:
        base, _, rest = rule.partition(" ")
        yield f"{base} {condition}{rest}"
