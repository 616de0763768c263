# SPDX-License-Identifier: Apache-2.0
"""What a Calico rule asks of who stands at an address: selectors and service accounts (semantics 2.9, 2.11, 2.12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.oracle.conditions import Mismatch
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.world import ACCOUNT_LABEL, Location, Party
from lab.policy.resources import EntityRule
from lab.policy.selector import Selector
from lab.policy.selector_ast import All, Global, Has, Node, Not

__all__ = ["IsParty", "NotParty", "PartyTest", "account_test", "given", "namespace_test", "party_test"]

_BELONGS = "belongs to one"
"""A key under which a selector of namespaces or accounts sees that there is one; the blanks keep it apart from labels."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the things that a side asks of a party: field, what the file says, the test, what is looked at."""

    field: str
    wanted: str
    test: Callable[[Party], bool]
    found: Callable[[Party], str]


@dataclass(frozen=True, slots=True)
class PartyTest:
    """All that a rule's side asks of one party, ``notSelector`` folded in; compared by what the file says."""

    namespace: str | None
    selector: Selector | None
    namespace_selector: Selector | None
    account_names: tuple[str, ...]
    account_selector: Selector | None
    not_selector: Selector | None
    pieces: tuple[Piece, ...] = field(compare=False, repr=False)

    def matches(self, party: Party) -> bool:
        """Whether the party is one of those meant."""
        for piece in self.pieces:  # noqa: SIM110 - quicker than all() with a generator, and this is the hot loop
            if not piece.test(party):
                return False
        return True

    def missed(self, party: Party) -> Piece:
        """The first piece that a party which does not match fails."""
        return next(piece for piece in self.pieces if not piece.test(party))


@dataclass(frozen=True, slots=True)
class IsParty:
    """Somebody known stands at the address who passes the whole test."""

    side: Side
    who: PartyTest

    @property
    def part(self) -> Part:
        return _labels_part(self.side)

    def holds(self, packet: Packet) -> bool:
        return any(self.who.matches(party) for party in packet.end(self.side).parties)

    def mismatch(self, packet: Packet) -> Mismatch:
        location = packet.end(self.side)
        if not location.parties:
            first = self.who.pieces[0]
            return Mismatch(f"{self.side}.{first.field}", first.wanted, _spell_stranger(location))
        missed = [(party, self.who.missed(party)) for party in location.parties]
        wanted = dict.fromkeys(piece.wanted for _, piece in missed)
        found = "; ".join(f"{party.title} has {piece.found(party)}" for party, piece in missed)
        return Mismatch(f"{self.side}.{missed[0][1].field}", " and ".join(wanted), found)


@dataclass(frozen=True, slots=True)
class NotParty:
    """``notSelector`` of a side without any positive one: everybody whom it does not select, strangers too."""

    side: Side
    selector: Selector

    @property
    def part(self) -> Part:
        return _labels_part(self.side)

    def holds(self, packet: Packet) -> bool:
        return not any(self.selector.matches(party.labels) for party in packet.end(self.side).parties)

    def mismatch(self, packet: Packet) -> Mismatch:
        selected = [party for party in packet.end(self.side).parties if self.selector.matches(party.labels)]
        found = "; ".join(f"{party.title} has {_spell_labels(self.selector, party.labels)}" for party in selected)
        return Mismatch(f"{self.side}.notSelector", f"not {self.selector.text}", found)


def given(selector: Selector | None) -> Selector | None:
    """The selector, or None where the file leaves it out or writes the empty text, which is the same."""
    return selector if selector is not None and selector.text else None


def party_test(entity: EntityRule, namespace: str | None) -> PartyTest | None:
    """What a side of a rule asks of a party, or None when it has no positive selector at all.

    ``namespace`` is that of the policy: without a namespaceSelector any other criterion, a lone notSelector
    included, is limited to it (2.11).
    """
    selector, negative = given(entity.selector), given(entity.not_selector)
    names, account_selector = _accounts(entity)
    wide = given(entity.namespace_selector)
    own = None
    if wide is None and (selector or negative or names or account_selector):
        own = namespace
    if not (own or selector or wide or names or account_selector):
        return None
    asked = (own, selector, wide, names, account_selector, negative)
    return PartyTest(*asked, pieces=tuple(_pieces(*asked)))


