# SPDX-License-Identifier: Apache-2.0
"""The two dataplanes: the same rules on either backend of iptables."""

from __future__ import annotations

from typing import ClassVar

from dataplanes.api import Capability, DataplaneError, Evidence, LabError, Node, Snapshot, SnapshotDelta
from dataplanes.iptables.kernel import SetStore, Tables
from dataplanes.iptables.names import LEGACY_SET_PREFIX, SET_PREFIX
from dataplanes.iptables.ruleset import Ruleset, render
from dataplanes.iptables.sets import Family, KernelSet
from dataplanes.iptables.text import counters

__all__ = ["IptablesDataplane", "IptablesLegacyDataplane"]

_FAMILIES: tuple[Family, Family] = (4, 6)


class IptablesDataplane:
    """Enforces snapshots with ip(6)tables on the nft backend and ipset.

    An ``apply`` makes the sets that are new first, then swaps all rules of a family in one transaction, then
    drops the sets that no rule names any more. Sets are named after their content: no rule sees one change.
    """

    name: ClassVar[str] = "iptables"
    api_version: ClassVar[int] = 1
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
    _legacy: ClassVar[bool] = False
    _set_prefix: ClassVar[str] = SET_PREFIX

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tables = {family: Tables(node, family, legacy=self._legacy) for family in _FAMILIES}
        self._sets = SetStore(node, self._set_prefix)

    def start(self) -> None:
        """Check that the commands are there; what a run left that was killed stays in force until the first apply."""
        for table in self._tables.values():
            table.adopt()
        self._sets.inspect()

    def apply(self, snapshot: Snapshot, delta: SnapshotDelta | None = None) -> None:  # noqa: ARG002 - it compares by itself
        """Put a snapshot in force; raises DataplaneError, and leaves the one before in force, when that fails."""
        families = _FAMILIES if snapshot.settings.ipv6 else _FAMILIES[:1]
        wanted = {family: render(snapshot, family, self._set_prefix) for family in families}
        before = {family: table.ruleset for family, table in self._tables.items()}
        try:
            self._sets.make(_sets_of(wanted))
            for family, table in self._tables.items():
                table.put(wanted.get(family))
        except LabError as error:
            self._roll_back(before, error)
            raise
        self._sets.keep_only(_sets_of(wanted))

    def stop(self) -> None:
        """Remove all chains, the jump to them and all sets.

        What remains on the nft backend is the empty filter table that any iptables command makes.
        """
        self._clear()

    def evidence(self) -> Evidence:
        """Packets by chain since the last ``apply``, and the rules and sets as the kernel tells them."""
        found: dict[str, int] = {}
        texts: list[str] = []
        for table in self._tables.values():
            saved = table.save("-c")
            texts.append(saved)
            if table.ruleset is not None:
                found |= counters(saved, table.ruleset)
        return Evidence(found, "\n".join((*texts, self._sets.save())))

    def _clear(self) -> None:
        for table in self._tables.values():
            table.clear()
        self._sets.clear()

    def _roll_back(self, before: dict[Family, Ruleset | None], reason: LabError) -> None:
        try:
            for family, table in self._tables.items():
                table.roll_back(before[family])
            self._sets.inspect()
            self._sets.keep_only(_sets_of(before))
        except LabError as error:
            raise DataplaneError(f"{reason}; and what was in force before cannot be put back: {error}") from reason


class IptablesLegacyDataplane(IptablesDataplane):
    """The same on the legacy backend, for kernels and hosts that have no other."""

    name: ClassVar[str] = "iptables-legacy"
    _legacy: ClassVar[bool] = True
    _set_prefix: ClassVar[str] = LEGACY_SET_PREFIX


def _sets_of(rulesets: dict[Family, Ruleset] | dict[Family, Ruleset | None]) -> dict[str, KernelSet]:
    """All sets that the rules of both families name."""
    return {
        name: kernel_set
        for ruleset in rulesets.values()
        if ruleset is not None
        for name, kernel_set in ruleset.sets.items()
    }
