# SPDX-License-Identifier: Apache-2.0
"""Who stands at which address: pods, host endpoints, network sets and nodes, with the labels that selectors see.

A selector in a rule resolves to addresses, not to endpoints (Calico: the label index). So the model asks of an address
which *parties* stand at it, and of a party which labels it has: its own and those inherited from profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lab.oracle.backends import backends
from lab.oracle.nets import NetIndex
from lab.policy.resources import HostEndpoint, NetworkSet, Resources
from lab.topology import Address, Node, Port, Topology, Workload

__all__ = ["ACCOUNT_LABEL", "NAMESPACE_LABEL", "Location", "Party", "World", "profile_names"]

NAMESPACE_LABEL = "projectcalico.org/namespace"
ACCOUNT_LABEL = "projectcalico.org/serviceaccount"
_ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator"
_OWN_NAME_LABEL = "projectcalico.org/name"
_NAMESPACE_PREFIX = "pcns."
_ACCOUNT_PREFIX = "pcsa."


@dataclass(frozen=True, slots=True, eq=False)
class Party:
    """A pod, a host endpoint or a network set; ``labels`` are all that count for selectors, inherited ones included.

    ``namespace_labels`` and ``account_labels`` are those that it has from its namespace and service account,
    under the keys that they have there. A workload with ``profiles`` of its own has none of them.
    """

    title: str
    is_pod: bool
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str]
    account_labels: Mapping[str, str]
    ports: tuple[Port, ...] = ()
    profiles: tuple[str, ...] = ()
    node: str | None = None
    """On which node a pod runs, or a host endpoint is."""

    @property
    def namespace(self) -> str | None:
        """The namespace in which it lives; a GlobalNetworkSet lives in none."""
        return self.labels.get(NAMESPACE_LABEL)

    @property
    def account(self) -> str | None:
        """The name of its service account."""
        return self.labels.get(ACCOUNT_LABEL)


@dataclass(frozen=True, slots=True, eq=False)
class Location:
    """An address of an end and the parties at it, pods among them; one Location an address, compared by identity.

    ``identity`` is the same for all locations whose parties have the same labels. ``named`` holds every
    (protocol, port) that has a name there. ``services`` are those by (namespace, name) that have a backend at the
    address, with the (protocol, port) at which it serves each. ``nodes`` are those whose own address this is.
    """

    address: Address
    parties: tuple[Party, ...]
    pods: tuple[Party, ...]
    identity: int
    named: frozenset[tuple[int, int]]
    services: Mapping[tuple[str, str], frozenset[tuple[int, int]]] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()


class World:
    """The pods, host endpoints and network sets of a topology and its resources, by name and by address."""

    def __init__(self, topology: Topology, resources: Resources) -> None:
        self._profile_labels = _profile_labels(topology, resources)
        self.pods = {name: self._pod(workload) for name, workload in topology.workloads.items()}
        self._pods_at: dict[Address, list[Party]] = {}
        for name, workload in topology.workloads.items():
            for address in workload.addresses:
                self._pods_at.setdefault(address, []).append(self.pods[name])
        self.hosts = {endpoint.name: self._host(endpoint) for endpoint in resources.host_endpoints}
        self._hosts_at: dict[Address, list[Party]] = {}
        for endpoint in resources.host_endpoints:
            # An interface's own addresses are unknown to selectors: only those count that the endpoint tells.
            for address in dict.fromkeys(endpoint.expected_ips):
                self._hosts_at.setdefault(address, []).append(self.hosts[endpoint.name])
        self.sets = tuple((found, self._set(found)) for found in resources.network_sets)
        self._sets = NetIndex((net, party) for found, party in self.sets for net in found.nets)
        self._backends = backends(resources.endpoint_slices)
        self._nodes_at: dict[Address, list[Node]] = {}
        for node in topology.nodes.values():
            for address in node.addresses:
                self._nodes_at.setdefault(address, []).append(node)
        self._locations: dict[Address, Location] = {}
        self._identities: dict[frozenset[tuple[bool, frozenset[tuple[str, str]]]], int] = {}

    def location(self, address: Address) -> Location:
        """The one Location of an address."""
        known = self._locations.get(address)
        if known is None:
            known = self._locations[address] = self._locate(address)
        return known

    def _locate(self, address: Address) -> Location:
        pods = tuple(self._pods_at.get(address, ()))
        # A set that covers the address by two networks is still one party.
        parties = (*pods, *self._hosts_at.get(address, ()), *dict.fromkeys(self._sets.covering(address)))
        looks = frozenset((party.is_pod, frozenset(party.labels.items())) for party in parties)
        identity = self._identities.setdefault(looks, len(self._identities))
        named = frozenset((port.protocol, port.port) for party in parties for port in party.ports)
        services, nodes = self._backends.get(address, {}), tuple(self._nodes_at.get(address, ()))
        return Location(address, parties, pods, identity, named, services, nodes)

    def _pod(self, workload: Workload) -> Party:
        """A workload as Calico ingests a pod: forged labels stripped, its own facts added."""
        own = {key: value for key, value in workload.labels.items() if not key.startswith(_RESERVED_PREFIXES)}
        own |= {NAMESPACE_LABEL: workload.namespace, _ORCHESTRATOR_LABEL: "k8s"}
        if workload.service_account is not None:
            own[ACCOUNT_LABEL] = workload.service_account
        profiles = profile_names(workload)
        labels = self._inherit(own, profiles)
        party = _party(workload.name, labels, is_pod=True)
        return replace(party, ports=workload.ports, profiles=profiles, node=workload.node)

    def _host(self, endpoint: HostEndpoint) -> Party:
        """A host endpoint; it lives in no namespace."""
        title = f"HostEndpoint {endpoint.name} on {endpoint.node}"
        labels = self._inherit(endpoint.labels, endpoint.profiles)
        party = _party(title, labels, is_pod=False)
        return replace(party, ports=endpoint.ports, profiles=endpoint.profiles, node=endpoint.node)

    def _set(self, network_set: NetworkSet) -> Party:
        """A network set; only the namespaced kind inherits anything."""
        if network_set.namespace is None:
            return _party(f"GlobalNetworkSet {network_set.name}", network_set.labels, is_pod=False)
        own = {**network_set.labels, NAMESPACE_LABEL: network_set.namespace}
        labels = self._inherit(own, (f"kns.{network_set.namespace}",))
        return _party(f"NetworkSet {network_set.namespace}/{network_set.name}", labels, is_pod=False)

    def _inherit(self, own: Mapping[str, str], profiles: tuple[str, ...]) -> dict[str, str]:
        """Own labels win, then those of the first profile that has the key."""
        labels: dict[str, str] = {}
        for name in reversed(profiles):
            labels.update(self._profile_labels.get(name, {}))
        labels.update(own)
        return labels


_RESERVED_PREFIXES = (_NAMESPACE_PREFIX, _ACCOUNT_PREFIX)


def profile_names(workload: Workload) -> tuple[str, ...]:
    """The profiles of a workload, in order: its own, or those of its namespace and service account."""
    if workload.profiles is not None:
        return workload.profiles
    names = (f"kns.{workload.namespace}",)
    if workload.service_account is None:
        return names
    return (*names, f"ksa.{workload.namespace}.{workload.service_account}")


def _party(title: str, labels: Mapping[str, str], *, is_pod: bool) -> Party:
    from_namespace, from_account = _unprefixed(labels, _NAMESPACE_PREFIX), _unprefixed(labels, _ACCOUNT_PREFIX)
    return Party(title, is_pod, labels, from_namespace, from_account)


def _unprefixed(labels: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}


def _profile_labels(topology: Topology, resources: Resources) -> dict[str, Mapping[str, str]]:
    """The labels that each profile hands down; namespaces and service accounts are profiles too."""
    found: dict[str, Mapping[str, str]] = {}
    for namespace in topology.namespaces.values():
        found[f"kns.{namespace.name}"] = _prefixed(namespace.labels, _NAMESPACE_PREFIX, namespace.name)
        for account, labels in namespace.service_accounts.items():
            found[f"ksa.{namespace.name}.{account}"] = _prefixed(labels, _ACCOUNT_PREFIX, account)
    found |= {profile.name: profile.labels_to_apply for profile in resources.profiles}
    return found


def _prefixed(labels: Mapping[str, str], prefix: str, name: str) -> dict[str, str]:
    # Its own name comes last: no label of the user's can forge it.
    return {prefix + key: value for key, value in labels.items()} | {prefix + _OWN_NAME_LABEL: name}
