# SPDX-License-Identifier: Apache-2.0
"""What a ready node is, stated once and held against each kind of node.

A machine takes a minute to come up, so all that is to be seen of one is seen in one test, with one machine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from testinfra.host import Host

from dataplanes.registry import load_accelerator, load_dataplane
from lab.conformance.harness import Harness
from lab.conformance.hosts import host_of
from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.policy.load import load_resources
from lab.topology.flows import default_flows
from lab.topology.load import load_topology

POLICY = Path(__file__).parents[2] / "topologies" / "policies" / "mixed.yaml"
BLOCKLIST = POLICY.with_name("mixed")
KINDS = {"namespace": "node-1", "container": "node-2"}
TOOLS = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save", "ipset", "ip")


@dataclass
class Subject:
    """A node, and testinfra's view of it."""

    lab: Lab
    node: NamespaceNode

    def __post_init__(self) -> None:
        self.ready: Host = host_of(self.node)


def has_its_interfaces_and_no_others(it: Subject) -> None:
    # Some kernels put tunnel devices into every new namespace; they are down.
    lines = it.ready.check_output("ip -o link show up").splitlines()
    workloads = [each.interface for each in it.lab.topology.workloads.values() if each.node == it.node.name]
    assert {line.split(": ")[1].partition("@")[0] for line in lines} == {"lo", "eth0", *workloads}


def has_its_addresses(it: Subject) -> None:
    told = [line.split()[3] for line in it.ready.check_output("ip -o address show dev eth0").splitlines()]
    addresses = it.lab.topology.nodes[it.node.name].addresses
    assert sorted(told) == sorted(f"{each}/{each.max_prefixlen}" for each in addresses)


def routes_to_its_workloads_and_sends_the_rest_to_the_underlay(it: Subject) -> None:
    workloads = it.lab.topology.workloads.values()
    ways = {
        str(address): each.interface if each.node == it.node.name else "eth0"
        for each in workloads
        for address in each.addresses
    }
    told = it.ready.check_output("; ".join(f"ip route get {address}" for address in ways)).splitlines()
    found = {line.split()[0]: line.partition(" dev ")[2].split()[0] for line in told if " dev " in line}
    assert found == ways
    told = it.ready.check_output("ip -4 route show default; ip -6 route show default").splitlines()
    assert [line.partition(" dev ")[2].split()[0] for line in told] == ["eth0", "eth0"]


def is_a_router_that_filters_nothing_by_itself(it: Subject) -> None:
    wanted = {
        "ipv4/ip_forward": "1",
        "ipv6/conf/all/forwarding": "1",
        "ipv6/conf/all/disable_ipv6": "0",
        "ipv4/conf/all/rp_filter": "0",
        "ipv4/conf/eth0/rp_filter": "0",
    }
    told = it.ready.check_output("cd /proc/sys/net && cat " + " ".join(wanted)).split()
    assert dict(zip(wanted, told, strict=True)) == wanted


def knows_the_kernel_features_that_dataplanes_ask_for(it: Subject) -> None:
    assert "\tbpf" in it.ready.check_output("grep bpf /proc/filesystems; ls /proc/self/ns/net")


def has_the_tools_of_dataplanes(it: Subject) -> None:
    told = it.ready.check_output("; ".join(f"command -v {tool}" for tool in TOOLS)).split()
    assert [Path(each).name for each in told] == list(TOOLS)


def has_no_foreign_rules(it: Subject) -> None:
    told = it.ready.check_output("; ".join((*TOOLS[:4], "ipset list -name"))).splitlines()
    # The chains of the dataplane that a test may have started are its own, and have no rules before a policy.
    assert [line for line in told if line[:1] not in ("#", ":", "*") and line != "COMMIT"] == []


