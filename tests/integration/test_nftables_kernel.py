# SPDX-License-Identifier: Apache-2.0
"""The nftables dataplane in a real kernel: what is applied, what is left alone, what a failure leaves behind."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from bare_node import BareNode
from hypothesis import HealthCheck, given, settings
from nftables_world import worlds
from snapshot_world import CLIENTS, HTTP, WEB, endpoint, every_field, host_stages, rule, side, snapshot

from dataplanes.api import (
    Action,
    Completed,
    DataplaneError,
    HostError,
    IpSet,
    MembersChange,
    PortMember,
    SnapshotDelta,
    apply_delta,
)
from dataplanes.nftables import NftablesDataplane
from dataplanes.nftables.difference import difference
from dataplanes.nftables.names import TABLE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FOREIGN = """
add table ip policylab
add chain ip policylab rules { type filter hook forward priority 5; }
add rule ip policylab rules tcp dport 1 drop
add table inet theirs
add set inet theirs nets { type ipv4_addr; elements = { 10.0.0.1 }; }
add chain inet theirs rules { type filter hook input priority -5; }
add rule inet theirs rules ip saddr @nets drop
"""


class SpoiledNode(BareNode):
    """A node on which one of the transactions to come is refused by the kernel."""

    def __init__(self):
        super().__init__()
        self._spoiled = None

    def spoil(self, turn):
        """Choose the transaction, the first to come being 0."""
        self._spoiled = turn

    def mend(self):
        self._spoiled = None

    def nft(self, commands):
        if self._spoiled is not None:
            if self._spoiled == 0:
                # A rule of a chain that is not there.
                flaw = {"add": {"rule": {"family": "inet", "table": TABLE, "chain": "nowhere", "expr": []}}}
                commands = json.dumps({"nftables": [*json.loads(commands)["nftables"], flaw]})
            self._spoiled = self._spoiled - 1 if self._spoiled else None
        return super().nft(commands)


@pytest.fixture
def node():
    with SpoiledNode() as made:
        yield made


@pytest.fixture
def dataplane(node):
    made = NftablesDataplane(node)
    made.start()
    node.calls.clear()
    yield made
    node.mend()
    made.stop()


def ruleset(node):
    """All tables as text, without what has been counted since, and with elements and sets in an order of their own."""
    listed = json.loads(node.must("nft", "-j", "list", "ruleset"))["nftables"]
    bare = [json.dumps(_still(each), sort_keys=True) for each in listed if "metainfo" not in each]
    return sorted(text.replace('/b"', '"') for text in bare)


def _still(value):
    if isinstance(value, dict):
        rest = {key: _still(inner) for key, inner in value.items() if key not in ("handle", "packets", "bytes")}
        return {**rest, "elem": sorted(map(json.dumps, rest["elem"]))} if "elem" in rest else rest
    return [_still(inner) for inner in value] if isinstance(value, list) else value


def own(node):
    return [line for line in ruleset(node) if f'"{TABLE}"' in line and '"inet"' in line]


def test_every_field_is_accepted_by_the_kernel(dataplane, node):
    dataplane.apply(every_field())
    assert sum("NetworkPolicy/x/web ingress rule 9" in line for line in own(node)) == 1


def test_same_snapshot_again_runs_nothing(dataplane, node):
    dataplane.apply(every_field())
    node.calls.clear()
    dataplane.apply(every_field())
    assert node.calls == []


def test_change_is_one_command_whatever_the_number_of_endpoints(dataplane, node):
    dataplane.apply(every_field())
    node.calls.clear()
    web = every_field().policies[WEB]
    dataplane.apply(replace(every_field(), policies={**every_field().policies, WEB: replace(web, ingress=())}))
    assert [argv[:3] for argv in node.calls] == [("nft", "-j", "-f")]


@pytest.mark.parametrize("make", [every_field, host_stages])
def test_stop_leaves_the_node_as_it_was(dataplane, node, make):
    before = ruleset(node)
    dataplane.apply(make())
    assert own(node)
    dataplane.stop()
    assert ruleset(node) == before
    dataplane.stop()
    assert ruleset(node) == before


def test_foreign_tables_survive(dataplane, node):
    """A table of our name in another family is a stranger's; so are chains of iptables."""
    node.must("iptables-nft", "-A", "FORWARD", "-p", "tcp", "-j", "DROP")
    node.must("iptables-legacy", "-A", "FORWARD", "-p", "tcp", "-j", "DROP")
    node.must("nft", "-f", "-", stdin=FOREIGN)
    before = ruleset(node), node.must("iptables-legacy", "-S")
    for each in (every_field(), host_stages(), every_field()):
        dataplane.apply(each)
        assert [line for line in ruleset(node) if line not in own(node)] == before[0]
    dataplane.stop()
    NftablesDataplane(node).stop()
    assert (ruleset(node), node.must("iptables-legacy", "-S")) == before


