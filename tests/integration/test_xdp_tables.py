# SPDX-License-Identifier: Apache-2.0
"""Both ways of looking sources up, on whatever kernel this runs: the kernel matrix runs it on each of its own.

What expectations deny has few sources, for which there is the trie: the flat tables would meet no other verifier.
"""

from __future__ import annotations

import os
from ipaddress import ip_network
from itertools import islice

import numpy as np
import pytest
from xdp_model import Net, Rules
from xdp_world import LENGTHS, edges, filter_for, shapes_from, wrong

from dataplanes.xdp.lists import Kind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="BPF programs need root")

EACH = 12
FRAMES = 1500


def listed() -> tuple[Net, ...]:
    """Networks of every length, drawn anew each time."""
    generator = np.random.default_rng()
    return tuple(
        ip_network((int.from_bytes(generator.bytes(bits // 8)) >> (bits - length) << (bits - length), length))
        for version, bits in ((4, 32), (6, 128))
        for length in LENGTHS[version]
        if length > 8
        for _ in range(EACH)
    )


@pytest.mark.parametrize("conditional", [(), ((ip_network("203.0.113.0/24"), 6, ((80, 80),)),)], ids=["plain", "ports"])
@pytest.mark.parametrize("forced", [Kind.FLAT, Kind.TRIE], ids=["flat", "trie"])
def test_verifier_takes_the_filter_and_it_drops_what_is_listed_and_nothing_else(
    forced: Kind, conditional: tuple[tuple[Net, int, tuple[tuple[int, int], ...]], ...]
) -> None:
    rules = Rules(listed(), conditional)
    bare = filter_for(rules, forced)
    try:
        told = {bare.facts()[f"ipv{version}"].partition(",")[0] for version in (4, 6)}
        assert told == {forced.name.lower()}
        assert bare.lost() == 0
        asked = islice(edges((*(net for net, _, _ in conditional), *rules.plain)), FRAMES)
        assert wrong(bare, rules, shapes_from(asked)) == []
    finally:
        bare.close()
