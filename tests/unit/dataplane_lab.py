# SPDX-License-Identifier: Apache-2.0
"""A lab of two nodes, of which node-1 has a dataplane, and snapshots with host endpoints for it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from dataplanes.api import (
    Action,
    EndpointPolicy,
    HostPolicy,
    NodeSettings,
    PolicyId,
    PortRange,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)
from lab.topology import Flow
from lab.topology.load import load_topology
from lab.traffic.observation import Reason

TOPOLOGY = """
name: host-endpoints
nodes: {node-1: {}, node-2: {}}
namespaces: {x: {}}
workloads:
  x/a: {node: node-1}
  x/b: {node: node-1}
  x/c: {node: node-2}
externals:
  client: {addresses: [203.0.113.9, "2001:db8::9"]}
"""

WAYS = {
    "from client": ("client", "node-1"),
    "from node-2": ("node-2", "node-1"),
    "to client": ("node-1", "client"),
    "to node-2": ("node-1", "node-2"),
    "to remote pod": ("node-1", "x/c"),
    "to own pod": ("node-1", "x/a"),
    "to itself": ("node-1", "node-1"),
    "pod to host": ("x/a", "node-1"),
    "pod to pod": ("x/a", "x/b"),
    "pod to client": ("x/a", "client"),
    "client to pod": ("client", "x/a"),
}
EVERY_WAY = frozenset(WAYS)
FROM_OUTSIDE = {"from client", "from node-2"}
TO_OUTSIDE = {"to client", "to node-2", "to remote pod"}
HOST_WAYS = FROM_OUTSIDE | TO_OUTSIDE
FORWARDED = {"pod to pod", "pod to client", "client to pod"}


def topology(folder: Path):
    file = folder / "topology.yaml"
    file.write_text(TOPOLOGY)
    return load_topology(file)


def rule(action=Action.ALLOW, protocol=None, port=None, source_port=None, **fields):
    """A rule that names at most one port of each side."""
    return SnapshotRule(
        action,
        protocol=protocol,
        source=SnapshotSide(ports=_ports(source_port), nets=_nets(fields.pop("source", ()))),
        destination=SnapshotSide(ports=_ports(port), nets=_nets(fields.pop("destination", ()))),
        **fields,
    )


def _ports(port):
    return () if port is None else (PortRange(port, port),)


def _nets(texts):
    return tuple(map(ip_network, texts))


ALLOW, DENY = rule(), rule(Action.DENY)
RETURN_TO_HOST = NodeSettings(endpoint_to_host_action="return")


@dataclass(frozen=True)
class Rules:
    """The rules of a policy made up for one stage; a direction that is None has no policy."""

    ingress: tuple | None = None
    egress: tuple | None = None


def ingress(*rules):
    return Rules(ingress=rules)


def egress(*rules):
    return Rules(egress=rules)


def both(*rules):
    return Rules(rules, rules)


STAGES = ("tiers", "forward_tiers", "pre_dnat_tiers", "untracked_tiers")


def snapshot(lab, hosts=None, workloads=None, settings=RETURN_TO_HOST):
    """What node-1 enforces: by interface, and by workload's name, the Rules of each stage; the rest is open.

    ``hosts`` maps an interface to the stages of its host endpoint and their Rules, ``profile`` to whether it is open.
    """
    policies = {}
    endpoints = {}
    for workload in lab.topology.workloads.values():
        if workload.node == "node-1":
            tiers = _tiers(policies, workload.short_name, (workloads or {}).get(workload.name))
            addresses = tuple(map(ip_address, map(str, workload.addresses)))
            endpoints[workload.interface] = EndpointPolicy(
                workload.interface, workload.name, addresses, tiers, ("open",)
            )
    host_endpoints = {
        interface: HostPolicy(
            interface,
            f"hep-{interface}",
            profiles=("open",) if stages.get("profile") else (),
            **{stage: _tiers(policies, f"{interface}-{stage}", stages.get(stage)) for stage in STAGES},
        )
        for interface, stages in (hosts or {}).items()
    }
    open_profile = SnapshotProfile("open", (ALLOW,), (ALLOW,))
    return Snapshot("node-1", endpoints, policies, {"open": open_profile}, {}, host_endpoints, settings)


def _tiers(policies, name, rules):
    if rules is None:
        return ()
    policy_id = PolicyId("GlobalNetworkPolicy", "", name)
    policies[policy_id] = SnapshotPolicy(policy_id, "default", rules.ingress or (), rules.egress or ())
    directions = ((policy_id,) * (asked is not None) for asked in (rules.ingress, rules.egress))
    return (TierPolicies("default", *directions, pass_by_default=False),)


def open_ways(prober, protocol=17, port=80, ways=EVERY_WAY, **fields):
    """The names of the ways that are open, which must be the same in both families."""
    names = sorted(ways)
    flows = [Flow(*WAYS[name], protocol, port, family, **fields) for family in (4, 6) for name in names]
    seen = [_verdict(observation) for observation in prober.observe(flows)]
    assert "inconclusive" not in seen
    found = [{name for name, verdict in zip(names, half, strict=True) if verdict == "allow"} for half in _halves(seen)]
    assert found[0] == found[1], "IPv4 and IPv6 differ"
    return found[0]


def _verdict(observation):
    """A node learns from the kernel that its own rules drop what it sends."""
    if observation.reason is Reason.NOT_SENT and observation.detail == os.strerror(errno.EPERM):
        return "deny"
    return observation.verdict


def _halves(seen):
    middle = len(seen) // 2
    return seen[:middle], seen[middle:]
