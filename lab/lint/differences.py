# SPDX-License-Identifier: Apache-2.0
"""Two sets of resources compared by what they do: the flows on which their verdicts differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.oracle import Oracle, Verdict
from lab.policy.resources import Resources
from lab.topology import Flow, Topology

__all__ = ["Change", "Differences", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """A flow whose verdict is another one under the new resources."""

    flow: Flow
    old: Verdict
    new: Verdict


@dataclass(frozen=True, slots=True)
class Differences:
    """All changes, in the order of the flows, and how many flows were compared."""

    changes: tuple[Change, ...]
    compared: int

    @property
    def opened(self) -> int:
        """How many flows were denied and are allowed now."""
        return sum(change.new.allowed for change in self.changes)

    @property
    def closed(self) -> int:
        """How many flows were allowed and are denied now."""
        return len(self.changes) - self.opened


def compare(topology: Topology, old: Resources, new: Resources, flows: Sequence[Flow]) -> Differences:
    """Judge every flow under both; another rule with the same verdict is no change.

    Raises TopologyError for a flow that cannot be judged.
    """
    before, after = Oracle(topology, old).verdicts(flows), Oracle(topology, new).verdicts(flows)
    changes = (Change(*columns) for columns in zip(flows, before, after, strict=True))
    return Differences(tuple(one for one in changes if one.old.allowed != one.new.allowed), len(flows))