def test_what_a_killed_run_left_stays_until_the_first_apply_of_the_next(node):
    before = ruleset(node)
    killed = NftablesDataplane(node)
    killed.start()
    killed.apply(host_stages())
    left = ruleset(node)
    heir = NftablesDataplane(node)
    heir.start()
    assert ruleset(node) == left
    heir.apply(every_field())
    other = ruleset(node)
    heir.apply(host_stages())
    assert ruleset(node) == left != other
    heir.stop()
    assert ruleset(node) == before


def test_stop_takes_away_what_a_killed_run_left(node):
    before = ruleset(node)
    killed = NftablesDataplane(node)
    killed.start()
    killed.apply(host_stages())
    heir = NftablesDataplane(node)
    heir.start()
    heir.stop()
    assert ruleset(node) == before


@pytest.mark.parametrize("transaction", [0, 1, 2])
def test_failure_of_any_transaction_leaves_the_previous_snapshot_in_force(dataplane, node, transaction):
    dataplane.apply(host_stages())
    before = ruleset(node)
    other = replace(host_stages(), host_endpoints={"eth1": host_stages().host_endpoints["eth0"]})
    node.spoil(transaction)
    with pytest.raises(DataplaneError, match="nft"):
        dataplane.apply(other)
    assert ruleset(node) == before
    dataplane.apply(other)
    assert ruleset(node) != before
    dataplane.apply(host_stages())
    assert ruleset(node) == before


def test_failing_first_apply_leaves_nothing(dataplane, node):
    before = ruleset(node)
    node.spoil(0)
    with pytest.raises(DataplaneError):
        dataplane.apply(host_stages())
    assert ruleset(node) == before
    dataplane.apply(host_stages())
    assert own(node)


def test_failure_that_cannot_be_rolled_back_is_told_as_such(dataplane, node, monkeypatch):
    dataplane.apply(every_field())
    real, calls = node.nft, []

    def nft(commands):
        calls.append(commands)
        return real(commands) if len(calls) == 1 else Completed(("nft",), 1, "", "no")

    monkeypatch.setattr(node, "nft", nft)
    with pytest.raises(DataplaneError, match="cannot be put back"):
        dataplane.apply(host_stages())
    monkeypatch.undo()
    dataplane.apply(host_stages())


def test_rule_that_nftables_cannot_express_is_refused_before_anything_is_applied(dataplane, node):
    dataplane.apply(every_field())
    node.calls.clear()
    web = replace(every_field().policies[WEB], ingress=(rule(source=side(sets=("gone",))),))
    with pytest.raises(DataplaneError, match="gone"):
        dataplane.apply(replace(every_field(), policies={**every_field().policies, WEB: web}))
    assert node.calls == []


def test_table_that_somebody_took_away_comes_back_with_the_apply_after_the_one_that_fails(dataplane, node):
    dataplane.apply(every_field())
    wanted = ruleset(node)
    node.must("nft", "delete", "table", "inet", TABLE)
    web = replace(every_field().policies[WEB], ingress=())
    with pytest.raises(DataplaneError):
        dataplane.apply(replace(every_field(), policies={**every_field().policies, WEB: web}))
    dataplane.apply(every_field())
    assert ruleset(node) == wanted


