# SPDX-License-Identifier: Apache-2.0
"""The policies under which verdicts are measured: every workload of three-by-three has a say, in both directions."""

from __future__ import annotations

from typing import Any, Final

from lab.document import document_of
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Topology

__all__ = ["hundred_policies", "hundred_resources"]

_NAMESPACES: Final = ("x", "y", "z")
_PODS: Final = ("a", "b", "c")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_TURNS: Final = 5
"""So often each workload gets a policy of either direction, with other ports and peers each time."""


def hundred_resources(topology: Topology) -> Resources:
    """The policies as a user's file would bring them."""
    return resources_of([document_of(policy, "policies") for policy in hundred_policies()], topology)


def hundred_policies() -> list[dict[str, Any]]:
    """Five times nine for ingress, as many for egress, and ten for everybody: a packet meets about a hundred rules."""
    workloads = [(namespace, pod) for namespace in _NAMESPACES for pod in _PODS]
    return [
        policy
        for turn in range(_TURNS)
        for policy in (
            _no_sctp(turn),
            *(_ingress(*workload, number, turn) for number, workload in enumerate(workloads)),
            *(_egress(*workload, number, turn) for number, workload in enumerate(workloads)),
            _udp_from_b(turn),
        )
    ]


def _no_sctp(turn: int) -> dict[str, Any]:
    refuse = {"action": "Deny", "protocol": "SCTP", "destination": {"ports": [81 + 10 * turn]}}
    spec = {"order": 1, "selector": "pod == 'c'", "types": ["Ingress"]}
    return _policy(None, f"no-sctp-{turn}", spec, ingress=[refuse])


def _udp_from_b(turn: int) -> dict[str, Any]:
    allow = {"action": "Allow", "protocol": "UDP", "destination": {"ports": [f"{1024 * (turn + 1)}:65535"]}}
    spec = {"order": 900, "selector": "pod == 'b'", "types": ["Egress"]}
    return _policy(None, f"udp-from-b-{turn}", spec, egress=[allow])


def _ingress(namespace: str, pod: str, number: int, turn: int) -> dict[str, Any]:
    port = 80 + 10 * turn
    rules: list[dict[str, Any]] = [
        {
            "action": "Allow",
            "protocol": _PROTOCOLS[(number + turn) % 3],
            "source": {"selector": f"pod == '{_PODS[(number + turn) % 3]}'", "namespaceSelector": "all()"},
            "destination": {"ports": [port, "serve-81-udp"] if number % 2 else [f"{port}:{port + 3}"]},
        },
        {
            "action": "Deny",
            "protocol": _PROTOCOLS[(number + turn + 1) % 3],
            "destination": {"ports": [port + 5, port + 7]},
        },
        {
            "action": "Allow",
            "protocol": _PROTOCOLS[(number + turn + 2) % 3],
            "source": {"namespaceSelector": f"ns == '{_NAMESPACES[(number + turn) % 3]}'"},
        },
    ]
    spec = {"order": 100 + number + 10 * turn, "selector": "all()", "types": ["Ingress"]}
    return _policy(namespace, f"to-{pod}-{turn}", spec, ingress=rules)


def _egress(namespace: str, pod: str, number: int, turn: int) -> dict[str, Any]:
    first = 81 + 10 * turn
    deny = {
        "action": "Deny",
        "protocol": _PROTOCOLS[(number + turn) % 3],
        "destination": {"ports": [f"{first}:{first + 5}"]},
    }
    # The last of them opens what the earlier ones left.
    nets = ("198.18.0.0/16", "fd00:18::/32") if turn == _TURNS - 1 else (f"198.19.{turn}.0/24", f"fd00:19:{turn}::/48")
    allow = [{"action": "Allow", "destination": {"nets": [net]}} for net in nets]
    spec = {"order": 200 + number + 10 * turn, "selector": "all()", "types": ["Egress"]}
    return _policy(namespace, f"from-{pod}-{turn}", spec, egress=[deny, *allow])


def _policy(namespace: str | None, name: str, spec: dict[str, Any], **rules: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    kind = "GlobalNetworkPolicy" if namespace is None else "NetworkPolicy"
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": {**spec, **rules}}
