# SPDX-License-Identifier: Apache-2.0
"""Which interfaces forward established flows by themselves, and when flows are let go; without a kernel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from snapshot_world import endpoint, host, host_stages, snapshot

from dataplanes.api import Completed, HostError
from dataplanes.flowtable import FlowtableAccelerator
from dataplanes.flowtable.devices import devices_of

ONE, TWO = endpoint(1).interface, endpoint(2).interface


class Node:
    """A node that writes down what it is told, and has these interfaces."""

    name = "node-1"

    def __init__(self, *interfaces, answer=""):
        self.interfaces = ["lo", *interfaces]
        self.answer = answer
        self.devices = []

    def run(self, argv, *, stdin="", **_):
        if argv[0] == "ip":
            return Completed(tuple(argv), 0, json.dumps([{"ifname": name} for name in self.interfaces]), "")
        if stdin:
            commands = json.loads(stdin)["nftables"]
            made = [command["add"]["flowtable"]["dev"] for command in commands if "flowtable" in command.get("add", {})]
            self.devices.append(made[0] if made else [])
        return Completed(tuple(argv), 1 if self.answer else 0, "", self.answer)


def with_host(interface, **stages):
    return replace(snapshot([endpoint(1)]), host_endpoints={interface: host(interface, "hep", **stages)})


def test_known_workloads_and_all_other_interfaces_take_part():
    assert devices_of(snapshot([endpoint(1)]), ["lo", "eth0", ONE, TWO]) == {"eth0", ONE}


def test_interface_with_untracked_policies_stays_on_the_ordinary_way():
    untracked = host_stages().host_endpoints["eth0"].untracked_tiers
    assert devices_of(with_host("eth0", untracked_tiers=untracked), ["eth0", "eth1", ONE]) == {"eth1", ONE}
    assert devices_of(with_host("eth0", tiers=untracked), ["eth0", ONE]) == {"eth0", ONE}


def test_plan_tells_each_interface_and_why():
    told = {each.what: (each.accelerated, each.because) for each in FlowtableAccelerator.plan(host_stages())}
    assert told[f"x/1 on {ONE}"][0]
    accelerated, because = told["node-1-eth0 on eth0"]
    assert not accelerated
    assert "doNotTrack" in because


def test_flows_are_let_go_before_the_dataplane_is_told_that_an_interface_may_not_take_part():
    node = Node("eth0", ONE, TWO)
    accelerator = FlowtableAccelerator(node)
    both, one = snapshot([endpoint(1), endpoint(2)]), snapshot([endpoint(1)])
    accelerator.prepare(both)
    assert node.devices == []
    accelerator.apply(both)
    accelerator.prepare(one)
    assert node.devices == [[ONE, TWO, "eth0"], [ONE, "eth0"]]
    accelerator.apply(one)
    accelerator.prepare(both)
    accelerator.apply(both)
    assert node.devices[2:] == [[ONE, TWO, "eth0"]]


def test_what_changes_nothing_keeps_the_flows():
    node = Node("eth0", ONE)
    accelerator = FlowtableAccelerator(node)
    for _ in range(3):
        accelerator.prepare(snapshot([endpoint(1)]))
        accelerator.apply(snapshot([endpoint(1)]))
    assert len(node.devices) == 1


def test_suspended_it_follows_and_forwards_nothing():
    node = Node("eth0", ONE)
    accelerator = FlowtableAccelerator(node)
    accelerator.suspend()
    accelerator.apply(snapshot([endpoint(1)]))
    accelerator.suspend()
    assert node.devices == []
    accelerator.resume()
    accelerator.resume()
    assert node.devices == [[ONE, "eth0"]]
    accelerator.suspend()
    assert node.devices[1:] == [[]]


def test_kernel_without_flowtables_is_the_hosts_fault_and_says_what_mends_it():
    with pytest.raises(HostError, match="no flowtables") as raised:
        FlowtableAccelerator(Node(answer="Error: Could not process rule: Operation not supported")).start()
    assert "nf_flow_table_inet" in str(raised.value)
