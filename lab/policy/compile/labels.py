# SPDX-License-Identifier: Apache-2.0
"""What selectors see: workloads and network sets, each with its own labels and those that it inherits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from lab.errors import Place
from lab.policy.resources import Action, NetworkSet, Profile, Resources, Rule
from lab.topology import Net, Port, Topology, Workload

__all__ = [
    "NAMESPACE_LABEL",
    "NAMESPACE_PREFIX",
    "ORCHESTRATOR_LABEL",
    "SERVICE_ACCOUNT_LABEL",
    "SERVICE_ACCOUNT_PREFIX",
    "Labelled",
    "all_profiles",
    "labelled_network_set",
    "labelled_workload",
    "profiles_of",
]

NAMESPACE_LABEL = "projectcalico.org/namespace"
SERVICE_ACCOUNT_LABEL = "projectcalico.org/serviceaccount"
ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator"
NAMESPACE_PREFIX = "pcns."
SERVICE_ACCOUNT_PREFIX = "pcsa."
# The name of a namespace or service account, as a label of its own on what it holds.
_NAME_LABEL = "projectcalico.org/name"


@dataclass(frozen=True, slots=True)
class Labelled:
    """One thing that selectors can match: its effective labels, its addresses as networks, its named ports."""

    labels: Mapping[str, str]
    nets: tuple[Net, ...]
    ports: tuple[Port, ...] = ()


def _namespace_profile(namespace: str) -> str:
    return f"kns.{namespace}"


def _account_profile(namespace: str, account: str) -> str:
    return f"ksa.{namespace}.{account}"


def profiles_of(workload: Workload) -> tuple[str, ...]:
    """The profiles of a workload in their order: the file's, or those of its namespace and service account."""
    if workload.profiles is not None:
        return workload.profiles
    namespace = _namespace_profile(workload.namespace)
    if workload.service_account is None:
        return (namespace,)
    return namespace, _account_profile(workload.namespace, workload.service_account)


def _inherited(prefix: str, labels: Mapping[str, str], name: str) -> dict[str, str]:
    return {prefix + key: value for key, value in {**labels, _NAME_LABEL: name}.items()}


def _kubernetes_profiles(topology: Topology) -> Iterator[Profile]:
    """Calico's conversion: a namespace opens both directions, a service account only lends its labels."""
    for namespace in topology.namespaces.values():
        place = namespace.place or Place(topology.file)
        everything = (Rule(Action.ALLOW, place),)
        labels = _inherited(NAMESPACE_PREFIX, namespace.labels, namespace.name)
        yield Profile(_namespace_profile(namespace.name), everything, everything, labels, place)
        for account, own in namespace.service_accounts.items():
            labels = _inherited(SERVICE_ACCOUNT_PREFIX, own, account)
            yield Profile(_account_profile(namespace.name, account), (), (), labels, place)


def all_profiles(topology: Topology, resources: Resources) -> dict[str, Profile]:
    """Every profile by name: those of namespaces and service accounts, then the resources', which win."""
    profiles = {profile.name: profile for profile in _kubernetes_profiles(topology)}
    profiles.update((profile.name, profile) for profile in resources.profiles)
    return profiles


def _effective(own: Mapping[str, str], names: Sequence[str], profiles: Mapping[str, Profile]) -> dict[str, str]:
    """A thing's own label beats an inherited one; of two profiles with one key the first listed wins."""
    labels: dict[str, str] = {}
    for name in reversed(names):
        if name in profiles:
            labels.update(profiles[name].labels_to_apply)
    labels.update(own)
    return labels


def labelled_workload(workload: Workload, profiles: Mapping[str, Profile]) -> Labelled:
    """A workload as its endpoint enters the datastore: no forged inherited labels, and the system's own added."""
    forged = (NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX)
    own = {key: value for key, value in workload.labels.items() if not key.startswith(forged)}
    own[NAMESPACE_LABEL] = workload.namespace
    own[ORCHESTRATOR_LABEL] = "k8s"
    if workload.service_account is not None:
        own[SERVICE_ACCOUNT_LABEL] = workload.service_account
    nets = tuple(ip_network(address) for address in workload.addresses)
    return Labelled(_effective(own, profiles_of(workload), profiles), nets, workload.ports)


def _without_zero_prefix(net: Net) -> tuple[Net, ...]:
    """Kernel sets cannot hold a network of prefix length 0, so it travels as its two halves."""
    return tuple(net.subnets()) if net.prefixlen == 0 else (net,)


def labelled_network_set(network_set: NetworkSet, profiles: Mapping[str, Profile]) -> Labelled:
    """A network set; one in a namespace also has that namespace's labels."""
    nets = tuple(half for net in network_set.nets for half in _without_zero_prefix(net))
    if network_set.namespace is None:
        return Labelled(dict(network_set.labels), nets)
    own = {**network_set.labels, NAMESPACE_LABEL: network_set.namespace}
    return Labelled(_effective(own, (_namespace_profile(network_set.namespace),), profiles), nets)
