# SPDX-License-Identifier: Apache-2.0
"""A document against a model: every fault in plain words at its own place."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, field_validator

from lab.document import parse_documents
from lab.errors import LabError, LabErrors, PolicyError
from lab.schema import MAX_ERRORS, StrictModel, listing, raise_all, refusal, suggestion, validate

KEYS = "ports, from, labels, even, named"


class Port(StrictModel):
    name: str
    port: int = Field(ge=1, le=65535)
    protocol: Literal["TCP", "UDP"] = "TCP"


class Model(StrictModel):
    ports: list[int | str | Port] = Field(default_factory=list, max_length=4)
    source: str | None = Field(None, alias="from")
    labels: dict[str, str] = Field(default_factory=dict)
    even: int = 0
    named: str = ""

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("is odd")
        return value

    @field_validator("named")
    @classmethod
    def _named(cls, value: str) -> str:
        if value == "bad":
            raise refusal("is bad", allowed="good", next_step="be good")
        return value


def check(text: str) -> Model:
    (document,) = parse_documents(text, "f.yaml", PolicyError)
    return validate(Model, document, PolicyError)


def complaints(text: str) -> list[str]:
    with pytest.raises(LabError) as caught:
        check(text)
    errors = caught.value.errors if isinstance(caught.value, LabErrors) else (caught.value,)
    return [str(error) for error in errors]


def test_good_document_gives_the_model_and_null_counts_as_absent() -> None:
    model = check("ports: [1, a, {name: b, port: 2}]\nfrom:\nlabels: {a: b}")
    assert model.ports == [1, "a", Port(name="b", port=2)]
    assert model.source is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "prots: []",
            f"f.yaml:1:1: unknown key 'prots' in the document; allowed: {KEYS}; next: did you mean 'ports'?",
        ),
        ("ports: x", "f.yaml:1:8: ports must be a list, not the text 'x'"),
        ("- 1", "f.yaml:1:1: the document must be a mapping, not a list"),
        ("from: 7", "f.yaml:1:7: from must be text, not the number 7; next: put it in quotes"),
        ("from: true", "f.yaml:1:7: from must be text, not true; next: put it in quotes"),
        ("labels: {a: [b]}", "f.yaml:1:13: labels.a must be text, not a list"),
        ("even: 3", "f.yaml:1:7: even is odd; given: 3"),
        ("even: 2.0", "f.yaml:1:7: even must be a whole number, not the number 2.0"),
        ("named: bad", "f.yaml:1:8: named is bad; given: 'bad'; allowed: good; next: be good"),
        ("ports: [1, 2, 3, 4, 5]", "f.yaml:1:8: ports has 5 entries; allowed: at most 4"),
        ("ports: [~]", "f.yaml:1:9: ports[0] must be a whole number or text or a mapping, not empty"),
        ("ports: [{port: 1}]", "f.yaml:1:9: ports[0] has no 'name', which it needs"),
        ("ports: [{name: , port: 1}]", "f.yaml:1:10: ports[0].name has no value, and needs one"),
        ("ports: [{name: a, port: 0}]", "f.yaml:1:25: ports[0].port is out of range; given: 0; allowed: at least 1"),
        (
            "ports: [{name: a, port: 1, protocol: TPC}]",
            "f.yaml:1:38: ports[0].protocol is not allowed; given: 'TPC'; allowed: TCP, UDP; next: did you mean 'TCP'?",
        ),
    ],
)
def test_one_fault_is_one_error_at_its_place(text: str, told: str) -> None:
    assert complaints(text) == [told]


def test_several_faults_are_told_together_in_order() -> None:
    assert [told[:12] for told in complaints("ports: [{}]\nfrom: 1\neven: x")] == ["f.yaml:1:9: "] * 2 + [
        "f.yaml:2:7: ",
        "f.yaml:3:7: ",
    ]


def test_fault_below_a_part_names_the_whole_path() -> None:
    (document,) = parse_documents("items: [{even: 1}]", "f.yaml", PolicyError)
    with pytest.raises(PolicyError, match=r"f.yaml:1:16: items\[0\].even is odd"):
        validate(Model, document, PolicyError, at=("items", 0))


def test_many_faults_are_cut_short() -> None:
    told = complaints("labels: {" + ", ".join(f"a{n}: 1" for n in range(MAX_ERRORS + 7)) + "}")
    assert len(told) == MAX_ERRORS + 1
    assert "there are more errors from here on" in told[-1]


def test_long_values_are_cut_short() -> None:
    (told,) = complaints("ports: " + "x" * 5000)
    assert len(told) < 200


def test_raise_all_raises_nothing_one_or_several() -> None:
    raise_all([])
    with pytest.raises(PolicyError, match="one"):
        raise_all([PolicyError("one")])
    with pytest.raises(LabErrors, match="one\ntwo"):
        raise_all([PolicyError("one"), PolicyError("two")])


def test_names_are_suggested_and_listed() -> None:
    assert suggestion("nod-1", ["node-1", "x/a"]) == "did you mean 'node-1'?"
    assert suggestion("zzz", ["node-1"]) is None
    assert listing([]) == "none"
    assert listing([str(n) for n in range(30)]).endswith("24, and 5 more")
