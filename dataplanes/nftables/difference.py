# SPDX-License-Identifier: Apache-2.0
"""What leads from one snapshot to another, for when nobody says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dataplanes.api import Snapshot, SnapshotDelta

__all__ = ["difference"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def difference(old: Snapshot, new: Snapshot) -> SnapshotDelta:
    """A delta that follows ``old`` to ``new``; sets that change stand in it as a whole."""
    return SnapshotDelta(
        new.node,
        endpoints=_changed(old.endpoints, new.endpoints),
        policies=_changed(old.policies, new.policies),
        profiles=_changed(old.profiles, new.profiles),
        ip_sets=_changed(old.ip_sets, new.ip_sets),
        host_endpoints=_changed(old.host_endpoints, new.host_endpoints),
        settings=None if old.settings == new.settings else new.settings,
        removed_endpoints=_removed(old.endpoints, new.endpoints),
        removed_policies=_removed(old.policies, new.policies),
        removed_profiles=_removed(old.profiles, new.profiles),
        removed_ip_sets=_removed(old.ip_sets, new.ip_sets),
        removed_host_endpoints=_removed(old.host_endpoints, new.host_endpoints),
    )


def _changed(old: Mapping[_Key, _Value], new: Mapping[_Key, _Value]) -> dict[_Key, _Value]:
    return {key: value for key, value in new.items() if old.get(key) != value}


def _removed(old: Mapping[_Key, _Value], new: Mapping[_Key, _Value]) -> frozenset[_Key]:
    return frozenset(old.keys() - new.keys())
