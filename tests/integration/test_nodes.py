# SPDX-License-Identifier: Apache-2.0
"""What a ready node is, stated once and held against each kind of node."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from lab.conformance.hosts import host_of
from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.topology.load import load_topology

KINDS = {"namespace": "node-1", "container": "node-2"}
TOOLS = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save", "ipset", "ip")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(load_topology("containers")) as up:
        yield up


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def node(lab: Lab, request: pytest.FixtureRequest) -> NamespaceNode:
    return lab.nodes[request.param]


@pytest.fixture
def ready(node: NamespaceNode) -> Host:
    return host_of(node)


def workloads_of(lab: Lab, node: NamespaceNode) -> list[str]:
    return [each.interface for each in lab.topology.workloads.values() if each.node == node.name]


def test_node_has_its_interfaces_and_no_others(lab: Lab, node: NamespaceNode, ready: Host):
    # Some kernels put tunnel devices into every new namespace; they are down.
    names = {line.split(": ")[1].partition("@")[0] for line in ready.check_output("ip -o link show up").splitlines()}
    assert names == {"lo", "eth0", *workloads_of(lab, node)}


def test_node_has_its_addresses(lab: Lab, node: NamespaceNode, ready: Host):
    told = [line.split()[3] for line in ready.check_output("ip -o address show dev eth0").splitlines()]
    assert sorted(told) == sorted(f"{each}/{each.max_prefixlen}" for each in lab.topology.nodes[node.name].addresses)


def test_node_routes_to_its_workloads_and_sends_the_rest_to_the_underlay(lab: Lab, node: NamespaceNode, ready: Host):
    for workload in lab.topology.workloads.values():
        for address in workload.addresses:
            interface = workload.interface if workload.node == node.name else "eth0"
            assert f" dev {interface} " in ready.check_output(f"ip route get {address}")
    assert " dev eth0" in ready.check_output("ip -4 route show default")
    assert " dev eth0" in ready.check_output("ip -6 route show default")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", 1),
        ("net.ipv6.conf.all.forwarding", 1),
        ("net.ipv6.conf.all.disable_ipv6", 0),
        ("net.ipv4.conf.all.rp_filter", 0),
        ("net.ipv4.conf.eth0.rp_filter", 0),
    ],
)
def test_node_is_a_router_that_filters_nothing_by_itself(ready: Host, name: str, value: int):
    assert int(ready.file(f"/proc/sys/{name.replace('.', '/')}").content_string) == value


def test_node_knows_the_kernel_features_that_dataplanes_ask_for(ready: Host):
    assert "\tbpf\n" in ready.file("/proc/filesystems").content_string
    assert ready.file("/proc/self/ns/net").exists


@pytest.mark.parametrize("tool", TOOLS)
def test_node_has_the_tools_of_dataplanes(ready: Host, tool: str):
    assert ready.exists(tool)


def test_node_has_no_foreign_rules(ready: Host):
    for tool in ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"):
        assert [line for line in ready.check_output(tool).splitlines() if line.startswith("-A")] == []
    assert ready.check_output("ipset list -name") == ""


def test_rule_with_every_kind_of_match_is_taken_and_gone_again(node: NamespaceNode, ready: Host):
    assert node.run(["ipset", "create", "try", "hash:net"]).returncode == 0
    rule = "FORWARD -p tcp -m set --match-set try src -m conntrack --ctstate NEW -m multiport --dports 1:9 -j MARK"
    rule += " --set-mark 1"
    for tool in ("iptables-nft", "iptables-legacy"):
        locked = ["env", "XTABLES_LOCKFILE=/proc/self/ns/net", tool, "-t", "mangle"]
        for action in ("-A", "-D"):
            done = node.run([*locked, action, *rule.split()])
            assert (done.returncode, done.stderr) == (0, "")
    assert ready.check_output("ipset list -name") == "try"
    assert node.run(["ipset", "destroy", "try"]).returncode == 0


def test_command_gets_its_input_and_tells_its_status(node: NamespaceNode):
    ended = node.run(["sh", "-c", "cat; echo bad >&2; exit 7"], stdin="in")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "in", "bad\n")


def test_command_that_is_not_there_is_named(node: NamespaceNode):
    with pytest.raises(HostError, match="no-such-tool"):
        node.run(["no-such-tool"])


def test_command_that_does_not_end_is_stopped(node: NamespaceNode):
    with pytest.raises(HostError, match=rf"sleep in {node.name} was stopped after 0\.2 s"):
        node.run(["sleep", "60"], timeout=0.2)


def test_sysctl_is_of_the_node_alone(lab: Lab, node: NamespaceNode, ready: Host):
    node.write_sysctl("ipv4.ip_default_ttl", "33")
    assert ready.file("/proc/sys/net/ipv4/ip_default_ttl").content_string.strip() == "33"
    others = [each for each in lab.nodes.values() if each is not node]
    node.write_sysctl("ipv4.ip_default_ttl", "64")
    assert others[0].run(["cat", "/proc/sys/net/ipv4/ip_default_ttl"]).stdout.strip() == "64"


def test_socket_is_in_the_node(lab: Lab, node: NamespaceNode):
    address = lab.topology.nodes[node.name].addresses[0]
    with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(address), 0))
