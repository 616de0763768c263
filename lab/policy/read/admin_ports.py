# SPDX-License-Identifier: Apache-2.0
"""The ports (v1alpha1) and protocols (v1alpha2 and v1beta1) of a rule of an admin policy.

An entry of a kind that nobody knows is kept as an empty one, so that its rule can fail closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.policy.read.admin_models import DestinationPortModel, PortModel, ProtocolModel, RangeModel
from lab.policy.read.source import Path, Source
from lab.policy.read.values import calico_port_name, port_number
from lab.policy.resources import AdminPort, PortRange
from lab.protocols import SCTP, TCP, UDP

__all__ = ["read_port", "read_protocol"]

_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
_PORT_KINDS = frozenset({"portNumber", "portRange", "namedPort"})
_NAMED = "destinationNamedPort"
_PROTOCOL_KINDS = frozenset({"tcp", "udp", "sctp", _NAMED})


def read_port(source: Source, path: Path, given: Mapping[str, Any]) -> AdminPort:
    """Read one entry of ``ports``."""
    if not _is_known(source, path, given, _PORT_KINDS):
        return AdminPort()
    model = source.check(PortModel, path)
    if model is None:
        return AdminPort()
    if model.port_number is not None:
        number = _number(source, (*path, "portNumber", "port"), model.port_number.port)
        return AdminPort(_PROTOCOLS[model.port_number.protocol], number)
    if model.port_range is not None:
        ports = _range(source, (*path, "portRange"), model.port_range)
        return AdminPort(_PROTOCOLS[model.port_range.protocol], ports)
    return _named(source, (*path, "namedPort"), model.named_port)


def read_protocol(source: Source, path: Path, given: Mapping[str, Any]) -> AdminPort:
    """Read one entry of ``protocols``."""
    if not _is_known(source, path, given, _PROTOCOL_KINDS):
        return AdminPort()
    model = source.check(ProtocolModel, path)
    if model is None:
        return AdminPort()
    for name, protocol in (("tcp", model.tcp), ("udp", model.udp), ("sctp", model.sctp)):
        if protocol is not None:
            ports = _destination_port(source, (*path, name, "destinationPort"), protocol.destination_port)
            return AdminPort(_PROTOCOLS[name.upper()], ports)
    return _named(source, (*path, _NAMED), model.destination_named_port)


def _is_known(source: Source, path: Path, given: Mapping[str, Any], known: frozenset[str]) -> bool:
    """Whether an entry is of a known kind; one of several kinds is refused."""
    kinds = [key for key, value in given.items() if value is not None]
    if len(kinds) > 1:
        source.refuse(path, "holds several kinds of port", allowed="one of them", next_step="write an entry for each")
    return len(kinds) == 1 and kinds[0] in known


def _destination_port(source: Source, path: Path, model: DestinationPortModel | None) -> PortRange | None:
    if model is None:
        return None
    if (model.number is None) == (model.range is None):
        source.refuse(path, "must hold one of the two", key=True, allowed="either number or range")
    if model.number is not None:
        return _number(source, (*path, "number"), model.number)
    return None if model.range is None else _range(source, (*path, "range"), model.range)


def _number(source: Source, path: Path, number: int) -> PortRange:
    source.read(path, port_number, number)
    return PortRange(number, number)


def _range(source: Source, path: Path, model: RangeModel) -> PortRange:
    first = source.read((*path, "start"), port_number, model.start)
    last = source.read((*path, "end"), port_number, model.end)
    if first is not None and last is not None and first > last:
        source.refuse((*path, "end"), "is less than start", allowed=f"{first} or more")
    return PortRange(model.start, model.end)


def _named(source: Source, path: Path, name: str | None) -> AdminPort:
    return AdminPort() if name is None else AdminPort(name=source.read(path, calico_port_name, name))
