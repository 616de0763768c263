# SPDX-License-Identifier: Apache-2.0
"""What sidecars are told is what the oracle says of requests."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from envoy_matcher import Connection, allows
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oracle_lab import lab, onto  # noqa: F401 - a fixture
from oracle_worlds import World, all_resources, calico_policies, flows_of, kubernetes_policies, topologies

from lab.errors import TopologyError
from lab.oracle import Oracle, explanation_text
from lab.oracle.requests import is_request, path_as_judged
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Action, CalicoPolicy, HttpMatch, HttpPath, PortRange
from lab.protocols import TCP
from lab.sidecar.applications import Response
from lab.sidecar.authority import identity_of
from lab.sidecar.chains import Gate
from lab.sidecar.patterns import paths_pattern, ports_pattern
from lab.sidecar.rbac import gate_file
from lab.sidecar.requests import judged
from lab.topology import Flow, HttpRequest, address_of

METHODS = ("GET", "POST")
REQUESTS = [HttpRequest(method, path) for method in METHODS for path in ("/", "/a", "/a/b?c", "/ab")]

http_paths = st.builds(HttpPath, st.sampled_from(["exact", "prefix"]), st.sampled_from(["/", "/a", "/a/", "/a/b"]))
matches = st.builds(
    HttpMatch,
    st.lists(st.sampled_from([*METHODS, "*"]), max_size=2).map(tuple),
    st.lists(http_paths, max_size=2).map(tuple),
)


@st.composite
def with_http(draw, policies):
    """Policies some of whose ingress rules look at requests."""
    policy = draw(policies)
    if not isinstance(policy, CalicoPolicy):
        return policy

    def may_look(rule):
        of_tcp = rule.protocol is None or rule.protocol.number == TCP
        return rule.action is Action.ALLOW and of_tcp and rule.icmp is None

    ingress = [
        replace(rule, http=draw(matches)) if may_look(rule) and draw(st.booleans()) else rule for rule in policy.ingress
    ]
    return replace(policy, ingress=tuple(ingress))


@st.composite
def worlds(draw):
    resources = draw(all_resources(st.one_of(with_http(calico_policies()), kubernetes_policies)))
    return World(draw(topologies()), resources)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.sampled_from(REQUESTS), st.booleans())
def test_any_policy_is_told_to_sidecars_as_the_oracle_reads_it(world, request_, proven):
    topology = world.topology
    oracle = Oracle(topology, world.resources)
    snapshots = compile_snapshots(topology, world.resources)
    identities = {to: identity_of(each) for each in topology.workloads.values() for to in each.addresses}
    for flow in flows_of(topology):
        workload = topology.workloads.get(flow.destination)
        source = topology.end(flow.source)
        if flow.protocol != TCP or workload is None or source is None or flow.source == flow.destination:
            continue
        snapshot = snapshots[workload.node]
        has_proof = proven and flow.source in topology.workloads
        file = gate_file(Gate(True, has_proof), snapshot, snapshot.endpoints[workload.interface], identities)
        asked = replace(flow, http=request_, source_port=None)
        explanation = oracle.explain(asked)
        came_from, came_to = address_of(source, flow.family), address_of(workload, flow.family)
        connection = Connection(
            str(came_from),
            40000,
            str(came_to),
            flow.port,
            identities[came_from] if has_proof else None,
            request_.method,
            request_.path,
        )
        verdict = explanation.directions[-1].verdict
        assert verdict is not None
        assert allows(file, connection) == verdict.allowed, explanation_text(explanation)


@given(st.integers(1, 65535), st.integers(0, 65535), st.integers(0, 65535))
@example(1, 65534, 10)
@example(8000, 10, 8010)
def test_a_pattern_of_ports_matches_the_range_and_its_neighbours_do_not(first, more, other):
    last = min(first + more, 65535)
    pattern = re.compile(ports_pattern([PortRange(first, last)]))
    for port in {first - 1, first, last, last + 1, other}:
        assert (pattern.fullmatch(str(port)) is not None) == (first <= port <= last)


@pytest.mark.parametrize(
    ("how", "wanted", "path", "covered"),
    [
        ("exact", "/a", "/a", True),
        ("exact", "/a", "/a?b=/c", True),
        ("exact", "/a", "/a/", False),
        ("prefix", "/a", "/a", True),
        ("prefix", "/a", "/a/b", True),
        ("prefix", "/a", "/a?b", True),
        ("prefix", "/a", "/ab", False),
        ("prefix", "/a/", "/a/", True),
        ("prefix", "/a/", "/a", False),
        ("prefix", "/", "/whatever", True),
        ("exact", "/a.b", "/axb", False),
        ("exact", "/a:b", "/a%3Ab", True),
        ("exact", "/a:b", "/a%3ab", True),
        ("exact", "/a%b", "/a%25b", True),
        ("exact", "/a", "/A", False),
    ],
)
def test_a_pattern_of_paths_covers_what_the_match_does(how, wanted, path, covered):
    match = HttpMatch((), (HttpPath(how, wanted),))
    pattern = paths_pattern(match)
    assert pattern is not None
    assert (re.fullmatch(pattern, path) is not None) is covered
    assert is_request(match).holds(SimpleNamespace(http=HttpRequest("GET", path))) is covered


@pytest.mark.parametrize(
    ("path", "judged"),
    [
        ("/", "/"),
        ("/a?b/../c", "/a"),
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/../../a", "/a"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("//a///b", "/a/b"),
        ("/a%2Fb", "/a/b"),
        ("/a%252Fb", "/a%2Fb"),
        ("/a\\b", "/a/b"),
        ("/%61", "/a"),
    ],
)
def test_a_path_is_judged_in_one_form(path, judged):
    assert path_as_judged(path) == judged


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        (Response(200, "x/server"), "allow"),
        (Response(403), "deny"),
        (Response(403, "x/server"), "inconclusive"),  # the application forbids it itself
        (Response(200, "x/other"), "inconclusive"),
        (Response(200), "inconclusive"),
        (Response(503), "inconclusive"),
        (Response(error="ConnectionResetError"), "inconclusive"),
        (Response(error="closed"), "inconclusive"),
    ],
)
def test_a_request_is_denied_by_a_sidecars_403_alone_and_allowed_by_its_applications_answer(response, verdict):
    flow = Flow("x/client", "x/server", TCP, 80, 4, http=REQUESTS[0])
    assert judged(flow, response).verdict == verdict


def looking(**fields: object) -> dict[str, object]:
    return {"action": "Allow", "protocol": "TCP", **fields}


def test_a_request_that_only_its_source_port_would_decide_is_refused(lab):  # noqa: F811 - the fixture
    judge = lab(onto("a", looking(source={"ports": ["1:50000"]}, http={"methods": ["GET"]})))
    with pytest.raises(TopologyError, match="depends on its source port"):
        judge.verdict("x/b", "x/a", http=HttpRequest("GET", "/"))
    settled = lab(onto("a", looking(source={"ports": ["32768:60999"]}, http={"methods": ["GET"]})))
    assert settled.allows("x/b", "x/a", http=HttpRequest("GET", "/"))
    assert not settled.allows("x/b", "x/a", http=HttpRequest("PUT", "/"))


def test_an_explanation_of_a_request_tells_what_its_sidecar_asks(lab):  # noqa: F811 - the fixture
    judge = lab(onto("a", looking(http={"methods": ["GET"], "paths": [{"prefix": "/a"}]})))
    explained = judge.oracle.explain(judge.flow("x/b", "x/a", http=HttpRequest("GET", "/b")))
    assert "request ingress of x/a: deny" in explanation_text(explained)
    assert "http.paths wants one of prefix /a; here it is /b" in explanation_text(explained)
    assert explained.to_dict()["flow"]["http"] == {"method": "GET", "path": "/b"}
    other = judge.oracle.explain(judge.flow("x/b", "x/a", http=HttpRequest("PUT", "/a")))
    assert "http.methods wants one of GET; here it is PUT" in explanation_text(other)