def test_stop_after_somebody_took_the_table_away_still_works(dataplane, node):
    dataplane.apply(every_field())
    node.must("nft", "flush", "ruleset")
    dataplane.stop()
    assert ruleset(node) == []


def test_missing_tool_names_the_package(node, monkeypatch):
    def run(argv, **_):
        raise HostError("no such command", value=argv[0])

    monkeypatch.setattr(node, "run", run)
    with pytest.raises(HostError, match="apt-get install nftables"):
        NftablesDataplane(node).start()


def test_evidence_holds_counters_by_what_they_count_and_the_rules(dataplane):
    assert dataplane.evidence().counters == {}
    dataplane.apply(every_field())
    evidence = dataplane.evidence()
    assert evidence.counters["policy NetworkPolicy/x/web ingress"] == 0
    assert evidence.counters["tier default ingress"] == 0
    assert f"table inet {TABLE} {{" in evidence.ruleset
    assert re.search(r'comment "NetworkPolicy/x/web ingress rule 2"$', evidence.ruleset, re.MULTILINE)


def peers(count, *more):
    found = frozenset(ip_network(ip_address("198.18.0.0") + number) for number in range(count))
    ports = frozenset(PortMember(net.network_address, 6, 80) for net in found)
    return [
        IpSet(CLIENTS.set_id, "net", nets=found | frozenset(map(ip_network, more))),
        IpSet(HTTP.set_id, "port", ports=ports),
    ]


@pytest.mark.parametrize("count", [3, 2000], ids=["few members", "many members"])
@pytest.mark.parametrize("more", [(), ("10.0.0.0/8", "10.1.0.0/16")], ids=["addresses", "networks"])
def test_members_come_and_go(dataplane, node, count, more):
    """Small sets are filled anew when members leave, large ones are not; either ends as if made at once."""
    rules = rule(source=side(sets=(CLIENTS.set_id,))), rule(destination=side(port_sets=(HTTP.set_id,)))
    web = replace(every_field().policies[WEB], ingress=rules)
    ends = [replace(endpoint(1), tiers=every_field().endpoints[endpoint(1).interface].tiers[1:])]
    before = snapshot(ends, [web], peers(count, *more))
    dataplane.apply(before)
    gone, new = ip_network("198.18.0.1/32"), ip_network("198.19.0.1/32")
    delta = SnapshotDelta(
        "node-1",
        members={
            CLIENTS.set_id: MembersChange(frozenset({new}), frozenset({gone, *map(ip_network, more[:1])})),
            HTTP.set_id: MembersChange(
                frozenset({PortMember(new.network_address, 6, 80)}),
                frozenset({PortMember(gone.network_address, 6, 80)}),
            ),
        },
    )
    after = apply_delta(before, delta)
    dataplane.apply(after, delta)
    changed = ruleset(node)
    dataplane.stop()
    dataplane.apply(after)
    assert ruleset(node) == changed


def test_one_set_changes_in_place(dataplane, node):
    web = replace(every_field().policies[WEB], ingress=(rule(source=side(sets=(CLIENTS.set_id,))),))
    ends = [replace(endpoint(1), tiers=every_field().endpoints[endpoint(1).interface].tiers[1:])]
    for count in (3, 2000, 1999, 4, 3):
        web = replace(web, egress=())
        dataplane.apply(snapshot(ends, [web], peers(count)))
        elements = json.loads(node.must("nft", "-j", "list", "set", "inet", TABLE, "net4/sel-clients"))
        assert len(elements["nftables"][1]["set"]["elem"]) == count


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=worlds(), after=worlds())
def test_any_way_to_a_snapshot_ends_in_the_same_table_of_the_kernel(dataplane, node, before, after):
    dataplane.stop()
    dataplane.apply(before)
    dataplane.apply(after, difference(before, after))
    followed = ruleset(node)
    dataplane.stop()
    dataplane.apply(after)
    assert ruleset(node) == followed


def test_action_that_logs_stands_in_the_rules(dataplane, node):
    dataplane.apply(every_field())
    assert any('"log"' in line and "rule 7" in line for line in own(node))
    assert Action.LOG in [found.action for found in every_field().policies[WEB].ingress]
