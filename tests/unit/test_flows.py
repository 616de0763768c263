# SPDX-License-Identifier: Apache-2.0
"""Flows: those that a topology declares, and those of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.errors import LabError, LabErrors, Place, TopologyError
from lab.protocols import ICMP, ICMPV6, TCP, UDP, UDPLITE
from lab.schema import MAX_ERRORS
from lab.topology import Flow, HttpRequest, IcmpHeader, Topology, default_flows
from lab.topology.flows_file import flow_to_dict, load_flows, read_flow
from lab.topology.load import load_topology

TEXT = """
nodes: {node-1: }
namespaces: {x: }
workloads:
  x/both: {node: node-1, sidecar: envoy, ports: [{port: 80}, {name: web, port: 80}, {protocol: UDP, port: 53}]}
  x/four: {node: node-1, addresses: [198.18.0.9], ports: [{port: 1}]}
  x/six: {node: node-1, addresses: ["fd00:18::9"], ports: [{port: 2}]}
externals: {client: {addresses: [203.0.113.9, "2001:db8::9"]}}
"""


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    path = tmp_path_factory.mktemp("flows") / "lab.yaml"
    path.write_text(TEXT)
    return load_topology(path)


def test_flow_between_other_ports_is_the_flow_in_all_else() -> None:
    flow = Flow("x/both", "client", ICMP, None, 6, None, IcmpHeader(1, 2), HttpRequest("GET", "/"), Place("f"))
    assert flow.between([(None, 80), (53, 1)]) == [replace(flow, port=80), replace(flow, port=1, source_port=53)]
    assert [each.place for each in flow.between([(1, 2)])] == [flow.place]
    assert hash(flow.between([(None, None)])[0]) == hash(flow)


def flows_of(folder: Path, topology: Topology, text: str) -> tuple[Flow, ...]:
    path = folder / "flows.yaml"
    path.write_text(text)
    return load_flows(path, topology)


def complaints(folder: Path, topology: Topology, text: str) -> list[str]:
    with pytest.raises(LabError) as caught:
        flows_of(folder, topology, text)
    errors = caught.value.errors if isinstance(caught.value, LabErrors) else (caught.value,)
    assert all(isinstance(error, TopologyError) for error in errors)
    return [str(error).replace(f"{folder}/", "") for error in errors]


@pytest.mark.parametrize(
    ("name", "count"), [("three-by-three", 864), ("one-node", 12), ("many-nodes", 2208), ("external-client", 30)]
)
def test_shipped_topology_has_its_default_flows(name: str, count: int) -> None:
    flows = default_flows(load_topology(name))
    assert len(flows) == len(set(flows)) == count


def test_default_flows_come_in_order_in_the_families_that_both_have(topology: Topology) -> None:
    told = [(flow.source, flow.destination, flow.protocol, flow.port, flow.family) for flow in default_flows(topology)]
    assert told == [
        ("x/both", "x/four", TCP, 1, 4),
        ("x/both", "x/six", TCP, 2, 6),
        ("x/four", "x/both", TCP, 80, 4),
        ("x/four", "x/both", UDP, 53, 4),
        ("x/six", "x/both", TCP, 80, 6),
        ("x/six", "x/both", UDP, 53, 6),
        ("client", "x/both", TCP, 80, 4),
        ("client", "x/both", TCP, 80, 6),
        ("client", "x/both", UDP, 53, 4),
        ("client", "x/both", UDP, 53, 6),
        ("client", "x/four", TCP, 1, 4),
        ("client", "x/six", TCP, 2, 6),
    ]


@pytest.mark.parametrize(
    ("entry", "flow"),
    [
        ("from: client, to: x/both, protocol: TCP, port: 80", Flow("client", "x/both", TCP, 80, 4)),
        ("from: client, to: x/six, protocol: udp, port: '5'", Flow("client", "x/six", UDP, 5, 6)),
        ("from: client, to: x/both, protocol: 6, port: 9, family: ipv6", Flow("client", "x/both", TCP, 9, 6)),
        ("from: x/four, to: x/four, protocol: '47'", Flow("x/four", "x/four", 47, None, 4)),
        ("from: client, to: x/both, protocol: sctp, port: 9, source_port: 7", Flow("client", "x/both", 132, 9, 4, 7)),
        ("from: client, to: x/both, protocol: UDPLite", Flow("client", "x/both", UDPLITE, None, 4)),
        ("from: client, to: x/both, protocol: UDPLite, port: 4", Flow("client", "x/both", UDPLITE, 4, 4)),
        ("from: client, to: x/both, protocol: icmp", Flow("client", "x/both", ICMP, None, 4)),
        ("from: client, to: x/both, protocol: ICMPv6", Flow("client", "x/both", ICMPV6, None, 6)),
        ("from: client, to: x/both, protocol: 1, family: ipv6", Flow("client", "x/both", ICMP, None, 6)),
        ("from: node-1, to: x/both, protocol: TCP, port: 80", Flow("node-1", "x/both", TCP, 80, 4)),
        ("from: x/six, to: node-1, protocol: TCP, port: 30080", Flow("x/six", "node-1", TCP, 30080, 6)),
        ("from: node-1, to: node-1, protocol: UDP, port: 1", Flow("node-1", "node-1", UDP, 1, 4)),
        (
            "from: client, to: x/both, protocol: ICMP, icmp: {type: 3}",
            Flow("client", "x/both", ICMP, None, 4, icmp=IcmpHeader(3, 0)),
        ),
        (
            "from: client, to: x/both, protocol: TCP, port: 80, http: {method: GET, path: /a?b=c}",
            Flow("client", "x/both", TCP, 80, 4, http=HttpRequest("GET", "/a?b=c")),
        ),
    ],
)
def test_entry_gives_one_flow(tmp_path: Path, topology: Topology, entry: str, flow: Flow) -> None:
    assert flows_of(tmp_path, topology, f"- {{{entry}}}") == (flow,)


def test_entries_keep_their_order_and_their_number(tmp_path: Path, topology: Topology) -> None:
    same = {"from": "client", "to": "x/both", "protocol": "TCP", "port": 80}
    flows = flows_of(tmp_path, topology, json.dumps([same, {**same, "port": 79}, same], indent=1))
    assert [flow.port for flow in flows] == [80, 79, 80]
    assert str(flows[1].place).endswith("flows.yaml:8:2")
    assert flows_of(tmp_path, topology, "[]") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "flows.yaml: the file holds nothing"),
        ("[]\n---\n[]", "flows.yaml: the file holds 2 documents"),
        ("from: a", "flows.yaml:1:1: the document is no list; allowed: a list of flows"),
        ("- a", "flows.yaml:1:3: entry [0] must be a mapping, not the text 'a'"),
        (
            "- {from: a, too: b, protocol: TCP}",
            "flows.yaml:1:13: unknown key 'too' in entry [0]; allowed: from, to, pr",
        ),
        ("- {from: client, protocol: TCP, port: 1}", "flows.yaml:1:3: entry [0] has no 'to', which it needs"),
        (
            "- {from: client, to: x/bth, protocol: TCP, port: 1}",
            "flows.yaml:1:22: unknown end 'x/bth'; allowed: x/both, ",
        ),
        (
            "- {from: node-2, to: x/both, protocol: TCP, port: 1}",
            "flows.yaml:1:10: unknown end 'node-2'; allowed: x/both, ",
        ),
    ],
)
def test_file_that_is_no_list_of_flows_is_refused(tmp_path: Path, topology: Topology, text: str, told: str) -> None:
    assert complaints(tmp_path, topology, text)[0].startswith(told)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("to: x/both, protocol: TCP", "flows.yaml:1:40: a flow of protocol TCP needs a port"),
        ("to: x/both, protocol: TPC, port: 1", "flows.yaml:1:40: entry [0].protocol is not a protocol; given: 'TPC'"),
        ("to: x/both, protocol: 0", "flows.yaml:1:40: entry [0].protocol is not a protocol; given: 0"),
        ("to: x/both, protocol: 256", "flows.yaml:1:40: entry [0].protocol is not a protocol; given: 256"),
        ("to: x/both, protocol: true", "flows.yaml:1:40: entry [0].protocol is not a protocol"),
        ("to: x/both, protocol: 47, port: 3", "flows.yaml:1:50: the protocol 47 has no ports"),
        ("to: x/both, protocol: ICMP, source_port: 3", "flows.yaml:1:59: the protocol ICMP has no ports"),
        (
            "to: x/both, protocol: TCP, port: 0",
            "flows.yaml:1:51: entry [0].port is not a port; given: 0; allowed: a wh",
        ),
        ("to: x/both, protocol: TCP, port: 65536", "flows.yaml:1:51: entry [0].port is not a port; given: 65536"),
        ("to: x/both, protocol: TCP, port: 90:80", "flows.yaml:1:51: entry [0].port is not a port; given: '90:80'"),
        ("to: x/both, protocol: TCP, port: 1, family: v4", "flows.yaml:1:62: entry [0].family is not allowed; given:"),
        ("to: x/four, protocol: TCP, port: 1, family: ipv6", "flows.yaml:1:62: x/four has no ipv6 address"),
        ("to: x/six, protocol: ICMP", "flows.yaml:1:39: x/six has no ipv4 address"),
        (
            "to: x/both, protocol: TCP, port: 1, icmp: {type: 8}",
            "flows.yaml:1:60: a flow of protocol TCP has no ICMP t",
        ),
        ("to: x/both, protocol: ICMP, icmp: {type: 256}", "flows.yaml:1:59: entry [0].icmp.type is out of range; give"),
        ("to: x/both, protocol: ICMP, icmp: {}", "flows.yaml:1:46: entry [0].icmp has no 'type'"),
        ("to: x/four, protocol: TCP, port: 1, http: {method: GET, path: /}", "flows.yaml:1:60: an HTTP flow needs a s"),
        (
            "to: x/both, protocol: UDP, port: 1, http: {method: GET, path: /}",
            "flows.yaml:1:60: HTTP needs TCP, not UDP",
        ),
        ("to: x/both, protocol: TCP, port: 1, http: {method: G T, path: /}", "flows.yaml:1:69: entry [0].http.method"),
        ("to: x/both, protocol: TCP, port: 1, http: {method: GET, path: a}", "flows.yaml:1:80: entry [0].http.path is"),
        (
            'to: x/both, protocol: TCP, port: 1, http: {method: GET, path: "/#a"}',
            "flows.yaml:1:80: entry [0].http.path is not an HTTP path",
        ),
        (
            'to: x/both, protocol: TCP, port: 1, http: {method: GET, path: "/%4x"}',
            "flows.yaml:1:80: entry [0].http.path is not escaped",
        ),
        (
            'to: x/both, protocol: TCP, port: 1, http: {method: GET, path: "/a//%2e./b"}',
            "flows.yaml:1:80: entry [0].http.path is read in two ways",
        ),
        (
            "to: x/both, protocol: TCP, port: 1, http: {method: CONNECT, path: /}",
            "flows.yaml:1:60: CONNECT asks for a tunnel",
        ),
        (
            "to: x/both, protocol: TCP, port: 1, source_port: 5, http: {method: GET, path: /}",
            "flows.yaml:1:67: the source port of an HTTP flow is",
        ),
    ],
)
def test_entry_that_cannot_be_is_told_at_its_field(tmp_path: Path, topology: Topology, entry: str, told: str) -> None:
    assert complaints(tmp_path, topology, f"- {{from: client, {entry}}}")[0].startswith(told)


def test_ends_without_a_common_family_are_refused(tmp_path: Path, topology: Topology) -> None:
    (told,) = complaints(tmp_path, topology, "- {from: x/four, to: x/six, protocol: TCP, port: 2}")
    assert told == "flows.yaml:1:22: x/four and x/six have no address family in common"


def test_every_wrong_entry_is_told(tmp_path: Path, topology: Topology) -> None:
    text = "".join(
        f"- {{{ends}, protocol: 47}}\n"
        for ends in ("from: q, to: client", "from: client, to: x/four", "from: client, to: q")
    )
    assert [told[:15] for told in complaints(tmp_path, topology, text)] == ["flows.yaml:1:10", "flows.yaml:3:22"]


def test_thousands_of_wrong_entries_are_cut_short(tmp_path: Path, topology: Topology) -> None:
    told = complaints(tmp_path, topology, "- {from: x/bth, to: client, protocol: 47}\n" * 5000)
    assert len(told) == MAX_ERRORS + 1
    assert "there are more errors from here on" in told[-1]


PORTS = st.integers(1, 65535)
ENTRIES = st.one_of(
    st.builds(
        Flow,
        st.just("client"),
        st.just("x/both"),
        st.sampled_from([6, 17, 132]),
        PORTS,
        st.sampled_from([4, 6]),
        st.none() | PORTS,
    ),
    st.builds(
        Flow,
        st.just("x/both"),
        st.just("client"),
        st.sampled_from([1, 58]),
        st.none(),
        st.sampled_from([4, 6]),
        icmp=st.none() | st.builds(IcmpHeader, st.integers(0, 255), st.integers(0, 255)),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(flows=st.lists(ENTRIES, max_size=5))
def test_written_flows_read_back_equal(tmp_path: Path, topology: Topology, flows: list[Flow]) -> None:
    text = json.dumps([flow_to_dict(flow) for flow in flows])
    assert flows_of(tmp_path, topology, text) == tuple(flows)


def test_flow_of_options_is_read_like_an_entry(topology: Topology) -> None:
    entry = {"from": "client", "to": "x/both", "protocol": "tcp", "port": 80}
    assert read_flow(entry, topology, "command line") == Flow("client", "x/both", TCP, 80, 4)
    with pytest.raises(TopologyError, match=r"^command line: port is not a port; given: 0"):
        read_flow({**entry, "port": 0}, topology, "command line")
    with pytest.raises(TopologyError, match=r"^command line: unknown end 'x/bot'; .*did you mean 'x/both'"):
        read_flow({**entry, "to": "x/bot"}, topology, "command line")


def test_requests_to_a_port_that_is_called_tcp_are_refused(tmp_path: Path) -> None:
    ports = "[{name: tcp-sql, port: 1}, {name: tcp, port: 2}, {name: tcpish, port: 3}, {port: 4}, {name: tcp, port: 5}]"
    workloads = f"x/a: {{node: n, sidecar: envoy, ports: {ports}}}, x/b: {{node: n, ports: [{{name: web, port: 5}}]}}"
    (tmp_path / "t.yaml").write_text(f"nodes: {{n: {{}}}}\nnamespaces: {{x: {{}}}}\nworkloads: {{{workloads}}}\n")
    found = load_topology(tmp_path / "t.yaml")
    assert found.plain_ports() == {1, 2}
    entry = {"from": "x/b", "to": "x/a", "protocol": "TCP", "http": {"method": "GET", "path": "/"}}
    assert read_flow({**entry, "port": 5}, found, "test").http is not None
    with pytest.raises(TopologyError, match="look for no HTTP on port 1"):
        read_flow({**entry, "port": 1}, found, "test")
