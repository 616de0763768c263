# SPDX-License-Identifier: Apache-2.0
"""Checks that sound filters pass and broken ones must not: those of tests/meta are held to the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from xdp_model import Net, Nets, Rules
from xdp_world import XDP_DROP, BareNode, edges, plan_for, program_of, shapes_from

from dataplanes.api import MembersChange, Node
from dataplanes.xdp.filter import InterfaceFilter
from dataplanes.xdp.lists import Kind
from lab.conformance.case import Case, load_cases

CASES: dict[str, Case] = {case.id: case for case in load_cases()}

# The kernel's names of the modes (iproute2: ip -json link).
_MODES = {1: "native", 2: "generic"}


def modes_differ(node: Node, facts: Mapping[str, str]) -> str | None:
    """How the mode that is told of eth0 differs from the kernel's, or None."""
    (link,) = json.loads(node.run(("ip", "-json", "link", "show", "dev", "eth0")).stdout)
    actual = _MODES[link["xdp"]["mode"]]
    return None if facts["eth0.xdp"] == actual else f"told {facts['eth0.xdp']}, in the kernel {actual}"


def leaks(kind: type[InterfaceFilter], common: frozenset[Net], other: frozenset[Net], lookup: Kind) -> list[str]:
    """What goes wrong while ``other`` comes and goes: sources of ``common`` that pass, others in neither that drop."""
    node = BareNode(keep=True)
    bare = kind(node, "eth0", plan_for(Rules(tuple(common))), lookup, attached=False)
    listed, either = Nets(common), Nets(common | other)
    sources = list(edges(common | other)) or [bytes(4)]

    def address(source: bytes) -> tuple[int, int]:
        return 4 if len(source) == 4 else 6, int.from_bytes(source)

    inside = shapes_from(source for source in sources if address(source) in listed)
    outside = shapes_from(source for source in sources if address(source) not in either)
    wrong: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            verdicts = program_of(bare).returns(inside + outside)
            wrong.extend("a listed source passed" for each in verdicts[: len(inside)] if each != XDP_DROP)
            wrong.extend("another source was dropped" for each in verdicts[len(inside) :] if each == XDP_DROP)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with_other, without = plan_for(Rules(tuple(common | other))), plan_for(Rules(tuple(common)))
    comes, goes = {"list": MembersChange(other, frozenset())}, {"list": MembersChange(frozenset(), other)}
    try:
        for _ in range(6):
            for plan, told in ((with_other, comes), (without, goes)):
                bare.narrow(plan, told)
                bare.widen(plan, told)
    finally:
        done.set()
        watcher.join()
        node.close()
    return wrong
