# SPDX-License-Identifier: Apache-2.0
"""A graph that follows snapshots as the plugin has it, without a kernel, and snapshots for it to follow."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import strategies as st
from snapshot_world import CLIENTS, GUARD, WEB, endpoint, host, rule, side, snapshot

from dataplanes.api import Action, PolicyId, Snapshot, SnapshotPolicy, TierPolicies
from dataplanes.nftables.difference import difference
from dataplanes.nftables.follow import follow
from dataplanes.nftables.graph import Graph
from dataplanes.nftables.transaction import complete, transactions

FROM_CLIENTS = rule(source=side(sets=("sel-clients",)))
OTHERS = side(sets=("others",)), side(not_sets=("others",))
RULES = st.lists(
    st.sampled_from([rule(), rule(Action.DENY), FROM_CLIENTS, *(rule(source=peers) for peers in OTHERS)]), max_size=2
).map(tuple)
NETS = st.frozensets(
    st.sampled_from([ip_network(text) for text in ("10.0.0.1/32", "10.0.0.0/8", "10.0.0.2/32", "fd00::1/128")])
)
STAGES = st.sets(st.sampled_from(("tiers", "forward_tiers", "pre_dnat_tiers", "untracked_tiers")))
IDS = (WEB, GUARD, PolicyId("NetworkPolicy", "x", "other"))
CHOSEN = st.lists(st.sampled_from(IDS), max_size=2, unique=True).map(tuple)
TIERS = st.lists(st.builds(TierPolicies, st.just("t"), CHOSEN, CHOSEN, st.booleans()), max_size=1).map(tuple)


@st.composite
def worlds(draw):
    known = [SnapshotPolicy(policy_id, "default", draw(RULES), draw(RULES)) for policy_id in IDS]
    endpoints = [endpoint(number, *draw(TIERS)) for number in draw(st.sets(st.integers(1, 3)))]
    sets = [replace(CLIENTS, set_id=set_id, nets=draw(NETS)) for set_id in ("sel-clients", "others")]
    hosts = {
        name: host(name, f"hep-{name}", **{stage: draw(TIERS) for stage in stages})
        for name, stages in draw(st.dictionaries(st.sampled_from(("eth0", "*")), STAGES)).items()
    }
    return replace(snapshot(endpoints, known, sets), host_endpoints=hosts)


class Followed:
    """What the table holds after some snapshots."""

    def __init__(self, *snapshots):
        self.graph = Graph()
        self.snapshot = Snapshot("node-1", {}, {}, {}, {})
        for each in snapshots:
            self.to(each)

    def to(self, snapshot, delta=None):
        """The transactions that put another snapshot in force."""
        follow(self.graph, snapshot, delta or difference(self.snapshot, snapshot))
        found = [list(transaction) for transaction in transactions(self.graph)]
        self.graph.settle()
        self.snapshot = snapshot
        return found

    def complete(self):
        """The one transaction that makes the whole table."""
        return list(complete(self.graph.objects.values()))

    def object(self, name):
        (found,) = (each for each in self.graph.objects.values() if each.name == name)
        return found

    def names(self):
        return {found.name for found in self.graph.objects.values()}
