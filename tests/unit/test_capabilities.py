# SPDX-License-Identifier: Apache-2.0
"""What plugins declare, what follows from it, and that the host's lacks are told apart."""

from __future__ import annotations

import pytest

from dataplanes.api import DEFAULT_CAPABILITIES, TRAITS, Capability, Dataplane, Trait
from lab.conformance import host
from lab.conformance.judged import Judged
from lab.conformance.record import Column, Record, Report
from lab.conformance.scenario import Scenario

ALL = frozenset(Capability)


class Mine:
    name = "mine"
    capabilities = ALL


class Heir(Dataplane):
    name = "heir"


class Excused(Mine):
    known_broken = {"a.b": "late", "tier.*": "no tiers yet"}  # noqa: RUF012 - as a plugin's author would write it


class Fast:
    name = "fast"
    capabilities = ALL
    known_broken = {"session.*": "it cannot"}  # noqa: RUF012 - as above


def test_every_capability_has_a_trait():
    assert TRAITS.keys() == ALL


def test_class_that_inherits_the_contract_declares_the_core_and_nothing_broken():
    judged = Judged(Heir)
    assert judged.capabilities == DEFAULT_CAPABILITIES
    assert {TRAITS[each].level for each in judged.capabilities} == {"core"}
    assert judged.core_lacking == ()
    assert judged.known_broken == {}


def test_core_capabilities_that_are_not_declared_are_told():
    assert Judged(type("Narrow", (Mine,), {"capabilities": ALL - {Capability.IPV6}})).core_lacking == ("family.ipv6",)


def test_known_broken_of_all_plugins_counts_by_id_or_glob():
    judged = Judged(Excused, (Fast,))
    assert judged.name == "mine+fast"
    assert judged.broken("a.b") == "late"
    assert judged.broken("tier.order.lower-first") == "no tiers yet"
    assert judged.broken("session.cut") == "it cannot"
    assert judged.broken("a.bc") is None
    assert Judged(Excused).broken("session.cut") is None


@pytest.mark.parametrize(
    ("words", "lacking", "result"),
    [
        ((("passed", "core"),), (), "success"),
        ((("passed", "core"), ("skipped", "core")), (), "success"),
        ((("passed", "core"), ("not-supported", "extended")), (), "success"),
        ((("passed", "core"), ("not-supported", "core")), ("family.ipv6",), "partial"),
        ((("passed", "core"), ("known-broken", "extended")), (), "success"),
        ((("passed", "core"), ("known-broken", "core")), (), "partial"),
        ((("passed", "core"), ("failed", "experimental")), ("family.ipv6",), "failure"),
        ((("skipped", "core"), ("not-supported", "core")), (), "failure"),
        ((), (), "failure"),
    ],
)
def test_result_follows_from_what_became_of_expectations(words, lacking, result):
    records = tuple(Record(f"a.{n}", "", level, "mine", word, 0) for n, (word, level) in enumerate(words))
    assert Report((Column("mine", (), lacking),), "dev", records).result("mine") == result


@pytest.mark.parametrize(
    ("running", "needed", "told"),
    [
        ("6.1.0-18-amd64", "5.10", None),
        ("5.10.0", "5.10", None),
        ("5.9.16", "5.10", "this host's kernel is 5.9.16; policy.tiers needs 5.10: run it on a newer kernel"),
        ("6.18.44-fc", None, None),
    ],
)
def test_kernel_that_is_too_old_is_the_hosts_lack(running, needed, told, monkeypatch):
    monkeypatch.setattr(host.platform, "release", lambda: running)
    monkeypatch.setattr(host, "TRAITS", TRAITS | {Capability.TIERS: Trait("tiers", "core", needed)})
    assert host.too_old(ALL) == told


def flow(protocol="TCP", family="ipv4"):
    return {"from": "x/a", "to": "x/b", "protocol": protocol, "port": 80, "family": family}


def policy(name, **spec):
    meta = {"name": name}
    return {"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": meta, "spec": spec}


PLAIN = policy("plain", selector="all()")
TIERED = policy("late.tiered", tier="late", selector="all()")
NAMED = policy("named", ingress=[{"action": "Allow", "protocol": "TCP", "destination": {"ports": ["http"]}}])
WORLD = Scenario(
    {"workloads": {"x/a": {"node": "n", "profiles": ["open"]}, "x/b": {"node": "n"}}},
    (PLAIN, TIERED, NAMED),
    (flow(), flow("UDP"), flow(family="ipv6"), flow("ICMPv6", "ipv6")),
    ((PLAIN, TIERED),),
)


def test_scenario_within_everything_stays_as_it_is():
    assert WORLD.within(ALL) == WORLD


def test_scenario_within_less_loses_what_is_not_declared():
    met = WORLD.within({Capability.IPV4, Capability.TCP, Capability.LIVE_UPDATE})
    assert met is not None
    assert met.flows == (flow(),)
    assert met.resources == (PLAIN,)
    assert met.before == ((PLAIN,),)
    assert met.topology == {"workloads": {"x/a": {"node": "n"}, "x/b": {"node": "n"}}}


def test_scenario_without_a_flow_that_is_declared_is_none_at_all():
    assert WORLD.within({Capability.IPV4, Capability.SCTP}) is None


def test_icmp_in_the_other_family_is_another_protocol():
    stray = Scenario(WORLD.topology, (), (flow("ICMPv6", "ipv4"),))
    assert stray.within({Capability.IPV4, Capability.IPV6, Capability.ICMP}) is None
    assert stray.within(ALL) == stray
