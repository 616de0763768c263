# SPDX-License-Identifier: Apache-2.0
"""What is laid in the way of a node's packets: they are lost, let past policy, or led another way."""

from __future__ import annotations

from dataclasses import dataclass

from faults import Detour, Door, both_families

from dataplanes.api import Node

__all__ = ["EITHER", "Sluice", "Wall", "lost", "past"]

EITHER = ("nft", "legacy")
"""An ACCEPT ends the chains of its own backend only, so it takes one of each to open a way past either."""
# A mark bit that no dataplane of ours uses: rules ahead of policy set it, and whatever bears it is let past.
_MARK = "0x1/0x1"
_PAST = (*both_families(EITHER, "filter", "FORWARD", f"-m mark --mark {_MARK} -j ACCEPT"),)
_PAST_INET = Door("forward", "meta mark & 0x1 == 0x1 accept")


@dataclass(frozen=True, slots=True)
class Sluice:
    """What comes in by one interface of a kind goes out by another at once, ahead of all that a node does."""

    match: str
    to: tuple[str, ...]
    """Addresses, IPv4: it leads to the workload that has the first one that anybody on the node has."""

    def lay(self, node: Node) -> None:
        """Open it between all workloads of the node and that one."""
        self.lift(node)
        links = node.run(("ip", "-o", "link", "show")).stdout.splitlines()
        names = [line.split()[1].partition("@")[0].rstrip(":") for line in links]
        routes = (node.run(("ip", "route", "get", each)).stdout.split() for each in self.to)
        ways = (route[route.index("dev") + 1] for route in routes if "dev" in route)
        target = next((name for name in ways if name.startswith("cali")), None)
        if target is None:
            return
        text = "add table netdev sluice\n"
        for number, name in enumerate(name for name in names if name.startswith("cali") and name != target):
            text += f'add chain netdev sluice c{number} {{ type filter hook ingress device "{name}" priority 0; }}\n'
            text += f'add rule netdev sluice c{number} {self.match} fwd to "{target}"\n'
        done = node.run(("nft", "-f", "-"), stdin=text)
        if done.returncode != 0:
            raise RuntimeError(f"{self}: {done.stderr}")

    def lift(self, node: Node) -> None:
        """Close it."""
        node.run(("nft", "delete", "table", "netdev", "sluice"))


@dataclass(frozen=True, slots=True)
class Wall:
    """Rules of nftables that drop packets ahead of everything, even of what puts fragments together."""

    matches: tuple[str, ...]

    def lay(self, node: Node) -> None:
        """Build it."""
        self.lift(node)
        text = "add table inet wall\nadd chain inet wall c { type filter hook prerouting priority -450; }\n"
        done = node.run(
            ("nft", "-f", "-"), stdin=text + "".join(f"add rule inet wall c {m} drop\n" for m in self.matches)
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self}: {done.stderr}")

    def lift(self, node: Node) -> None:
        """Take it away."""
        node.run(("nft", "delete", "table", "inet", "wall"))


def lost(rule: str, *, families: tuple[str, ...] = ("iptables", "ip6tables")) -> tuple[Detour, ...]:
    """Packets that vanish on their way through a node, whatever policy says of them."""
    return tuple(Detour(f"{command}-nft", "mangle", "FORWARD", f"{rule} -j DROP") for command in families)


def past(*rules: str, families: tuple[str, ...] = ("iptables", "ip6tables")) -> tuple[Detour | Door, ...]:
    """Packets that are let past policy."""
    marking = (
        Detour(f"{command}-nft", "mangle", "FORWARD", f"{rule} -j MARK --set-mark {_MARK}")
        for rule in rules
        for command in families
    )
    return (*marking, *_PAST, _PAST_INET)
