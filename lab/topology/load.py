# SPDX-License-Identifier: Apache-2.0
"""Reads a topology file: syntax and types first, then names that point at each other, then addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lab.document import Document, Step, read_documents
from lab.errors import LabError, TopologyError
from lab.protocols import protocol_number
from lab.schema import MAX_ERRORS, listing, raise_all, suggestion, validate
from lab.topology.addresses import AddressBook, check_pools
from lab.topology.model import Address, External, Link, Namespace, Node, Pools, Port, Topology, Workload
from lab.topology.schema import (
    ExternalModel,
    LinkModel,
    NamespaceModel,
    NodeModel,
    PortModel,
    ServiceAccountModel,
    TopologyModel,
    WorkloadModel,
)
from lab.topology.shipped import shipped_names, shipped_topology

__all__ = ["load_topology", "topology_document", "topology_of"]

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""The label that the API server gives every namespace (Kubernetes 1.22 and later)."""
_DEFAULT_ACCOUNT = "default"
"""The service account that the API server makes in every namespace."""

_RESERVED_NAME = "underlay"
"""What the lab calls the router between the nodes."""

Value = TypeVar("Value")


def load_topology(path: Path | str) -> Topology:
    """Read a topology from a file, or a shipped one by its name when there is no such file.

    Raises TopologyError, or LabErrors with several of them, for a file that cannot be read or says what
    cannot be; each names the place.
    """
    file = Path(path)
    if not _is_there(file):
        file = shipped_topology(str(path)) or file
    if not _is_there(file):
        raise TopologyError(
            "no such file, and no shipped topology of that name",
            place=str(path),
            allowed=f"a file, or one of {listing(shipped_names())}",
            next_step=suggestion(str(path), shipped_names()),
        )
    return topology_of(topology_document(file))


def topology_of(document: Document) -> Topology:
    """Read a topology from a document; raises what ``load_topology`` raises."""
    return _Loader(document, validate(TopologyModel, document, TopologyError)).load(Path(document.file))


def _is_there(file: Path) -> bool:
    """Whether a path leads to something; one that is too long or goes in a circle does not."""
    try:
        return file.exists()
    except OSError:
        return False


def topology_document(file: Path) -> Document:
    """The one document of a topology file; raises TopologyError when there is another number of them."""
    documents = read_documents(file, TopologyError)
    value = documents[0].value if documents else None
    if isinstance(value, dict) and "apiVersion" in value and "kind" in value:
        raise TopologyError(
            f"is a resource of kind {value['kind']}, not a topology",
            place=documents[0].place(("kind",)),
            next_step="name the topology first, the resources after it",
        )
    if len(documents) != 1:
        found = f"{len(documents)} documents" if documents else "nothing"
        raise TopologyError(f"the file holds {found}", place=str(file), allowed="one topology a file")
    return documents[0]


def _present(mapping: dict[str, Value | None], empty: Value) -> dict[str, Value]:
    """Put an empty body where the file has none (``node-2:``)."""
    return {name: empty if body is None else body for name, body in mapping.items()}


