# SPDX-License-Identifier: Apache-2.0
"""Rules that name services: by EndpointSlices, bound to ports at a destination and not at a source, by hand."""

from __future__ import annotations

import pytest
from oracle_lab import Document, Lab, gnp, lab, np, onto

from lab.oracle import explanation_text

__all__ = ["lab"]

WEB_PORTS: tuple[Document, ...] = ({"name": "http", "protocol": "TCP", "port": 80},)


def slice_of(
    service: str, *addresses: str, namespace: str = "x", name: str = "s", ports: tuple[Document, ...] = WEB_PORTS
) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": list(ports),
    }


def egress(service: Document, **more: object) -> Document:
    rule = {"action": "Allow", "destination": {"services": service}, **more}
    return gnp({"selector": "pod == 'd'", "types": ["Egress"], "egress": [rule]})


WEB: Document = {"name": "web", "namespace": "x"}
REACHED: list[tuple[list[Document], set[tuple[str, str, int]]]] = [
    ([slice_of("web", "198.18.1.1")], {("x/a", "TCP", 80)}),
    ([slice_of("web", "198.18.1.1", "203.0.113.9")], {("x/a", "TCP", 80), ("client", "TCP", 80)}),
    ([slice_of("other", "198.18.1.1")], set()),
    ([slice_of("web", "198.18.1.1", namespace="y")], set()),
    (
        [
            slice_of("web", "198.18.1.1"),
            slice_of("web", "198.18.1.2", name="t", ports=({"protocol": "UDP", "port": 53},)),
        ],
        {("x/a", "TCP", 80), ("x/b", "UDP", 53)},
    ),
    (
        [slice_of("web", "198.18.1.1"), slice_of("web", "198.18.1.1", name="t", ports=({"name": "b", "port": 81},))],
        {("x/a", "TCP", 80), ("x/a", "TCP", 81)},
    ),
    ([slice_of("web", "fd00:18:1::1")], set()),
    ([], set()),
]


@pytest.mark.parametrize(("slices", "reached"), REACHED)
def test_egress_to_service_opens_the_ports_of_its_slices_alone(
    lab: Lab, slices: list[Document], reached: set[tuple[str, str, int]]
) -> None:
    judge = lab(*slices, egress(WEB))
    asked = {(name, *at) for name in ("x/a", "x/b", "client") for at in (("TCP", 80), ("TCP", 81), ("UDP", 53))}
    assert {
        (name, protocol, port) for name, protocol, port in asked if judge.allows("y/d", name, protocol, port)
    } == reached
    assert not judge.allows("y/d", "x/a", "ICMP")


def test_service_of_other_family_is_reached_over_it(lab: Lab) -> None:
    assert lab(slice_of("web", "fd00:18:1::1"), egress(WEB)).allows("y/d", "x/a", family=6)


def test_protocol_of_rule_must_hold_beside_service(lab: Lab) -> None:
    both = ({"name": "t", "protocol": "TCP", "port": 80}, {"name": "u", "protocol": "UDP", "port": 53})
    judge = lab(slice_of("web", "198.18.1.1", ports=both), egress(WEB, protocol="UDP"))
    assert judge.allows("y/d", "x/a", "UDP", 53)
    assert not judge.allows("y/d", "x/a", "TCP", 80)


def test_ingress_from_service_ignores_its_ports(lab: Lab) -> None:
    rule = {"action": "Allow", "source": {"services": WEB}}
    judge = lab(slice_of("web", "198.18.1.1", "203.0.113.9"), onto("d", rule))
    assert judge.senders("y/d") == {"x/a", "client"}
    assert judge.senders("y/d", "UDP", 9) == {"x/a", "client"}
    assert judge.senders("y/d", "ICMP") == {"x/a", "client"}


def test_ingress_from_service_may_limit_destination_ports(lab: Lab) -> None:
    rule = {"action": "Allow", "protocol": "TCP", "source": {"services": WEB}, "destination": {"ports": [81]}}
    judge = lab(slice_of("web", "198.18.1.1"), onto("d", rule))
    assert judge.senders("y/d", "TCP", 81) == {"x/a"}
    assert judge.senders("y/d", "TCP", 80) == set()


def test_namespaced_rule_without_namespace_names_no_service(lab: Lab) -> None:
    """Unconfirmed: Felix is given the empty namespace as it stands."""

    def judged(service: Document) -> bool:
        rules = [{"action": "Allow", "source": {"services": service}}]
        policy = np({"selector": "pod == 'b'", "types": ["Ingress"], "ingress": rules})
        return lab(slice_of("web", "198.18.1.1"), policy).allows("x/a", "x/b")

    assert judged(WEB)
    assert not judged({"name": "web"})


def test_explanation_tells_which_service_was_wanted(lab: Lab) -> None:
    judge = lab(slice_of("web", "198.18.1.1"), slice_of("db", "198.18.1.2", name="t"), egress(WEB))
    text = explanation_text(judge.oracle.explain(judge.flow("y/d", "x/b", "TCP", 80)))
    assert "destination.services wants a port of a backend of x/web" in text
    assert "here it is 80/TCP of 198.18.1.2, a backend of x/db" in text
