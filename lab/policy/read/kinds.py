# SPDX-License-Identifier: Apache-2.0
"""Which kind a resource is of: those that are read, those that are passed over, those that belong elsewhere.

What could change a verdict if it were read, but is the topology's to say (a Namespace, a Pod), is refused, so that
nobody believes it to be in force. What could not (a ConfigMap, a BGPPeer) may stand beside policy, and is no
resource of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from lab.errors import LabError, Place
from lab.policy.read.source import Path, Source
from lab.policy.read.values import dns_subdomain
from lab.policy.resources import (
    EndpointSlice,
    FelixConfiguration,
    HostEndpoint,
    IpPool,
    NetworkSet,
    Policy,
    Profile,
    Service,
    Tier,
)
from lab.protocols import protocol_label
from lab.schema import listing, suggestion

__all__ = ["AnyResource", "Identity", "read_resource"]

AnyResource = (
    Policy | NetworkSet | Profile | Tier | HostEndpoint | IpPool | FelixConfiguration | Service | EndpointSlice
)
Identity = tuple[str, str, str, str]
"""API group, kind, namespace ("" for none) and name: no two resources of a run share it, whatever their versions."""

_CALICO = "projectcalico.org/v3"
_KUBERNETES = "networking.k8s.io/v1"
_ADMIN = "policy.networking.k8s.io/v1alpha1"
_CLUSTER = "policy.networking.k8s.io/v1alpha2"
_CLUSTER_BETA = "policy.networking.k8s.io/v1beta1"  # the same fields


Reader = Callable[[Source, str | None], AnyResource | None]
"""Reads a resource; it gets the namespace, or None for what is cluster-wide."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where the reader of a kind is; it is imported when the first resource of the kind is met."""

    module: str
    reader: str
    namespaced: bool = False

    def read(self, source: Source, namespace: str | None) -> AnyResource | None:
        reader: Reader = getattr(import_module(f"{__package__}.{self.module}"), self.reader)
        return reader(source, namespace)


_KINDS: Mapping[tuple[str, str], _Kind] = {
    (_CALICO, "NetworkPolicy"): _Kind("calico", "read_namespaced_policy", namespaced=True),
    (_CALICO, "GlobalNetworkPolicy"): _Kind("calico", "read_global_policy"),
    (_CALICO, "StagedNetworkPolicy"): _Kind("calico", "read_staged_policy", namespaced=True),
    (_CALICO, "StagedGlobalNetworkPolicy"): _Kind("calico", "read_staged_global_policy"),
    (_CALICO, "StagedKubernetesNetworkPolicy"): _Kind("kubernetes", "read_staged_kubernetes_policy", namespaced=True),
    (_CALICO, "NetworkSet"): _Kind("calico", "read_network_set", namespaced=True),
    (_CALICO, "GlobalNetworkSet"): _Kind("calico", "read_network_set"),
    (_CALICO, "Tier"): _Kind("calico", "read_tier"),
    (_CALICO, "Profile"): _Kind("calico", "read_profile"),
    (_CALICO, "HostEndpoint"): _Kind("hosts", "read_host_endpoint"),
    (_CALICO, "IPPool"): _Kind("hosts", "read_ip_pool"),
    (_CALICO, "FelixConfiguration"): _Kind("felix", "read_felix_configuration"),
    (_CALICO, "KubeControllersConfiguration"): _Kind("hosts", "pass_over_controllers"),
    (_KUBERNETES, "NetworkPolicy"): _Kind("kubernetes", "read_kubernetes_policy", namespaced=True),
    (_ADMIN, "AdminNetworkPolicy"): _Kind("admin", "read_admin_policy"),
    (_ADMIN, "BaselineAdminNetworkPolicy"): _Kind("admin", "read_baseline_policy"),
    (_CLUSTER, "ClusterNetworkPolicy"): _Kind("admin", "read_cluster_policy"),
    (_CLUSTER_BETA, "ClusterNetworkPolicy"): _Kind("admin", "read_cluster_policy"),
    ("v1", "Service"): _Kind("services", "read_service", namespaced=True),
    ("discovery.k8s.io/v1", "EndpointSlice"): _Kind("services", "read_endpoint_slice", namespaced=True),
}
_NAMES = sorted({kind for _, kind in _KINDS})
_OF_THE_TOPOLOGY = frozenset(
    {
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Job",
        "Namespace",
        "Node",
        "Pod",
        "ReplicaSet",
        "ReplicationController",
        "ServiceAccount",
        "StatefulSet",
        "WorkloadEndpoint",
    }
)
_PASSED_OVER = frozenset(
    {
        "APIServer",
        "BGPConfiguration",
        "BGPFilter",
        "BGPPeer",
        "BlockAffinity",
        "CalicoNodeStatus",
        "ClusterInformation",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "CustomResourceDefinition",
        "Endpoints",
        "IPAMConfiguration",
        "IPReservation",
        "Ingress",
        "IngressClass",
        "Installation",
        "Kustomization",
        "Role",
        "RoleBinding",
        "Secret",
    }
)


