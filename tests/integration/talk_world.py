# SPDX-License-Identifier: Apache-2.0
"""Two nodes whose workloads talk, under a policy that lets the red one speak to servers: what two tests are about."""

from __future__ import annotations

TOPOLOGY = {
    "name": "talk",
    "nodes": {"node-1": {"addresses": ["198.19.0.11", "fd00:19::11"]}, "node-2": {}},
    "namespaces": {"x": {}},
    "workloads": {
        "x/server": {"node": "node-1", "labels": {"app": "server"}},
        "x/red": {"node": "node-1", "labels": {"color": "red"}},
        "x/blue": {"node": "node-2", "labels": {"color": "blue"}},
        "x/other": {"node": "node-2", "labels": {"app": "server"}},
    },
    "externals": {"client": {"addresses": ["203.0.113.9", "2001:db8::9"]}},
}
POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: server, namespace: x}
spec:
  selector: app == "server"
  types: [Ingress, Egress]
  ingress:
    - {action: Allow, protocol: TCP, source: {selector: color == "red"}, destination: {ports: [80]}}
    - {action: Allow, protocol: UDP, source: {selector: color == "red"}, destination: {ports: [80]}}
    - {action: Allow, protocol: SCTP, source: {selector: color == "red"}, destination: {ports: [80]}}
    - {action: Allow, protocol: ICMP, source: {selector: color == "red"}, icmp: {type: 8}}
    - {action: Allow, protocol: ICMPv6, source: {selector: color == "red"}, icmp: {type: 128}}
    - {action: Allow, protocol: 253, source: {selector: color == "red"}}
"""
