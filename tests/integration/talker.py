# SPDX-License-Identifier: Apache-2.0
"""One end of many conversations: run as a program in a host of a lab, told what to say, tells what it sent and got.

Only the standard library: it is started with ``python -I -S`` and the seconds that it is patient. Orders come as lines
of JSON on standard input, and for each there is one line of JSON on standard output:

    {"listen": ADDRESS, "port": PORT OR 0}       -> {"port": PORT}
    {"play": [CONVERSATION, ...], "role": 0|1,   -> {"ends": [END, ...]}, in the order of the conversations
     "address": ADDRESS, "port": PORT, "wide": HOW MANY AT ONCE}

Role 0 connects, role 1 accepts; the number of a conversation is the first thing said in it. A conversation is a dict
of ``turns`` (who, bytes, bytes a write, seconds of pause before, whether to wait for all that was due so far) and, for
each role, ``readers`` (how, bytes a read, bytes after which it rests, seconds of rest) and ``early`` (whether it shuts
down for sending after its last turn, or only when the other end has).
"""

from __future__ import annotations

import hashlib
import json
import random
import select
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

# A prime: what is moved by any power of two, or swapped with its neighbour, is not the same again.
SCRIPT = memoryview(random.Random(1).randbytes(2 * 1048573))  # noqa: S311 - no secret
PERIOD = 1048573
PATIENCE = float(sys.argv[1])  # seconds without any progress, after which an end gives up
NUMBER = 8


