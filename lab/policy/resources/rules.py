# SPDX-License-Identifier: Apache-2.0
"""The rules of Calico's policies and profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import Place
from lab.policy.resources.common import Action, PortRange
from lab.policy.selector import Selector
from lab.topology import Net

__all__ = [
    "EntityRule",
    "HttpMatch",
    "HttpPath",
    "IcmpMatch",
    "PortMatch",
    "ProtocolMatch",
    "Rule",
    "ServiceAccountMatch",
    "ServiceMatch",
]


@dataclass(frozen=True, slots=True)
class ProtocolMatch:
    """A protocol number and whether the file wrote it as a name: only names imply an IP version."""

    number: int
    by_name: bool


PortMatch = PortRange | str
"""A range of numbers, or the name of a port."""


@dataclass(frozen=True, slots=True)
class IcmpMatch:
    """An ICMP type, and a code or None for any."""

    type: int
    code: int | None


@dataclass(frozen=True, slots=True)
class HttpPath:
    """One path of an ``http`` match."""

    how: Literal["exact", "prefix"]
    path: str


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """Methods and paths of an HTTP rule; an L4 flow meets the rule as if this were not there."""

    methods: tuple[str, ...]
    paths: tuple[HttpPath, ...]


@dataclass(frozen=True, slots=True)
class ServiceAccountMatch:
    """``serviceAccounts``: names and selector, both of which must hold when given."""

    names: tuple[str, ...]
    selector: Selector | None


@dataclass(frozen=True, slots=True)
class ServiceMatch:
    """``services``: the endpoints of one service, by its EndpointSlices; ``namespace`` None as the file has it."""

    name: str
    namespace: str | None


@dataclass(frozen=True, slots=True)
class EntityRule:
    """One side of a Calico rule; everything given must hold. None and () mean: not given."""

    nets: tuple[Net, ...] = ()
    not_nets: tuple[Net, ...] = ()
    selector: Selector | None = None
    not_selector: Selector | None = None
    namespace_selector: Selector | None = None
    service_accounts: ServiceAccountMatch | None = None
    services: ServiceMatch | None = None
    ports: tuple[PortMatch, ...] = ()
    not_ports: tuple[PortMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a Calico policy or profile, as written."""

    action: Action
    place: Place
    ip_version: Literal[4, 6] | None = None
    protocol: ProtocolMatch | None = None
    not_protocol: ProtocolMatch | None = None
    icmp: IcmpMatch | None = None
    not_icmp: IcmpMatch | None = None
    source: EntityRule = EntityRule()
    destination: EntityRule = EntityRule()
    http: HttpMatch | None = None
    annotations: Mapping[str, str] | None = None
