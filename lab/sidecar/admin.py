# SPDX-License-Identifier: Apache-2.0
"""Envoy's admin interface, over a Unix socket: no packet reaches it, and it disturbs no traffic."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

__all__ = ["Admin"]

_SECONDS = 10.0
"""For one answer, which takes some milliseconds."""


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin interface behind a socket; it may not be there yet, or not any more."""

    path: Path

    def is_ready(self) -> bool:
        """Whether Envoy takes connections, with all of its configuration in force."""
        try:
            return self._get("/ready")[0] == 200
        except (OSError, HTTPException):
            return False

    def counters(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match a regular expression; raises OSError when Envoy does not answer."""
        _, body = self._get(f"/stats?format=json&filter={pattern}")
        found = json.loads(body)["stats"]
        return {each["name"]: each["value"] for each in found if isinstance(each.get("value"), int)}

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = _UnixConnection(self.path)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except HTTPException as error:
            raise OSError(f"Envoy's answer is no HTTP: {error!r}") from error
        finally:
            connection.close()
