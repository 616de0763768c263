# SPDX-License-Identifier: Apache-2.0
"""FelixConfiguration: the fields that change a verdict are read, those that cannot are passed over.

A field that would change a verdict in a way that the lab does not model is refused, unless it says the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from lab.policy.read.felix_fields import FIXED, IRRELEVANT
from lab.policy.read.host_models import FelixConfigurationModel
from lab.policy.read.source import Path, Refusal, Source
from lab.policy.read.values import port_number, set_net
from lab.policy.resources import Failsafe, FelixConfiguration
from lab.protocols import SCTP, TCP, UDP
from lab.schema import suggestion

__all__ = ["read_felix_configuration"]

EndpointToHostAction = Literal["Drop", "Return", "Accept"]
Read = TypeVar("Read")

_SPEC: Path = ("spec",)
_FAILSAFE_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
_FAILSAFE_KEYS = ("protocol", "port", "net")
_ACTIONS: Mapping[str, EndpointToHostAction] = {"drop": "Drop", "return": "Return", "accept": "Accept"}
_ENABLED = {"enabled": True, "disabled": False}
_MODELLED = frozenset(
    {
        "allowIPIPPacketsFromWorkloads",
        "allowVXLANPacketsFromWorkloads",
        "defaultEndpointToHostAction",
        "disableConntrackInvalidCheck",
        "failsafeInboundHostPorts",
        "failsafeOutboundHostPorts",
        "ipForwarding",
        "ipv6Support",
        "vxlanPort",
    }
)


def read_felix_configuration(source: Source, _: str | None) -> FelixConfiguration | None:
    """Read a FelixConfiguration; None when its shape is wrong."""
    model = source.check(FelixConfigurationModel)
    if model is None:
        return None
    spec = _Fields(source, {key: value for key, value in model.spec.items() if value is not None})
    spec.check_names()
    no_check = spec.read("disableConntrackInvalidCheck", _boolean)
    return FelixConfiguration(
        node=_node(source, model.metadata.name),
        endpoint_to_host_action=spec.read("defaultEndpointToHostAction", _action),
        failsafe_inbound=spec.failsafes("failsafeInboundHostPorts"),
        failsafe_outbound=spec.failsafes("failsafeOutboundHostPorts"),
        allow_vxlan_from_workloads=spec.read("allowVXLANPacketsFromWorkloads", _boolean),
        allow_ipip_from_workloads=spec.read("allowIPIPPacketsFromWorkloads", _boolean),
        vxlan_port=spec.read("vxlanPort", port_number),
        drop_invalid=None if no_check is None else not no_check,
        place=source.place(),
        ip_forwarding=spec.read("ipForwarding", _enabled),
        ipv6_support=spec.read("ipv6Support", _boolean),
    )


def _node(source: Source, name: str) -> str | None:
    """The node that the configuration is for, None for all of them."""
    if name == "default":
        return None
    node = name.removeprefix("node.")
    at = ("metadata", "name")
    if node == name:
        source.refuse(at, "is not one that Felix looks for", allowed="default, or node.NAME for one node")
    elif node not in source.topology.nodes:
        names = [f"node.{known}" for known in source.topology.nodes]
        source.refuse(at, "is of no node of the topology", allowed=", ".join(names), next_step=suggestion(name, names))
    return node


class _Fields:
    """The fields of one configuration that say something."""

    def __init__(self, source: Source, values: Mapping[str, Any]) -> None:
        self._source = source
        self._values = values

    def check_names(self) -> None:
        """Refuse what Felix does not know, and what the lab does not model."""
        for key, value in self._values.items():
            if key in FIXED:
                self._check_fixed(key, value)
            elif key not in _MODELLED and key not in IRRELEVANT:
                near = suggestion(key, [*_MODELLED, *FIXED, *IRRELEVANT])
                self._source.refuse((*_SPEC, key), "is no field of FelixConfiguration", key=True, next_step=near)

    def _check_fixed(self, key: str, value: object) -> None:
        default = FIXED[key]
        said = value.lower() if isinstance(value, str) else value
        if said not in (default.lower() if isinstance(default, str) else default, ""):
            shown = str(default).lower() if isinstance(default, bool) else default
            self._source.refuse(
                (*_SPEC, key),
                "can change verdicts, and the lab does not model how",
                allowed=f"{shown}, or no such key" if shown else "no such key",
            )

    def read(self, key: str, reader: Callable[[Any], Read]) -> Read | None:
        """Read one field, None where it says nothing."""
        value = self._values.get(key)
        return None if value is None or value == "" else self._source.read((*_SPEC, key), reader, value)

    def failsafes(self, key: str) -> tuple[Failsafe, ...] | None:
        """Read a list of failsafe ports; an empty one closes them all."""
        values = self._values.get(key)
        if values is None:
            return None
        if not isinstance(values, list):
            self._source.refuse((*_SPEC, key), "must be a list", key=True, next_step="write [] to open no port")
            return None
        read = (self._failsafe((*_SPEC, key, index), value) for index, value in enumerate(values))
        return tuple(failsafe for failsafe in read if failsafe is not None)

    def _failsafe(self, path: Path, value: object) -> Failsafe | None:
        source, before = self._source, len(self._source.errors)
        if not isinstance(value, dict):
            what = "is the form of Felix's environment, not of a resource" if isinstance(value, str) else "is no port"
            source.refuse(path, what, allowed="{protocol: TCP, port: 22}, with or without net: CIDR")
            return None
        for key in value.keys() - _FAILSAFE_KEYS:
            source.refuse((*path, key), "is unknown", key=True, allowed=", ".join(_FAILSAFE_KEYS))
        if value.get("port") is None:
            source.refuse(path, "has no 'port', which it needs")
        port = source.read((*path, "port"), port_number, value.get("port")) if value.get("port") is not None else None
        protocol = source.read((*path, "protocol"), _failsafe_protocol, value.get("protocol") or "TCP")
        net = source.read((*path, "net"), _net, value["net"]) if value.get("net") else None
        if len(source.errors) > before or port is None or protocol is None:
            return None
        return Failsafe(protocol, port, net)


def _net(value: object) -> Any:
    if not isinstance(value, str):
        raise Refusal("is not a network", allowed="a CIDR such as 10.0.0.0/8 or fd00::/64")
    return set_net(value)


def _failsafe_protocol(value: object) -> int:
    number = _FAILSAFE_PROTOCOLS.get(value) if isinstance(value, str) else None
    if number is None:
        near = suggestion(str(value).upper(), _FAILSAFE_PROTOCOLS)
        raise Refusal("is not a protocol of failsafe ports", allowed=", ".join(_FAILSAFE_PROTOCOLS), next_step=near)
    return number


def _action(value: object) -> EndpointToHostAction:
    """The action in any case, as Felix takes it."""
    action = _ACTIONS.get(value.lower()) if isinstance(value, str) else None
    if action is None:
        near = suggestion(str(value).capitalize(), _ACTIONS.values())
        raise Refusal("is not an action", allowed=", ".join(_ACTIONS.values()), next_step=near)
    return action


def _enabled(value: object) -> bool:
    enabled = _ENABLED.get(value.lower()) if isinstance(value, str) else None
    if enabled is None:
        raise Refusal("is neither of the two", allowed="Enabled, Disabled")
    return enabled


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refusal("must be true or false")
    return value
