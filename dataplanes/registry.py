# SPDX-License-Identifier: Apache-2.0
"""The plugins that are installed, found by entry point, so that a stranger's is found as ours are."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dataplanes.api import API_VERSION, OLDEST_KERNEL, Accelerator, Capability, Dataplane, DataplaneError
from dataplanes.trial import quietly, try_apart
from lab.errors import LabError

__all__ = [
    "ACCELERATOR_GROUP",
    "DATAPLANE_GROUP",
    "accelerator_names",
    "dataplane_names",
    "load_accelerator",
    "load_dataplane",
]

DATAPLANE_GROUP = "policylab.dataplanes"
ACCELERATOR_GROUP = "policylab.accelerators"


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two kinds of plugin: where it is registered, and what its class must have."""

    noun: str
    group: str
    contract: str
    members: tuple[str, ...]


_COMMON = ("name", "capabilities", "start", "apply", "stop", "evidence")
_DATAPLANE = _Kind("dataplane", DATAPLANE_GROUP, "dataplanes.api.Dataplane", _COMMON)
_ACCELERATOR = _Kind(
    "accelerator",
    ACCELERATOR_GROUP,
    "dataplanes.api.Accelerator",
    (*_COMMON, "plan", "prepare", "suspend", "resume"),
)


def dataplane_names() -> tuple[str, ...]:
    """The names of all dataplanes that are installed, in alphabetical order."""
    return tuple(sorted(_found(_DATAPLANE)))


def accelerator_names() -> tuple[str, ...]:
    """The names of all accelerators that are installed, in alphabetical order."""
    return tuple(sorted(_found(_ACCELERATOR)))


def load_dataplane(name: str) -> type[Dataplane]:
    """The class of a dataplane.

    Raises:
        LabError: no plugin of that name is installed.
        DataplaneError: the plugin cannot be imported, or is not what the contract asks for.
    """
    plugin: type[Dataplane] = _load(_DATAPLANE, name)
    return plugin


def load_accelerator(name: str) -> type[Accelerator]:
    """The class of an accelerator; raises as ``load_dataplane`` does."""
    plugin: type[Accelerator] = _load(_ACCELERATOR, name)
    return plugin


def _found(kind: _Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=kind.group)}


def _load(kind: _Kind, name: str) -> Any:
    found = _found(kind)
    if name not in found:
        raise LabError(
            f"no such {kind.noun}",
            value=name,
            allowed=", ".join(sorted(found)) or "none is installed",
            next_step=f"install a package with an entry point in the group {kind.group}",
        )
    return _imported(kind, found[name])


@cache
def _imported(kind: _Kind, point: EntryPoint) -> Any:
    """What an entry point leads to, once it is known that importing it does nothing to this process."""
    if point.module not in sys.modules:
        try_apart(point.load, f"{kind.noun} {point.name} ({point.value})")
    try:
        with quietly():
            plugin = point.load()
        _check_contract(kind, point, plugin)
    except LabError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything while it is imported
        raise DataplaneError(f"{kind.noun} {point.name} cannot be imported from {point.value}: {error!r}") from error
    return plugin


def _check_contract(kind: _Kind, point: EntryPoint, plugin: object) -> None:
    """Refuse a plugin that could only fail later, and in worse words."""
    if not isinstance(plugin, type):
        raise _broken(kind, point, type(plugin).__name__)
    version = getattr(plugin, "api_version", None)
    if type(version) is not int or version != API_VERSION:
        told = "states no api_version" if version is None else f"states api_version {version!r}"
        raise DataplaneError(
            f"{kind.noun} {point.name} ({point.value}) is not made for this contract: it {told}",
            allowed=f"api_version = {API_VERSION}",
            next_step="install releases of the plugin and of policylab that belong together",
        )
    missing = [member for member in kind.members if not hasattr(plugin, member)]
    if missing:
        raise _broken(kind, point, f"lacks {', '.join(missing)}")
    _check_declarations(kind, point, plugin)


def _check_declarations(kind: _Kind, point: EntryPoint, plugin: Any) -> None:
    """Refuse what a plugin says of itself when it cannot be meant so."""
    if plugin.name != point.name:
        raise DataplaneError(
            f"{kind.noun} {point.name} ({point.value}) calls itself by another name than its entry point",
            value=plugin.name,
            allowed=point.name,
        )
    if not isinstance(plugin.capabilities, frozenset) or not all(
        isinstance(each, Capability) for each in plugin.capabilities
    ):
        raise DataplaneError(
            f"{kind.noun} {point.name} ({point.value}) declares what are no capabilities",
            value=f"{plugin.capabilities!r:.200}",
            allowed="a frozenset of members of dataplanes.api.Capability",
        )
    oldest = getattr(plugin, "min_kernel", OLDEST_KERNEL)
    if not isinstance(oldest, str) or re.fullmatch(r"\d+\.\d+", oldest) is None:
        raise DataplaneError(
            f"min_kernel of {kind.noun} {point.name} ({point.value}) is not what it should be",
            value=f"{oldest!r:.200}",
            allowed=f"the first two numbers of a release, as {OLDEST_KERNEL!r}",
        )
    known = getattr(plugin, "known_broken", {})
    if not isinstance(known, Mapping) or not all(isinstance(word, str) for pair in known.items() for word in pair):
        raise DataplaneError(
            f"known_broken of {kind.noun} {point.name} ({point.value}) is not what it should be",
            value=f"{known!r:.200}",
            allowed="a mapping of ids of expectations to reasons",
        )


def _broken(kind: _Kind, point: EntryPoint, value: str) -> DataplaneError:
    return DataplaneError(
        f"{point.value} is not {'an' if kind is _ACCELERATOR else 'a'} {kind.noun}",
        value=value,
        allowed=f"a class with the attributes of {kind.contract}",
    )
