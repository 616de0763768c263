# SPDX-License-Identifier: Apache-2.0
"""The dataplane plugins that are installed, found by entry point, so that a stranger's is found as ours are."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from dataplanes.api import Dataplane, DataplaneError
from lab.errors import LabError

__all__ = ["ENTRY_POINT_GROUP", "dataplane_names", "load_dataplane"]

ENTRY_POINT_GROUP = "policylab.dataplanes"
_CONTRACT = ("name", "capabilities", "start", "apply", "stop", "evidence")


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def dataplane_names() -> tuple[str, ...]:
    """The names of all dataplanes that are installed, in alphabetical order."""
    return tuple(sorted(_found()))


def load_dataplane(name: str) -> type[Dataplane]:
    """The class of a dataplane.

    Raises:
        LabError: no plugin of that name is installed.
        DataplaneError: the plugin cannot be imported, or is not what the contract asks for.
    """
    point = _found().get(name)
    if point is None:
        raise LabError(
            "no such dataplane",
            value=name,
            allowed=", ".join(dataplane_names()) or "none is installed",
            next_step=f"install a package with an entry point in the group {ENTRY_POINT_GROUP}",
        )
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything while it is imported
        raise DataplaneError(f"dataplane {name} cannot be imported from {point.value}: {error!r}") from error
    missing = [attribute for attribute in _CONTRACT if not hasattr(plugin, attribute)]
    if missing or not isinstance(plugin, type):
        raise DataplaneError(
            f"{point.value} is not a dataplane",
            value=f"lacks {', '.join(missing)}" if missing else type(plugin).__name__,
            allowed="a class with the attributes of dataplanes.api.Dataplane",
        )
    checked: type[Dataplane] = plugin
    return checked
