# SPDX-License-Identifier: Apache-2.0
"""The policies under which verdicts are measured: every workload of three-by-three has a say, in both directions."""

from __future__ import annotations

from typing import Any, Final

from lab.document import document_of
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Topology

__all__ = ["twenty_policies", "twenty_resources"]

_NAMESPACES: Final = ("x", "y", "z")
_PODS: Final = ("a", "b", "c")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")


def twenty_resources(topology: Topology) -> Resources:
    """The policies as a user's file would bring them."""
    return resources_of([document_of(policy, "policies") for policy in twenty_policies()], topology)


def twenty_policies() -> list[dict[str, Any]]:
    """One policy a workload for ingress, one for egress, and two for everybody."""
    policies = [
        policy
        for number, (namespace, pod) in enumerate((namespace, pod) for namespace in _NAMESPACES for pod in _PODS)
        for policy in (_ingress(namespace, pod, number), _egress(namespace, pod, number))
    ]
    refuse = {"action": "Deny", "protocol": "SCTP", "destination": {"ports": [81]}}
    first = _policy(None, "no-sctp-81", {"order": 1, "selector": "pod == 'c'", "types": ["Ingress"]}, ingress=[refuse])
    allow = {"action": "Allow", "protocol": "UDP"}
    last = _policy(None, "udp-from-b", {"order": 900, "selector": "pod == 'b'", "types": ["Egress"]}, egress=[allow])
    return [first, *policies, last]


def _ingress(namespace: str, pod: str, number: int) -> dict[str, Any]:
    peers = f"pod in {{'{_PODS[number % 3]}', '{_PODS[(number + 1) % 3]}'}}"
    rule = {
        "action": "Allow",
        "protocol": _PROTOCOLS[number % 3],
        "source": {"selector": peers, "namespaceSelector": "all()"},
        "destination": {"ports": [80, "serve-81-udp"] if number % 2 else [80]},
    }
    others = {"action": "Allow", "source": {"namespaceSelector": f"ns == '{_NAMESPACES[(number + 1) % 3]}'"}}
    spec = {"order": 100 + number, "selector": f"pod == '{pod}'", "types": ["Ingress"]}
    return _policy(namespace, f"to-{pod}", spec, ingress=[rule, others])


def _egress(namespace: str, pod: str, number: int) -> dict[str, Any]:
    deny = {"action": "Deny", "protocol": _PROTOCOLS[number % 3], "destination": {"ports": ["81:90"]}}
    allow = [{"action": "Allow", "destination": {"nets": [net]}} for net in ("198.18.0.0/16", "fd00:18::/32")]
    spec = {"order": 200 + number, "selector": f"pod == '{pod}'", "types": ["Egress"]}
    return _policy(namespace, f"from-{pod}", spec, egress=[deny, *allow])


def _policy(namespace: str | None, name: str, spec: dict[str, Any], **rules: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    kind = "GlobalNetworkPolicy" if namespace is None else "NetworkPolicy"
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": {**spec, **rules}}
