# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the kit for the tests that a plugin's author writes beside the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

from lab.conformance.harness import Harness
from lab.conformance.hosts import host_of
from lab.conformance.judged import Judged
from lab.policy.resources import Resources
from lab.topology.load import load_topology

__all__ = ["harness", "host"]


@pytest.fixture
def harness(judged: Judged, request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A lab of an author's own tests, with what is judged at work in it: of ``--topology``, else of one node.

    No policy is in force yet. It is in this process: a plugin that ends it ends the run.
    """
    topology = load_topology(request.config.getoption("--topology") or "one-node")
    with Harness(topology, judged.dataplane, judged.accelerators) as made:
        made.apply(Resources())
        yield made


@pytest.fixture
def host(harness: Harness) -> Host:
    """The first node of that lab as testinfra knows hosts, in place of testinfra's own fixture of this name."""
    return host_of(next(iter(harness.lab.nodes.values())))
