# SPDX-License-Identifier: Apache-2.0
"""The wire between the underlay and a machine that is reached by ssh: frames go through a stream, in their order.

At each end a process copies between a tap and the stream. Here it holds the tap's descriptor and starts ssh; there it
is what ssh starts, and is given the tap by the policylab of that machine. Run as a file, with nothing but the
standard library:

    wire.py near TAP COMMAND...     TAP: a descriptor
    wire.py far NAME                NAME: of an abstract unix socket that gives the tap
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable

__all__ = ["serve_tap"]

_LENGTH = struct.Struct("!H")
_CHUNK = 1 << 16
_FRAME = 1 << 15
"""Bytes that no frame has: the plan's MTU is 1500."""
_FRAMES_A_WRITE = 64


def serve_tap(listening: socket.socket, tap: int, seconds: float) -> bool:
    """Give a tap to the first process of root's that connects; False when none does in time."""
    listening.settimeout(seconds)
    try:
        connection, _ = listening.accept()
    except TimeoutError:
        return False
    with connection:
        # struct ucred: pid, uid, gid (unix(7))
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid == 0:
            socket.send_fds(connection, [b"tap"], [tap])
        return bool(uid == 0)


def main() -> None:
    """Copy both ways until either side ends."""
    if sys.argv[1] == "near":
        process = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        _carry(int(sys.argv[2]), process.stdout.fileno(), process.stdin.fileno())
    # What that machine does for a lab it does on one CPU: so it has one backlog, and one order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with socket.socket(socket.AF_UNIX) as policylab:
        policylab.connect(f"\0{sys.argv[2]}")
        _, (tap,), _, _ = socket.recv_fds(policylab, 16, 1)
    _carry(tap, 0, 1)


def _carry(tap: int, incoming: int, outgoing: int) -> None:
    """Copy in a thread for each direction; the process ends with the first of them."""
    for work in (lambda: _send(tap, outgoing), lambda: _receive(incoming, tap)):
        threading.Thread(target=_to_the_end, args=(work,)).start()
    threading.Event().wait()


def _to_the_end(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError:
        pass  # the tap or the stream is gone
    finally:
        os._exit(0)


def _send(tap: int, outgoing: int) -> None:
    """Put what comes out of the tap into the stream, each frame behind its length."""
    os.set_blocking(tap, False)
    waiting = select.poll()
    waiting.register(tap, select.POLLIN)
    while True:
        waiting.poll()
        _write(outgoing, b"".join(_LENGTH.pack(len(frame)) + frame for frame in _frames(tap)))


def _frames(tap: int) -> list[bytes]:
    frames: list[bytes] = []
    try:
        while len(frames) < _FRAMES_A_WRITE:
            frames.append(os.read(tap, _FRAME))
    except BlockingIOError:
        pass  # all that is there
    return frames


def _receive(incoming: int, tap: int) -> None:
    """Put what comes in the stream into the tap; returns at the stream's end."""
    begun = b""
    while data := os.read(incoming, _CHUNK):
        begun += data
        place = 0
        while len(begun) - place >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(begun, place)
            end = place + _LENGTH.size + length
            if end > len(begun):
                break
            os.write(tap, begun[place + _LENGTH.size : end])
            place = end
        begun = begun[place:]


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]


if __name__ == "__main__":
    main()