class End:
    """One end of one conversation."""

    def __init__(self, connection: socket.socket, role: int, conversation: dict[str, Any]) -> None:
        self.socket = connection
        self.role = role
        self.conversation = conversation
        self.how, self.chunk, self.rest_after, self.rest = conversation["readers"][role]
        self.sent, self.received = hashlib.blake2b(), hashlib.blake2b()
        self.sent_bytes = self.received_bytes = self.spurious = self.stopped = 0
        self.progress = threading.Condition()
        self.over = False
        self.errors: list[str] = []
        # A blocking reader that asks for all of it ends its call where a turn of the other end does.
        self.ends = list(accumulate(size for who, size, *_ in conversation["turns"] if who != role))
        if self.how in ("poll", "edge"):
            connection.setblocking(False)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))

    def play(self) -> dict[str, Any]:
        """Say and hear everything; what came of it."""
        writer = threading.Thread(target=self._guard, args=(self._write,))
        writer.start()
        self._guard(self._read)
        writer.join()
        self.socket.close()
        return {
            "sent": [self.sent_bytes, self.sent.hexdigest()],
            "received": [self.received_bytes, self.received.hexdigest()],
            "spurious": self.spurious,
            "stopped": self.stopped,
            "errors": self.errors,
        }

    def _guard(self, work: Any) -> None:
        try:
            work()
        except (OSError, TimeoutError) as error:
            self.errors.append(
                f"{work.__name__}: {error!r} after {self.sent_bytes} sent, {self.received_bytes} received"
            )
        finally:
            with self.progress:
                self.over = self.over or work == self._read
                self.progress.notify_all()

    def _write(self) -> None:
        due = 0
        position = 7919 * self.conversation["number"] + 104729 * self.role
        for who, size, piece, pause, wait in self.conversation["turns"]:
            if who != self.role:
                due += size
                continue
            if wait:
                self._await(due)
            if pause:
                time.sleep(pause)
            for start in range(0, size, min(piece, PERIOD)):
                place = (position + self.sent_bytes) % PERIOD
                self._send(SCRIPT[place : place + min(piece, PERIOD, size - start)])
        if not self.conversation["early"][self.role]:
            self._await(None)
        self.socket.shutdown(socket.SHUT_WR)
        try:
            self.socket.send(b"!")
        except BrokenPipeError:
            return
        self.errors.append("a byte was taken after the end")

    def _await(self, due: int | None) -> None:
        """Wait until so much has come, or for the end of what comes."""
        with self.progress:
            if not self.progress.wait_for(
                lambda: self.over or (due is not None and self.received_bytes >= due), PATIENCE
            ):
                raise TimeoutError(f"{due} bytes did not come")

    def _send(self, data: memoryview) -> None:
        self.sent.update(data)
        while data:
            try:
                done = self.socket.send(data)
            except BlockingIOError:
                self.stopped += 1
                poll = select.poll()
                poll.register(self.socket, select.POLLOUT)
                if not poll.poll(PATIENCE * 1000):
                    raise TimeoutError("no room to write") from None
                continue
            self.sent_bytes += done
            data = data[done:]

    def _read(self) -> None:
        buffer = bytearray(self.chunk)
        rested = 0
        wait = getattr(self, f"_wait_{self.how}")()
        flags = socket.MSG_WAITALL if self.how == "waitall" else 0
        while True:
            try:
                length = self.socket.recv_into(buffer, self._wanted(), flags)
            except BlockingIOError:
                # A blocking socket must not say so; what a sockmap makes of it is told.
                self.spurious += self.how in ("block", "waitall")
                wait()
                continue
            if not length:
                return
            self.received.update(memoryview(buffer)[:length])
            with self.progress:
                self.received_bytes += length
                self.progress.notify_all()
            if self.rest and self.received_bytes - rested >= self.rest_after:
                rested = self.received_bytes
                time.sleep(self.rest)

    def _wanted(self) -> int:
        """Bytes to ask for in one call."""
        if self.how != "waitall":
            return self.chunk
        left = next((end - self.received_bytes for end in self.ends if end > self.received_bytes), self.chunk)
        return min(self.chunk, left)

    def _wait_poll(self) -> Any:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return lambda: self._come(poll.poll(PATIENCE * 1000))

    _wait_block = _wait_waitall = _wait_poll

    def _wait_edge(self) -> Any:
        poll = select.epoll()
        poll.register(self.socket, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        return lambda: self._come(poll.poll(PATIENCE))

    @staticmethod
    def _come(ready: list[Any]) -> None:
        if not ready:
            raise TimeoutError("nothing came")


def play(order: dict[str, Any], listener: socket.socket | None) -> dict[str, Any]:
    """Play this role in all conversations, some at a time."""
    conversations = {each["number"]: each for each in order["play"]}
    ends: dict[int, dict[str, Any]] = {}

    def connect(number: int) -> None:
        family = socket.AF_INET6 if ":" in order["address"] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect((order["address"], order["port"]))
        connection.settimeout(None)
        connection.sendall(number.to_bytes(NUMBER, "big"))
        ends[number] = End(connection, 0, conversations[number]).play()

    def accept(_: int) -> None:
        connection, _peer = listener.accept()
        connection.settimeout(None)
        number = b""
        while len(number) < NUMBER:
            number += receive(connection, NUMBER - len(number))
        place = int.from_bytes(number, "big")
        ends[place] = End(connection, 1, conversations[place]).play()

    with ThreadPoolExecutor(order["wide"]) as pool:
        list(pool.map(connect if order["role"] == 0 else accept, conversations))
    return {"ends": [ends[number] for number in conversations]}


def receive(connection: socket.socket, length: int) -> bytes:
    """Some bytes from a blocking socket that may say EAGAIN."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        try:
            data = connection.recv(length)
        except BlockingIOError:
            poll.poll(PATIENCE * 1000)
            continue
        if not data:
            raise ConnectionError("ended before it began")
        return data


def main() -> None:
    listener: socket.socket | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if "listen" in order:
            family = socket.AF_INET6 if ":" in order["listen"] else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.settimeout(PATIENCE)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((order["listen"], order["port"]))
            listener.listen(128)
            answer: dict[str, Any] = {"port": listener.getsockname()[1]}
        else:
            answer = play(order, listener)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
