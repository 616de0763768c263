# SPDX-License-Identifier: Apache-2.0
"""Sets larger than what a kernel's sets hold when nobody says how large they are to be."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from dataplanes.api import Capability
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.not_held import NotHeldError
from lab.conformance.wording import flow_text
from lab.document import parse_documents
from lab.errors import PolicyError
from lab.policy.load import resources_of
from lab.protocols import TCP
from lab.topology import Flow
from lab.topology.load import load_topology

__all__ = ["SIZE", "holds_large_sets"]

SIZE: Final = 70_000
"""ipset's default is 65,536."""
_NEEDED: Final = frozenset({Capability.IPV4, Capability.TCP, Capability.NETWORK_SETS})
_FIRST: Final = int(ip_network("11.0.0.0/8").network_address)

_POLICY: Final = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {{name: listed, labels: {{where: listed}}}}
spec: {{nets: [{nets}]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: not-the-listed}}
spec:
  selector: all()
  ingress:
    - {{action: Deny, source: {{selector: where == "listed"}}}}
    - {{action: Allow}}
"""


def holds_large_sets(judged: Judged) -> Iterator[str]:
    """Wrong verdicts of a rule with a set of SIZE networks; raises NotHeldError where sets are not declared."""
    if lacking := _NEEDED - judged.capabilities:
        raise NotHeldError(f"it does not declare {', '.join(sorted(each.value for each in lacking))}")
    topology = load_topology("one-node")
    listed = topology.workloads["shop/web"]
    source = next(address for address in listed.addresses if address.version == 4)
    # Not one next to the other, so that they cannot be joined; the one that is asked for comes last.
    nets = ", ".join((*(str(ip_network(_FIRST + 2 * number)) for number in range(SIZE - 1)), f"{source}/32"))
    resources = resources_of(parse_documents(_POLICY.format(nets=nets), "policy", PolicyError), topology)
    flows = [Flow(name, "shop/db", TCP, 5432, 4) for name in ("shop/web", "ops/monitor")]
    with Harness(topology, judged.dataplane, judged.accelerators) as harness:
        harness.apply(resources)
        for flow, seen, expected in zip(flows, harness.observe(flows), ("deny", "allow"), strict=True):
            if seen.verdict != expected:
                yield f"{flow.source} -> {flow.destination} {flow_text(flow)}: expected {expected}, observed {seen}"
