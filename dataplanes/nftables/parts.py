# SPDX-License-Identifier: Apache-2.0
"""What the table is made of: parts that name one another, each of which can say at any time what it should hold.

A part is a value (which policy, which direction); ``define`` reads the snapshot and gives the chain, set or map.
Whatever else a definition needs it asks the scene for, by another part. So the table is a graph, and a change of
the snapshot is followed from the parts that it concerns, whatever else there may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dataplanes.api import Snapshot
from dataplanes.nftables.words import Rule

__all__ = ["Chain", "HookName", "Hooked", "KernelObject", "Part", "Scene", "Set", "VerdictMap"]

HookName = Literal["prerouting", "input", "forward", "output", "postrouting"]


@dataclass(frozen=True, slots=True)
class Hooked:
    """Where the kernel enters a chain of its own accord."""

    hook: HookName
    priority: int
    type: Literal["filter", "nat"] = "filter"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; ``about`` is what it stands for in reports."""

    name: str
    about: str
    rules: tuple[Rule, ...]
    hooked: Hooked | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """A set: ``type`` is one key or several side by side; elements are as JSON has them, by a text of their own."""

    name: str
    type: str | tuple[str, ...]
    elements: Mapping[str, Any]
    interval: bool = False


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """A map of interface names to chains that a packet is handed over to."""

    name: str
    chains: Mapping[str, str]


KernelObject = Chain | Set | VerdictMap


class Scene(Protocol):
    """What a definition may ask."""

    @property
    def snapshot(self) -> Snapshot:
        """What is to be enforced."""
        ...

    def use(self, part: Part) -> str:
        """The name of another part, which is then there as long as this one names it."""
        ...


class Part(Protocol):
    """A hashable value that stands for one chain, set or map of the table."""

    @property
    def name(self) -> str:
        """Its name in the kernel."""
        ...

    def define(self, scene: Scene) -> KernelObject:
        """What it should hold; raises DataplaneError for what nftables cannot express."""
        ...
