# SPDX-License-Identifier: Apache-2.0
"""One dataplane after another on a node, the first without a chance to clean up: each takes away its own only."""

from __future__ import annotations

import os
import re
from itertools import permutations

import pytest
from bare_node import BareNode
from snapshot_world import every_field, host_stages

from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane
from dataplanes.nftables import NftablesDataplane

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SHOWN = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save", "ipset save")
FOREIGN = (
    "iptables-nft -A FORWARD -d 192.0.2.99 -j ACCEPT",
    "ip6tables-legacy -t mangle -A PREROUTING -p tcp -j ACCEPT",
    "ipset create theirs hash:net",
    "nft add table inet theirs",
    "nft add chain inet theirs rules",
    "nft add rule inet theirs rules tcp dport 1 drop",
)


@pytest.fixture
def node():
    with BareNode() as made:
        for command in FOREIGN:
            made.must(*command.split())
        # What any command of the nft backend leaves behind is there from the start.
        for tool in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
            for table in ("filter", "mangle", "raw", "nat"):
                made.must(tool, "-t", table, "-S")
        yield made


def lines(node):
    """What stands on the node but counters, the names of built-in chains, and braces."""
    texts = [node.must(*command.split()) for command in (*SHOWN, "nft list ruleset")]
    noise = re.compile(r"\s*([#:*}]|COMMIT|table|chain [A-Z]|type \w+ hook|$)")
    found = (line for text in texts for line in text.splitlines() if not noise.match(line))
    return {re.sub(r"\[\d+:\d+\]|(packets|bytes) \d+|initval \w+", "", line).strip() for line in found}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(*pair, id=" then ".join(plugin.name for plugin in pair))
        for pair in permutations((IptablesDataplane, IptablesLegacyDataplane, NftablesDataplane), 2)
    ],
)
def test_switch_between_dataplanes_takes_away_own_rules_only(node, first, second):
    foreign = lines(node)
    killed = first(node)
    killed.start()
    killed.apply(every_field())
    left = lines(node)
    assert foreign < left

    other = second(node)
    other.start()
    for snapshot in (every_field(), host_stages(), every_field()):
        other.apply(snapshot)
        assert left <= lines(node)
    other.stop()
    assert lines(node) == left

    heir = first(node)
    heir.start()
    assert lines(node) == left
    heir.stop()
    assert lines(node) == foreign
