# SPDX-License-Identifier: Apache-2.0
"""What a topology file may say when its syntax is right: names that point at each other, and what goes together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lab.document import Document, Step
from lab.errors import LabError, TopologyError
from lab.protocols import protocol_number
from lab.schema import MAX_ERRORS, listing, raise_all, suggestion
from lab.topology.model import Topology
from lab.topology.schema import LinkModel, NodeModel, PortModel, TopologyModel, WorkloadModel

__all__ = ["DEFAULT_ACCOUNT", "NAMESPACE_LABEL", "Checks"]

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""The label that the API server gives every namespace (Kubernetes 1.22 and later)."""
DEFAULT_ACCOUNT = "default"
"""The service account that the API server makes in every namespace."""

_RESERVED_NAME = "underlay"
"""What the lab calls the router between the nodes."""


@dataclass(slots=True)
class Checks:
    """Looks through one file; what is wrong gathers in ``errors``, which are raised together once they are too many."""

    document: Document
    model: TopologyModel
    errors: list[LabError] = field(default_factory=list)

    def names(self) -> None:
        """Names that are taken, or that point at nothing."""
        for name in self.model.nodes.keys() & self.model.externals.keys():
            self._refuse(("externals", name), f"the name {name!r} is given twice: a node has it too", key=True)
        for kind, names in (("nodes", self.model.nodes), ("externals", self.model.externals)):
            if _RESERVED_NAME in names:
                self._refuse((kind, _RESERVED_NAME), f"the name {_RESERVED_NAME!r} is the lab's own", key=True)
        for name, node in self.model.nodes.items():
            self._check_machine(name, node or NodeModel())
        for name, body in self.model.workloads.items():
            self._check_workload(("workloads", name), name.partition("/")[0], body)
        for name, external in self.model.externals.items():
            self._check_ports(("externals", name), external.ports if external else ())
        for name, namespace in self.model.namespaces.items():
            if namespace and namespace.labels.get(NAMESPACE_LABEL, name) != name:
                path = ("namespaces", name, "labels", NAMESPACE_LABEL)
                self._refuse(path, f"the label {NAMESPACE_LABEL} always holds the namespace's name", allowed=name)
        self._check_links()

    def _check_machine(self, name: str, node: NodeModel) -> None:
        if node.kernel and node.kind != "machine":
            self._refuse(("nodes", name, "kernel"), "only a node of kind machine has a kernel of its own")
        if node.ssh and node.kind != "machine":
            self._refuse(("nodes", name, "ssh"), "only a node of kind machine is reached by ssh")
        if node.ssh and node.kernel:
            self._refuse(("nodes", name, "kernel"), "a machine that is reached by ssh runs a kernel already")

    def _check_workload(self, path: Sequence[Step], namespace: str, body: WorkloadModel) -> None:
        self._check_known((*path, "node"), "node", body.node, self.model.nodes)
        self._check_ports(path, body.ports)
        self._check_profiles(path, body.profiles or [])
        if namespace not in self.model.namespaces:
            self._check_known(path, "namespace", namespace, self.model.namespaces, key=True)
        elif body.service_account is not None:
            found = self.model.namespaces[namespace]
            accounts = {**found.service_accounts, DEFAULT_ACCOUNT: None} if found else {DEFAULT_ACCOUNT: None}
            what = f"service account of namespace {namespace}"
            self._check_known((*path, "serviceAccount"), what, body.service_account, accounts)

    def _check_known(
        self, path: Sequence[Step], what: str, name: str, known: Collection[str], *, key: bool = False
    ) -> None:
        if name not in known:
            hint = suggestion(name, known)
            self._refuse(path, f"unknown {what} {name!r}", allowed=listing(known), next_step=hint, key=key)

    def _check_ports(self, path: Sequence[Step], ports: Sequence[PortModel]) -> None:
        seen: set[tuple[str | None, int | None, int]] = set()
        for index, port in enumerate(ports):
            port_key = (port.name, protocol_number(port.protocol), port.port)
            if port_key in seen:
                self._refuse((*path, "ports", index), f"port {port.port}/{port.protocol} is given twice")
            seen.add(port_key)

    def _check_profiles(self, path: Sequence[Step], profiles: Sequence[str]) -> None:
        for index, profile in enumerate(profiles):
            if profile in profiles[:index]:
                self._refuse((*path, "profiles", index), f"the profile {profile!r} is given twice")

    def _check_links(self) -> None:
        ends = [*self.model.nodes, *self.model.externals]
        taken: set[tuple[str, str]] = set()
        for index, link in enumerate(self.model.links):
            path: tuple[Step, ...] = ("links", index)
            self._check_supported(path, link)
            for side, end in enumerate(link.between):
                self._check_known((*path, "between", side), "end of a link", end, ends)
            if link.between[0] == link.between[1]:
                self._refuse((*path, "between"), f"a link between {link.between[0]} and itself", allowed="two ends")
            for end in dict.fromkeys(link.between):
                if (end, link.interface) in taken:
                    self._refuse((*path, "interface"), f"{end} has two links with the interface {link.interface!r}")
                taken.add((end, link.interface))

    def _check_supported(self, path: Sequence[Step], link: LinkModel) -> None:
        for name in ("rate", "loss"):
            if getattr(link, name) is not None:
                self._refuse(
                    (*path, name), f"{name!r} of a link is not supported yet", key=True, next_step="leave it out"
                )

    def interfaces(self, topology: Topology) -> None:
        """Refuse two workloads of one node whose interfaces have the same name: it holds 44 bits of a hash."""
        owners: dict[tuple[str, str], str] = {}
        for workload in topology.workloads.values():
            owner = owners.setdefault((workload.node, workload.interface), workload.name)
            if owner != workload.name:
                what = f"{workload.name} and {owner} both get the interface {workload.interface}"
                self._refuse(("workloads", workload.name), what, key=True, next_step="rename one, or use another node")

    def _refuse(
        self,
        path: Sequence[Step],
        what: str,
        *,
        allowed: str | None = None,
        next_step: str | None = None,
        key: bool = False,
    ) -> None:
        place = self.document.place(path, key=key)
        self.errors.append(TopologyError(what, place=place, allowed=allowed, next_step=next_step))
        if len(self.errors) > MAX_ERRORS:
            raise_all(self.errors)  # looking for near names takes long where thousands are wrong
