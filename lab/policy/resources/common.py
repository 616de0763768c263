# SPDX-License-Identifier: Apache-2.0
"""What all kinds of policy have in common."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Action", "Direction", "PortRange", "StagedAction"]


class Action(Enum):
    """What a rule does with a packet that it matches."""

    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"
    LOG = "Log"


class StagedAction(Enum):
    """What a staged policy proposes."""

    SET = "Set"
    DELETE = "Delete"
    LEARN = "Learn"
    IGNORE = "Ignore"


class Direction(Enum):
    """Seen from the endpoint that a policy selects."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports ``first`` to ``last``, both included."""

    first: int
    last: int
