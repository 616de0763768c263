# SPDX-License-Identifier: Apache-2.0
"""IP sets from selectors and named ports, each made once however many rules refer to it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from lab.policy.compile.index import LabelIndex, members
from lab.policy.compile.labels import Labelled
from lab.policy.selector import Selector
from lab.policy.snapshot import IpSet, PortMember
from lab.protocols import PORT_PROTOCOLS, protocol_label
from lab.topology import Net

__all__ = ["SetBuilder"]

# Long enough that two of a million selectors do not meet, short enough for a kernel's set name (31 bytes).
_HASH_DIGITS = 12
_PORT_HASH_DIGITS = 10
_PORT_NAME_LENGTH = 8


def _digest(text: str, digits: int) -> str:
    return sha1(text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()[:digits]


class SetBuilder:
    """Makes the sets that rules ask for; ``sets`` holds all that were asked for so far."""

    def __init__(self, things: Sequence[Labelled]) -> None:
        self._things = things
        self._index = LabelIndex(thing.labels for thing in things)
        self._nets: dict[int, frozenset[Net]] = {}
        self.sets: dict[str, IpSet] = {}

    def net_set(self, selector: Selector) -> str:
        """The id of the set of all addresses and networks of what the selector matches."""
        set_id = f"sel-{_digest(selector.canonical, _HASH_DIGITS)}"
        if set_id not in self.sets:
            nets = self._nets_of(self._index.matching(selector))
            self.sets[set_id] = IpSet(set_id, "net", nets=nets, about=selector.canonical)
        return set_id

    def port_set(self, selector: Selector | None, protocol: int | None, name: str) -> str:
        """The id of the set of all ports of a name, of one protocol or of any that has ports, on what matches."""
        wanted = PORT_PROTOCOLS if protocol is None else {protocol}
        spoken = "any protocol" if protocol is None else protocol_label(protocol)
        about = f"port {name}, {spoken}, of {'all()' if selector is None else selector.canonical}"
        set_id = f"port-{name[:_PORT_NAME_LENGTH]}-{_digest(about, _PORT_HASH_DIGITS)}"
        if set_id not in self.sets:
            found = self._index.everything if selector is None else self._index.matching(selector)
            self.sets[set_id] = IpSet(set_id, "port", ports=self._ports_of(found, wanted, name), about=about)
        return set_id

    def _nets_of(self, found: int) -> frozenset[Net]:
        if found not in self._nets:
            self._nets[found] = frozenset(net for position in members(found) for net in self._things[position].nets)
        return self._nets[found]

    def _ports_of(self, found: int, protocols: set[int] | frozenset[int], name: str) -> frozenset[PortMember]:
        return frozenset(
            PortMember(net.network_address, port.protocol, port.port)
            for position in members(found)
            for port in self._things[position].ports
            if port.name == name and port.protocol in protocols
            for net in self._things[position].nets
        )
