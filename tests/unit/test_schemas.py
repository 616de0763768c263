# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas: real files and real outputs pass them, wrong ones do not, and they agree with the readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from lab.bench.result import BenchResult, Row, Spread
from lab.cli import cli
from lab.conformance.bundle import Bundle, write_bundle
from lab.conformance.case import load_cases
from lab.conformance.pool import Outcome
from lab.conformance.record import Column, Record, Report
from lab.conformance.results import Results
from lab.conformance.scenario import Scenario
from lab.document import read_documents
from lab.errors import DataplaneError, LabError, TopologyError
from lab.fabric.finding import Finding
from lab.oracle import Oracle
from lab.oracle.verdict import DefaultReason
from lab.policy.load import load_resources
from lab.schemas import load_schema, schema_names
from lab.topology import default_flows
from lab.topology.flows_file import flow_to_dict, load_flows
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_names, shipped_topology
from lab.traffic.observation import Observation, Reason

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
POLICIES = sorted((TOPOLOGIES / "policies").glob("*.yaml"))
REGISTRY: Registry[Any] = Registry().with_resources(
    (f"{name}.json", Resource.from_contents(load_schema(name))) for name in schema_names()
)


def faults(name: str, document: object) -> list[str]:
    """What a schema has against a document, as a program would receive it."""
    validator = Draft202012Validator(
        load_schema(name), registry=REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(document)))]


def printed(*argv: str) -> Any:
    """What a command prints with ``--output json``."""
    answer = CliRunner().invoke(cli, [*argv, "--output", "json"])
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def results(*observed: str) -> Results:
    """Rows of ``one-node`` without policy, observed as told."""
    topology = load_topology("one-node")
    flows = default_flows(topology)[: len(observed)]
    verdicts = Oracle(topology, load_resources((), topology)).verdicts(flows)
    return Results.of(flows, verdicts, observed)  # type: ignore[arg-type]  # words that a test spells


@pytest.mark.parametrize("name", schema_names())
def test_every_schema_is_itself_valid_and_says_its_draft(name: str) -> None:
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"].startswith("policylab ")


def test_unknown_schema_is_refused() -> None:
    with pytest.raises(KeyError):
        load_schema("../cases")


# -- what users write: the schema and the reader agree ------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_topology_passes(name: str) -> None:
    file = shipped_topology(name)
    assert file is not None
    (document,) = read_documents(file, TopologyError)
    assert faults("topology", document.value) == []


def test_topologies_of_all_cases_pass() -> None:
    cases = load_cases()
    assert cases
    assert {fault for case in cases for fault in faults("topology", case.topology)} == set()


NODE, X = "nodes: {n: }\n", "nodes: {n: }\nnamespaces: {x: }\n"
GOOD_TOPOLOGIES = [
    NODE,
    "nodes: {n: {labels: , addresses: }}\nname:\npods:\nworkloads:\nexternals:\nlinks:",
    X + "workloads: {x/a: {node: n, ports: [{port: 1, protocol: sctp, name: A_b.c-1}], profiles: [], sidecar: envoy}}",
    X + "workloads: {x/a: {node: n, labels: {example.com/a_B: '', b: A.b}, addresses: [198.18.0.9, 'fd00:18::9']}}",
    (
        "nodes: {n: {kind: machine}}\nexternals: {e: {addresses: ['2001:db8::9']}}\n"
        "links: [{between: [n, e], interface: eth1, mtu: 1280}]"
    ),
    "nodes: {n: }\nnamespaces: {x: {serviceAccounts: {w: , v: {labels: {a: b}}}}}\npods: {ipv4: 10.0.0.0/8}",
]
BAD_TOPOLOGIES = [
    "name: no-nodes",
    "nodes: {}",
    "- nodes",
    "nodes: {Node: }",
    NODE + "workload: {}",
    "nodes: {n: {kind: vm}}",
    "nodes: {n: {labels: {a: 1}}}",
    "nodes: {n: {labels: {a/b/c: d}}}",
    "nodes: {n: {addresses: []}}",
    "nodes: {n: {addresses: [198.19.0.300]}}",
    X + "workloads: {a: {node: n}}",
    X + "workloads: {x/a: {}}",
    X + "workloads: {x/a: {node: n, ports: [{port: '80'}]}}",
    X + "workloads: {x/a: {node: n, ports: [{port: 65536}]}}",
    X + "workloads: {x/a: {node: n, ports: [{port: 80, protocol: ICMP}]}}",
    X + "workloads: {x/a: {node: n, sidecar: nginx}}",
    X + "workloads: {x/a: {node: n, profiles: [p, p]}}",
    NODE + "pods: {ipv4: 198.18.0.0}",
    "nodes: {n: , m: }\nlinks: [{between: [n, m], interface: cali1}]",
    "nodes: {n: , m: }\nlinks: [{between: [n, m], interface: a-name-of-16-byt}]",
    "nodes: {n: , m: }\nlinks: [{between: [n, n], interface: eth1}]",
    "nodes: {n: , m: }\nlinks: [{between: [n, m], interface: eth1, rate: 1}]",
]


