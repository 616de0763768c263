# SPDX-License-Identifier: Apache-2.0
"""The stages of a packet's way: where policy is asked, where something else rules, and what spares it a stage."""

from __future__ import annotations

from dataclasses import dataclass

from lab.oracle.host_hooks import Hook
from lab.oracle.packet import Packet
from lab.oracle.verdict import Verdict
from lab.oracle.world import Party
from lab.policy.resources import Direction

__all__ = ["Progress", "Ruling", "Stage", "Step"]

_EARLY = frozenset({Hook.UNTRACKED, Hook.PRE_DNAT})


@dataclass(frozen=True, slots=True)
class Stage:
    """An endpoint's policy at one hook. ``packet`` is as it looks there; ``hop`` counts passages through nodes.

    ``is_outer``: that packet is the nodes' own, and what is sent goes within it.
    """

    hook: Hook
    direction: Direction
    party: Party
    node: str
    packet: Packet
    hop: int
    is_outer: bool = False

    def between(self, source_port: int | None, port: int | None) -> Stage:
        """The same stage of a packet between other ports, which do not show on the outside of a tunnel."""
        if self.is_outer:
            return self
        packet = self.packet.between(source_port, port)
        return Stage(self.hook, self.direction, self.party, self.node, packet, self.hop)

    @property
    def title(self) -> str:
        """What explanations call it: a workload's policy is asked once more of a request, by its sidecar."""
        return self.hook.value if self.packet.http is None else "request"

    @property
    def is_spared(self) -> bool:
        """Whether an early accept on the same hop makes up for this stage.

        The ordinary policy of a host endpoint and what it asks of packets that come in to pass through; never
        what it asks of those that go out, and never a workload's policy.
        """
        if self.party.is_pod or self.hook is Hook.UNTRACKED:
            return False
        return self.hook is not Hook.FORWARD or self.direction is Direction.INGRESS


@dataclass(frozen=True, slots=True)
class Ruling:
    """A stage at which no policy is asked: the node itself decides. ``unless_tracked``: of untracked packets only."""

    title: str
    verdict: Verdict
    hop: int
    unless_tracked: bool = False


Step = Stage | Ruling


@dataclass(slots=True)
class Progress:
    """What has been said of a packet so far; ``verdict`` is the last word, None as long as nobody had a say.

    ``is_dead`` when that was a deny: no later stage sees the packet.
    """

    verdict: Verdict | None = None
    is_dead: bool = False
    _accepted_at: int | None = None
    _untracked_at: int | None = None

    def is_tracked(self, step: Step) -> bool:
        """Whether connection tracking knows the packet at a step."""
        return step.hop != self._untracked_at

    def passes_by(self, step: Step) -> bool:
        """Whether the packet never meets a step, because of how it was accepted before."""
        if isinstance(step, Ruling):
            return step.unless_tracked and self.is_tracked(step)
        return step.hop == self._accepted_at and step.is_spared

    def hear(self, step: Step, verdict: Verdict | None) -> None:
        """Note what a step said, None for nothing."""
        if verdict is None:
            return
        self.verdict = verdict
        self.is_dead = not verdict.allowed
        # A failsafe port opens the door in which it stands and no other.
        accepted = verdict.allowed and not verdict.is_failsafe
        if accepted and isinstance(step, Stage) and step.hook in _EARLY:
            self._accepted_at = step.hop
            if step.hook is Hook.UNTRACKED:
                self._untracked_at = step.hop
