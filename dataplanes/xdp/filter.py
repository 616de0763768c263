# SPDX-License-Identifier: Apache-2.0
"""One interface's filter: its program, its maps, its link, and what of a plan stands in them.

Changes come in two steps around the dataplane's own, ``narrow`` and ``widen``, so that at any moment at most that is
dropped which the snapshot in force denies. Few changes are made in place; many make a new program with tables of its
own, which then takes the place of the old one: each packet meets one of the two, whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from dataplanes.api import BpfObject, MembersChange, Net, Node, ProgramKind, XdpLink
from dataplanes.xdp.conditions import Conditions, Failsafes
from dataplanes.xdp.layout import CAUSES, SOURCE, VALUES, program_name
from dataplanes.xdp.lists import Kind, SourceList
from dataplanes.xdp.nets import Prefix, prefix_of
from dataplanes.xdp.plan import InterfacePlan, Source

__all__ = ["InterfaceFilter"]

# From so many changes on that are also a tenth of the list, building anew is faster than changing in place.
_MANY_CHANGES: Final = 1000
_VERSIONS: Final[tuple[Literal[4, 6], ...]] = (4, 6)

Changes = Mapping[str, MembersChange]
"""What is known of how sets have changed, by set; it saves comparing them."""


class InterfaceFilter:
    """A program on an interface from the moment on at which it is made, if ``attached``, until ``close``.

    Raises BpfError when it cannot be loaded or attached, above all when the interface has another's program.
    """

    def __init__(
        self, node: Node, interface: str, plan: InterfacePlan, forced: Kind | None = None, *, attached: bool = True
    ) -> None:
        self._node = node
        self._interface = interface
        self._forced = forced
        self._plan = plan
        self._never = plan.failsafes
        self._given_up: set[Net] = set()
        self._counted = dict.fromkeys(CAUSES.values(), 0)
        self._loaded: BpfObject | None = None
        self._link: XdpLink | None = None
        try:
            self._build()
            if attached:
                self.resume()
        except BaseException:
            self.close()
            raise

    # --- changes ---

    def narrow(self, plan: InterfacePlan, changes: Changes) -> None:
        """Give up what a coming plan does not call for as well."""
        self._never |= plan.failsafes
        self._failsafes.write(self._never)
        if self._plan.conditional != plan.conditional:
            self._conditions.clear()
        gone = set(_missing(self._plan.plain, plan.plain, {name: each.removed for name, each in changes.items()}))
        gone -= self._given_up
        self._given_up |= gone
        if self._are_many(gone) or not all(self._remove(net) for net in gone):
            self._build(conditional=False)

    def widen(self, plan: InterfacePlan, changes: Changes) -> None:
        """Take up what a plan calls for, whatever was given up for another one that did not come."""
        new = set(_missing(plan.plain, self._plan.plain, {name: each.added for name, each in changes.items()}))
        new |= {net for net in self._given_up if _is_in(plan.plain, net)}
        fits = bool(plan.conditional) == bool(self._plan.conditional)
        self._plan, self._given_up, self._never = plan, set(), plan.failsafes
        if not fits or self._are_many(new) or not all(self._lists[net.version].add(prefix_of(net)) for net in new):
            self._build()
            return
        self._conditions.write(plan)
        self._failsafes.write(self._never)

    def repair(self) -> int:
        """Put back what somebody else has taken away, the program or entries; tells how much that was."""
        detached = self._link is not None and not self._link.attached
        if detached:
            self.suspend()
            self.resume()
        lost = self.lost()
        if lost:
            self._build()
        return lost + detached

    # --- on and off ---

    def suspend(self) -> None:
        """Take the program off; may be called twice."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def resume(self) -> None:
        """Put the program to work; may be called twice."""
        if self._link is None and self._loaded is not None:
            (program,) = self._loaded.programs.values()
            self._link = self._node.attach_xdp(program, self._interface)

    def close(self) -> None:
        """Take everything away; may be called twice."""
        self.suspend()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    # --- what is seen from outside ---

    def counters(self) -> dict[str, int]:
        """Packets by what became of them and why, since the filter was made."""
        now = self._count()
        return {cause: number + now[cause] for cause, number in self._counted.items()}

    def facts(self) -> dict[str, str]:
        """How it works now: mode, ways of looking up, entries, and what is missing."""
        attached = self._link is not None and self._link.attached
        mode = self._link.mode.value if self._link is not None and attached else "detached"
        facts = {"xdp": mode, "lost": str(self.lost())}
        for version, each in self._lists.items():
            facts[f"ipv{version}"] = f"{each.kind.name.lower()}, {each.count} entries"
        return facts

    def lost(self) -> int:
        """How many entries are not in the tables that should be there."""
        lists = sum(len(each.lost(self._wanted(each.version))) for each in self._lists.values())
        return lists + self._conditions.lost() + self._failsafes.lost()

    def _build(self, *, conditional: bool = True) -> None:
        """Make a program with tables of its own for what is wanted now, and put it in the place of the old one."""
        conditional = conditional and bool(self._plan.conditional)
        lists = {version: SourceList(version, set(self._wanted(version)), self._forced) for version in _VERSIONS}
        name = program_name(lists[4].kind, lists[6].kind, conditions=bool(self._plan.conditional))
        sizes = {map_name: size for each in lists.values() for map_name, size in each.sizes().items()}
        numbers = {number: value for each in lists.values() for number, value in each.constants(sizes).items()}
        loaded = self._node.load_bpf(SOURCE, {name: ProgramKind.XDP}, sizes=sizes, constants={**VALUES, **numbers})
        try:
            for each in lists.values():
                each.fill(loaded.maps)
            conditions, failsafes = Conditions(loaded.maps), Failsafes(loaded.maps)
            failsafes.write(self._never)
            if conditional:
                conditions.write(self._plan)
            if self._link is not None:
                self._link.replace(loaded.programs[name])
        except BaseException:
            loaded.close()
            raise
        old, self._loaded = self._loaded, loaded
        self._lists, self._conditions, self._failsafes = lists, conditions, failsafes
        if old is not None:
            self._counted = _sum(self._counted, _counts(old))
            old.close()

    def _remove(self, net: Net) -> bool:
        """Take a network out of its list, unless another source has it too; what it covered comes back."""
        make = IPv4Network if net.version == 4 else IPv6Network

        def listed(prefix: Prefix) -> bool:
            found = make((prefix.value, prefix.length))
            return found not in self._given_up and _is_in(self._plan.plain, found)

        return self._lists[net.version].remove(prefix_of(net), listed)

    def _wanted(self, version: int) -> Iterator[Prefix]:
        """What should be in the list of a family now; what several sources have comes several times."""
        known = (net for source in self._plan.plain for net in source.of(version))
        yield from map(prefix_of, (net for net in known if net not in self._given_up) if self._given_up else known)

    def _are_many(self, nets: set[Net]) -> bool:
        entries = sum(each.count for each in self._lists.values())
        return len(nets) > _MANY_CHANGES and len(nets) * 10 > entries

    def _count(self) -> dict[str, int]:
        return dict.fromkeys(CAUSES.values(), 0) if self._loaded is None else _counts(self._loaded)


def _missing(
    mine: Iterable[Source], theirs: tuple[Source, ...], known: Mapping[str, Iterable[object]]
) -> Iterator[Net]:
    """The networks of one plan that another has not; ``known`` has the candidates of sets that both have."""
    for source in mine:
        same = [other for other in theirs if other.set_id == source.set_id and other.version == source.version]
        if any(other.nets is source.nets for other in same):
            continue
        candidates = known[source.set_id] if same and source.set_id in known else source.nets
        for net in candidates:
            if isinstance(net, (IPv4Network, IPv6Network)) and source.has(net) and not _is_in(theirs, net):
                yield net


def _is_in(sources: Iterable[Source], net: Net) -> bool:
    return any(source.has(net) for source in sources)


def _counts(loaded: BpfObject) -> dict[str, int]:
    """Packets by cause, of all CPUs together."""
    causes = loaded.maps["causes"]
    return {
        name: sum(int.from_bytes(each, "little") for each in causes.per_cpu(place.to_bytes(4, "little")))
        for place, name in CAUSES.items()
    }


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: number + other[name] for name, number in one.items()}