@pytest.mark.parametrize("text", GOOD_TOPOLOGIES)
def test_topology_that_is_read_passes(text: str, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(text)
    load_topology(tmp_path / "lab.yaml")
    assert faults("topology", yaml.safe_load(text)) == []


@pytest.mark.parametrize("text", BAD_TOPOLOGIES)
def test_topology_that_the_reader_refuses_fails(text: str, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(text)
    with pytest.raises(LabError):
        load_topology(tmp_path / "lab.yaml")
    assert faults("topology", yaml.safe_load(text))


def flow(**changes: object) -> dict[str, object]:
    return {"from": "shop/web", "to": "shop/db", "protocol": "TCP", "port": 80} | changes


GOOD_FLOWS: list[dict[str, object]] = [
    flow(),
    flow(protocol="udplite", port="80", source_port=1, family="ipv6"),
    flow(protocol=132, family=None),
    flow(protocol="47", port=None),
    flow(protocol="icmpv6", port=None, icmp={"type": 0}),
]
BAD_FLOWS: list[dict[str, object]] = [
    flow(protocol="TPC"),
    flow(protocol=0),
    flow(protocol=256),
    flow(port=0),
    flow(port="http"),
    flow(port=True),
    flow(family=4),
    flow(sport=1),
    flow(to=None),
    flow(protocol="ICMP", port=None, icmp={"code": 0}),
    flow(protocol="ICMP", port=None, icmp={"type": 256}),
    flow(http={"method": "GET", "path": "no-slash"}),
]


@pytest.mark.parametrize("entry", GOOD_FLOWS)
def test_flow_that_is_read_passes_as_it_was_written_and_as_it_is_written_back(
    entry: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "flows.json").write_text(json.dumps([entry]))
    flows = load_flows(tmp_path / "flows.json", load_topology("one-node"))
    assert faults("flows", [entry]) == []
    assert faults("flows", [flow_to_dict(flow) for flow in flows]) == []


@pytest.mark.parametrize("entry", BAD_FLOWS)
def test_flow_that_the_reader_refuses_fails(entry: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "flows.json").write_text(json.dumps([entry]))
    with pytest.raises(LabError):
        load_flows(tmp_path / "flows.json", load_topology("one-node"))
    assert faults("flows", [entry])


# -- what policylab prints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_expected_results_pass(policy: Path) -> None:
    assert faults("results", printed("expect", "three-by-three", str(policy))) == []


def test_results_of_every_kind_of_flow_pass(tmp_path: Path) -> None:
    spelled = [flow(source_port=5), flow(protocol=47, port=None), flow(protocol="ICMP", port=None, icmp={"type": 3})]
    (tmp_path / "flows.json").write_text(json.dumps(spelled))
    told = printed("expect", "one-node", "--flows", str(tmp_path / "flows.json"))
    assert faults("results", told) == []
    assert [row.get("icmp") or row.get("source_port") or row["protocol"] for row in told["rows"]] == [
        5,
        47,
        {"type": 3, "code": 0},
    ]


def test_observed_results_pass() -> None:
    assert faults("results", results("allow", "deny", "inconclusive").to_dict()) == []


def test_reasons_of_the_schema_are_those_of_the_oracle() -> None:
    told = load_schema("results")["$defs"]["defaultDecision"]["properties"]["default"]["enum"]
    assert tuple(told) == get_args(DefaultReason)


@pytest.mark.parametrize(
    "change",
    [
        {"expected": "maybe"},
        {"observed": "timeout"},
        {"port": "80"},
        {"decided_by": {}},
        {"decided_by": {"direction": "ingress", "default": "magic"}},
        {"decided_by": {"direction": "ingress", "default": "profile", "file": "a.yaml"}},
        {"comment": "x"},
    ],
)
def test_wrong_results_fail(change: dict[str, object]) -> None:
    told = results("allow").to_dict()
    (row,) = told["rows"]  # type: ignore[misc]  # a list, as the test above shows
    assert faults("results", {**told, "rows": [row | change]})


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_explanations_pass(policy: Path) -> None:
    pair = ("--from", "z/c", "--to", "y/a", "--port", "81")
    assert faults("explanation", printed("explain", "three-by-three", str(policy), *pair)) == []


def test_explanation_without_its_verdict_fails() -> None:
    told = printed("explain", "one-node", "--from", "shop/web", "--to", "shop/db", "--port", "1")
    del told["verdict"]
    assert faults("explanation", told)


def test_findings_of_doctor_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = (Finding("root", "yes", "uid 0", "every lab"), Finding("nft", "no", "no command nft", "nftables", "x"))
    monkeypatch.setattr("lab.cli.doctor.examine", lambda: findings)
    told = printed("doctor")
    assert faults("doctor", told) == []
    assert faults("doctor", told | {"fit": "perhaps"})


def test_benchmark_passes_and_one_without_a_median_fails() -> None:
    rows = (Row("build", "ms", Spread.of([1.0, 2.0]), {"hosts": 50}),)
    told = BenchResult("lab", "a machine", 2, rows, {"lab.ip_batch": Spread.of([3.5])}).to_dict()
    assert faults("benchmark", told) == []
    assert faults("benchmark", told | {"ratios": {"lab.ip_batch": {"min": 1, "max": 2}}})


def test_conformance_report_passes_and_one_of_another_version_fails() -> None:
    records = (
        Record("a.b", "A title.", "core", "mine", "passed", 0.5),
        Record("a.c", "Another.", "extended", "mine", "not-supported", 0, "not supported: mine does not declare x"),
    )
    columns = tuple(Column(name, ("family.ipv4",), ("family.ipv6",)) for name in ("mine", "idle"))
    told = dict(Report(columns, "ci", records).to_dict())
    assert faults("report", told) == []
    assert faults("report", told | {"report_version": 2})
    assert faults("report", told | {"profile": "weekly"})


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(
            results("deny", "inconclusive"),
            (Observation("deny"), Observation("inconclusive", reason=Reason.TWICE, arrived="shop/db")),
        ),
        Outcome(results(), error=DataplaneError("it does not start")),
    ],
    ids=["mismatch", "error"],
)
def test_files_of_a_bundle_pass(outcome: Outcome, tmp_path: Path) -> None:
    scenario = Scenario({"nodes": {"n": None}}, (), ())
    write_bundle(tmp_path, Bundle(scenario, "mine", "a.b", seed="7"), outcome, {})
    told = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("bundle", "expected", "observed")}
    assert faults("bundle", told["bundle"]) == []
    assert faults("bundle-expected", told["expected"]) == []
    assert faults("bundle-observed", told["observed"]) == []
    assert faults("bundle", told["bundle"] | {"bundle_version": 0})
    assert faults("bundle", told["bundle"] | {"host": {"kernel": "6.1", "machine": "x86_64", "cpus": "two"}})
    assert faults("bundle-observed", told["observed"] | {"ends": None})
    assert not outcome.results.rows or faults("bundle-expected", told["observed"]["rows"])
