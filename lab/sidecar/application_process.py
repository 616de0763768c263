# SPDX-License-Identifier: Apache-2.0
"""The applications of a lab's workloads: HTTP servers, and clients that ask them, in the workloads' namespaces.

One process for all, in the lab's cgroup, run as a file by ``lab.sidecar.applications`` with nothing but the standard
library. It reads orders from its standard input, one JSON list a line, and answers each with one line of JSON:

    ["serve", NAMESPACE, NAME, PORT]                  listens on all addresses of a namespace, as the workload NAME
    ["ask", [[NAMESPACE, ADDRESS, PORT, METHOD, PATH], ...]]   asks all of them at once, and tells what each got

A namespace is the number of a descriptor that this process has inherited.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Final

__all__ = ["ASK", "SERVE", "main"]

SERVE: Final = "serve"
ASK: Final = "ask"

_SECONDS: Final = 20.0
"""After which a request counts as not answered; one that is takes some milliseconds."""
_AT_ONCE: Final = 32
_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_IDS: Final = count(1)
_END: Final = b"\r\n\r\n"


def main() -> None:
    """Do what is ordered, until there are no more orders."""
    for line in sys.stdin:
        order, *arguments = json.loads(line)
        answer = _serve(*arguments) if order == SERVE else _ask(*arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _socket(namespace: int, family: int) -> socket.socket:
    """A socket in a namespace, made by a thread that stays there."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(_socket_here, namespace, family).result()


def _socket_here(namespace: int, family: int) -> socket.socket:
    if _LIBC.setns(namespace, _NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return socket.socket(family, socket.SOCK_STREAM)


# -- servers ---------------------------------------------------------------------------------------------------------


def _serve(namespace: int, name: str, port: int) -> str | None:
    """Listen on a port; None, or why that cannot be."""
    try:
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104
            listener = _socket(namespace, family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((any_address, port))
            listener.listen(128)
            threading.Thread(target=_accept, args=(listener, name), daemon=True).start()
    except OSError as error:
        return str(error)
    return None


def _accept(listener: socket.socket, name: str) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, name), daemon=True).start()


def _answer(connection: socket.socket, name: str) -> None:
    """Answer requests without bodies: who it was that got them, and under which number."""
    with connection:
        try:
            while head := _head(connection):
                number = _headers(head).get("x-policylab-id", "")
                fields = f"x-policylab-by: {name}\r\nx-policylab-id: {number}\r\ncontent-length: 0\r\n"
                connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode())
        except OSError:
            pass  # whoever asked has gone


# -- clients ---------------------------------------------------------------------------------------------------------


def _ask(requests: list[list[Any]]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(_AT_ONCE) as clients:
        return list(clients.map(_ask_one, requests))


def _ask_one(request: list[Any]) -> dict[str, Any]:
    """What came of a request: status and who answered it, or the error that the client got."""
    namespace, address, port, method, path = request
    number = str(next(_IDS))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    head = f"{method} {path} HTTP/1.1\r\nhost: policylab\r\nx-policylab-id: {number}\r\nconnection: close\r\n"
    body = "" if method in {"GET", "HEAD"} else "content-length: 0\r\n"
    try:
        with _socket(namespace, family) as client:
            client.settimeout(_SECONDS)
            client.connect((address, port))
            client.sendall(f"{head}{body}\r\n".encode())
            answer = _head(client)
    except OSError as error:
        return {"error": type(error).__name__}
    if not answer:
        return {"error": "closed"}
    fields = _headers(answer)
    by = fields.get("x-policylab-by") if fields.get("x-policylab-id") == number else None
    return {"status": int(answer.split(" ", 2)[1]), "by": by}


def _head(connection: socket.socket) -> str:
    """The next message's lines up to the empty one; "" when there is none."""
    data = b""
    while not data.endswith(_END):
        more = connection.recv(65536, socket.MSG_PEEK)
        if not more:
            return ""
        end = (data + more).find(_END)
        wanted = len(more) if end < 0 else end + len(_END) - len(data)
        data += connection.recv(wanted)
    return data.decode("latin-1")


def _headers(head: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


if __name__ == "__main__":
    main()
