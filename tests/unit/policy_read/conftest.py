# SPDX-License-Identifier: Apache-2.0
"""What the tests of reading policy share: a topology of three namespaces, and faults told as short lines."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from textwrap import dedent

import pytest

from lab.errors import LabError, LabErrors, Place
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.topology import Namespace, Node, Pools, Topology

TOPOLOGY = Topology(
    name="three",
    pods=Pools(IPv4Network("198.18.0.0/16"), IPv6Network("fd00:18::/32")),
    underlay=Pools(IPv4Network("198.19.0.0/24"), IPv6Network("fd00:19::/64")),
    nodes={name: Node(name, "namespace", {}, ()) for name in ("node-1", "node-2")},
    namespaces={name: Namespace(name, {}, {}) for name in ("x", "y", "default")},
    workloads={},
    externals={},
)


MARK = "§"
Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]


@pytest.fixture(scope="session")
def topology() -> Topology:
    """A topology that has nothing but two nodes and the namespaces x, y and default."""
    return TOPOLOGY


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Read one file with a text."""

    def load_text(text: str) -> Resources:
        file = tmp_path / "policy.yaml"
        file.write_text(dedent(text), encoding="utf-8")
        return load_resources([file], TOPOLOGY)

    return load_text


@pytest.fixture
def faults(load: Load) -> Faults:
    """Tell what is wrong with a text, in the order in which it is told; each fault's place is marked with a §."""

    def faults_of(marked: str) -> list[str]:
        errors = errors_of(lambda: load(marked.replace(MARK, "")))
        assert [(place.line, place.column) for place in map(place_of, errors)] == marks_of(dedent(marked)), errors
        return [
            " | ".join(str(part) for part in (error.what, error.allowed, error.next_step) if part) for error in errors
        ]

    return faults_of


def errors_of(act: Callable[[], object]) -> tuple[LabError, ...]:
    try:
        act()
    except LabErrors as several:
        return several.errors
    except LabError as one:
        return (one,)
    return ()


def marks_of(text: str) -> list[tuple[int, int]]:
    """The lines and columns of all marks, as they are when the marks are taken out."""
    return [
        (number, part_end - index + 1)
        for number, line in enumerate(text.split("\n"), start=1)
        for index, part_end in enumerate(at for at, character in enumerate(line) if character == MARK)
    ]


def place_of(error: LabError) -> Place:
    assert isinstance(error.place, Place)
    assert error.place.file.endswith("policy.yaml")
    return error.place
