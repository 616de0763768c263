# SPDX-License-Identifier: Apache-2.0
"""The policy under which promises are looked at: one workload is guarded, and another one may connect to it."""

from __future__ import annotations

from typing import Final

from lab.document import parse_documents
from lab.errors import PolicyError
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Topology

__all__ = ["FRIEND", "GUARDED", "PORT", "STRANGER", "guard"]

FRIEND: Final = "shop/web"
GUARDED: Final = "shop/db"
STRANGER: Final = "ops/monitor"
"""Workloads of the topology one-node: who may connect, to whom, and who may not."""
PORT: Final = 5432

_POLICY: Final = f"""
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {{name: far, labels: {{where: far}}}}
spec: {{nets: [192.0.2.0/24, "2001:db8:1::/64"]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: guard}}
spec:
  selector: app == "db"
  types: [Ingress, Egress]
  ingress:
    - {{action: Deny, source: {{selector: where == "far"}}}}
    - {{action: Allow, protocol: TCP, source: {{selector: app == "web"}}, destination: {{ports: [{PORT}]}}}}
"""


def guard(topology: Topology) -> Resources:
    """The policy; what the guarded one answers is let out by state alone."""
    return resources_of(parse_documents(_POLICY, "policy", PolicyError), topology)
