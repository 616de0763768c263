# SPDX-License-Identifier: Apache-2.0
"""Dataplanes compared with one another and with the model, and how that is told."""

from __future__ import annotations

import pytest
from cli_world import SHIPPED, call
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from lab.conformance.compare import Comparison, Vector
from lab.conformance.results import Results
from lab.oracle import Oracle
from lab.policy.resources import Resources
from lab.report.comparison import comparison_to_dict, print_comparison
from lab.schemas import load_schema, schema_names
from lab.topology.flows import default_flows
from lab.topology.load import load_topology

TOPOLOGY = load_topology(SHIPPED / "one-node.yaml")
FLOWS = default_flows(TOPOLOGY)[:3]
ROWS = Results.of(FLOWS, Oracle(TOPOLOGY, Resources()).verdicts(FLOWS)).rows


def vector(number, one, two, **more):
    return Vector(ROWS[number], {"one": one, "two": two}, **more)


def comparison(*vectors, **failures):
    return Comparison(("one", "two"), vectors, failures)


@pytest.mark.parametrize(
    ("one", "two", "differs", "wrong"),
    [
        ("allow", "allow", False, ()),
        ("allow", "deny", True, ("two",)),
        ("deny", "deny", False, ("one", "two")),
        ("allow", "inconclusive", True, ("two",)),
        ("allow", None, False, ()),
        (None, "deny", False, ("two",)),
    ],
)
def test_vector_says_who_differs_and_who_is_wrong(one, two, differs, wrong):
    assert ROWS[0].expected == "allow"
    assert (vector(0, one, two).differs, vector(0, one, two).wrong) == (differs, wrong)
    assert vector(0, one, two, case="a.b", unconfirmed=True).wrong == ()
    assert vector(0, one, two, case="a.b", unconfirmed=True).differs == differs


def test_pairs_count_the_flows_on_which_both_did_something():
    told = comparison(vector(0, "allow", "deny"), vector(1, "allow", "allow"), vector(2, "deny", None))
    assert told.pairs() == {("one", "two"): 1}


def test_table_shows_the_matrix_and_the_flows_that_differ(capsys):
    print_comparison(comparison(vector(0, "allow", "deny"), vector(1, "allow", "allow")), "table")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["flows", "that", "differ", "one", "two", "the", "model"],
        ["one", "-", "1", "0"],
        ["two", "1", "-", "1"],
    ]
    assert "DIFFER" in lines[-2]
    assert lines[-1] == "2 flows, 1 differing, 1 mismatches, 0 failed"


def test_comparison_passes_its_schema_and_one_without_a_summary_fails():
    resources = [(f"{name}.json", Resource.from_contents(load_schema(name))) for name in schema_names()]
    validator = Draft202012Validator(load_schema("comparison"), registry=Registry().with_resources(resources))
    told = comparison_to_dict(
        comparison(vector(0, "allow", "deny", case="a.b", unconfirmed=True), vector(1, "deny", None), two="it hangs")
    )
    assert [error.message for error in validator.iter_errors(told)] == []
    assert [row["observed"] for row in told["rows"]] == [{"one": "allow", "two": "deny"}, {"one": "deny", "two": None}]
    del told["summary"]
    assert list(validator.iter_errors(told))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("one-node",), "nothing to compare; given: 'no dataplane'"),
        (("one-node", "--dataplane", "iptables"), "nothing to compare; given: 'iptables'; allowed: two or more"),
        (("one-node", "--dataplane", "iptables", "--dataplane", "iptables"), "nothing to compare"),
        (("one-node", "--dataplane", "iptables", "--dataplane", "nope"), "no such dataplane"),
        (
            ("--dataplane", "iptables", "--dataplane", "iptables-legacy", "--flows", "x.yaml"),
            "--flows needs a topology",
        ),
    ],
)
def test_comparison_of_nothing_is_refused(words, told):
    ended = call("compare", *words)
    assert (ended.code, told in ended.err) == (2, True), ended.err
