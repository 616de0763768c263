# SPDX-License-Identifier: Apache-2.0
"""What is seen of one batch: which frames came out where, and what that says of their flows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import strerror
from typing import Final

from lab.protocols import TCP
from lab.topology import TUNNEL_PORT
from lab.traffic.mmsg import InBox
from lab.traffic.observation import Answer, Observation, Reason
from lab.traffic.packets import ETHERNET_HEADER, FRAME_LENGTH, IPV4_HEADER, IPV6_HEADER, MAGIC, TCP_PAYLOAD
from lab.traffic.taps import Catch, Tap
from lab.traffic.volley import Batch

__all__ = ["DENIED", "Sightings"]

DENIED: Final = Observation("deny")
_ends: Final[Callable[[bytes, bytes | None], bool]] = bytes.endswith  # type: ignore[assignment]  # there is no None
_IPV4: Final = b"\x08\x00"
_RST: Final = 0x04
_TUNNEL: Final = TUNNEL_PORT.to_bytes(2, "big")
_TAIL: Final = len(MAGIC) + 4


class Sightings:
    """Takes in what the taps received while a batch was in the air, and draws the conclusions."""

    def __init__(self, batch: Batch, blind: Mapping[Tap, str]) -> None:
        self._batch = batch
        self._collected: set[Tap] = set()
        self._seen = [DENIED] * len(batch.flows)
        self._troubles: dict[int, tuple[Reason, str]] = {}
        self._answers: dict[int, Answer] = {}
        self._blind = dict(blind)

    def refuse(self, place: int, errno: int) -> None:
        """The kernel did not take the frame at this place of the batch."""
        self._troubles[place] = (Reason.NOT_SENT, strerror(errno))

    def collect(self, tap: Tap, box: InBox) -> None:
        """Take in everything that waits at a tap; an error, as when its interface goes down, makes it blind."""
        try:
            more = True
            while more:
                catch = tap.fetch(box)
                if catch.count:
                    self._sort(tap, catch)
                more = catch.more
        except OSError as error:
            self._blind[tap] = f"{tap.name}: {strerror(error.errno or 0)}"

    def _sort(self, tap: Tap, catch: Catch) -> None:
        """The hot path: what arrives once, whole and where it should is all that most batches see."""
        bodies, idents = zip(*catch.frames(), strict=True)
        tails = [*map(self._batch.tails.get(tap, {}).get, idents)]
        ours = None not in tails and tap not in self._collected and len({*idents}) == len(idents)
        whole = catch.lengths().count(catch.expected_length) == catch.count
        self._collected.add(tap)
        if ours and whole and all(map(_ends, bodies, tails)):
            first, seen, allowed = self._batch.first_id, self._seen, tap.allowed
            for ident in idents:
                seen[ident - first] = allowed
        else:
            self._sort_one_by_one(tap, catch, tails)

    def _sort_one_by_one(self, tap: Tap, catch: Catch, tails: Sequence[bytes | None]) -> None:
        """The same where not every frame is such an arrival; ``tails`` tells how each must end, where it may be one."""
        lengths, expected = catch.lengths(), catch.expected_length
        for number, (body, ident) in enumerate(catch.frames()):
            tail, place = tails[number], ident - self._batch.first_id
            right = lengths[number] == expected and tail is not None and body.endswith(tail)
            if right and self._seen[place] is DENIED:
                self._seen[place] = tap.allowed
            else:
                self._wonder(tap, catch.whole(number))

    def _wonder(self, tap: Tap, received: bytes) -> None:
        """Make sense of a frame that is not simply an arrival: it may also be none of ours."""
        at = received.rfind(MAGIC)
        if at < 0:
            self._reset(tap, received)
            return
        place = self._place(int.from_bytes(received[at + len(MAGIC) : at + _TAIL], "big"))
        if place is None or _carries_another(tap, received):
            return
        if self._sent_by(place, tap):
            answer = self._answer(place, tap, received)
            if answer is not None:
                self._answers[place] = answer
                return
        self._misplaced(place, tap)

    def _misplaced(self, place: int, tap: Tap) -> None:
        before, target = self._seen[place].arrived, self._batch.taps[place]
        self._seen[place] = tap.allowed
        if before is not None:
            self._troubles[place] = (Reason.TWICE, f"at {before} and at {tap.name}")
        elif tap is not target:
            self._troubles[place] = (Reason.WRONG_END, f"at {tap.name} instead of {target.name}")
        else:
            self._troubles[place] = (Reason.ALTERED, f"at {tap.name}")

    def _place(self, ident: int) -> int | None:
        place = ident - self._batch.first_id
        return place if 0 <= place < len(self._seen) else None

    def _sent_by(self, place: int, tap: Tap) -> bool:
        run = next(run for run in self._batch.runs if place in run.places)
        return run.sender.name == tap.name

    def _answer(self, place: int, tap: Tap, received: bytes) -> Answer | None:
        """What a frame that holds our id is, when it comes back to the end that sent it."""
        if len(received) > FRAME_LENGTH - tap.skip:
            return "icmp-error"
        if tap.skip > ETHERNET_HEADER:
            return "reply"  # an IPv6 raw socket does not show the addresses: a node got its own packet's echo
        sent = self._batch.frames[place * FRAME_LENGTH : (place + 1) * FRAME_LENGTH]
        came_from = _addresses(received, ETHERNET_HEADER - tap.skip, sent[12:14])
        if came_from == tuple(reversed(_addresses(sent, ETHERNET_HEADER, sent[12:14]))):
            return "reply"
        return None

    def _reset(self, tap: Tap, received: bytes) -> None:
        """A TCP reset acknowledges what it refuses: the SYN's sequence number, which is its id, and its payload."""
        if tap.skip:
            return
        ipv4 = received[12:14] == _IPV4
        start = ETHERNET_HEADER + (IPV4_HEADER if ipv4 else IPV6_HEADER)
        protocol_at = ETHERNET_HEADER + (9 if ipv4 else 6)
        header = received[start : start + 20]
        if len(header) < 20 or received[protocol_at] != TCP or not header[13] & _RST:
            return
        payload = TCP_PAYLOAD if ipv4 else TCP_PAYLOAD - (IPV6_HEADER - IPV4_HEADER)
        place = self._place(int.from_bytes(header[8:12], "big") - payload - 1)
        if place is not None and self._sent_by(place, tap):
            self._answers[place] = "tcp-reset"

    def conclude(self, lost: dict[Tap, int], *, settled: bool) -> list[Observation]:
        """An observation for each frame of the batch; ``lost`` counts what taps have dropped meanwhile."""
        self._blind.update((tap, f"{count} at {tap.name}") for tap, count in lost.items())
        if settled and not (self._blind or self._troubles or self._answers):
            return self._seen
        return [self._conclude(place, seen, settled=settled) for place, seen in enumerate(self._seen)]

    def _conclude(self, place: int, seen: Observation, *, settled: bool) -> Observation:
        answer = self._answers.get(place)
        trouble = self._troubles.get(place) or (self._doubt(place, settled=settled) if seen is DENIED else None)
        if trouble is None:
            return replace(seen, answer=answer)
        reason, detail = trouble
        return Observation("inconclusive", reason is not Reason.NOT_SENT, seen.arrived, reason, detail, answer)

    def _doubt(self, place: int, *, settled: bool) -> tuple[Reason, str] | None:
        """Why a frame that did not arrive may have got through all the same."""
        target = self._batch.taps[place]
        if target in self._blind:
            return Reason.RECEIVER_LOST, self._blind[target]
        return None if settled else (Reason.NOT_SETTLED, "")


def _carries_another(tap: Tap, received: bytes) -> bool:
    """Whether a node sees a tunnel's packet: what it carries is on its way, and has not arrived."""
    if tap.interface is not None or len(received) <= FRAME_LENGTH - tap.skip:
        return False
    port_at = (IPV4_HEADER if tap.skip == ETHERNET_HEADER else 0) + 2
    return received[port_at : port_at + 2] == _TUNNEL


def _addresses(frame: bytes, start: int, ethertype: bytes) -> tuple[bytes, bytes]:
    """Source and destination address of the IP packet that begins at ``start``."""
    at, size = (start + 12, 4) if ethertype == _IPV4 else (start + 8, 16)
    return frame[at : at + size], frame[at + size : at + 2 * size]
