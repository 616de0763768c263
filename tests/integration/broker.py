# SPDX-License-Identifier: Apache-2.0
"""Makes sockets in a host of a lab and hands them over: a socket stays in the cgroup and namespace of who made it.

Run as a program with the number of a Unix socket; only the standard library. Orders are JSON, each answered by the
descriptors asked for, or by the error's number.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    listener: socket.socket | None = None
    while message := channel.recv(4096):
        order: dict[str, Any] = json.loads(message)
        family = socket.AF_INET6 if ":" in order["address"] else socket.AF_INET
        try:
            if order["do"] == "listen":
                listener = socket.socket(family, proto=order["protocol"])
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((order["address"], order["port"]))
                listener.listen(1024)
                made, told = listener, listener.getsockname()[1]
            elif order["do"] == "accept":
                assert listener is not None
                made, told = listener.accept()[0], 0
            else:
                made, told = socket.socket(family, proto=order["protocol"]), 0
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("", order["own"]))
                if order["do"] == "begin":
                    made.setblocking(False)
                    made.connect_ex((order["address"], order["port"]))
                else:
                    made.connect((order["address"], order["port"]))
        except OSError as error:
            channel.send(json.dumps({"errno": error.errno}).encode())
            continue
        socket.send_fds(channel, [json.dumps({"port": told}).encode()], [made.fileno()])
        if order["do"] != "listen":
            made.close()


if __name__ == "__main__":
    main()
