# SPDX-License-Identifier: Apache-2.0
"""What the sets that rules refer to hold, and under which names: a set is known by its definition alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha1
from ipaddress import ip_network
from typing import Literal

from lab.policy.compile.labels import Labelled
from lab.policy.resources import EndpointSlice, ServiceMatch
from lab.policy.selector import Selector, all_of
from lab.policy.snapshot import PortMember
from lab.protocols import PORT_PROTOCOLS, protocol_label
from lab.topology import Net

__all__ = ["NamedPorts", "Selected", "ServiceKey", "ServiceMembers", "SetMember", "SetNames", "SetSpec", "service_of"]

# Long enough that two of a million selectors do not meet, short enough for a kernel's set name (31 bytes).
_HASH_DIGITS = 12
_PORT_HASH_DIGITS = 10
_PORT_NAME_LENGTH = 8

SetMember = Net | PortMember
ServiceKey = tuple[str, str]
"""Namespace and name of a service."""


@dataclass(frozen=True, slots=True)
class Selected:
    """All addresses and networks of what a selector matches."""

    set_id: str
    about: str
    selector: Selector = field(compare=False)

    @property
    def kind(self) -> Literal["net", "port"]:
        """The kind of the set."""
        return "net"

    def members(self, thing: Labelled) -> Iterator[SetMember]:
        """What one thing that the selector matches adds to the set."""
        yield from thing.nets


@dataclass(frozen=True, slots=True)
class NamedPorts:
    """All ports of one name and of these protocols, of what a selector matches."""

    set_id: str
    about: str
    selector: Selector = field(compare=False)
    name: str
    protocols: frozenset[int]

    @property
    def kind(self) -> Literal["net", "port"]:
        """The kind of the set."""
        return "port"

    def members(self, thing: Labelled) -> Iterator[SetMember]:
        """What one thing that the selector matches adds to the set."""
        for port in thing.ports:
            if port.name == self.name and port.protocol in self.protocols:
                for net in thing.nets:
                    yield PortMember(net.network_address, port.protocol, port.port)


@dataclass(frozen=True, slots=True)
class ServiceMembers:
    """The addresses behind a service, as its EndpointSlices have them; ``bound`` ones together with their ports."""

    set_id: str
    about: str
    service: ServiceKey
    bound: bool

    @property
    def kind(self) -> Literal["net", "port"]:
        """The kind of the set."""
        return "port" if self.bound else "net"

    def members(self, endpoints: EndpointSlice) -> Iterator[SetMember]:
        """What one slice of the service adds to the set."""
        for address in endpoints.addresses:
            if self.bound:
                yield from (PortMember(address, port.protocol, port.port) for port in endpoints.ports)
            else:
                yield ip_network(address)


SetSpec = Selected | NamedPorts | ServiceMembers


def service_of(endpoints: EndpointSlice) -> ServiceKey:
    """The service that a slice belongs to."""
    return endpoints.namespace, endpoints.service


def _digest(text: str, digits: int) -> str:
    return sha1(text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()[:digits]


class SetNames:
    """Names the sets that rules ask for; ``specs`` tells what each that was asked for so far holds."""

    def __init__(self) -> None:
        self.specs: dict[str, SetSpec] = {}

    def net_set(self, selector: Selector) -> str:
        """The id of the set of all addresses and networks of what the selector matches."""
        about = selector.canonical
        return self._named(Selected(f"sel-{_digest(about, _HASH_DIGITS)}", about, selector))

    def port_set(self, selector: Selector | None, protocol: int | None, name: str) -> str:
        """The id of the set of all ports of a name, of one protocol or of any that has ports, on what matches."""
        chosen = selector or all_of()
        protocols = PORT_PROTOCOLS if protocol is None else frozenset({protocol})
        spoken = "any protocol" if protocol is None else protocol_label(protocol)
        about = f"port {name}, {spoken}, of {chosen.canonical}"
        set_id = f"port-{name[:_PORT_NAME_LENGTH]}-{_digest(about, _PORT_HASH_DIGITS)}"
        return self._named(NamedPorts(set_id, about, chosen, name, protocols))

    def service_set(self, service: ServiceMatch, *, bound: bool) -> str:
        """The id of the set of what is behind a service, its addresses together with their ports or without.

        A rule that leaves out the namespace has a set without members: Calico looks for the service in no
        namespace, also where the policy has one (libcalico-go: RuleAPIV3ToBackend).
        """
        key = (service.namespace or "", service.name)
        about = f"{'ports' if bound else 'addresses'} of service {'/'.join(key)}"
        prefix = "svcport" if bound else "svc"
        return self._named(ServiceMembers(f"{prefix}-{_digest(about, _HASH_DIGITS)}", about, key, bound))

    def _named(self, spec: SetSpec) -> str:
        self.specs[spec.set_id] = spec
        return spec.set_id
