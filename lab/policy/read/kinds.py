# SPDX-License-Identifier: Apache-2.0
"""Which kind a resource is of: those that are read, those that are not yet, those that belong elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.document import Document
from lab.errors import LabError, Place
from lab.policy.read.calico import (
    read_global_policy,
    read_namespaced_policy,
    read_network_set,
    read_profile,
    read_tier,
)
from lab.policy.read.kubernetes import read_kubernetes_policy
from lab.policy.read.source import Path, Source
from lab.policy.read.values import dns_subdomain
from lab.policy.resources import CalicoPolicy, KubernetesNetworkPolicy, NetworkSet, Profile, Tier
from lab.schema import listing, suggestion
from lab.topology import Topology

__all__ = ["AnyResource", "Identity", "read_resource"]

AnyResource = CalicoPolicy | KubernetesNetworkPolicy | NetworkSet | Profile | Tier
Identity = tuple[str, str, str, str]
"""apiVersion, kind, namespace ("" for none) and name: no two resources of a run share it."""

_CALICO = "projectcalico.org/v3"
_KUBERNETES = "networking.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind is read; ``read`` gets the namespace, or None for what is cluster-wide."""

    namespaced: bool
    read: Callable[[Source, str | None], AnyResource | None]


_KINDS: Mapping[tuple[str, str], _Kind] = {
    (_CALICO, "NetworkPolicy"): _Kind(namespaced=True, read=read_namespaced_policy),
    (_CALICO, "GlobalNetworkPolicy"): _Kind(namespaced=False, read=read_global_policy),
    (_CALICO, "NetworkSet"): _Kind(namespaced=True, read=read_network_set),
    (_CALICO, "GlobalNetworkSet"): _Kind(namespaced=False, read=read_network_set),
    (_CALICO, "Tier"): _Kind(namespaced=False, read=read_tier),
    (_CALICO, "Profile"): _Kind(namespaced=False, read=read_profile),
    (_KUBERNETES, "NetworkPolicy"): _Kind(namespaced=True, read=read_kubernetes_policy),
}
_NAMES = sorted({kind for _, kind in _KINDS})
_NOT_YET = frozenset(
    {
        "AdminNetworkPolicy",
        "BGPConfiguration",
        "BGPFilter",
        "BGPPeer",
        "BaselineAdminNetworkPolicy",
        "BlockAffinity",
        "CalicoNodeStatus",
        "ClusterInformation",
        "ClusterNetworkPolicy",
        "EndpointSlice",
        "Endpoints",
        "FelixConfiguration",
        "HostEndpoint",
        "IPAMConfiguration",
        "IPPool",
        "IPReservation",
        "KubeControllersConfiguration",
        "StagedGlobalNetworkPolicy",
        "StagedKubernetesNetworkPolicy",
        "StagedNetworkPolicy",
        "WorkloadEndpoint",
    }
)
_OF_THE_TOPOLOGY = frozenset(
    {
        "ConfigMap",
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Ingress",
        "Job",
        "Namespace",
        "Node",
        "Pod",
        "ReplicaSet",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }
)


def read_resource(
    document: Document, at: Path, topology: Topology, seen: dict[Identity, Place], errors: list[LabError]
) -> AnyResource | None:
    """Read the resource at a path of a document; None when it is wrong, and then there are new errors.

    ``seen`` holds the places of all resources read before, and takes this one.
    """
    source, before = Source(document, at, errors), len(errors)
    kind = _kind(source)
    if kind is None:
        return None
    namespace = _namespace(source, kind, topology)
    resource = kind.read(source, namespace)
    if resource is not None:
        source.read(("metadata", "name"), dns_subdomain, resource.name)
        _check_unique(source, resource.name, namespace, seen)
    errors[before:] = sorted(errors[before:], key=_position)
    return resource if len(errors) == before else None


def _position(error: LabError) -> tuple[int, int]:
    """Where an error of this file stands, to tell the errors of one resource in the order of its lines."""
    place = error.place
    return (place.line or 0, place.column or 0) if isinstance(place, Place) else (0, 0)


def _kind(source: Source) -> _Kind | None:
    """Find out how to read a resource; None for one that is not read, which is then among the errors."""
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
    if kind is None:
        _refuse_kind(source, str(name))
    return kind


def _refuse_kind(source: Source, name: str) -> None:
    versions = sorted(known for known, kind in _KINDS if kind == name)
    if versions:
        source.refuse(("apiVersion",), f"is not one that has a {name}", allowed=" or ".join(versions))
    elif name in _NOT_YET:
        source.refuse(("kind",), "is not supported yet", allowed=listing(_NAMES))
    elif name in _OF_THE_TOPOLOGY:
        source.refuse(
            ("kind",),
            "is not policy",
            next_step="describe the cluster in the topology file, and leave it out here",
        )
    else:
        near = suggestion(name, [*_NAMES, *sorted(_NOT_YET)])
        source.refuse(("kind",), "is unknown", allowed=listing(_NAMES), next_step=near)


def _namespace(source: Source, kind: _Kind, topology: Topology) -> str | None:
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
    if readable and namespace not in topology.namespaces:
        source.refuse(
            at,
            "is not a namespace of the topology" if given else 'is not given, and the topology has no "default"',
            allowed=listing(topology.namespaces),
            next_step=suggestion(namespace, topology.namespaces),
        )
    return namespace


def _check_unique(source: Source, name: str, namespace: str | None, seen: dict[Identity, Place]) -> None:
    identity = (source.value()["apiVersion"], source.value()["kind"], namespace or "", name)
    place = source.place(("metadata", "name"))
    if first := seen.get(identity):
        where = f" in the namespace {namespace}" if namespace else ""
        source.refuse(
            ("metadata", "name"),
            f"is that of a {identity[1]}{where} that is there already",
            next_step=f"the first one is at {first}; rename or remove one of them",
        )
    seen.setdefault(identity, place)
