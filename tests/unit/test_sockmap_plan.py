# SPDX-License-Identifier: Apache-2.0
"""Whom sockmap takes up, from the snapshot alone, and what its programs must be told of a kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from dataplanes.api import EndpointPolicy, HostError, HostPolicy, PolicyId, Snapshot, TierPolicies
from dataplanes.registry import load_accelerator
from dataplanes.sockmap import SockmapAccelerator
from dataplanes.sockmap.layout import COUNTERS, LAYOUT, MEMBERS, macros
from lab.fabric.surroundings import Surroundings

WITH = EndpointPolicy("cali01", "x/with", (), (), (), sidecar=True)
WITHOUT = EndpointPolicy("cali02", "x/without", (), (), ())
TIER = TierPolicies("default", (PolicyId("GlobalNetworkPolicy", "", "early"),), (), pass_by_default=True)
HOST = HostPolicy("cali01", "early", (), (), (), (), (TIER,))
SNAPSHOT = Snapshot("node-1", {each.interface: each for each in (WITH, WITHOUT)}, {}, {}, {})


def test_it_is_found_by_its_name() -> None:
    assert load_accelerator("sockmap") is SockmapAccelerator


def test_a_workload_with_a_sidecar_is_accelerated_and_one_without_is_not() -> None:
    told = {each.what: each.accelerated for each in SockmapAccelerator.plan(SNAPSHOT)}
    assert told == {"workload x/with": True, "workload x/without": False}


def test_a_workload_under_untracked_policy_is_not_accelerated() -> None:
    (planned,) = SockmapAccelerator.plan(replace(SNAPSHOT, endpoints={"cali01": WITH}, host_endpoints={"cali01": HOST}))
    assert not planned.accelerated
    assert "untracked policy of the host endpoint early" in planned.because


def test_untracked_policy_elsewhere_takes_nothing_away() -> None:
    elsewhere = replace(HOST, interface="eth0")
    planned = SockmapAccelerator.plan(replace(SNAPSHOT, host_endpoints={"eth0": elsewhere}))
    assert planned[0].accelerated


def test_counters_have_the_places_that_the_header_gives_them() -> None:
    assert sorted(COUNTERS) == list(range(LAYOUT["COUNTS"]))
    assert COUNTERS[LAYOUT["COUNT_ORDER_VIOLATED"]] == "order.violated"
    assert COUNTERS[LAYOUT["COUNT_PASSED_UNREAD"]] == "passed.unread"


def test_programs_are_told_where_the_kernel_has_what() -> None:
    offsets = {path: place for place, path in enumerate(MEMBERS.values())}
    assert dict(macros(offsets))["MEMBER_WRITE_SEQ"] == "0"
    without = dict(macros(offsets | {"sk_psock.msg_tot_len": None}))
    assert "MEMBER_QUEUED" not in without


def test_a_kernel_that_lacks_a_member_is_refused_by_name() -> None:
    offsets = dict.fromkeys(MEMBERS.values(), 8) | {"sk_psock.ingress_msg": None}
    with pytest.raises(HostError, match=r"no member sk_psock\.ingress_msg"):
        macros(offsets)


def test_a_host_without_cgroups_is_refused_before_anything_is_attached() -> None:
    nothing = cast("Any", None)
    with pytest.raises(HostError, match=r"no cgroup v2 .* run without the accelerator"):
        Surroundings().attach(nothing, nothing, nothing)
