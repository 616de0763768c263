# SPDX-License-Identifier: Apache-2.0
"""The reference model: what every flow must meet, and why."""

from lab.oracle.explain import Explanation
from lab.oracle.explain_text import explanation_text
from lab.oracle.oracle import Oracle, Way
from lab.oracle.partial import PartialOracle
from lab.oracle.verdict import Decision, DefaultDecision, DefaultReason, RuleDecision, Verdict

__all__ = [
    "Decision",
    "DefaultDecision",
    "DefaultReason",
    "Explanation",
    "Oracle",
    "PartialOracle",
    "RuleDecision",
    "Verdict",
    "Way",
    "explanation_text",
]
