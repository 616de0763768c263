# SPDX-License-Identifier: Apache-2.0
"""What a Calico rule asks of who stands at an address: selectors and service accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.oracle.conditions import Condition, Mismatch
from lab.oracle.packet import Packet, Part, Side
from lab.oracle.world import Location, Party
from lab.policy.resources import EntityRule
from lab.policy.selector import Selector
from lab.policy.selector_ast import All, Global, Has, Node, Not

__all__ = ["PartyTest", "account_test", "given", "is_party", "namespace_test", "not_party", "party_test"]

_BELONGS = "belongs to one"
"""The key under which a selector of namespaces or accounts sees that there is one: no label's key has a blank."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the things that a side asks of a party: field, what the file says, the test, what is looked at."""

    field: str
    wanted: str
    test: Callable[[Party], bool]
    found: Callable[[Party], str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one side of a rule asks of a party, as the file says it; ``namespace`` is the policy's own."""

    namespace: str | None
    selector: Selector | None
    namespace_selector: Selector | None
    account_names: tuple[str, ...]
    account_selector: Selector | None
    not_selector: Selector | None


@dataclass(frozen=True, slots=True)
class PartyTest:
    """All that a rule's side asks of one party, ``notSelector`` folded in; compared by what the file says."""

    asked: _Asked
    pieces: tuple[Piece, ...] = field(compare=False, repr=False)
    matches: Callable[[Party], bool] = field(compare=False, repr=False)

    def missed(self, party: Party) -> Piece:
        """The first piece that a party which does not match fails."""
        return next(piece for piece in self.pieces if not piece.test(party))


def is_party(side: Side, who: PartyTest) -> Condition:
    """Somebody known stands at the address who passes the whole test."""

    def holds(packet: Packet) -> bool:
        for party in packet.end(side).parties:  # noqa: SIM110 - quicker than any() with a generator
            if who.matches(party):
                return True
        return False

    def mismatch(packet: Packet) -> Mismatch:
        location = packet.end(side)
        if not location.parties:
            first = who.pieces[0]
            return Mismatch(f"{side}.{first.field}", first.wanted, _spell_stranger(location))
        missed = [(party, who.missed(party)) for party in location.parties]
        wanted = dict.fromkeys(piece.wanted for _, piece in missed)
        found = "; ".join(f"{party.title} has {piece.found(party)}" for party, piece in missed)
        return Mismatch(f"{side}.{missed[0][1].field}", " and ".join(wanted), found)

    return Condition(_labels_part(side), ("party", side, who), holds, mismatch)


def not_party(side: Side, selector: Selector) -> Condition:
    """``notSelector`` of a side without any positive one: everybody whom it does not select, strangers too."""

    def selected(packet: Packet) -> list[Party]:
        return [party for party in packet.end(side).parties if selector.matches(party.labels)]

    def mismatch(packet: Packet) -> Mismatch:
        who = selected(packet)
        found = "; ".join(f"{party.title} has {_spell_labels(selector, party.labels)}" for party in who)
        return Mismatch(f"{side}.notSelector", f"not {selector.text}", found)

    return Condition(_labels_part(side), ("notSelector", side, selector), lambda packet: not selected(packet), mismatch)


def given(selector: Selector | None) -> Selector | None:
    """The selector, or None where the file leaves it out or writes the empty text, which is the same."""
    return selector if selector is not None and selector.text else None


def party_test(entity: EntityRule, namespace: str | None) -> PartyTest | None:
    """What a side of a rule asks of a party, or None when it has no positive selector at all.

    ``namespace`` is that of the policy: without a namespaceSelector any other criterion, a lone notSelector
    included, is limited to it.
    """
    selector, negative = given(entity.selector), given(entity.not_selector)
    names, account_selector = _accounts(entity)
    wide = given(entity.namespace_selector)
    own = None
    if wide is None and (selector or negative or names or account_selector):
        own = namespace
    if not (own or selector or wide or names or account_selector):
        return None
    asked = _Asked(own, selector, wide, names, account_selector, negative)
    pieces = tuple(_pieces(asked))
    return PartyTest(asked, pieces, _conjunction([piece.test for piece in pieces]))


def _conjunction(tests: list[Callable[[Party], bool]]) -> Callable[[Party], bool]:
    """All of the tests as one; nearly every side asks one or two things, and asks them very often."""
    first, *others = tests
    if not others:
        return first
    rest = _conjunction(others)
    return lambda party: first(party) and rest(party)


def _accounts(entity: EntityRule) -> tuple[tuple[str, ...], Selector | None]:
    accounts = entity.service_accounts
    return ((), None) if accounts is None else (accounts.names, given(accounts.selector))


def _pieces(asked: _Asked) -> Iterator[Piece]:
    own, names = asked.namespace, asked.account_names
    if own is not None:
        wanted = f"in the policy's own namespace {own}"
        yield Piece("selector", wanted, lambda party: party.namespace == own, _spell_namespace)
    if asked.namespace_selector is not None:
        yield _namespace_piece(asked.namespace_selector)
    if names:
        wanted = f"one of {', '.join(names)}"
        yield Piece("serviceAccounts.names", wanted, lambda party: party.account in names, _spell_account)
    if asked.account_selector is not None:
        yield _piece("serviceAccounts.selector", asked.account_selector, lambda party: party.account_labels)
    if asked.selector is not None:
        yield _piece("selector", asked.selector, lambda party: party.labels)
    if asked.not_selector is not None:
        piece = _piece("notSelector", asked.not_selector.negated(), lambda party: party.labels)
        yield Piece(piece.field, f"not {asked.not_selector.text}", piece.test, piece.found)


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
    none, whether or not it lives in a namespace.
    """
    matches = selector.rewrite(_belonging).matches

    def test(party: Party) -> bool:
        labels = party.namespace_labels
        return matches(labels if party.namespace is None else {**labels, _BELONGS: ""})

    return test


def account_test(selector: Selector, *, everyone: bool) -> Callable[[Party], bool]:
    """A policy's serviceAccountSelector; ``all()`` is everyone in a namespaced policy, else any account."""
    matches = (selector if everyone else selector.rewrite(_belonging)).matches

    def test(party: Party) -> bool:
        labels = party.account_labels
        return matches({**labels, _BELONGS: ""} if party.account is not None else labels)

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
    return "no service account" if party.account is None else f"service account {party.account}"


def _spell_stranger(location: Location) -> str:
    return f"{location.address} is of no workload and no network set"