def _accounts(entity: EntityRule) -> tuple[tuple[str, ...], Selector | None]:
    accounts = entity.service_accounts
    return ((), None) if accounts is None else (accounts.names, given(accounts.selector))


def _pieces(
    own: str | None,
    selector: Selector | None,
    wide: Selector | None,
    names: tuple[str, ...],
    account_selector: Selector | None,
    negative: Selector | None,
) -> Iterator[Piece]:
    if own is not None:
        wanted = f"in the policy's own namespace {own}"
        yield Piece("selector", wanted, lambda party: party.namespace == own, _spell_namespace)
    if wide is not None:
        yield _namespace_piece(wide)
    if names:
        wanted = f"one of {', '.join(names)}"
        yield Piece(
            "serviceAccounts.names", wanted, lambda party: party.labels.get(ACCOUNT_LABEL) in names, _spell_account
        )
    if account_selector is not None:
        yield _piece("serviceAccounts.selector", account_selector, lambda party: party.account_labels)
    if selector is not None:
        yield _piece("selector", selector, lambda party: party.labels)
    if negative is not None:
        opposite = negative.negated()
        piece = _piece("notSelector", opposite, lambda party: party.labels)
        yield Piece(piece.field, f"not {negative.text}", piece.test, piece.found)


def _piece(name: str, selector: Selector, view: Callable[[Party], Mapping[str, str]]) -> Piece:
    matches = selector.matches
    return Piece(
        name,
        selector.text,
        lambda party: matches(view(party)),
        lambda party: _spell_labels(selector, view(party)),
    )


def _namespace_piece(selector: Selector) -> Piece:
    test = namespace_test(selector)

    def found(party: Party) -> str:
        return f"{_spell_namespace(party)}, {_spell_labels(selector, party.namespace_labels)}"

    return Piece("namespaceSelector", selector.text, test, found)


def namespace_test(selector: Selector) -> Callable[[Party], bool]:
    """A namespaceSelector as a test of a party: ``all()`` is any namespace, ``global()`` is none.

    Its other terms look at labels inherited from the namespace, so negative ones hold for a party that has
    none, whether or not it lives in a namespace (2.11).
    """
    matches = selector.rewrite(_belonging).matches

    def test(party: Party) -> bool:
        labels = party.namespace_labels
        return matches(labels if party.namespace is None else {**labels, _BELONGS: ""})

    return test


def account_test(selector: Selector, *, everyone: bool) -> Callable[[Party], bool]:
    """A policy's serviceAccountSelector; ``all()`` is everyone in a namespaced policy, else any account (2.11)."""
    matches = (selector if everyone else selector.rewrite(_belonging)).matches

    def test(party: Party) -> bool:
        labels = party.account_labels
        return matches({**labels, _BELONGS: ""} if ACCOUNT_LABEL in party.labels else labels)

    return test


def _belonging(node: Node) -> Node:
    match node:
        case All():
            return Has(_BELONGS)
        case Global():
            return Not(Has(_BELONGS))
        case _:
            return node


def _labels_part(side: Side) -> Part:
    return Part.SOURCE_LABELS if side == "source" else Part.DESTINATION_LABELS


def _spell_labels(selector: Selector, labels: Mapping[str, str]) -> str:
    """The labels at which the selector looks."""
    looked_at = sorted(selector.keys())
    return ", ".join(f"{key}={labels[key]!r}" if key in labels else f"no {key}" for key in looked_at) or "its labels"


def _spell_namespace(party: Party) -> str:
    return "no namespace" if party.namespace is None else f"namespace {party.namespace}"


def _spell_account(party: Party) -> str:
    account = party.labels.get(ACCOUNT_LABEL)
    return "no service account" if account is None else f"service account {account}"


def _spell_stranger(location: Location) -> str:
    return f"{location.address} is of no workload and no network set"
