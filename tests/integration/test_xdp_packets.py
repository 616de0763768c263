# SPDX-License-Identifier: Apache-2.0
"""The XDP filter on packets of every kind, and mutations of them, against a model: BPF_PROG_TEST_RUN, no lab.

A million packets; ten million by night, which POLICYLAB_NIGHTLY=1 says.
"""

from __future__ import annotations

import os
import random
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdp_model import TCP, UDP, Net, Rules
from xdp_world import edges, filter_for, mutated, nets, shapes, wrong

from dataplanes.xdp.lists import Kind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")

NIGHTLY = os.environ.get("POLICYLAB_NIGHTLY") == "1"
PACKETS = 10_000_000 if NIGHTLY else 1_000_000
EACH = 10000
"""Packets for each list of rules."""

FAILSAFES = st.frozensets(st.tuples(st.sampled_from((TCP, UDP)), st.sampled_from((22, 53, 80, 3000))), max_size=3)
RANGES = st.lists(st.sampled_from(((80, 80), (79, 81), (1, 65535), (22, 22))), max_size=2, unique=True).map(tuple)
CONDITIONS = st.lists(
    st.tuples(nets(), st.sampled_from((TCP, UDP)), RANGES)
    | st.tuples(nets(), st.sampled_from((1, 58, 253)), st.just(())),
    max_size=4,
).map(tuple)
RULES = st.builds(
    Rules,
    plain=st.lists(nets(), min_size=1, max_size=60).map(tuple),
    conditional=CONDITIONS,
    failsafe_inbound=FAILSAFES,
    failsafe_answers=FAILSAFES,
)
KINDS = st.sampled_from(Kind)


def sources_for(rules: Rules) -> list[bytes]:
    listed: list[Net] = [*rules.plain, *(net for net, _, _ in rules.conditional)]
    return [*edges(listed), bytes([198, 51, 100, 7]), bytes(16)]


def test_every_shape_of_packet_is_judged_as_the_model_does() -> None:
    blocked = tuple(ip_network(net) for net in ("203.0.113.9/32", "2001:db8::9/128"))
    for failsafes in (frozenset(), frozenset({(TCP, 22), (UDP, 22)})):
        rules = Rules(blocked, (), failsafes, frozenset({(UDP, 53)}))
        for kind in Kind:
            bare = filter_for(rules, kind)
            assert wrong(bare, rules, shapes()) == []
            told = bare.counters()
            bare.close()
            assert sum(told.values()) == len(shapes())
            unused = {cause for cause, count in told.items() if not count}
            assert unused == {"passed-unlisted", "passed-other-port", "passed-malformed", "dropped-port"}


@pytest.mark.timeout(3600 if NIGHTLY else 300)
@settings(max_examples=PACKETS // EACH, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(rules=RULES, kind=KINDS, seed=st.integers(0, 2**32))
def test_mutated_packets_are_judged_as_the_model_does(rules: Rules, kind: Kind, seed: int) -> None:
    bare = filter_for(rules, kind)
    try:
        frames = mutated(random.Random(seed), sources_for(rules), EACH)  # noqa: S311 - not for secrets
        assert wrong(bare, rules, frames) == []
    finally:
        bare.close()
