# SPDX-License-Identifier: Apache-2.0
"""Flowtables in a real kernel, where it has them; where it has none, that is what the accelerator says."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from bare_node import BareNode
from dataplane_lab import DENY, both, snapshot, topology
from test_dataplane_host_flows import Talk

from dataplanes.api import HostError
from dataplanes.flowtable import FlowtableAccelerator
from dataplanes.iptables import IptablesDataplane
from dataplanes.nftables import NftablesDataplane
from lab.fabric.lab import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FLOWTABLE = "add table inet trial; add flowtable inet trial flows { hook ingress priority 0; devices = { lo }; }"


@pytest.fixture(scope="module")
def kernel_has_flowtables():
    """Asked of the kernel by other words than the accelerator's own."""
    with BareNode() as node:
        return node.run(("nft", FLOWTABLE)).returncode == 0


def test_accelerator_starts_exactly_where_the_kernel_has_flowtables(kernel_has_flowtables):
    with BareNode() as node:
        accelerator = FlowtableAccelerator(node)
        if kernel_has_flowtables:
            accelerator.start()
            accelerator.stop()
        else:
            with pytest.raises(HostError, match="no flowtables"):
                accelerator.start()
        assert node.must("nft", "list", "tables") == ""


@pytest.fixture
def lab(kernel_has_flowtables, tmp_path):
    if not kernel_has_flowtables:
        pytest.skip("host lacks it: this kernel has no flowtables (CONFIG_NF_FLOW_TABLE)")
    with Lab(topology(tmp_path)) as made:
        yield made


@pytest.fixture(params=[NftablesDataplane, IptablesDataplane], ids=lambda plugin: plugin.name)
def enforce(request, lab):
    node = lab.nodes["node-1"]
    plane, accelerator = request.param(node), FlowtableAccelerator(node)
    plane.start()
    accelerator.start()

    def told(wanted):
        accelerator.prepare(wanted)
        plane.apply(wanted)
        accelerator.apply(wanted)
        return accelerator

    yield told
    accelerator.stop()
    plane.stop()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def talk(request, lab):
    with Talk(lab, request.param) as made:
        yield made


def converse(talk, turns):
    """A pod and a client talk; returns both sockets."""
    client, pod = talk.at("client", 80), talk.at("x/a", 5000)
    for _ in range(turns):
        talk.says(pod, "client", 80)
        assert talk.heard(client)
        talk.says(client, "x/a", 5000)
        assert talk.heard(pod)
    return client, pod


def handed_over(accelerator):
    return accelerator.evidence().counters["flows.handed-over"]


def test_established_flow_is_forwarded_ahead_of_all_rules(enforce, lab, talk):
    accelerator = enforce(snapshot(lab))
    client, pod = converse(talk, 5)
    evidence = accelerator.evidence()
    assert evidence.facts["flows"] == "1"
    before = evidence.counters["flows.handed-over"]
    assert before > 0
    for _ in range(20):
        talk.says(pod, "client", 80)
        assert talk.heard(client)
    assert handed_over(accelerator) == before


def test_flow_that_is_forwarded_outlives_a_policy_that_denies_it_as_every_established_flow(enforce, lab, talk):
    enforce(snapshot(lab))
    client, pod = converse(talk, 5)
    enforce(snapshot(lab, workloads={"x/a": both(DENY)}))
    talk.says(pod, "client", 80)
    assert talk.heard(client)
    talk.says(talk.at("x/a"), "client", 80)
    assert talk.heard(client) is None


def test_flow_ends_with_the_workload(enforce, lab, talk):
    known = snapshot(lab)
    enforce(known)
    client, pod = converse(talk, 5)
    interface = next(name for name, end in known.endpoints.items() if end.workload == "x/a")
    rest = {name: end for name, end in known.endpoints.items() if name != interface}
    accelerator = enforce(replace(known, endpoints=rest))
    talk.says(pod, "client", 80)
    assert talk.heard(client) is None
    assert interface not in accelerator.evidence().facts["interfaces"].split()


def test_suspended_all_packets_meet_the_rules(enforce, lab, talk):
    accelerator = enforce(snapshot(lab))
    client, pod = converse(talk, 5)
    accelerator.suspend()
    assert accelerator.evidence().facts["flows"] == "0"
    talk.says(pod, "client", 80)
    assert talk.heard(client)
    accelerator.resume()
    talk.says(pod, "client", 80)
    assert talk.heard(client)
    assert accelerator.evidence().facts["flows"] == "1"
