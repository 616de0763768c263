# SPDX-License-Identifier: Apache-2.0
"""Results as users and programs read them: one row a flow, and a summary (the format of the design)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import TYPE_CHECKING, Final, Literal, overload

from lab.oracle.verdict import Decision, RuleDecision, Verdict
from lab.topology import Flow
from lab.topology.flows_file import flow_to_dict

if TYPE_CHECKING:  # evidence comes with plugins, which judging alone does not need
    from lab.conformance.evidence import Growth

__all__ = ["Observed", "Results", "Row", "decision_to_dict"]

Observed = Literal["allow", "deny", "inconclusive"]
Word = Literal["allow", "deny"]
_WORD: Final[Mapping[bool, Word]] = {True: "allow", False: "deny"}


@dataclass(frozen=True, slots=True)
class Row:
    """A flow, what the oracle expects of it, and what was observed (None when nothing was sent)."""

    flow: Flow
    verdict: Verdict
    observed: Observed | None = None
    packet: str | None = None
    """Which packet of a conversation it is; None for a flow that is but its first packet."""

    @property
    def expected(self) -> Word:
        """The oracle's verdict as results spell it."""
        return _WORD[self.verdict.allowed]

    @property
    def wrong(self) -> bool:
        """Whether a verdict was observed and is not the expected one."""
        return self.observed in ("allow", "deny") and self.observed != self.expected

    def to_dict(self) -> dict[str, object]:
        """The row as JSON holds it."""
        packet = {} if self.packet is None else {"packet": self.packet}
        return {
            **flow_to_dict(self.flow),
            "port": self.flow.port,
            **packet,
            "expected": self.expected,
            "observed": self.observed,
            "decided_by": decision_to_dict(self.verdict.decided_by),
        }


@dataclass(frozen=True, slots=True)
class Columns(Sequence[Row]):
    """Rows that are made when somebody looks at them: most runs are right, and nobody does."""

    flows: Sequence[Flow]
    verdicts: Sequence[Verdict]
    observed: Sequence[Observed | None]

    def __len__(self) -> int:
        return len(self.flows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            return Columns(self.flows[place], self.verdicts[place], self.observed[place])
        return Row(self.flows[place], self.verdicts[place], self.observed[place])

    def __iter__(self) -> Iterator[Row]:
        return starmap(Row, zip(self.flows, self.verdicts, self.observed, strict=True))

    def amiss(self) -> list[Row]:
        """The rows of which something else was seen than is expected, and what was not observed at all."""
        expected: list[Observed | None] = [_WORD[verdict.allowed] for verdict in self.verdicts]
        observed = list(self.observed)
        if observed == expected:  # as it mostly is
            return []
        return [self[place] for place, seen in enumerate(observed) if seen != expected[place]]


@dataclass(frozen=True, slots=True)
class Results:
    """The rows of one run, in the order of its flows, and what sidecars and accelerators counted meanwhile."""

    rows: Sequence[Row]
    evidence: Growth = field(default_factory=dict)

    @classmethod
    def of(
        cls, flows: Sequence[Flow], verdicts: Sequence[Verdict], observed: Sequence[Observed] | None = None
    ) -> Results:
        """Put together what was asked, expected and, if anything was sent, observed."""
        seen: Sequence[Observed | None] = [None] * len(flows) if observed is None else observed
        if not len(flows) == len(verdicts) == len(seen):
            raise ValueError(f"{len(flows)} flows, {len(verdicts)} verdicts and {len(seen)} observations")
        return cls(Columns(flows, verdicts, seen))

    def _amiss(self) -> Sequence[Row]:
        return self.rows.amiss() if isinstance(self.rows, Columns) else self.rows

    @property
    def wrong(self) -> tuple[Row, ...]:
        """The rows on which observation and oracle differ."""
        return tuple(row for row in self._amiss() if row.wrong)

    @property
    def inconclusive(self) -> tuple[Row, ...]:
        """The rows of which nothing can be said."""
        return tuple(row for row in self._amiss() if row.observed == "inconclusive")

    @property
    def conformant(self) -> bool:
        """Whether every row that was observed is as expected."""
        return not any(row.wrong or row.observed == "inconclusive" for row in self._amiss())

    def summary(self) -> dict[str, int]:
        """Counts as the design names them: allowed and denied are observed ones, or expected if nothing was sent."""
        words = Counter(row.observed or row.expected for row in self.rows)
        return {
            "rows": len(self.rows),
            "allowed": words["allow"],
            "denied": words["deny"],
            "mismatches": len(self.wrong),
            "inconclusive": words["inconclusive"],
        }

    def to_dict(self) -> dict[str, object]:
        """The whole result as JSON holds it."""
        told: dict[str, object] = {"rows": [row.to_dict() for row in self.rows], "summary": self.summary()}
        return told | ({"evidence": self.evidence} if self.evidence else {})


def decision_to_dict(decision: Decision) -> dict[str, object]:
    """``decided_by``: the rule that decided, or the default where none did."""
    place = {"file": decision.place.file, "line": decision.place.line} if decision.place is not None else {}
    direction = decision.direction.value if decision.direction is not None else None
    if isinstance(decision, RuleDecision):
        return {
            "direction": direction,
            "tier": decision.tier,
            "kind": decision.kind,
            "namespace": decision.namespace,
            "name": decision.name,
            "rule": decision.rule,
            **place,
        }
    owner = {} if decision.owner is None else {"owner": decision.owner}
    rule = {} if decision.rule is None else {"rule": decision.rule}
    return {"direction": direction, "default": decision.reason, **owner, **rule, **place}
