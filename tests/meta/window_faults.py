# SPDX-License-Identifier: Apache-2.0
"""Faults that are there for a moment only: while one policy takes another's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from faults import Fault

from dataplanes.api import Dataplane, Node, Snapshot

__all__ = ["WINDOW_FAULTS"]

_WALL = "add table inet wall\nadd chain inet wall c { type filter hook forward priority -310; }\n"


def _bare_for_a_moment(plane: Dataplane, _node: Node, wanted: Snapshot) -> None:
    plane.stop()
    plane.start()
    plane.apply(wanted)


def _closed_for_a_moment(plane: Dataplane, node: Node, wanted: Snapshot) -> None:
    node.run(("nft", "-f", "-"), stdin=_WALL + "add rule inet wall c drop\n")
    plane.apply(wanted)
    node.run(("nft", "delete", "table", "inet", "wall"))


def _new_flows_closed_for_a_moment(plane: Dataplane, node: Node, wanted: Snapshot) -> None:
    node.run(("nft", "-f", "-"), stdin=_WALL + "add rule inet wall c ct state established drop\n")
    plane.apply(wanted)
    node.run(("nft", "delete", "table", "inet", "wall"))


def _empty_sets_first(plane: Dataplane, _node: Node, wanted: Snapshot) -> None:
    bare = {key: replace(found, nets=frozenset(), ports=frozenset()) for key, found in wanted.ip_sets.items()}
    plane.apply(replace(wanted, ip_sets=bare))
    plane.apply(wanted)


def _endpoints_first_without_tiers(plane: Dataplane, _node: Node, wanted: Snapshot) -> None:
    bare = {key: replace(found, tiers=()) for key, found in wanted.endpoints.items()}
    plane.apply(replace(wanted, endpoints=bare, host_endpoints={}))
    plane.apply(wanted)


def _rules_one_direction_at_a_time(plane: Dataplane, _node: Node, wanted: Snapshot) -> None:
    half = {
        key: replace(found, tiers=tuple(replace(tier, egress=()) for tier in found.tiers))
        for key, found in wanted.endpoints.items()
    }
    plane.apply(replace(wanted, endpoints=half))
    plane.apply(wanted)


def _hosts_first(plane: Dataplane, _node: Node, wanted: Snapshot) -> None:
    bare = {key: replace(found, tiers=()) for key, found in wanted.endpoints.items()}
    plane.apply(replace(wanted, endpoints=bare))
    plane.apply(wanted)


def _fault(name: str, wrong: str, caught_by: str, during: Callable[[Dataplane, Node, Snapshot], None]) -> Fault:
    return Fault(name, wrong, caught_by, during=during)


WINDOW_FAULTS = (
    _fault(
        "bare-for-a-moment",
        "Takes the old rules away before it makes the new ones.",
        "update.window.policy-altered",
        _bare_for_a_moment,
    ),
    _fault(
        "closed-for-a-moment",
        "Closes the node while it changes rules.",
        "update.window.policy-replaced",
        _closed_for_a_moment,
    ),
    _fault(
        "established-cut-for-a-moment",
        "Cuts established flows while it changes rules.",
        "update.window.established",
        _new_flows_closed_for_a_moment,
    ),
    _fault(
        "sets-filled-last",
        "Makes the rules first, and then fills the sets that they name.",
        "update.window.set-members",
        _empty_sets_first,
    ),
    _fault(
        "endpoints-first",
        "Makes endpoints first, and then what their policies say.",
        "update.window.policy-replaced",
        _endpoints_first_without_tiers,
    ),
    _fault(
        "ingress-first",
        "Changes ingress first, and then egress.",
        "update.window.both-ends",
        _rules_one_direction_at_a_time,
    ),
    _fault(
        "hosts-first",
        "Changes host endpoints first, and then workloads.",
        "update.window.hooks",
        _hosts_first,
    ),
)
