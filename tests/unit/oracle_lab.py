# SPDX-License-Identifier: Apache-2.0
"""A small cluster and a short way to ask the oracle about it, for the hand-written tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.oracle import Oracle, RuleDecision, Verdict
from lab.policy.load import load_resources
from lab.protocols import PORT_PROTOCOLS, protocol_number
from lab.topology import Flow, IcmpHeader
from lab.topology.load import load_topology

Document = dict[str, Any]

CLUSTER: Document = {
    "name": "hand",
    "nodes": {"node-1": {}, "node-2": {}},
    "namespaces": {
        "x": {
            "labels": {"ns": "x", "env": "prod"},
            "serviceAccounts": {"web": {"labels": {"role": "web"}}, "db": {"labels": {"role": "db"}}},
        },
        "y": {"labels": {"ns": "y"}, "serviceAccounts": {"web": {"labels": {"role": "other"}}}},
    },
    "workloads": {
        "x/a": {
            "node": "node-1",
            "labels": {"pod": "a", "app": "shop"},
            "serviceAccount": "web",
            "addresses": ["198.18.1.1", "fd00:18:1::1"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}],
        },
        "x/b": {
            "node": "node-2",
            "labels": {"pod": "b"},
            "serviceAccount": "db",
            "addresses": ["198.18.1.2", "fd00:18:1::2"],
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 8080},
                {"name": "both", "protocol": "TCP", "port": 90},
                {"name": "both", "protocol": "UDP", "port": 91},
            ],
        },
        "y/c": {
            "node": "node-1",
            "labels": {"pod": "c", "empty": ""},
            "serviceAccount": "web",
            "addresses": ["198.18.2.3", "fd00:18:2::3"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        },
        "y/d": {"node": "node-2", "labels": {"pod": "d"}, "addresses": ["198.18.2.4", "fd00:18:2::4"]},
    },
    "externals": {"client": {"addresses": ["203.0.113.9", "2001:db8::9"]}, "other": {"addresses": ["203.0.113.77"]}},
}

EVERYBODY = frozenset({"x/a", "x/b", "y/c", "y/d", "client", "other"})


def calico(
    kind: str, name: str, spec: Document, namespace: str | None = None, labels: Document | None = None
) -> Document:
    """A projectcalico.org/v3 document."""
    metadata = {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        **({"labels": labels} if labels else {}),
    }
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def gnp(spec: Document, name: str = "p") -> Document:
    return calico("GlobalNetworkPolicy", name, spec)


def np(spec: Document, name: str = "p", namespace: str = "x") -> Document:
    return calico("NetworkPolicy", name, spec, namespace)


def knp(spec: Document, name: str = "p", namespace: str = "x") -> Document:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def onto(target: str, *rules: Document, **spec: object) -> Document:
    """A GlobalNetworkPolicy with these ingress rules for one pod."""
    return gnp({"selector": f"pod == '{target}'", "types": ["Ingress"], "ingress": list(rules), **spec})


@dataclass(frozen=True)
class Judge:
    oracle: Oracle

    def flow(
        self, source: str, destination: str, protocol: str | int = "TCP", port: int | None = 80, **more: Any
    ) -> Flow:
        number = protocol if isinstance(protocol, int) else protocol_number(protocol)
        assert number is not None
        icmp = IcmpHeader(*more.pop("icmp")) if "icmp" in more else None
        at = port if number in PORT_PROTOCOLS else None
        return Flow(source, destination, number, at, more.pop("family", 4), icmp=icmp, **more)

    def verdict(self, *what: Any, **more: Any) -> Verdict:
        flow = self.flow(*what, **more)
        verdict = self.oracle.verdict(flow)
        assert self.oracle.explain(flow).verdict == verdict
        return verdict

    def allows(self, *flow: Any, **more: Any) -> bool:
        return self.verdict(*flow, **more).allowed

    def senders(self, destination: str, *what: Any, **more: Any) -> set[str]:
        """Everybody who reaches the destination."""
        others = EVERYBODY - {destination} - ({"other"} if more.get("family") == 6 else set())
        return {source for source in others if self.allows(source, destination, *what, **more)}

    def default(self, *flow: Any, **more: Any) -> tuple[str | None, str, str | None]:
        """The default that decides: direction, reason, owner."""
        decision = self.verdict(*flow, **more).decided_by
        assert not isinstance(decision, RuleDecision)
        return decision.direction.value if decision.direction else None, decision.reason, decision.owner

    def rule(self, *flow: Any, **more: Any) -> tuple[str, str, int]:
        """The rule that decides: tier, policy, index."""
        decision = self.verdict(*flow, **more).decided_by
        assert isinstance(decision, RuleDecision)
        return decision.tier, decision.name, decision.rule


Lab = Callable[..., Judge]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Builds a Judge of some documents; ``cluster`` changes top-level keys of the cluster."""

    def judge(*documents: Document, **cluster: Document) -> Judge:
        changed = {**CLUSTER, **{key: {**CLUSTER[key], **value} for key, value in cluster.items()}}
        (tmp_path / "topology.yaml").write_text(json.dumps(changed))
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        (tmp_path / "policy.json").write_text(json.dumps(items))
        topology = load_topology(tmp_path / "topology.yaml")
        return Judge(Oracle(topology, load_resources([tmp_path / "policy.json"] if documents else [], topology)))

    return judge
