# SPDX-License-Identifier: Apache-2.0
"""Netlink in batches: many requests in one system call, one acknowledgement for all of them.

The kernel answers a request that fails even when no answer was asked for; so only a batch's last request asks for
an acknowledgement, and what comes before it are errors (RFC 3549, section 2.3.2).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from lab.errors import HostError

__all__ = [
    "NETLINK_NETFILTER",
    "NETLINK_ROUTE",
    "NLM_F_CREATE",
    "NLM_F_EXCL",
    "NLM_F_REPLACE",
    "Message",
    "Netlink",
    "attribute",
    "attributes",
]

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_DUMP: Final = 0x300

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_SOL_NETLINK: Final = 270
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
_ERRNO: Final = struct.Struct("=i")
_ATTRIBUTE: Final = struct.Struct("=HH")

# One send must fit a socket's default send buffer (net.core.wmem_default, 212,992 bytes) with room to spare.
_CHUNK: Final = 128 << 10
# The kernel never writes more than this into one answer, dumps included (NLMSG_GOODSIZE and min_dump_alloc).
_ANSWER: Final = 64 << 10


class Message(NamedTuple):
    """One request without its header; ``about`` and ``which`` name its object, should the kernel refuse it."""

    kind: int
    flags: int
    body: bytes
    about: str
    which: object = ""


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = 4 + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length & 3)


def attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each attribute from ``offset`` on."""
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += length + 3 & ~3


class Netlink:
    """A netlink socket in the namespace of the thread that makes it; it stays there whoever uses it."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Have all requests done, in order; raises HostError for the first that failed, after trying them all."""
        errors: list[HostError] = []
        for last, data in _chunks(messages):
            self._socket.send(data)
            for kind, place, body in self._answers():
                if kind == _NLMSG_ERROR:
                    errors.extend(_errors(messages[place], body))
                    if place == last:
                        break
        if errors:
            raise errors[0]

    def ask(self, message: Message, *, dump: bool = False) -> list[bytes]:
        """The kernel's answers to one request, their headers taken off; raises HostError when it refuses."""
        self._socket.send(_framed(message, _NLM_F_DUMP if dump else _NLM_F_ACK, 0))
        answers: list[bytes] = []
        for kind, _, body in self._answers():
            if kind == _NLMSG_ERROR:
                for error in _errors(message, body):
                    raise error
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                break
            answers.append(body)
        return answers

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, sequence number and body of what the kernel says: all of it is there when ``send`` returns."""
        while True:
            try:
                data = self._socket.recv(_ANSWER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # More requests failed than the socket can hold complaints; the first ones, which matter, are there.
                continue
            offset = 0
            while offset < len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
                yield kind, sequence, data[offset + _HEADER.size : offset + length]
                offset += length + 3 & ~3


def _framed(message: Message, flags: int, place: int) -> bytes:
    """A request with its header; its place in the batch is its sequence number."""
    length = _HEADER.size + len(message.body)
    return _HEADER.pack(length, message.kind, _NLM_F_REQUEST | message.flags | flags, place, 0) + message.body


def _chunks(messages: Sequence[Message]) -> Iterator[tuple[int, bytes]]:
    """Requests put together for one send each, with the place of the last, which asks for an acknowledgement."""
    parts: list[bytes] = []
    size = 0
    for place, message in enumerate(messages):
        size += _HEADER.size + len(message.body)
        full = size >= _CHUNK or place == len(messages) - 1
        parts.append(_framed(message, _NLM_F_ACK if full else 0, place))
        if full:
            yield place, b"".join(parts)
            parts, size = [], 0


def _errors(message: Message, body: bytes) -> Iterator[HostError]:
    """What an answer of kind error complains about; nothing when it is an acknowledgement."""
    (code,) = _ERRNO.unpack_from(body)
    if code:
        yield HostError(
            f"the kernel refused {f'{message.about} {message.which}'.rstrip()}: {_said(body) or os.strerror(-code)}",
            next_step="run 'policylab doctor' to see what this host lacks",
        )


def _said(body: bytes) -> str:
    """The kernel's own words, where it has some: they follow the refused request."""
    (length,) = struct.unpack_from("=I", body, _ERRNO.size)
    said = dict(attributes(body, _ERRNO.size + (length + 3 & ~3))).get(_NLMSGERR_ATTR_MSG, b"")
    return said.rstrip(b"\0").decode("ascii", "replace")