def takes_a_rule_with_every_kind_of_match_and_lets_it_go(it: Subject) -> None:
    assert it.node.run(["ipset", "create", "try", "hash:net"]).returncode == 0
    rule = "FORWARD -p tcp -m set --match-set try src -m conntrack --ctstate NEW -m multiport --dports 1:9 -j MARK"
    rule += " --set-mark 1"
    for tool in ("iptables-nft", "iptables-legacy"):
        for action in ("-A", "-D"):
            words = ["env", "XTABLES_LOCKFILE=/proc/self/ns/net", tool, "-t", "mangle", action, *rule.split()]
            done = it.node.run(words)
            assert (done.returncode, done.stderr) == (0, "")
    assert it.node.run(["ipset", "destroy", "try"]).returncode == 0


def runs_a_command_with_its_input_and_tells_its_status(it: Subject) -> None:
    ended = it.node.run(["sh", "-c", "cat; echo bad >&2; exit 7"], stdin="in")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "in", "bad\n")


def names_a_command_that_is_not_there(it: Subject) -> None:
    with pytest.raises(HostError, match="no-such-tool"):
        it.node.run(["no-such-tool"])


def stops_a_command_that_does_not_end(it: Subject) -> None:
    with pytest.raises(HostError, match=rf"sleep in {it.node.name} was stopped after (0\.)?2 s"):
        it.node.run(["sleep", "60"], timeout=0.2)


def has_sysctls_of_its_own(it: Subject) -> None:
    it.node.write_sysctl("ipv4.ip_default_ttl", "33")
    assert it.ready.check_output("cat /proc/sys/net/ipv4/ip_default_ttl") == "33"
    it.node.write_sysctl("ipv4.ip_default_ttl", "64")
    others = [each for each in it.lab.nodes.values() if each is not it.node]
    assert {each.run(["cat", "/proc/sys/net/ipv4/ip_default_ttl"]).stdout.strip() for each in others} == {"64"}


CHECKS: tuple[Callable[[Subject], None], ...] = (
    has_its_interfaces_and_no_others,
    has_its_addresses,
    routes_to_its_workloads_and_sends_the_rest_to_the_underlay,
    is_a_router_that_filters_nothing_by_itself,
    knows_the_kernel_features_that_dataplanes_ask_for,
    has_the_tools_of_dataplanes,
    has_no_foreign_rules,
    takes_a_rule_with_every_kind_of_match_and_lets_it_go,
    runs_a_command_with_its_input_and_tells_its_status,
    names_a_command_that_is_not_there,
    stops_a_command_that_does_not_end,
    has_sysctls_of_its_own,
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(load_topology("containers")) as up:
        yield up


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
def test_ready_node(lab: Lab, name: str, check: Callable[[Subject], None]):
    check(Subject(lab, lab.nodes[name]))


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
def test_socket_is_in_the_node(lab: Lab, name: str):
    with lab.nodes[name].socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(lab.topology.nodes[name].addresses[0]), 0))


def tried(check: Callable[[Subject], None], subject: Subject) -> str:
    """How a check fails, or nothing."""
    try:
        check(subject)
    except AssertionError as error:
        return f"{check.__name__}: {error}"
    return ""


@pytest.mark.timeout(900)  # it boots an emulated machine, perhaps on a busy host
def test_machine_is_a_ready_node_and_all_flows_to_and_from_it_are_as_expected():
    topology = load_topology("mixed")
    flows = default_flows(topology)
    with Harness(topology, load_dataplane("iptables"), [load_accelerator("xdp")]) as harness:
        machine = harness.lab.nodes["node-3"]
        assert machine.run(["uname", "-r"]).stdout.startswith("6.1.")
        with pytest.raises(HostError, match="kernel of another machine"):
            machine.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Before the first policy: the dataplane has made its chains already, and no rules.
        failures = [failure for check in CHECKS if (failure := tried(check, Subject(harness.lab, machine)))]
        assert failures == []
        for files in ((), (POLICY,), (POLICY, BLOCKLIST)):
            results = harness.verify(load_resources(list(files), topology), flows)
            assert results.conformant, results.wrong
        assert "-A " in harness.evidence()["node-3"].ruleset
        dropped = {node: told.counters["eth0.xdp.dropped"] for (node, _), told in harness.acceleration().items()}
        assert dropped.keys() == topology.nodes.keys()
        assert all(dropped.values()), dropped
