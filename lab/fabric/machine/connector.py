# SPDX-License-Identifier: Apache-2.0
"""Joins standard input and output with a unix socket: what ssh runs to reach the serial port of a machine.

Run as a file, with nothing but the standard library.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys

__all__: list[str] = []

_CHUNK = 1 << 16


def main() -> None:
    """Carry bytes both ways until either side ends."""
    with socket.socket(socket.AF_UNIX) as machine, selectors.DefaultSelector() as ready:
        machine.connect(sys.argv[1])
        ready.register(0, selectors.EVENT_READ)
        ready.register(machine, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                data = os.read(key.fd, _CHUNK)
                if not data:
                    return
                if key.fd == 0:
                    machine.sendall(data)
                else:
                    _write(data)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
