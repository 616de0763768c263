# SPDX-License-Identifier: Apache-2.0
"""All sidecars of a lab: started side by side, trusted by each other alone, told of every new policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from dataplanes.api import Evidence
from lab.fabric.lab import Lab
from lab.policy.snapshot import Snapshot
from lab.sidecar.authority import Authority, Credentials, identity_of
from lab.sidecar.bootstrap import bootstrap
from lab.sidecar.chains import Sidecar, gates
from lab.sidecar.envoy import Envoy, envoy_path
from lab.sidecar.rbac import gate_file, open_file
from lab.sidecar.redirect import redirect
from lab.topology import Address, Workload

__all__ = ["Mesh"]


class Mesh:
    """A context manager that gives the workloads of a lab their sidecars; they end with the lab.

    Raises HostError when Envoy is not installed or does not start, or traffic cannot be redirected to it.

    Attributes:
        envoys: the sidecars by their workloads' names.
    """

    def __init__(self, lab: Lab, *, tls: bool = True) -> None:
        self._lab = lab
        self._tls = tls
        self._workloads = {each.name: each for each in lab.topology.workloads.values() if each.sidecar}
        self.envoys: Mapping[str, Envoy] = {}

    def __enter__(self) -> Self:
        binary = os.open(envoy_path(), os.O_RDONLY)
        with ExitStack() as stack:
            stack.callback(os.close, binary)
            self.envoys = {
                name: Envoy(
                    self._lab.hosts[name], self._lab.programs.directory / f"envoy-{number}", gates(tls=self._tls)
                )
                for number, name in enumerate(self._workloads)
            }
            authority = Authority() if self._tls else None
            for name, envoy in self.envoys.items():
                self._start(envoy, self._workloads[name], binary, authority)
            for envoy in self.envoys.values():
                redirect(envoy.host)
            for envoy in self.envoys.values():
                envoy.wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for envoy in self.envoys.values():
            envoy.process.kill()
            envoy.process.wait()

    def enforce(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Put the policy of every workload with a sidecar in force; ``snapshots`` are the nodes', by their names."""
        identities = self._identities()
        for name, envoy in self.envoys.items():
            workload = self._workloads[name]
            snapshot = snapshots[workload.node]
            endpoint = snapshot.endpoints[workload.interface]
            envoy.enforce(partial(gate_file, snapshot=snapshot, endpoint=endpoint, identities=identities))
        for envoy in self.envoys.values():
            envoy.wait_until_enforced()

    def evidence(self) -> dict[str, Evidence]:
        """What each sidecar tells of itself, by its workload's name."""
        return {name: envoy.evidence() for name, envoy in self.envoys.items()}

    def _start(self, envoy: Envoy, workload: Workload, binary: int, authority: Authority | None) -> None:
        credentials: Credentials | None = None if authority is None else authority.issue(identity_of(workload))
        sidecar = Sidecar(str(envoy.directory), self._tls, tuple(self._identities()))
        envoy.enforce(open_file)
        envoy.start(self._lab, binary, bootstrap(sidecar, sorted(self._lab.topology.plain_ports())), credentials)

    def _identities(self) -> dict[Address, str]:
        return {to: identity_of(workload) for workload in self._workloads.values() for to in workload.addresses}