def read_resource(source: Source, seen: dict[Identity, Place]) -> AnyResource | None:
    """Read a resource; None when it is wrong, and then there are new errors.

    None without an error is one that is passed over: nothing that the lab models depends on it. ``seen`` holds the
    places of all resources read before, and takes this one if it is right.
    """
    errors, before = source.errors, len(source.errors)
    kind = _kind(source)
    if kind is None:
        return None
    namespace = _namespace(source, kind)
    resource = kind.read(source, namespace)
    claims: dict[Identity, Place] = {}
    if resource is not None:
        if not isinstance(resource, Tier):  # whose names are shorter, and checked already
            source.read(("metadata", "name"), dns_subdomain, resource.name)
        claims = _claims(source, resource, namespace, seen)
    if len(errors) > before:
        errors[before:] = sorted(errors[before:], key=_position)
        return None
    seen.update(claims)
    return resource


def _position(error: LabError) -> tuple[int, int]:
    """Where an error of this file stands, to tell the errors of one resource in the order of its lines."""
    place = error.place
    return (place.line or 0, place.column or 0) if isinstance(place, Place) else (0, 0)


def _kind(source: Source) -> _Kind | None:
    """Find out how to read a resource; None for one that is not read, and if it matters there is then an error."""
    value = source.value()
    if not isinstance(value, dict):
        source.refuse((), "is not a resource", allowed="a mapping with apiVersion, kind, metadata and spec")
        return None
    version, name = value.get("apiVersion"), value.get("kind")
    for key, given in (("kind", name), ("apiVersion", version)):
        if not isinstance(given, str) or not given:
            step = "name the topology first, the resources after it" if "nodes" in value else None
            source.refuse((key,), "is not given" if given is None else "must be text", next_step=step)
            return None
    kind = _KINDS.get((str(version), str(name)))
    if kind is None and name not in _PASSED_OVER:
        _refuse_kind(source, str(name))
    return kind


def _refuse_kind(source: Source, name: str) -> None:
    versions = sorted(known for known, kind in _KINDS if kind == name)
    if versions:
        source.refuse(("apiVersion",), f"is not one that has a {name}", allowed=" or ".join(versions))
    elif name in _OF_THE_TOPOLOGY:
        source.refuse(
            ("kind",),
            "is not policy",
            next_step="describe the cluster in the topology file, and leave it out here",
        )
    else:
        near = suggestion(name, _NAMES)
        source.refuse(("kind",), "is unknown", allowed=listing(_NAMES), next_step=near)


def _namespace(source: Source, kind: _Kind) -> str | None:
    """The namespace of the resource, "default" where it should have one and names none; None for cluster-wide."""
    given = source.value(("metadata", "namespace"))
    at = ("metadata", "namespace")
    if not kind.namespaced:
        if given not in (None, ""):
            source.refuse(at, "cannot stand in a cluster-wide resource", key=True)
        return None
    namespace = given if isinstance(given, str) and given else "default"
    # Metadata or a namespace of another type is the model's to refuse, once.
    readable = isinstance(source.value(("metadata",)), dict) and isinstance(given, str | None)
    namespaces = source.topology.namespaces
    if readable and namespace not in namespaces:
        source.refuse(
            at,
            "is not a namespace of the topology" if given else 'is not given, and the topology has no "default"',
            allowed=listing(namespaces),
            next_step=suggestion(namespace, namespaces),
        )
    return namespace


def _claims(
    source: Source, resource: AnyResource, namespace: str | None, seen: Mapping[Identity, Place]
) -> dict[Identity, Place]:
    """The places of what nothing else of the run may have, and refuse what something else has: name and node ports."""
    claims: dict[Identity, Place] = {}
    for identity, path, what in _unique(source, resource, namespace):
        if first := claims.get(identity) or seen.get(identity):
            advice = f"the first one is at {first}; rename or remove one of them"
            source.refuse(path, f"is that of {what} that is there already", next_step=advice)
        claims[identity] = source.place(path)
    return claims


def _unique(source: Source, resource: AnyResource, namespace: str | None) -> Iterator[tuple[Identity, Path, str]]:
    """What has to be the only one of its kind: who it is, where that stands, and what it is in words."""
    kind, (group, _, _) = source.value()["kind"], source.value()["apiVersion"].rpartition("/")
    where = f" in the namespace {namespace}" if namespace else ""
    yield (group, kind, namespace or "", resource.name), ("metadata", "name"), f"a {kind}{where}"
    for index, port in enumerate(resource.ports if isinstance(resource, Service) else ()):
        if port.node_port is not None:
            label = str(protocol_label(port.protocol))
            identity = ("nodePort", label, "", str(port.node_port))
            yield identity, ("spec", "ports", index, "nodePort"), f"a service for {label}"
