# SPDX-License-Identifier: Apache-2.0
"""The plugins of one node, called in the order that their contract promises them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self, TypeVar

from dataplanes.api import Accelerator, Dataplane, Evidence, Node, Snapshot, SnapshotDelta
from lab.conformance.ledger import noted
from lab.errors import DataplaneError, LabError

__all__ = ["NodePlugins"]

_Plugin = Dataplane | Accelerator
_Kind = TypeVar("_Kind", Dataplane, Accelerator)


class NodePlugins:
    """A dataplane and the accelerators before it, on one node; a context manager from ``start`` to ``stop``.

    Whatever a plugin raises, and be it to end the process, comes out as DataplaneError, or as the LabError that the
    plugin itself chose.
    """

    def __init__(self, node: Node, dataplane: type[Dataplane], accelerators: Sequence[type[Accelerator]] = ()) -> None:
        self._node = node
        self._kinds = dataplane, tuple(accelerators)
        self._in_force: Snapshot | None = None

    def __enter__(self) -> Self:
        dataplane, accelerators = self._kinds
        with ExitStack() as stack:
            self._plane: Dataplane = self._started(dataplane, stack)
            self._accelerators: list[Accelerator] = [self._started(each, stack) for each in accelerators]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def abandon(self) -> None:
        """Leave the plugins as they are, without ``stop``, as if their process had been killed.

        They are kept as long as this is, because one that talks to a program would end it when it goes.
        """
        self._left = self._stack.pop_all()

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None) -> None:
        """Put a snapshot in force; ``delta`` leads to it from that of the last call that returned."""
        try:
            for accelerator in self._accelerators:
                with self._asking(accelerator, "prepare"):
                    accelerator.prepare(snapshot, delta)
            with self._asking(self._plane, "apply"):
                self._plane.apply(snapshot, delta)
        except LabError:
            self._accelerate(self._in_force, None)
            raise
        self._in_force = snapshot
        self._accelerate(snapshot, delta)

    def suspend(self) -> None:
        """Let the dataplane decide alone, until ``resume``."""
        for accelerator in self._accelerators:
            with self._asking(accelerator, "suspend"):
                accelerator.suspend()

    def resume(self) -> None:
        """Let the accelerators take work off the dataplane again."""
        for accelerator in self._accelerators:
            with self._asking(accelerator, "resume"):
                accelerator.resume()

    def evidence(self) -> Evidence:
        """What the dataplane tells of itself."""
        return self._evidence(self._plane)

    def acceleration(self, name: str) -> Evidence:
        """What an accelerator tells of itself."""
        return self._evidence(next(each for each in self._accelerators if each.name == name))

    def _evidence(self, plugin: _Plugin) -> Evidence:
        with self._asking(plugin, "evidence"):
            return _sensible(plugin.evidence())

    def _accelerate(self, snapshot: Snapshot | None, delta: SnapshotDelta | None) -> None:
        if snapshot is None:
            return
        for accelerator in self._accelerators:
            with self._asking(accelerator, "apply"):
                accelerator.apply(snapshot, delta)

    def _started(self, kind: type[_Kind], stack: ExitStack) -> _Kind:
        with self._asking(kind, "start"):
            plugin = kind(self._node)
        stack.callback(self._stop, plugin)
        with self._asking(plugin, "start"):
            plugin.start()
        return plugin

    def _stop(self, plugin: _Plugin) -> None:
        with self._asking(plugin, "stop"):
            plugin.stop()

    @contextmanager
    def _asking(self, plugin: _Plugin | type[_Plugin], what: str) -> Iterator[None]:
        """Whatever a stranger's plugin raises is a failure of the plugin."""
        node = f"node {self._node.name}"
        try:
            with noted(f"{plugin.name}: {what}() on {node}"):
                yield
        except LabError:
            raise
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise DataplaneError(
                f"{plugin.name} raised {error!r} in {what}()",
                place=node,
                next_step=f"mend the plugin, at {last.filename}:{last.lineno}",
            ) from error


def _sensible(told: object) -> Evidence:
    """Evidence that is what the contract says; raises TypeError for anything else, however it looks."""
    if not isinstance(told, Evidence) or not isinstance(told.ruleset, str):
        raise TypeError(f"evidence() must return Evidence with a ruleset, not {told!r:.200}")
    for what, kind, entries in (("counters", int, told.counters), ("facts", str, told.facts)):
        if not all(isinstance(name, str) and isinstance(value, kind) for name, value in entries.items()):
            raise TypeError(f"the {what} of evidence() must be {kind.__name__} by name, not {entries!r:.200}")
    return told
