# SPDX-License-Identifier: Apache-2.0
"""What selectors see: workloads, host endpoints, network sets, with their own labels and those that they inherit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from lab.errors import Place
from lab.policy.resources import Action, HostEndpoint, NetworkSet, Profile, Rule
from lab.topology import Namespace, Net, Port, Workload

__all__ = [
    "NAMESPACE_LABEL",
    "NAMESPACE_PREFIX",
    "ORCHESTRATOR_LABEL",
    "SERVICE_ACCOUNT_LABEL",
    "SERVICE_ACCOUNT_PREFIX",
    "Labelled",
    "Source",
    "ThingKey",
    "default_profile",
    "inherits_from",
    "labelled",
    "namespace_profiles",
    "profiles_of",
    "thing_key",
]

NAMESPACE_LABEL = "projectcalico.org/namespace"
SERVICE_ACCOUNT_LABEL = "projectcalico.org/serviceaccount"
ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator"
NAMESPACE_PREFIX = "pcns."
SERVICE_ACCOUNT_PREFIX = "pcsa."
Source = Workload | HostEndpoint | NetworkSet
"""What becomes a thing that selectors match."""
# The name of a namespace or service account, as a label of its own on what it holds.
_NAME_LABEL = "projectcalico.org/name"


@dataclass(frozen=True, slots=True, order=True)
class ThingKey:
    """Which thing: what it is, its namespace ("" for none) and its name."""

    what: Literal["workload", "host endpoint", "network set"]
    namespace: str
    name: str


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


def default_profile(file: str) -> Profile:
    """The profile that Calico has ready for host endpoints that no policy selects: it opens both directions."""
    everything = (Rule(Action.ALLOW, Place(file)),)
    return Profile("projectcalico-default-allow", everything, everything, {}, None)


def namespace_profiles(namespace: Namespace, file: str) -> Iterator[Profile]:
    """Calico's conversion: a namespace opens both directions, a service account only lends its labels."""
    place = namespace.place or Place(file)
    everything = (Rule(Action.ALLOW, place),)
    labels = _inherited(NAMESPACE_PREFIX, namespace.labels, namespace.name)
    yield Profile(_namespace_profile(namespace.name), everything, everything, labels, place)
    for account, own in namespace.service_accounts.items():
        labels = _inherited(SERVICE_ACCOUNT_PREFIX, own, account)
        yield Profile(_account_profile(namespace.name, account), (), (), labels, place)


def _effective(own: Mapping[str, str], names: Sequence[str], profiles: Mapping[str, Profile]) -> dict[str, str]:
    """A thing's own label beats an inherited one; of two profiles with one key the first listed wins."""
    labels: dict[str, str] = {}
    for name in reversed(names):
        if name in profiles:
            labels.update(profiles[name].labels_to_apply)
    labels.update(own)
    return labels


def thing_key(source: Source) -> ThingKey:
    """Which thing a workload, host endpoint or network set is."""
    match source:
        case Workload():
            return ThingKey("workload", source.namespace, source.short_name)
        case HostEndpoint():
            return ThingKey("host endpoint", "", source.name)
        case NetworkSet():
            return ThingKey("network set", source.namespace or "", source.name)


def inherits_from(source: Source) -> tuple[str, ...]:
    """The names of the profiles whose labels a thing inherits, in their order."""
    match source:
        case Workload():
            return profiles_of(source)
        case HostEndpoint():
            return source.profiles
        case NetworkSet():
            return () if source.namespace is None else (_namespace_profile(source.namespace),)


def labelled(source: Source, profiles: Mapping[str, Profile]) -> Labelled:
    """A thing as selectors see it.

    Of a host endpoint only the expected addresses count, never those that its interface happens to have (felix/calc
    does not know them).
    """
    own = _own_labels(source)
    labels = _effective(own, inherits_from(source), profiles)
    match source:
        case Workload():
            return Labelled(labels, tuple(ip_network(address) for address in source.addresses), source.ports)
        case HostEndpoint():
            return Labelled(labels, tuple(ip_network(address) for address in source.expected_ips), source.ports)
        case NetworkSet():
            return Labelled(labels, tuple(half for net in source.nets for half in _without_zero_prefix(net)))


def _own_labels(source: Source) -> dict[str, str]:
    if isinstance(source, Workload):
        return _of_workload(source)
    if isinstance(source, NetworkSet) and source.namespace is not None:
        return {**source.labels, NAMESPACE_LABEL: source.namespace}
    return dict(source.labels)


def _of_workload(workload: Workload) -> dict[str, str]:
    """A workload's labels as its endpoint enters the datastore: none forged, and the system's own added."""
    forged = (NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX)
    own = {key: value for key, value in workload.labels.items() if not key.startswith(forged)}
    own[NAMESPACE_LABEL] = workload.namespace
    own[ORCHESTRATOR_LABEL] = "k8s"
    if workload.service_account is not None:
        own[SERVICE_ACCOUNT_LABEL] = workload.service_account
    return own


def _without_zero_prefix(net: Net) -> tuple[Net, ...]:
    """Kernel sets cannot hold a network of prefix length 0, so it travels as its two halves."""
    return tuple(net.subnets()) if net.prefixlen == 0 else (net,)
