# SPDX-License-Identifier: Apache-2.0
"""Reads a topology file: syntax and types first, then names that point at each other, then addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lab.document import Document, read_documents
from lab.errors import LabError, TopologyError
from lab.protocols import protocol_number
from lab.schema import listing, raise_all, suggestion, validate
from lab.topology.addresses import AddressBook, check_pools
from lab.topology.checks import DEFAULT_ACCOUNT, NAMESPACE_LABEL, Checks
from lab.topology.model import Address, External, Link, Namespace, Node, Pools, Port, Topology, Workload
from lab.topology.schema import (
    ExternalModel,
    NamespaceModel,
    NodeModel,
    PortModel,
    ServiceAccountModel,
    TopologyModel,
)
from lab.topology.shipped import shipped_names, shipped_topology

__all__ = ["load_topology", "topology_document", "topology_of"]

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
        checks = Checks(self.document, model, self.errors)
        checks.names()
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
        checks.interfaces(topology)
        raise_all(self.errors)
        return topology

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
            if workload.service_account == DEFAULT_ACCOUNT
        }
        for name, body in _present(self.model.namespaces, NamespaceModel()).items():
            accounts = {
                account: labels.labels
                for account, labels in _present(body.service_accounts, ServiceAccountModel()).items()
            }
            if name in using_default:
                accounts.setdefault(DEFAULT_ACCOUNT, {})
            place = self.document.place(("namespaces", name), key=True)
            found[name] = Namespace(name, {**body.labels, NAMESPACE_LABEL: name}, accounts, place)
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


def _ports(ports: Iterable[PortModel]) -> tuple[Port, ...]:
    return tuple(Port(port.name or "", protocol_number(port.protocol) or 0, port.port) for port in ports)
