# SPDX-License-Identifier: Apache-2.0
"""What is wrong stops a run, or is left out of it and told: the reader's two ways, and those of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab.cli import cli
from lab.errors import LabError, LabErrors, PolicyError
from lab.policy.load import load_resources, resource_entries
from lab.policy.resources import Resources
from lab.topology import Topology

GOOD = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: NAME}, spec: {types: [Ingress]}}"
POLICIES = "\n---\n".join(
    [
        GOOD.replace("NAME", "a"),
        GOOD.replace("NAME", "b").replace("Ingress", "ingress").replace("spec: {", "spec: {order: x, "),
        "{apiVersion: v1, kind: Pod, metadata: {name: p}}",
        "{apiVersion: v1, kind: Secret, metadata: {name: s}}",
        GOOD.replace("NAME", "b"),
        GOOD.replace("NAME", "a").replace("[Ingress]", "[Egress]"),
        "{kind: List, apiVersion: v1, items: [{}, " + GOOD.replace("NAME", "c") + "]}",
    ]
)
FAULTS = [
    (3, "spec.order must be a number"),
    (3, "spec.types[0] is not allowed"),
    (5, "kind is not policy"),
    (11, "metadata.name is that of a GlobalNetworkPolicy that is there already"),
    (13, "items[0].kind is not given"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICIES, encoding="utf-8")
    return path


def names(resources: Resources) -> list[str]:
    return [policy.name for policy in resources.policies]


def test_wrong_resources_are_left_out_and_each_fault_is_told(file: Path, topology: Topology) -> None:
    told: list[LabError] = []
    assert names(load_resources([file], topology, left_out=told.append)) == ["a", "b", "c"]
    assert len(told) == len(FAULTS)
    for error, (line, what) in zip(told, FAULTS, strict=True):
        assert str(error).startswith(f"{file}:{line}:")
        assert what in str(error)


def test_resource_that_was_left_out_does_not_hold_its_name(file: Path, topology: Topology) -> None:
    found = load_resources([file], topology, left_out=lambda _: None)
    assert [policy.place.line for policy in found.policies if policy.place] == [1, 9, 13]


@pytest.mark.parametrize("content", [None, "a: ["])
def test_file_that_cannot_be_read_is_an_error_all_the_same(file: Path, topology: Topology, content: str | None) -> None:
    other = file.with_name("other.yaml")
    if content is not None:
        other.write_text(content, encoding="utf-8")
    told: list[LabError] = []
    with pytest.raises(PolicyError) as caught:
        load_resources([file, other], topology, left_out=told.append)
    assert str(caught.value).startswith(str(other))


def test_entries_are_those_of_the_resources_that_are_right(file: Path, topology: Topology) -> None:
    entries = resource_entries([file], topology)
    assert [entry["metadata"] for entry in entries] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]


SETS = "\n".join(
    "- {apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, "
    f"metadata: {{name: {name}{more}}}, spec: {{nets: [{nets}]}}}}"
    for name, more, nets in (
        ("a", "", "10.0.0.1/8, 10.0.0.0/33, ten, fd00::/8"),
        ("b", ", labels: {x: -}", "10.0.0.0/8, ten"),
        ("c", "", "ten"),
    )
)


def test_set_keeps_the_networks_beside_what_is_none(tmp_path: Path, topology: Topology) -> None:
    file = tmp_path / "sets.yaml"
    file.write_text(SETS, encoding="utf-8")
    told: list[LabError] = []
    found = load_resources([file], topology, left_out=told.append).network_sets
    assert [(each.name, [str(net) for net in each.nets]) for each in found] == [
        ("a", ["10.0.0.0/8", "fd00::/8"]),
        ("c", []),
    ]
    faults = [
        "[0].spec.nets[1] is not a network",
        "[0].spec.nets[2] is not a network",
        "[1].metadata.labels.x is not the value of a label",
        "[1].spec.nets[1] is not a network",
        "[2].spec.nets[0] is not a network",
    ]
    assert [fault in str(error) for fault, error in zip(faults, told, strict=True)] == [True] * len(faults)


def test_entry_of_a_set_holds_the_networks_that_it_kept(tmp_path: Path, topology: Topology) -> None:
    file = tmp_path / "sets.yaml"
    file.write_text(SETS, encoding="utf-8")
    entries = resource_entries([file], topology)
    assert [entry["spec"] for entry in entries] == [{"nets": ["10.0.0.0/8", "fd00::/8"]}, {"nets": []}]


def test_set_with_what_is_no_network_stops_a_run(tmp_path: Path, topology: Topology) -> None:
    file = tmp_path / "sets.yaml"
    file.write_text(SETS, encoding="utf-8")
    with pytest.raises(LabErrors) as caught:
        load_resources([file], topology)
    assert len(caught.value.errors) == 5


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


FLOW = ("--from", "x/a", "--to", "y/b", "--port", "80")


@pytest.mark.parametrize("command", [("expect",), ("explain", *FLOW)])
def test_command_refuses_what_is_wrong_and_names_everything(file: Path, command: tuple[str, ...]) -> None:
    result = run(command[0], "three-by-three", file, *command[1:])
    assert isinstance(result.exception, LabErrors)
    assert (result.exception.exit_code, result.stdout, result.stderr) == (2, "", "")
    told = str(result.exception).splitlines()
    assert len(told) == len(FAULTS)
    assert all(f"{file}:{line}:" in text and what in text for text, (line, what) in zip(told, FAULTS, strict=True))


@pytest.mark.parametrize("command", [("expect",), ("explain", *FLOW)])
def test_lenient_command_leaves_out_what_is_wrong_and_says_so(file: Path, command: tuple[str, ...]) -> None:
    result = run(command[0], "three-by-three", file, "--lenient", "--output", "json", *command[1:])
    assert result.exit_code == 0
    assert json.loads(result.stdout)
    assert [line.endswith("; left out") for line in result.stderr.splitlines()] == [True] * len(FAULTS)
    assert f"{file}:5:" in result.stderr
