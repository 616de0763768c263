# SPDX-License-Identifier: Apache-2.0
"""Host endpoints, the policies made for them, address pools and Felix's settings: read, or refused at the §."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest

from lab.policy.read.felix_fields import FIXED, IRRELEVANT
from lab.policy.resources import CalicoPolicy, Failsafe, FelixConfiguration, HostEndpoint, Resources
from lab.topology import Port

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]


def resource(kind: str, spec: str, name: str = "n") -> str:
    return f"{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}"


def felix(load: Load, spec: str, name: str = "default") -> FelixConfiguration:
    (found,) = load(resource("FelixConfiguration", spec, name)).felix_configurations
    return found


def test_host_endpoint_with_every_field_is_read_as_written(load: Load) -> None:
    text = """{
  apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: n, labels: {role: web}}, spec: {
    node: node-2, interfaceName: eth0, expectedIPs: [10.0.0.1, "fd00::1"], profiles: [p, q],
    ports: [{name: http, protocol: tcp, port: 80}, {name: A_b.c, protocol: 132, port: 65535}]}}"""
    (found,) = load(text).host_endpoints
    assert found == HostEndpoint(
        name="n",
        node="node-2",
        interface="eth0",
        expected_ips=(ip_address("10.0.0.1"), ip_address("fd00::1")),
        labels={"role": "web"},
        profiles=("p", "q"),
        ports=(Port("http", 6, 80), Port("A_b.c", 132, 65535)),
        place=found.place,
    )
    assert (found.place.line, found.place.column) == (1, 1)


@pytest.mark.parametrize(
    ("spec", "interface", "count"),
    [
        ('{node: node-1, interfaceName: "*"}', "*", 0),
        ("{node: node-1, expectedIPs: [10.0.0.1]}", None, 1),
        ('{node: node-1, interfaceName: "", expectedIPs: [10.0.0.1]}', None, 1),
        ("{node: node-1, interfaceName: fifteen_letters}", "fifteen_letters", 0),
    ],
)
def test_host_endpoint_names_an_interface_or_an_address(load: Load, spec: str, interface: str, count: int) -> None:
    (found,) = load(resource("HostEndpoint", spec)).host_endpoints
    assert (found.interface, len(found.expected_ips)) == (interface, count)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            "{node: §nod-1, interfaceName: eth0}",
            "spec.node is not a node of the topology | node-1, node-2 | did you mean",
        ),
        ("{node: §'', interfaceName: eth0}", "spec.node is not a node of the topology"),
        ("§spec: {interfaceName: eth0}", "spec has no 'node', which it needs"),
        ("§spec: {node: node-1}", "spec names no interface | interfaceName, expectedIPs, or both"),
        ('§spec: {node: node-1, interfaceName: ""}', "spec names no interface"),
        ("{node: node-1, interfaceName: §sixteen_letters_}", "spec.interfaceName is not the name of an interface"),
        ('{node: node-1, interfaceName: §"eth*"}', "spec.interfaceName is not the name of an interface"),
        ("{node: node-1, expectedIPs: [§10.0.0.0/8]}", "spec.expectedIPs[0] is not an address"),
        ("{node: node-1, expectedIPs: [10.0.0.1, §ten]}", "spec.expectedIPs[1] is not an address"),
        ("{node: node-1, interfaceName: e, profiles: [§A]}", "spec.profiles[0] is not a name"),
        (
            "{node: node-1, interfaceName: e, ports: [{name: §a b, protocol: TCP, port: 1}]}",
            "spec.ports[0].name is not the name of a port",
        ),
        (
            "{node: node-1, interfaceName: e, ports: [{name: a, protocol: §ICMP, port: 1}]}",
            "spec.ports[0].protocol has no ports | TCP, UDP, SCTP",
        ),
        (
            "{node: node-1, interfaceName: e, ports: [{name: a, protocol: §TPC, port: 1}]}",
            "spec.ports[0].protocol is not a protocol",
        ),
        (
            "{node: node-1, interfaceName: e, ports: [{name: a, protocol: TCP, port: §0}]}",
            "spec.ports[0].port is not a port number",
        ),
        ("{node: node-1, §interface: eth0}", "unknown key 'interface' in spec"),
    ],
)
def test_wrong_host_endpoint_is_refused_at_its_place(faults: Faults, spec: str, fault: str) -> None:
    text = resource("HostEndpoint", spec)
    (told,) = faults(text.replace("spec: §spec: ", "§spec: "))
    assert told.startswith(fault)


def test_wrong_label_of_a_host_endpoint_is_refused(faults: Faults) -> None:
    text = resource("HostEndpoint", "{node: node-1, interfaceName: e}").replace(
        "{name: n}", "{name: n, labels: {a: §-}}"
    )
    (told,) = faults(text)
    assert told.startswith("metadata.labels.a is not the value of a label")


@pytest.mark.parametrize(
    ("spec", "flags"),
    [
        ("{doNotTrack: true, applyOnForward: true, egress: [{action: Deny}]}", (True, False, True)),
        ("{preDNAT: true, applyOnForward: true, ingress: [{action: Deny}]}", (False, True, True)),
        ("{preDNAT: true, applyOnForward: true, types: [Ingress], egress: []}", (False, True, True)),
        ("{applyOnForward: true, types: [Egress]}", (False, False, True)),
        ("{}", (False, False, False)),
    ],
)
def test_policy_for_hosts_is_read(load: Load, spec: str, flags: tuple[bool, bool, bool]) -> None:
    (policy,) = load(resource("GlobalNetworkPolicy", spec)).policies
    assert isinstance(policy, CalicoPolicy)
    assert (policy.do_not_track, policy.pre_dnat, policy.apply_on_forward) == flags


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("{§doNotTrack: true}", "spec.doNotTrack needs applyOnForward: true beside it"),
        ("{§preDNAT: true, applyOnForward: false}", "spec.preDNAT needs applyOnForward: true beside it"),
        ("{doNotTrack: true, §preDNAT: true, applyOnForward: true}", "spec.preDNAT cannot be true beside doNotTrack"),
        ("{preDNAT: true, applyOnForward: true, types: [Ingress, §Egress]}", "spec.types[1] cannot stand in a preDNAT"),
        (
            "{preDNAT: true, applyOnForward: true, types: [Ingress], §egress: [{action: Deny}]}",
            "spec.egress cannot stand in a preDNAT policy | ingress rules",
        ),
        ("{preDNAT: §yes}", "spec.preDNAT must be true or false"),
    ],
)
@pytest.mark.parametrize("kind", ["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"])
def test_wrong_policy_for_hosts_is_refused_at_its_place(faults: Faults, kind: str, spec: str, fault: str) -> None:
    (told,) = faults(resource(kind, spec))
    assert told.startswith(fault)


def test_pools_are_read(load: Load) -> None:
    texts = [
        resource("IPPool", "{cidr: 10.0.0.0/16, natOutgoing: true, ipipMode: CrossSubnet, nodeSelector: all()}", "a"),
        resource("IPPool", '{cidr: "fd00::/64", disabled: true, blockSize: 128, vxlanMode: Always}', "b"),
        resource("IPPool", "{cidr: 10.9.0.0/26, blockSize: 26, allowedUses: [Workload, Tunnel]}", "c"),
    ]
    pools = load("\n---\n".join(texts)).ip_pools
    assert [(str(pool.cidr), pool.nat_outgoing, pool.disabled) for pool in pools] == [
        ("10.0.0.0/16", True, False),
        ("fd00::/64", False, True),
        ("10.9.0.0/26", False, False),
    ]


def test_pool_for_load_balancers_alone_is_no_pool_of_ends(load: Load) -> None:
    assert load(resource("IPPool", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer]}")) == Resources()


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("{cidr: §10.0.0.0}", "spec.cidr is not a network"),
        ("{cidr: §10.0.0.1/16}", "spec.cidr has bits set behind its prefix"),
        ("{cidr: §10.0.0.0/27}", "spec.cidr is smaller than one block | a prefix of at most 26"),
        ("{cidr: §10.0.0.0/25, blockSize: 24}", "spec.cidr is smaller than one block"),
        ('{cidr: §"fd00::/123"}', "spec.cidr is smaller than one block"),
        ("{cidr: 10.0.0.0/16, blockSize: §19}", "spec.blockSize is out of range | 20 to 32 for IPv4"),
        ('{cidr: "fd00::/64", blockSize: §26}', "spec.blockSize is out of range | 116 to 128 for IPv6"),
        ("{cidr: §169.254.0.0/24}", "spec.cidr holds link-local addresses"),
        ('{cidr: §"fe80::/64"}', "spec.cidr holds link-local addresses"),
        ('{cidr: "fd00::/64", ipipMode: §Always}', "spec.ipipMode of an IPv6 pool is fixed | Never"),
        ("{cidr: 10.0.0.0/16, ipipMode: §Always, vxlanMode: Always}", "spec.ipipMode cannot stand beside vxlanMode"),
        ("{cidr: 10.0.0.0/16, ipipMode: §always}", "spec.ipipMode is not allowed | Always, CrossSubnet, Never"),
        ("{cidr: 10.0.0.0/16, allowedUses: [§Pods]}", "spec.allowedUses[0] is not allowed | Workload, Tunnel"),
        ("{cidr: 10.0.0.0/16, nodeSelector: zone§}", "spec.nodeSelector is not a selector"),
        ("§spec: {}", "spec has no 'cidr', which it needs"),
    ],
)
def test_wrong_pool_is_refused_at_its_place(faults: Faults, spec: str, fault: str) -> None:
    (told,) = faults(resource("IPPool", spec).replace("spec: §spec: ", "§spec: "))
    assert told.startswith(fault)


def test_settings_that_change_verdicts_are_read(load: Load) -> None:
    spec = """{defaultEndpointToHostAction: RETURN, allowVXLANPacketsFromWorkloads: true, vxlanPort: 4790,
      allowIPIPPacketsFromWorkloads: false, disableConntrackInvalidCheck: false,
      failsafeInboundHostPorts: [{protocol: TCP, port: 22, net: 10.0.0.0/8}, {protocol: UDP, port: 68}, {port: 179}],
      failsafeOutboundHostPorts: [], ipForwarding: disabled, ipv6Support: false}"""
    found = felix(load, spec)
    assert (found.node, found.endpoint_to_host_action, found.vxlan_port) == (None, "Return", 4790)
    assert (found.allow_vxlan_from_workloads, found.allow_ipip_from_workloads) == (True, False)
    assert found.drop_invalid is True
    assert found.failsafe_inbound == (Failsafe(6, 22, ip_network("10.0.0.0/8")), Failsafe(17, 68), Failsafe(6, 179))
    assert found.failsafe_outbound == ()
    assert (found.ip_forwarding, found.ipv6_support) == (False, False)


def test_settings_that_are_not_said_are_none(load: Load) -> None:
    found = felix(
        load, '{defaultEndpointToHostAction: "", failsafeInboundHostPorts: , logSeverityScreen: Info}', "node.node-2"
    )
    assert found == FelixConfiguration("node-2", *[None] * 7, place=found.place)


@pytest.mark.parametrize(("said", "drops"), [("true", False), ("false", True)])
def test_check_of_invalid_packets_is_the_opposite_of_its_being_disabled(load: Load, said: str, drops: bool) -> None:
    assert felix(load, f"{{disableConntrackInvalidCheck: {said}}}").drop_invalid is drops


def test_settings_that_change_no_verdict_are_passed_over(load: Load) -> None:
    found = felix(load, f"{{{': whatever, '.join(sorted(IRRELEVANT))}: whatever}}")
    assert found == FelixConfiguration(None, *[None] * 7, place=found.place)


@pytest.mark.parametrize("key", sorted(FIXED))
def test_setting_that_is_not_modelled_is_refused_unless_it_is_the_default(faults: Faults, key: str) -> None:
    default = FIXED[key]
    good = str(default).lower() if default is not None else '""'
    other = str(not default).lower() if isinstance(default, bool) else "other"
    assert faults(resource("FelixConfiguration", f"{{{key}: {good}}}", "default")) == []
    (told,) = faults(resource("FelixConfiguration", f"{{{key}: §{other}}}", "default"))
    allowed = "no such key" if default is None else f"{good}, or no such key" if isinstance(default, bool) else None
    said = f"{default}, or no such key" if allowed is None else allowed
    assert told.startswith(f"spec.{key} can change verdicts, and the lab does not model how | {said}")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            "{§defaultEndpointToHostActions: Drop}",
            "spec.defaultEndpointToHostActions is no field of FelixConfiguration | did",
        ),
        ("{§DefaultEndpointToHostAction: Drop}", "spec.DefaultEndpointToHostAction is no field of FelixConfiguration"),
        (
            "{defaultEndpointToHostAction: §Reject}",
            "spec.defaultEndpointToHostAction is not an action | Drop, Return, Accept",
        ),
        ("{defaultEndpointToHostAction: §true}", "spec.defaultEndpointToHostAction is not an action"),
        (
            "{failsafeInboundHostPorts: [{port: §true}]}",
            "spec.failsafeInboundHostPorts[0].port is not a port number | a number from 1 to 65535",
        ),
        ("{ipForwarding: §No}", "spec.ipForwarding is neither of the two | Enabled, Disabled"),
        ("{ipForwarding: §true}", "spec.ipForwarding is neither of the two"),
        ("{ipv6Support: §maybe}", "spec.ipv6Support must be true or false"),
        ("{vxlanPort: §0}", "spec.vxlanPort is not a port number"),
        ("{allowVXLANPacketsFromWorkloads: §maybe}", "spec.allowVXLANPacketsFromWorkloads must be true or false"),
        (
            "{§failsafeInboundHostPorts: none}",
            "spec.failsafeInboundHostPorts must be a list | write [] to open no port",
        ),
        (
            "{failsafeInboundHostPorts: [§'tcp:0.0.0.0/0:22']}",
            "spec.failsafeInboundHostPorts[0] is the form of Felix's environment, not of a resource | {protocol: TCP",
        ),
        (
            "{failsafeInboundHostPorts: [{protocol: §tcp, port: 22}]}",
            "spec.failsafeInboundHostPorts[0].protocol is not a protocol of failsafe ports | TCP, UDP, SCTP | did",
        ),
        (
            "{failsafeInboundHostPorts: [{protocol: §ICMP, port: 1}]}",
            "spec.failsafeInboundHostPorts[0].protocol is not",
        ),
        ("{failsafeOutboundHostPorts: [§{protocol: TCP}]}", "spec.failsafeOutboundHostPorts[0] has no 'port'"),
        (
            "{failsafeOutboundHostPorts: [{port: §65536}]}",
            "spec.failsafeOutboundHostPorts[0].port is not a port number",
        ),
        (
            "{failsafeOutboundHostPorts: [{port: 1, net: §ten}]}",
            "spec.failsafeOutboundHostPorts[0].net is not a network",
        ),
        (
            "{failsafeOutboundHostPorts: [{port: 1, §cidr: 10.0.0.0/8}]}",
            "spec.failsafeOutboundHostPorts[0].cidr is unknown",
        ),
        (
            "{failsafeOutboundHostPorts: [§22]}",
            "spec.failsafeOutboundHostPorts[0] is no port | {protocol: TCP, port: 22}",
        ),
    ],
)
def test_wrong_setting_is_refused_at_its_place(faults: Faults, spec: str, fault: str) -> None:
    (told,) = faults(resource("FelixConfiguration", spec, "default"))
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("§defaults", "metadata.name is not one that Felix looks for | default, or node.NAME for one node"),
        ("§node.node-3", "metadata.name is of no node of the topology | node.node-1, node.node-2 | did you mean"),
        ("§node-1", "metadata.name is not one that Felix looks for"),
    ],
)
def test_settings_for_nobody_are_refused(faults: Faults, name: str, fault: str) -> None:
    (told,) = faults(resource("FelixConfiguration", "{}", name))
    assert told.startswith(fault)
