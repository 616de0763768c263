# SPDX-License-Identifier: Apache-2.0
"""Services, EndpointSlices and the rules that name services: read as written, or refused at the § in the text."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from lab.policy.resources import CalicoPolicy, EndpointSlice, Resources, Service, ServiceMatch, ServicePort
from lab.topology import Port

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]


def service(spec: str, metadata: str = "name: s, namespace: x") -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{{metadata}}}, spec: {spec}}}"


def endpoint_slice(
    rest: str, metadata: str = "name: s-1, namespace: x, labels: {kubernetes.io/service-name: s}"
) -> str:
    return f"{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{{metadata}}}, {rest}}}"


def test_service_with_every_field_is_read_as_written(load: Load) -> None:
    spec = """{type: NodePort, selector: {app: web}, clusterIP: 10.96.0.1, externalTrafficPolicy: Cluster, ports: [
      {name: http, port: 80, targetPort: http-web, nodePort: 30080},
      {name: dns, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053, appProtocol: dns},
      {name: plain, protocol: SCTP, port: 9}]}"""
    (found,) = load(service(spec)).services
    ports = (
        ServicePort("http", 6, 80, "http-web", 30080),
        ServicePort("dns", 17, 53, 5353, 30053),
        ServicePort("plain", 132, 9, 9, None),
    )
    assert found == Service("s", "x", ports, found.place)


@pytest.mark.parametrize("spec", ["{type: ExternalName, externalName: example.org}", '{clusterIP: "None"}'])
def test_service_that_needs_no_ports_is_read_without(load: Load, spec: str) -> None:
    assert load(service(spec)).services[0].ports == ()


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("§spec: {}", "spec has no ports"),
        ("{ports: [{port: §0}]}", "spec.ports[0].port is not a port number"),
        (
            "{ports: [{port: 1, protocol: §tcp}]}",
            "spec.ports[0].protocol is not allowed | TCP, UDP, SCTP",
        ),
        ("{ports: [{port: 1, targetPort: §Web}]}", "spec.ports[0].targetPort is not the name of a port"),
        ("{ports: [{port: 1, targetPort: §65536}]}", "spec.ports[0].targetPort is not a port number"),
        ("{type: NodePort, ports: [{port: 1, nodePort: §70000}]}", "spec.ports[0].nodePort is not a port number"),
        (
            "{ports: [{port: 1, §nodePort: 30000}]}",
            "spec.ports[0].nodePort cannot stand in a service of type ClusterIP",
        ),
        ("{ports: [§{port: 1}, {name: b, port: 2}]}", "spec.ports[0] needs a name, as there are several ports"),
        ("{ports: [{name: a, port: 1}, {name: §a, port: 2}]}", "spec.ports[1].name is given twice"),
        ("{ports: [{name: a, port: 1}, {name: b, port: §1}]}", "spec.ports[1].port is given twice"),
        ("{ports: [{name: §A, port: 1}]}", "spec.ports[0].name is not a name"),
        ("{type: §Nodeport, ports: [{port: 1}]}", "spec.type is not allowed | ClusterIP, NodePort, LoadBalancer"),
        ("{externalTrafficPolicy: §Local, ports: [{port: 1}]}", "spec.externalTrafficPolicy is not modelled"),
        ("{§port: 1}", "unknown key 'port' in spec"),
        (
            "{type: NodePort, ports: [{name: a, port: 1, nodePort: 30000}, {name: b, port: 2, nodePort: §30000}]}",
            "spec.ports[1].nodePort is that of a service for TCP that is there already | the first one is at ",
        ),
    ],
)
def test_wrong_service_is_refused_at_its_place(faults: Faults, spec: str, fault: str) -> None:
    (told,) = faults(service(spec).replace("spec: §spec: ", "§spec: "))
    assert told.startswith(fault)


def test_node_port_of_two_services_is_refused(faults: Faults) -> None:
    spec = "{type: NodePort, ports: [{port: 1, nodePort: 30000, protocol: PROTOCOL}]}"
    texts = [
        service(spec.replace("PROTOCOL", "TCP"), "name: a, namespace: x"),
        service(spec.replace("PROTOCOL", "UDP"), "name: b, namespace: x"),
        service(spec.replace("PROTOCOL", "TCP").replace("30000", "§30000"), "name: c, namespace: y"),
    ]
    (told,) = faults("\n---\n".join(texts))
    assert told.startswith("spec.ports[0].nodePort is that of a service for TCP that is there already")


def test_slice_with_every_field_is_read_without_what_is_not_ready(load: Load) -> None:
    rest = """addressType: IPv4, ports: [{name: http, port: 80}, {protocol: UDP, port: 53}, {name: all}], endpoints: [
      {addresses: [10.0.0.1, 10.0.0.2], nodeName: node-1, hints: {}},
      {addresses: [10.0.0.3], conditions: {ready: false, serving: true}},
      {addresses: [10.0.0.4], conditions: {ready: true}, targetRef: {kind: Pod}},
      {addresses: [10.0.0.5], conditions: {ready: }}]"""
    (found,) = load(endpoint_slice(rest)).endpoint_slices
    addresses = tuple(ip_address(f"10.0.0.{number}") for number in (1, 2, 4, 5))
    ports = (Port("http", 6, 80), Port("", 17, 53))
    assert found == EndpointSlice("s-1", "x", "s", addresses, ports, found.place)


def test_slice_without_its_label_is_behind_no_service(load: Load) -> None:
    (found,) = load(endpoint_slice("addressType: IPv6", "name: s-1")).endpoint_slices
    assert (found.service, found.addresses, found.ports) == ("", (), ())


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("addressType: §FQDN", "addressType is not allowed | IPv4, IPv6"),
        ("addressType: IPv4, endpoints: [{addresses: [10.0.0.1, §'fd00::1']}]", "endpoints[0].addresses[1] is not of"),
        ("addressType: IPv6, endpoints: [{addresses: [§10.0.0.1]}]", "endpoints[0].addresses[0] is not of the slice's"),
        ("addressType: IPv4, endpoints: [{addresses: [§ten]}]", "endpoints[0].addresses[0] is not an address"),
        ("addressType: IPv4, endpoints: [{§addresses: []}]", "endpoints[0].addresses has no entry, and needs one"),
        ("addressType: IPv4, endpoints: [§{}]", "endpoints[0] has no 'addresses', which it needs"),
        (
            "addressType: IPv4, endpoints: [{conditions: {ready: false}, addresses: [§ten]}]",
            "endpoints[0].addresses[0] is not an address",
        ),
        ("addressType: IPv4, ports: [{port: §0}]", "ports[0].port is not a port number"),
        ("addressType: IPv4, ports: [{port: §http}]", "ports[0].port must be a whole number"),
        ("addressType: IPv4, ports: [{name: §A, port: 1}]", "ports[0].name is not a name"),
        ("addressType: IPv4, §spec: {}", "unknown key 'spec' in the document"),
        (f"addressType: IPv4, §ports: [{', '.join(['{port: 1}'] * 101)}]", "ports has 101 entries | at most 100"),
    ],
)
def test_wrong_slice_is_refused_at_its_place(faults: Faults, rest: str, fault: str) -> None:
    (told,) = faults(endpoint_slice(rest))
    assert told.startswith(fault)


def test_slice_says_of_which_family_it_is(faults: Faults) -> None:
    (told,) = faults("§" + endpoint_slice("endpoints: []"))
    assert told == "the document has no 'addressType', which it needs"


def policy(kind: str, rules: str) -> str:
    namespace = ", namespace: x" if "Global" not in kind else ""
    return f"{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: n{namespace}}}, spec: {rules}}}"


INGRESS = "{{ingress: [{{action: Allow, protocol: TCP, source: {{{0}}}}}]}}"
EGRESS = "{{egress: [{{action: Allow, protocol: TCP, destination: {{{0}}}}}]}}"


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("NetworkPolicy", ServiceMatch("s", None)),
        ("GlobalNetworkPolicy", ServiceMatch("s", "y")),
        ("StagedNetworkPolicy", ServiceMatch("s", None)),
    ],
)
@pytest.mark.parametrize("rules", [INGRESS, EGRESS])
def test_services_of_a_rule_are_read(load: Load, kind: str, match: ServiceMatch, rules: str) -> None:
    given = f"services: {{name: s{', namespace: y' if match.namespace else ''}}}"
    (found,) = load(policy(kind, rules.format(given))).policies
    assert isinstance(found, CalicoPolicy)
    (rule,) = (*found.ingress, *found.egress)
    assert match in (rule.source.services, rule.destination.services)


def test_ports_of_the_source_of_a_service_rule_are_read(faults: Faults) -> None:
    sides = "source: {services: {name: s}, ports: [1]}, destination: {ports: [80]}"
    rules = f"{{ingress: [{{action: Allow, protocol: TCP, {sides}}}]}}"
    assert faults(policy("NetworkPolicy", rules)) == []


@pytest.mark.parametrize("rules", [INGRESS, EGRESS])
@pytest.mark.parametrize(
    ("beside", "key"),
    [
        ("selector: has(a)", "selector"),
        ("notSelector: has(a)", "notSelector"),
        ("namespaceSelector: has(a)", "namespaceSelector"),
        ("serviceAccounts: {names: [a]}", "serviceAccounts"),
        ("nets: [10.0.0.0/8]", "nets"),
        ("notNets: [10.0.0.0/8]", "notNets"),
    ],
)
def test_services_beside_another_way_to_say_who_are_refused(faults: Faults, rules: str, beside: str, key: str) -> None:
    (told,) = faults(policy("NetworkPolicy", rules.format(f"services: {{name: s}}, §{beside}")))
    assert told.endswith(f".{key} cannot stand beside services")


@pytest.mark.parametrize("ports", ["ports: [80]", "notPorts: [80]", "ports: [http]"])
def test_ports_beside_the_services_of_a_destination_are_refused(faults: Faults, ports: str) -> None:
    (told,) = faults(policy("NetworkPolicy", EGRESS.format(f"services: {{name: s}}, §{ports}")))
    assert told == f"spec.egress[0].destination.{ports.partition(':')[0]} cannot stand beside services"


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ("{egress: [{action: Allow, source: {§services: {name: s}}}]}", "spec.egress[0].source.services"),
        ("{ingress: [{action: Allow, destination: {§services: {name: s}}}]}", "spec.ingress[0].destination.services"),
    ],
)
def test_services_of_the_policys_own_side_are_refused(faults: Faults, rules: str, where: str) -> None:
    (told,) = faults(policy("NetworkPolicy", rules))
    assert told.startswith(
        f"{where} cannot stand here | the source of an ingress rule, or the destination of an egress"
    )


@pytest.mark.parametrize("kind", ["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy", "Profile"])
def test_services_of_a_cluster_wide_resource_need_their_namespace(faults: Faults, kind: str) -> None:
    (told,) = faults(policy(kind, EGRESS.format("§services: {name: s}")).replace(", namespace: x", ""))
    assert told.startswith("spec.egress[0].destination.services has no 'namespace', which it needs")


def test_services_without_a_name_are_refused(faults: Faults) -> None:
    (told,) = faults(policy("NetworkPolicy", EGRESS.format("§services: {namespace: x}")))
    assert told == "spec.egress[0].destination.services has no 'name', which it needs"
