# SPDX-License-Identifier: Apache-2.0
"""What was seen of one flow's packet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = ["Answer", "Observation", "Reason"]

Answer = Literal["tcp-reset", "icmp-error", "reply", "http-403"]
"""What came back to the sender: a refusal (RFC 9293, RFC 792, RFC 4443), the packet with its ends exchanged, or what
a sidecar says to a request that policy forbids."""


class Reason(Enum):
    """Why nothing can be said of a flow; the value is how a report spells it."""

    NOT_SENT = "the kernel refused to send it"
    RECEIVER_LOST = "the socket at the receiving end lost packets or its interface was down"
    NOT_SETTLED = "the end-of-batch markers did not come back: packets may still be on their way"
    TWICE = "it arrived more than once"
    WRONG_END = "it arrived at an end that it was not sent to"
    ALTERED = "it arrived altered"
    CONNTRACK = "conntrack dropped packets: its table was full or refused an entry"
    NO_ANSWER = "its connection was let through, and the request neither answered nor forbidden"
    BACKLOG = "the kernel's packet backlog overflowed"


@dataclass(frozen=True, slots=True)
class Observation:
    """The verdict on one flow, and what each of its ends saw.

    ``arrived`` names the end at which the packet came out; ``detail`` says more of ``reason``, which is None
    exactly when the verdict is conclusive. ``answer`` tells a refusal from silence; it is no part of the verdict.
    """

    verdict: Literal["allow", "deny", "inconclusive"]
    sent: bool = True
    arrived: str | None = None
    reason: Reason | None = None
    detail: str = ""
    answer: Answer | None = None

    def __str__(self) -> str:
        sender = "sent" if self.sent else "not sent"
        receiver = "not seen again" if self.arrived is None else f"arrived at {self.arrived}"
        why = [] if self.reason is None else [": ".join(filter(None, (self.reason.value, self.detail)))]
        answer = [] if self.answer is None else [f"answered by {self.answer}"]
        return f"{self.verdict}: " + ", ".join((sender, receiver, *answer, *why))
