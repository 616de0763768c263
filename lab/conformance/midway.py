# SPDX-License-Identifier: Apache-2.0
"""An ``apply`` that fails midway: the whole snapshot before it stays in force, wherever it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dataplanes.api import Capability
from lab.conformance.failing import FailingNode
from lab.conformance.harness import Harness
from lab.conformance.judged import Judged
from lab.conformance.needs import needed_by_document, needed_by_flow
from lab.conformance.not_held import NotHeldError
from lab.conformance.plugins import NodePlugins
from lab.conformance.wording import flow_text
from lab.document import parse_documents
from lab.errors import LabError, PolicyError
from lab.fabric.namespace_node import NamespaceNode
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Flow, Topology
from lab.topology.flows import default_flows
from lab.topology.flows_file import flow_to_dict
from lab.topology.load import load_topology

__all__ = ["fails_as_a_whole"]

MOST: Final = 40
"""So many requests to a node are made to fail, one a time; who makes more for one change is not followed further."""

_POLICY: Final = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {{name: {name}, labels: {{where: {name}}}}}
spec: {{nets: [{net4}, "{net6}"]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: peers-{name}}}
spec:
  selector: app == "{subject}"
  types: [Ingress, Egress]
  ingress:
    - {{action: Deny, source: {{selector: where == "{name}"}}}}
    - {{action: Allow, source: {{selector: app == "{peer}"}}}}
  egress: [{{action: Allow}}]
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{name: every, labels: {{host: any}}}}
spec: {{node: node-1, interfaceName: eth0}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: early-{name}}}
spec:
  selector: host == "any"
  doNotTrack: true
  applyOnForward: true
  types: [Ingress]
  ingress: [{{action: Deny, source: {{nets: [{net4}]}}}}]
"""
_BEFORE: Final = {"name": "old", "net4": "192.0.2.0/24", "net6": "2001:db8:1::/64", "subject": "db", "peer": "web"}
_AFTER: Final = {"name": "new", "net4": "198.51.100.0/24", "net6": "2001:db8:2::/64", "subject": "web", "peer": "db"}


class _Harness(Harness):
    """A lab with one node, on which things can be made to fail."""

    def _plugins_of(self, node: NamespaceNode) -> NodePlugins:
        self.node = FailingNode(node)
        return NodePlugins(self.node, self.dataplane, self.accelerators)


def fails_as_a_whole(judged: Judged) -> Iterator[str]:
    """All that is not as it should be when each request in turn that a plugin makes of its node fails.

    What should be is what the plugin itself makes of each policy when nothing fails. Accelerators are left out: one
    that fails leaves the dataplane's new verdicts in force. Raises NotHeldError where nothing can be made to fail.
    """
    topology = load_topology("one-node")
    flows = [flow for flow in default_flows(topology) if _needs(flow) <= judged.capabilities]
    old, new = (_resources(words, topology, judged) for words in (_BEFORE, _AFTER))
    with _Harness(topology, judged.dataplane) as harness:
        before, after = (_seen(harness, each, flows) for each in (old, new))
        for late in (False, True):
            for number in range(1, MOST + 1):
                harness.apply(old)
                harness.node.fail_at(number, late=late)
                error = _error(harness, new)
                harness.node.fail_no_more()
                if (failed := harness.node.failed) is None:
                    break
                told = f"request {number} to the node failed{' after it was done' if late else ''} ({failed})"
                yield from _different(flows, harness, after if error is None else before, _how(told, error))
                yield from _different(flows, harness, after, f"{told}, and apply came again", new)
    if number == 1:
        raise NotHeldError("it makes no request of its node for a change, so none can be made to fail")


def _how(told: str, error: LabError | None) -> str:
    return f"{told}, and apply {'returned' if error is None else 'raised'}"


def _different(
    flows: Sequence[Flow], harness: Harness, wanted: Sequence[str], told: str, applied: Resources | None = None
) -> Iterator[str]:
    """The flows whose verdicts are not as wanted; ``applied`` is put in force before, if given."""
    try:
        seen = _seen(harness, applied, flows)
    except LabError as error:
        yield f"{told}: it raised {error}"
        return
    for flow, verdict, expected in zip(flows, seen, wanted, strict=True):
        if verdict != expected:
            ends = f"{flow.source} -> {flow.destination} {flow_text(flow)} ipv{flow.family}"
            yield f"{told}: {ends}: {verdict}, and {expected} should be in force"


def _seen(harness: Harness, resources: Resources | None, flows: Sequence[Flow]) -> Sequence[str]:
    if resources is not None:
        harness.apply(resources)
    return [each.verdict for each in harness.observe(flows)]


def _error(harness: Harness, wanted: Resources) -> LabError | None:
    try:
        harness.apply(wanted)
    except LabError as error:
        return error
    return None


def _resources(words: dict[str, str], topology: Topology, judged: Judged) -> Resources:
    """The policy, as far as the dataplane declares what it needs."""
    documents = parse_documents(_POLICY.format(**words), "policy", PolicyError)
    known = [each for each in documents if needed_by_document(each.value) <= judged.capabilities]
    return resources_of(known, topology)


def _needs(flow: Flow) -> frozenset[Capability]:
    return needed_by_flow({**flow_to_dict(flow), "family": f"ipv{flow.family}"})
