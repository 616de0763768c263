# SPDX-License-Identifier: Apache-2.0
"""What a topology offers to policies: its labels, addresses and ports, and what stands next to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

from dataplanes.api import Capability
from lab.conformance.scenario import Entry

__all__ = ["Facts", "Labels", "ServedPort"]

Labels = Mapping[str, tuple[str, ...]]
"""The values that occur under each key, the least telling first; one that nothing has is always among them."""

ABSENT_VALUE = "other"
"""A value that no drawn topology uses: a selector for it must match nothing, its negation everything."""

_FALLBACK_LABELS: Labels = {"app": ("web", ABSENT_VALUE)}
_FALLBACK_PORT = ("TCP", 80)
_PREFIXES_ABOVE_HOST = (0, 1, 2, 8)
"""How many bits shorter than a host's prefix the drawn networks are: the host, a pair, four, a subnet."""


@dataclass(frozen=True, slots=True)
class ServedPort:
    """A port that an end declares."""

    name: str | None
    protocol: str
    port: int


@dataclass(frozen=True)
class Facts:
    """A topology document whose ends all have their addresses written out, and what may be asked of a dataplane."""

    document: Entry
    capabilities: frozenset[Capability] = frozenset(Capability)
    with_requests: bool = False

    @cached_property
    def namespaces(self) -> tuple[str, ...]:
        """Names of namespaces, those that have workloads."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self._section("workloads")))

    @cached_property
    def workloads(self) -> tuple[str, ...]:
        """Names of workloads."""
        return tuple(self._section("workloads"))

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """Names of workloads, then of externals."""
        return (*self.workloads, *self._section("externals"))

    @cached_property
    def sidecars(self) -> frozenset[str]:
        """Names of workloads with a sidecar, of which requests can be made, if they are to be made at all."""
        if not self.with_requests:
            return frozenset()
        return frozenset(name for name, body in self._section("workloads").items() if body.get("sidecar"))

    @cached_property
    def request_ports(self) -> tuple[int, ...]:
        """Ports at which requests are made: declared for TCP, and not by all who do so called one without HTTP."""
        served = [each for each in self.served if each.protocol == "TCP"]
        looked_at = [each.port for each in served if (each.name or "").partition("-")[0] != "tcp"]
        return tuple(dict.fromkeys(looked_at))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of nodes, where they may be ends of flows."""
        if Capability.HOST_ENDPOINTS not in self.capabilities:
            return ()
        return tuple(name for name, body in self._section("nodes").items() if body.get("addresses"))

    @cached_property
    def node_labels(self) -> Labels:
        """Labels of nodes."""
        return _labels(body.get("labels") for body in self._section("nodes").values())

    @property
    def service(self) -> tuple[str, str]:
        """Namespace and name of the service that rules may speak of."""
        return self.namespaces[0], "web"

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """Names of the profiles that workloads list, whoever defines them."""
        listed = (name for body in self._section("workloads").values() for name in body.get("profiles") or ())
        return tuple(dict.fromkeys(listed))

    @cached_property
    def accounts(self) -> tuple[str, ...]:
        """Names of service accounts."""
        names = (name for body in self._section("namespaces").values() for name in body.get("serviceAccounts") or ())
        return tuple(dict.fromkeys(names)) or ("nobody",)

    @cached_property
    def pod_labels(self) -> Labels:
        """Labels of workloads."""
        return _labels(body.get("labels") for body in self._section("workloads").values())

    @cached_property
    def namespace_labels(self) -> Labels:
        """Labels of namespaces."""
        return _labels(body.get("labels") for body in self._section("namespaces").values())

    @cached_property
    def account_labels(self) -> Labels:
        """Labels of service accounts."""
        accounts = (body.get("serviceAccounts") or {} for body in self._section("namespaces").values())
        return _labels((body or {}).get("labels") for each in accounts for body in each.values())

    @cached_property
    def ports(self) -> tuple[tuple[str, int], ...]:
        """Protocol name and number of every declared port."""
        return tuple(dict.fromkeys((port.protocol, port.port) for port in self.served)) or (_FALLBACK_PORT,)

    @cached_property
    def served(self) -> tuple[ServedPort, ...]:
        """Every declared port."""
        bodies = (*self._section("workloads").values(), *self._section("externals").values())
        ports = (port for body in bodies for port in body.get("ports") or ())
        found = (ServedPort(port.get("name"), port.get("protocol", "TCP").upper(), port["port"]) for port in ports)
        return tuple(dict.fromkeys(found))

    def declared(self, name: str) -> list[dict[str, Any]]:
        """The ports that a workload declares, as documents of their own."""
        return [dict(port) for port in self._section("workloads")[name].get("ports") or ()]

    def accounts_of(self, name: str) -> tuple[str, ...]:
        """Names of the service accounts in a workload's namespace."""
        namespace = self._section("namespaces").get(name.partition("/")[0], {})
        return tuple(namespace.get("serviceAccounts") or ())

    @cached_property
    def port_names(self) -> tuple[str, ...]:
        """Names of declared ports, and one that nobody declares."""
        names = dict.fromkeys(port.name for port in self.served if port.name)
        return (*names, "unheard-of")

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Different ends that can talk, one of them at least a workload: between others policy has no say."""
        return tuple(pair for pair in self._talking(self.ends) if not set(pair).isdisjoint(self.workloads))

    @cached_property
    def pairs_with_nodes(self) -> tuple[tuple[str, str], ...]:
        """The same, and those with a node at either end."""
        with_node = (pair for pair in self._talking((*self.ends, *self.nodes)) if not set(pair).isdisjoint(self.nodes))
        return (*self.pairs, *with_node)

    def _talking(self, ends: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for source, target in product(ends, ends):
            if source != target and self.families_of(source) & self.families_of(target):
                yield source, target

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of an end."""
        kinds = ("workloads", "externals", "nodes")
        body = next(section[name] for section in map(self._section, kinds) if name in section)
        return tuple(body["addresses"])

    def families_of(self, name: str) -> frozenset[int]:
        """The families (4, 6) in which an end has an address."""
        return frozenset(6 if ":" in address else 4 for address in self.addresses(name))

    @cached_property
    def families(self) -> tuple[int, ...]:
        """The families (4, 6) in which anybody has an address."""
        return tuple(family for family in (4, 6) if self._nets[family])

    def nets(self, family: int) -> tuple[str, ...]:
        """Networks of a family that begin or end at an address in use, the smallest first."""
        return self._nets[family]

    @cached_property
    def _nets(self) -> Mapping[int, tuple[str, ...]]:
        by_family: dict[int, tuple[str, ...]] = {}
        for family in (4, 6):
            used = [text for name in self.ends for text in self.addresses(name) if (":" in text) == (family == 6)]
            nets = dict.fromkeys(_around(text, shorter) for shorter in _PREFIXES_ABOVE_HOST for text in used)
            by_family[family] = tuple(nets)
        return by_family

    def _section(self, name: str) -> Mapping[str, Any]:
        bodies: Any = self.document.get(name) or {}
        return {key: body or {} for key, body in bodies.items()}


def _labels(bodies: Iterable[Mapping[str, str] | None]) -> Labels:
    values: dict[str, dict[str, None]] = {}
    for labels in bodies:
        for key, value in (labels or {}).items():
            values.setdefault(key, {})[value] = None
    return {key: (*given, ABSENT_VALUE) for key, given in values.items()} or _FALLBACK_LABELS


@cache
def _around(address: str, shorter: int) -> str:
    """The network round an address whose prefix is ``shorter`` bits shorter than a host's."""
    host = ip_address(address)
    return str(ip_network((host, host.max_prefixlen - shorter), strict=False))