@dataclass(slots=True)
class _Loader:
    """Turns one checked file into a Topology; the errors of each stage are raised together."""

    document: Document
    model: TopologyModel
    errors: list[LabError] = field(default_factory=list)

    def load(self, file: Path) -> Topology:
        model = self.model
        pods = Pools(model.pods.ipv4, model.pods.ipv6)
        underlay = Pools(model.underlay.ipv4, model.underlay.ipv6)
        self.errors += check_pools(self.document, pods, underlay)
        self._check_names()
        raise_all(self.errors)
        addresses = self._addresses(pods, underlay)
        topology = Topology(
            name=model.name or file.stem,
            pods=pods,
            underlay=underlay,
            nodes=self._nodes(addresses),
            namespaces=self._namespaces(),
            workloads=self._workloads(addresses),
            externals=self._externals(addresses),
            links=self._links(),
            file=str(file),
            encapsulation=model.encapsulation,
        )
        self._check_interfaces(topology)
        raise_all(self.errors)
        return topology

    # -- names that point at each other -------------------------------------------------------------------

    def _check_names(self) -> None:
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
            if namespace and namespace.labels.get(_NAMESPACE_LABEL, name) != name:
                path = ("namespaces", name, "labels", _NAMESPACE_LABEL)
                self._refuse(path, f"the label {_NAMESPACE_LABEL} always holds the namespace's name", allowed=name)
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
            accounts = {**found.service_accounts, _DEFAULT_ACCOUNT: None} if found else {_DEFAULT_ACCOUNT: None}
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

    # -- addresses ----------------------------------------------------------------------------------------

    def _addresses(self, pods: Pools, underlay: Pools) -> dict[str, tuple[Address, ...]]:
        """Decide the addresses of every end: those given are claimed before any other is drawn."""
        book = AddressBook(self.document)
        ends: list[tuple[tuple[str, str], list[Address] | None, Pools]] = []
        for name, node in self.model.nodes.items():
            ends.append((("nodes", name), node.addresses if node else None, underlay))
        for name, external in self.model.externals.items():
            ends.append((("externals", name), external.addresses if external else None, underlay))
        for name, workload in self.model.workloads.items():
            ends.append((("workloads", name), workload.addresses, pods))
        for path, given, pool in ends:
            book.claim(path, given or (), pool, not_from=pods if path[0] == "externals" else None)
        raise_all(book.errors)
        return {path[1]: tuple(given) if given else book.draw(path, pool) for path, given, pool in ends}

    # -- what comes out -----------------------------------------------------------------------------------

    def _nodes(self, addresses: dict[str, tuple[Address, ...]]) -> dict[str, Node]:
        return {
            name: Node(
                name,
                body.kind,
                body.labels,
                addresses[name],
                self.document.place(("nodes", name), key=True),
                body.kernel,
                body.ssh,
            )
            for name, body in _present(self.model.nodes, NodeModel()).items()
        }

    def _namespaces(self) -> dict[str, Namespace]:
        found = {}
        using_default = {
            name.partition("/")[0]
            for name, workload in self.model.workloads.items()
            if workload.service_account == _DEFAULT_ACCOUNT
        }
        for name, body in _present(self.model.namespaces, NamespaceModel()).items():
            accounts = {
                account: labels.labels
                for account, labels in _present(body.service_accounts, ServiceAccountModel()).items()
            }
            if name in using_default:
                accounts.setdefault(_DEFAULT_ACCOUNT, {})
            place = self.document.place(("namespaces", name), key=True)
            found[name] = Namespace(name, {**body.labels, _NAMESPACE_LABEL: name}, accounts, place)
        return found

    def _workloads(self, addresses: dict[str, tuple[Address, ...]]) -> dict[str, Workload]:
        found = {}
        for name, body in self.model.workloads.items():
            namespace, _, short_name = name.partition("/")
            found[name] = Workload(
                namespace=namespace,
                short_name=short_name,
                node=body.node,
                labels=body.labels,
                service_account=body.service_account,
                addresses=addresses[name],
                ports=_ports(body.ports),
                profiles=None if body.profiles is None else tuple(body.profiles),
                sidecar=body.sidecar,
                place=self.document.place(("workloads", name), key=True),
            )
        return found

    def _externals(self, addresses: dict[str, tuple[Address, ...]]) -> dict[str, External]:
        return {
            name: External(
                name, addresses[name], _ports(body.ports), self.document.place(("externals", name), key=True)
            )
            for name, body in _present(self.model.externals, ExternalModel()).items()
        }

    def _links(self) -> tuple[Link, ...]:
        return tuple(
            Link((link.between[0], link.between[1]), link.interface, link.mtu, self.document.place(("links", index)))
            for index, link in enumerate(self.model.links)
        )

    def _check_interfaces(self, topology: Topology) -> None:
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


def _ports(ports: Iterable[PortModel]) -> tuple[Port, ...]:
    return tuple(Port(port.name or "", protocol_number(port.protocol) or 0, port.port) for port in ports)
