# SPDX-License-Identifier: Apache-2.0
"""Each mistake that XDP could make is caught: by an expectation, by the model's packets, by a look at the kernel."""

from __future__ import annotations

import os
import random
from ipaddress import ip_network
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from xdp_checks import CASES, leaks, modes_differ
from xdp_faults import (
    ACCELERATOR_FAULTS,
    BLOCKLIST,
    PROMISE_FAULTS,
    TABLE_FAULTS,
    TEXT_FAULTS,
    GenericForNative,
    HalfOpen,
    TextFault,
)
from xdp_model import TCP, UDP, Rules
from xdp_world import crowd, edges, filter_for, mutated, shapes_from, wrong

from dataplanes.iptables import IptablesDataplane
from dataplanes.xdp import XdpAccelerator
from dataplanes.xdp.filter import InterfaceFilter
from dataplanes.xdp.lists import Kind
from lab.conformance.harness import Harness
from lab.conformance.judge import Judge
from lab.conformance.judged import Judged
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.promises import PROMISES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")

RULES = Rules(
    tuple(ip_network(net) for net in ("203.0.113.9/32", "2001:db8::9/128")), (),
    frozenset({(TCP, 22), (UDP, 22)}), frozenset({(UDP, 53)}),
)  # fmt: skip


@pytest.mark.parametrize("fault", TEXT_FAULTS, ids=lambda fault: fault.name)
def test_mistake_in_the_filter_is_caught_by_the_models_packets(fault: TextFault, tmp_path: Path) -> None:
    generator = random.Random()  # noqa: S311 - not for secrets
    frames = mutated(generator, [*edges(RULES.plain)], 20_000)
    sound = filter_for(RULES, Kind.TRIE)
    broken = filter_for(RULES, Kind.TRIE, fault.laid(tmp_path / "bpf"))
    try:
        assert wrong(sound, RULES, frames) == []
        assert wrong(broken, RULES, frames) != []
    finally:
        sound.close()
        broken.close()


@pytest.mark.parametrize("fault", TABLE_FAULTS, ids=lambda fault: fault.name)
def test_mistake_in_a_look_up_is_caught_by_lists_that_crowd(fault: TextFault, tmp_path: Path) -> None:
    rules = Rules(tuple(crowd(np.random.default_rng())))
    asked = shapes_from(islice(edges(rules.plain), 20_000))
    sound = filter_for(rules, Kind.FLAT)
    broken = filter_for(rules, Kind.FLAT, fault.laid(tmp_path / "bpf", "FILTER(2, 2, 0)"))
    try:
        assert wrong(sound, rules, asked) == []
        assert wrong(broken, rules, asked) != []
    finally:
        sound.close()
        broken.close()


@pytest.mark.parametrize(
    ("accelerator", "expectation"), ACCELERATOR_FAULTS.items(), ids=lambda each: getattr(each, "name", "")
)
def test_broken_accelerator_is_caught_by_the_expectation_that_names_it(
    accelerator: type[XdpAccelerator], expectation: str, tmp_path: Path
) -> None:
    with Pool([XdpAccelerator]) as pool:
        assert Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(CASES[expectation], IptablesDataplane) is None
    with Pool([accelerator]) as pool:
        failure = Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(CASES[expectation], IptablesDataplane)
    assert failure is not None
    assert f"iptables+{accelerator.name}" in failure


@pytest.mark.parametrize(
    ("accelerator", "promise", "told"),
    [(accelerator, *rest) for accelerator, rest in PROMISE_FAULTS.items()],
    ids=lambda each: getattr(each, "name", ""),
)
def test_accelerator_that_breaks_a_promise_is_caught_by_it(
    accelerator: type[XdpAccelerator], promise: str, told: str
) -> None:
    held = next(each for each in PROMISES if each.id == promise)
    assert held.broken(Judged(IptablesDataplane, (XdpAccelerator,))) is None
    failure = held.broken(Judged(IptablesDataplane, (accelerator,)))
    assert failure is not None
    assert told in failure


def test_generic_mode_that_calls_itself_native_is_caught() -> None:
    scenario = CASES[BLOCKLIST].scenario(0).load()
    for accelerator, caught in ((XdpAccelerator, False), (GenericForNative, True)):
        with Harness(scenario.topology, IptablesDataplane, [accelerator]) as harness:
            harness.apply(scenario.resources)
            facts = harness.acceleration()["node-1", accelerator.name].facts
            assert (modes_differ(harness.lab.nodes["node-1"], facts) is not None) is caught


@pytest.mark.parametrize("kind", Kind)
def test_update_that_is_half_open_is_caught(kind: Kind) -> None:
    common = frozenset(ip_network(net) for net in ("203.0.113.0/26", "2001:db8::/48", "198.51.100.7/32"))
    other = frozenset(ip_network(net) for net in ("192.0.2.0/25", "2001:db8:1::/60"))
    assert leaks(InterfaceFilter, common, other, kind) == []
    assert leaks(HalfOpen, common, other, kind) != []
