# SPDX-License-Identifier: Apache-2.0
"""What the oracle says of a flow: the verdict and what decided it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.policy.resources import Direction

__all__ = ["Decision", "DefaultDecision", "DefaultReason", "RuleDecision", "Verdict"]

DefaultReason = Literal[
    "tier-end-deny",
    "profile",
    "no-policy",
    "no-profile",
    "missing-profile",
    "encapsulation",
    "self",
    "failsafe",
    "host-endpoint-without-policy",  # closed but for failsafes
    "endpoint-to-host",  # DefaultEndpointToHostAction, after the workload's egress policy
    "host-to-own-workload",  # always open
    "conntrack-invalid",
    "no-backend",  # a node port behind which nobody is
    "not-forwarded",  # through a node that passes nothing on
    "tunnel",  # between nodes: always open; from anybody else: closed
    "established",  # part of a connection that was let through
    "related",  # an ICMP error about such a connection
    "no-whole-packet",  # fragments of which none can be made: nodes that track connections put them together first
    "unknown-workload",  # behind a workload's interface that is nobody's
    "spoofed-source",  # a workload's packet with an address that is not its own
    "as-written",  # a packet of a conversation with a node, of which the model knows nothing
    "both-policies",  # the one in force and the one that takes its place
    "neighbour-discovery",  # between a workload and its node: always open
]


@dataclass(frozen=True, slots=True)
class RuleDecision:
    """A rule of a policy decided; ``rule`` counts from 0 among the policy's rules of that direction."""

    direction: Direction
    tier: str
    kind: str
    namespace: str | None
    name: str
    rule: int
    place: Place | None


@dataclass(frozen=True, slots=True)
class DefaultDecision:
    """No rule of a policy decided; ``owner`` names the tier, profile or host endpoint behind it, where there is one.

    ``direction`` is None where no endpoint's policy was asked at all.
    """

    direction: Direction | None
    reason: DefaultReason
    owner: str | None = None
    rule: int | None = None
    place: Place | None = None


Decision = RuleDecision | DefaultDecision


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a flow's first packet; an allowed flow names the last direction that was asked."""

    allowed: bool
    decided_by: Decision

    @property
    def is_failsafe(self) -> bool:
        """Whether a failsafe port decided."""
        return isinstance(self.decided_by, DefaultDecision) and self.decided_by.reason == "failsafe"
