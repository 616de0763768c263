# SPDX-License-Identifier: Apache-2.0
"""Policies by the thousand rules, and the same with one rule changed: what a dataplane is measured with as it grows.

Every policy applies to every workload and none of its rules matches what is sent, so that a packet has to get past all
of them. Each asks for a network set of its own. The last policy lets one port in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lab.policy.load import load_resources
from lab.policy.resources import Policy, Resources
from lab.topology import Flow, Topology, default_flows

__all__ = ["RULES_A_POLICY", "Load", "load_of", "probes"]

RULES_A_POLICY: Final = 10
_MEMBERS: Final = 10
_ALWAYS, _AT_TIMES = 80, 81
_FIRST_PORT: Final = 1000
_TCP: Final = 6


@dataclass(frozen=True, slots=True)
class Load:
    """Resources with so many rules; ``changed`` are the same but for one rule of one policy, ``policy``."""

    rules: int
    resources: Resources
    changed: Resources
    policy: tuple[Policy, Policy]


def load_of(rules: int, topology: Topology) -> Load:
    """So many rules, and a tenth as many policies and sets; the changed rule opens port 81."""
    count = rules // RULES_A_POLICY
    items = [item for number in range(count) for item in (_set(number), _policy(number))]
    with TemporaryDirectory(prefix="policylab-") as directory:
        file = Path(directory, "policies.json")
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items, _last()]}))
        resources = load_resources([file], topology)
        file.write_text(json.dumps(_policy(count // 2, opened=True)))
        (opened,) = load_resources([file], topology).policies
    old = next(policy for policy in resources.policies if policy.name == opened.name)
    policies = tuple(opened if policy is old else policy for policy in resources.policies)
    return Load(rules, resources, replace(resources, policies=policies), (old, opened))


def probes(topology: Topology) -> tuple[Flow, ...]:
    """TCP between all workloads in both families: to the port that is open, and to the one that is open at times."""
    pairs = dict.fromkeys((flow.source, flow.destination, flow.family) for flow in default_flows(topology))
    return tuple(
        Flow(source, destination, _TCP, port, family)
        for source, destination, family in pairs
        for port in (_ALWAYS, _AT_TIMES)
    )


def _set(number: int) -> dict[str, Any]:
    """Addresses that nobody here has, of both families."""
    offset = number * _MEMBERS
    four = [f"{IPv4Address('10.0.0.0') + offset + member}/32" for member in range(_MEMBERS)]
    six = [f"{IPv6Address('fd01::') + offset + member}/128" for member in range(_MEMBERS)]
    metadata = {"name": f"peers-{number}", "labels": {"peers": str(number)}}
    return _resource("GlobalNetworkSet", metadata, {"nets": four + six})


def _policy(number: int, *, opened: bool = False) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [
        {
            "action": "Allow",
            "protocol": "TCP",
            "source": {"selector": f"peers == '{number}'"},
            "destination": {"ports": [_FIRST_PORT + port]},
        }
        for port in range(RULES_A_POLICY)
    ]
    if opened:
        rules[RULES_A_POLICY // 2] = _let_in(_AT_TIMES)
    spec = {"order": number, "selector": "all()", "types": ["Ingress"], "ingress": rules}
    return _resource("GlobalNetworkPolicy", {"name": f"peers-{number}"}, spec)


def _last() -> dict[str, Any]:
    spec = {"selector": "all()", "types": ["Ingress"], "ingress": [_let_in(_ALWAYS)]}
    return _resource("GlobalNetworkPolicy", {"name": "everyone"}, spec)


def _let_in(port: int) -> dict[str, Any]:
    return {"action": "Allow", "protocol": "TCP", "destination": {"ports": [port]}}


def _resource(kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}
