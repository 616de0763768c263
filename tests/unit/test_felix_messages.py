# SPDX-License-Identifier: Apache-2.0
"""Felix's encoding: known bytes, every case's snapshots there and back in both forms, and what drivers put up with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplanes.api import DataplaneError, FailsafePort, PolicyId, Snapshot, SnapshotPolicy, SnapshotRule
from dataplanes.external.felix import FelixState, updates
from dataplanes.external.felix.names import failsafe, failsafe_text, policy_name, policy_of_name
from dataplanes.external.felix.schema import FROM_DATAPLANE, SCHEMAS, TO_DATAPLANE
from dataplanes.external.felix.wire import decode, encode
from lab.conformance.case import Case, load_cases
from lab.policy.compile import compile_snapshots

FORMS = ("3.32", "before 3.32")
NEW = SCHEMAS["3.32"]

numbers = st.integers(0, 2**64 - 1)
rules = st.fixed_dictionaries(
    {},
    optional={
        "action": st.text(),
        "ip_version": numbers,
        "protocol": st.fixed_dictionaries({}, optional={"number": numbers, "name": st.text()}),
        "src_net": st.lists(st.text(), min_size=1),
        "dst_ports": st.lists(st.fixed_dictionaries({"first": numbers, "last": numbers}), min_size=1),
    },
)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"in_sync": {}}, "0a00"),
        ({"sequence_number": 300, "in_sync": {}}, "78ac02 0a00"),
        ({"ipset_remove": {"id": "s:a"}}, "2205 0a03733a61"),
        (
            {"ipset_update": {"id": "a", "members": ["10.0.0.1/32"], "type": 2}},
            "1212 0a0161 120b31302e302e302e312f3332 1802",
        ),
        (
            {"active_policy_remove": {"id": {"name": "p", "namespace": "n", "kind": "K"}}},
            "420b 0a09 120170 1a016e 22014b",
        ),
        ({"workload_endpoint_remove": {"id": {"orchestrator_id": "k", "workload_id": "w"}}}, "6208 0a06 12016b 1a0177"),
        ({"config_update": {"config": {"A": "b"}}}, "6a08 0a06 0a0141 120162"),
    ],
)
def test_messages_are_these_bytes(message, told):
    data = bytes.fromhex(told)
    assert encode(NEW, TO_DATAPLANE, message) == data
    assert decode(NEW, TO_DATAPLANE, data) == message


def test_policy_before_3_32_is_named_by_its_tier():
    old = SCHEMAS["before 3.32"]
    message = {"active_policy_remove": {"id": {"tier": "t", "name": "n/p"}}}
    assert encode(old, TO_DATAPLANE, message).hex() == "420a0a080a017412036e2f70"


@settings(deadline=None)
@given(rules)
def test_rules_are_read_as_they_were_written(rule):
    assert decode(NEW, "Rule", encode(NEW, "Rule", rule)) == rule


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(FORMS))
def test_any_bytes_are_a_message_or_refused(data, form):
    with suppress(DataplaneError):
        FelixState("n", form).take(data)


@pytest.mark.parametrize("told", ["0a", "0a05", "ffffffffffffffffffffff01", "0800", "1207 0a05", "0b", "1203 0a01ff"])
def test_bytes_that_are_no_message_are_refused(told):
    with pytest.raises(DataplaneError, match="this is no "):
        decode(NEW, TO_DATAPLANE, bytes.fromhex(told))


def test_fields_that_nobody_knows_are_passed_over():
    unknown = "08ac02" + "9a0603616263" + "3d01020304" + "390102030405060708"
    assert decode(NEW, "InSync", bytes.fromhex(unknown)) == {}
    assert decode(NEW, FROM_DATAPLANE, bytes.fromhex("5200" + "a20600")) == {"dataplane_in_sync": {}}


def for_packets(snapshot: Snapshot) -> Snapshot:
    """What is left of a snapshot where nobody knows of sidecars and tunnels."""

    def plain(rules: tuple[SnapshotRule, ...]) -> tuple[SnapshotRule, ...]:
        return tuple(
            replace(
                rule,
                http=None,
                source=replace(rule.source, by_account=False),
                destination=replace(rule.destination, by_account=False),
            )
            for rule in rules
        )

    def owner(each: SnapshotPolicy) -> SnapshotPolicy:
        return replace(each, ingress=plain(each.ingress), egress=plain(each.egress))

    return replace(
        snapshot,
        endpoints={key: replace(each, sidecar=False) for key, each in snapshot.endpoints.items()},
        policies={key: owner(each) for key, each in snapshot.policies.items()},
        settings=replace(snapshot.settings, tunnel_peers=()),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.id)
def test_stream_of_messages_gives_the_same_snapshots(case: Case, form):
    told: dict[str, Snapshot] = {}
    states: dict[str, FelixState] = {}
    for number in range(len(case.steps)):
        loaded = case.scenario(number).load()
        for node, snapshot in compile_snapshots(loaded.topology, loaded.resources).items():
            state = states.setdefault(node, FelixState(node, form))
            for message in updates(told.get(node), snapshot, form):
                state.take(encode(SCHEMAS[form], TO_DATAPLANE, message))
            told[node] = snapshot
            assert state.in_sync
            assert state.snapshot() == for_packets(snapshot)


def state_after(*messages):
    state = FelixState("n", "3.32")
    for message in messages:
        state.take(encode(NEW, TO_DATAPLANE, message))
    return state


def test_set_changes_by_what_is_added_and_removed():
    state = state_after(
        {"ipset_update": {"id": "a", "members": ["10.0.0.1/32", "fd00::1/128"], "type": 2}},
        {"ipset_delta_update": {"id": "a", "added_members": ["10.0.0.2/32"], "removed_members": ["fd00::1/128"]}},
    )
    assert state.snapshot().ip_sets["a"].nets == {ip_network("10.0.0.1/32"), ip_network("10.0.0.2/32")}
    with pytest.raises(DataplaneError, match="a set that is not there"):
        state_after({"ipset_delta_update": {"id": "b"}})


def test_removals_of_what_is_not_there_are_passed_over():
    identity = {"id": {"name": "p", "namespace": "", "kind": "GlobalNetworkPolicy"}}
    gone = state_after(
        {"ipset_remove": {"id": "a"}},
        {"active_policy_remove": identity},
        {"active_profile_remove": {"id": {"name": "x"}}},
        {"workload_endpoint_remove": {"id": {"workload_id": "x/a"}}},
        {"host_endpoint_remove": {"id": {"endpoint_id": "h"}}},
        {"ipam_pool_remove": {"id": "10.0.0.0-8"}},
    )
    assert gone.snapshot() == FelixState("n", "3.32").snapshot()
    assert not gone.in_sync


@pytest.mark.parametrize(
    "message",
    [
        {"workload_endpoint_update": {"id": {"workload_id": "x/a"}, "endpoint": {"ipv4_nets": ["nowhere"]}}},
        {"ipam_pool_update": {"id": "a", "pool": {"cidr": "10.0.0.1/8"}}},
        {"active_profile_update": {"profile": {"inbound_rules": [{"action": "allow", "protocol": {"name": "frob"}}]}}},
        {"active_profile_update": {"profile": {"inbound_rules": [{"action": "allow", "src_net": ["10.0.0.300"]}]}}},
    ],
)
def test_message_with_nonsense_in_it_is_refused(message):
    with pytest.raises(DataplaneError, match="this makes no sense"):
        state_after(message)


def test_rule_with_an_unknown_action_is_refused():
    profile = {"inbound_rules": [{"action": "maybe"}]}
    with pytest.raises(DataplaneError, match="an action that nobody knows; given: 'maybe'"):
        state_after({"active_profile_update": {"id": {"name": "x"}, "profile": profile}})


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (PolicyId("GlobalNetworkPolicy", "", "guard"), "guard"),
        (PolicyId("NetworkPolicy", "x", "web"), "x/web"),
        (PolicyId("KubernetesNetworkPolicy", "x", "web"), "x/knp.default.web"),
        (PolicyId("AdminNetworkPolicy", "", "a"), "kanp.adminnetworkpolicy.a"),
        (PolicyId("BaselineAdminNetworkPolicy", "", "default"), "kbanp.baselineadminnetworkpolicy.default"),
    ],
)
def test_names_before_3_32_hold_kind_and_namespace(policy, name):
    assert policy_name(policy) == name
    assert policy_of_name(name) == policy


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (FailsafePort(6, 22), "tcp:22"),
        (FailsafePort(17, 53, ip_network("10.0.0.0/8")), "udp:10.0.0.0/8:53"),
        (FailsafePort(6, 22, ip_network("fd00::/8")), "tcp:[fd00::/8]:22"),
        (FailsafePort(99, 1), "99:1"),
    ],
)
def test_failsafe_ports_are_spelled_as_felix_does(port, text):
    assert failsafe_text(port) == text
    assert failsafe(text) == port


def host(called, **fields):
    return {"host_endpoint_update": {"id": {"endpoint_id": called}, "endpoint": fields}}


def test_first_host_endpoint_by_name_covers_an_interface_that_it_names_or_whose_address_it_expects():
    state = FelixState("n", "3.32", {"eth0": [ip_address("10.0.0.1")], "eth1": [ip_address("fd00::1")]})
    for message in (
        host("b", name="eth0"),
        host("a", expected_ipv4_addrs=["10.0.0.1"]),
        host("c", expected_ipv6_addrs=["fd00::1"]),
        host("z", name="*"),
        host("y", name="*"),
        host("nowhere", expected_ipv4_addrs=["10.0.0.9"]),
    ):
        state.take(encode(NEW, TO_DATAPLANE, message))
    covered = {name: each.name for name, each in state.snapshot().host_endpoints.items()}
    assert covered == {"eth0": "a", "eth1": "c", "*": "y"}


def test_whoever_is_before_dnat_or_tracking_goes_on_whatever_its_tier_says():
    tier = [{"name": "default", "default_action": "Deny"}]
    told = state_after(host("h", name="eth0", tiers=tier, untracked_tiers=tier, pre_dnat_tiers=tier))
    policy = told.snapshot().host_endpoints["eth0"]
    stages = (policy.tiers, policy.untracked_tiers, policy.pre_dnat_tiers)
    assert [tiers[0].pass_by_default for tiers in stages] == [False, True, True]


def rule_of(**fields):
    profile = {"id": {"name": "x"}, "profile": {"inbound_rules": [{"action": "allow", **fields}]}}
    return state_after({"active_profile_update": profile}).snapshot().profiles["x"].ingress[0]


def test_only_a_protocol_by_its_name_implies_a_family():
    assert rule_of(protocol={"name": "icmp"}).ip_version == 4
    assert rule_of(protocol={"name": "icmpv6"}).ip_version == 6
    assert rule_of(protocol={"number": 1}).ip_version is None
    assert rule_of(not_protocol={"name": "icmp"}).ip_version is None


def test_set_of_a_service_is_no_set_beside_ports():
    assert rule_of(dst_ip_port_set_ids=["svc"]).destination.port_sets == ("svc",)
    with pytest.raises(DataplaneError, match="a service's set and something beside it"):
        rule_of(dst_ip_port_set_ids=["svc"], dst_ports=[{"first": 80, "last": 80}])


def test_policies_of_one_name_in_two_tiers_are_two_before_3_32():
    state, old = FelixState("n", "before 3.32"), SCHEMAS["before 3.32"]
    for tier in ("one", "two"):
        update = {"active_policy_update": {"id": {"tier": tier, "name": "p"}, "policy": {"tier": tier}}}
        state.take(encode(old, TO_DATAPLANE, update))
    assert {each.tier for each in state.snapshot().policies.values()} == {"one", "two"}


def test_failsafes_are_the_usual_ones_until_somebody_says_otherwise():
    usual = state_after({"config_update": {"config": {"VXLANPort": "4790"}}}).snapshot().settings
    none = {"FailsafeInboundHostPorts": "none", "FailsafeOutboundHostPorts": "udp:53,2379"}
    told = state_after({"config_update": {"config": none}}).snapshot().settings
    assert (len(usual.failsafe_inbound), len(usual.failsafe_outbound)) == (9, 9)
    assert told.failsafe_inbound == ()
    assert told.failsafe_outbound == (FailsafePort(17, 53), FailsafePort(6, 2379))
