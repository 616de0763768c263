# SPDX-License-Identifier: Apache-2.0
"""The stream that looks for moments between two policies: it sees short ones, and none where there are none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from talk_world import POLICY, TOPOLOGY

from dataplanes.iptables import IptablesDataplane
from lab.conformance.harness import Harness
from lab.document import document_of, parse_documents
from lab.errors import HostError, PolicyError, TopologyError
from lab.policy.load import resources_of
from lab.policy.resources import Resources
from lab.topology import Flow
from lab.topology.load import topology_of
from lab.traffic.stream import Passage, Stream, Watch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

DENIED = Watch(Flow("x/blue", "x/server", 6, 80, 4), allowed=False)
ALLOWED = Watch(Flow("x/red", "x/server", 6, 80, 6), allowed=True)
HELD = Watch(Flow("x/red", "x/server", 17, 80, 4), allowed=True, held=True)


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    topology = topology_of(document_of(TOPOLOGY, "topology"))
    with Harness(topology, IptablesDataplane) as made:
        yield made


@pytest.fixture
def policy(harness: Harness) -> Resources:
    resources = resources_of(parse_documents(POLICY, "policy", PolicyError), harness.topology)
    harness.apply(resources)
    harness.lab.flush_conntrack()
    return resources


def disturbed(harness: Harness, watches: list[Watch], *transactions: str) -> dict[Flow, Passage]:
    """What a stream sees while one program makes these changes to FORWARD, a transaction each."""
    node = harness.lab.nodes["node-1"]
    with Stream(harness.lab, watches) as stream:
        for command in ("iptables-nft-restore", "ip6tables-nft-restore"):
            text = "".join(f"*filter\n{change}\nCOMMIT\n" for change in transactions)
            assert node.run((command, "--noflush"), stdin=text).returncode == 0
        time.sleep(0.01)  # sleep: the stream goes on beside it
        return {passage.watch.flow: passage for passage in stream.stop()}


@pytest.mark.usefixtures("policy")
def test_where_nothing_changes_nothing_is_seen(harness: Harness) -> None:
    passages = disturbed(harness, [DENIED, ALLOWED, HELD])
    assert all(passage.rounds > 20 for passage in passages.values())
    assert [passage.wrong for passage in passages.values()] == [(), (), ()]
    assert {passage.trouble for passage in passages.values()} == {""}


@pytest.mark.usefixtures("policy")
def test_opening_that_lasts_for_a_few_transactions_is_seen_with_its_times(harness: Harness) -> None:
    idle = ["-A FORWARD -m comment --comment idle", "-D FORWARD -m comment --comment idle"] * 8
    begun = time.monotonic_ns()
    passage = disturbed(harness, [DENIED], "-I FORWARD 1 -j ACCEPT", *idle, "-D FORWARD -j ACCEPT")[DENIED.flow]
    ended = time.monotonic_ns()
    assert passage.wrong
    assert len(passage.wrong) < passage.rounds
    assert all(begun < first <= last < ended for first, last in passage.wrong)


@pytest.mark.usefixtures("policy")
def test_closing_is_seen_of_new_and_of_established_flows(harness: Harness) -> None:
    idle = ["-A FORWARD -m comment --comment idle", "-D FORWARD -m comment --comment idle"] * 8
    passages = disturbed(harness, [ALLOWED, HELD], "-I FORWARD 1 -j DROP", *idle, "-D FORWARD -j DROP")
    assert all(0 < len(passage.wrong) < passage.rounds for passage in passages.values())


def test_established_flow_goes_on_under_a_policy_that_denies_it(harness: Harness, policy: Resources) -> None:
    assert policy.policies
    with Stream(harness.lab, [HELD, DENIED]) as stream:
        harness.apply(
            resources_of(parse_documents(POLICY.partition("  ingress")[0], "p", PolicyError), harness.topology)
        )
        assert [passage.wrong for passage in stream.stop()] == [(), ()]


def test_only_ends_with_a_wire_of_their_own_are_watched(harness: Harness) -> None:
    with pytest.raises(TopologyError), Stream(harness.lab, [Watch(Flow("x/red", "node-1", 6, 80, 4), allowed=True)]):
        pass
    with pytest.raises(TopologyError), Stream(harness.lab, [Watch(ALLOWED.flow, allowed=True, held=True)]):
        pass


@pytest.mark.usefixtures("policy")
def test_stream_that_breaks_off_is_an_error_and_no_verdict(harness: Harness) -> None:
    with Stream(harness.lab, [DENIED]) as stream:
        assert stream._child is not None
        os.kill(stream._child, signal.SIGKILL)
        with pytest.raises(HostError, match="broke off"):
            stream.stop()
