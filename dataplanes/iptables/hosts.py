# SPDX-License-Identifier: Apache-2.0
"""The chains of host endpoints in one table: what begins or ends on the node, passes through it, or comes early.

An endpoint's chain returns when it accepts the packet, or when it has nothing to say of it, and drops it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from dataplanes.api import (
    Action,
    DataplaneError,
    Direction,
    FailsafePort,
    HostPolicy,
    PortRange,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
    protocol_label,
)
from dataplanes.iptables.chains import ALLOW, CLEAR_MARK, IF_ACCEPTED, Chain, conntrack_rules
from dataplanes.iptables.names import CHAIN_PREFIX, MARK_MASK, PRE_DNAT, UNTRACKED, chain_name
from dataplanes.iptables.policies import PolicyChains, policies_of

__all__ = ["EVERY_OTHER", "HostChains", "host_interfaces", "on_interface", "pre_dnat_hosts", "untracked_hosts"]

EVERY_OTHER = "*"
"""The host endpoint of every interface that has none of its own."""

# What the kernel and iptables take for one interface's name without quotes; a "+" at the end would mean many.
_INTERFACE = re.compile(r"[A-Za-z0-9_.@][A-Za-z0-9_.@-]{0,14}")
_WAYS = {Direction.INGRESS: ("in", "-i"), Direction.EGRESS: ("out", "-o")}
_STAGES = {"host": "normal", "fwd": "forward", "dnat": "ahead of DNAT", "raw": "untracked"}
_EARLY = f"{CHAIN_PREFIX}early"
_TO_EARLY = f"-g {_EARLY}"


def host_interfaces(hosts: Mapping[str, HostPolicy]) -> list[str]:
    """The interfaces of host endpoints, ``*`` last; raises DataplaneError for one that iptables cannot name."""
    named = sorted(interface for interface in hosts if interface != EVERY_OTHER)
    for interface in named:
        if not _INTERFACE.fullmatch(interface):
            raise DataplaneError(
                "iptables cannot name this interface of a host endpoint",
                value=interface,
                allowed="up to 15 letters, digits and _ . @ -",
            )
    return [*named, EVERY_OTHER] if EVERY_OTHER in hosts else named


def on_interface(option: str, interface: str) -> str:
    """The condition that a packet comes from (``-i``) or goes to (``-o``) an interface; none for every other."""
    return "" if interface == EVERY_OTHER else f"{option} {interface} "


def untracked_hosts(hosts: Mapping[str, HostPolicy]) -> dict[str, HostPolicy]:
    """The host endpoints with doNotTrack policies; those of ``*`` are void (Felix: rules/endpoints.go)."""
    return {name: host for name, host in hosts.items() if host.untracked_tiers and name != EVERY_OTHER}


def pre_dnat_hosts(hosts: Mapping[str, HostPolicy]) -> dict[str, HostPolicy]:
    """The host endpoints with preDNAT policies."""
    return {name: host for name, host in hosts.items() if host.pre_dnat_tiers}


class HostChains:
    """Collects the chains of host endpoints that one table needs, stage by stage."""

    def __init__(self, policies: PolicyChains) -> None:
        self._policies = policies
        self._settings = policies.snapshot.settings
        self._hosts = policies.snapshot.host_endpoints
        self._chains: dict[str, Chain] = {}

    def chains(self) -> Iterator[Chain]:
        """All chains made so far."""
        yield from self._chains.values()

    def normal(self, direction: Direction, on_accept: str = "") -> str:
        """What begins or ends on the node; packets of an interface without host endpoint come back undecided.

        ``on_accept`` is where those go that an endpoint accepts; without it they come back too.
        """
        rules = {name: self._normal(host, direction) for name, host in self._hosts.items()}
        return self._dispatch("host", direction, rules, on_accept)

    def forwarded(self, direction: Direction) -> str | None:
        """What passes through the node (applyOnForward): no failsafe ports, no profiles.

        A direction without any such policy is open, whatever the other has (as Felix up to 3.29 has it, and BPF).
        None when no host endpoint has a policy in this direction.
        """
        rules = {
            name: (*conntrack_rules(self._settings), CLEAR_MARK, *self._policies.tiers(host.forward_tiers, direction))
            for name, host in self._hosts.items()
            if _any_policy(host.forward_tiers, direction)
        }
        return self._dispatch("fwd", direction, rules) if rules else None

    def pre_dnat(self) -> str:
        """Ahead of DNAT, in mangle: what is accepted here carries PRE_DNAT on, what no policy decides goes on."""
        direction = Direction.INGRESS
        self._add(_EARLY, "accepted ahead of DNAT", (f"-j MARK --set-xmark {PRE_DNAT:#x}/{MARK_MASK:#x}",))
        rules = {
            name: (
                *conntrack_rules(self._settings),
                *self._past_failsafes(direction),
                *self._policies.tiers(host.pre_dnat_tiers, direction, on_accept=_TO_EARLY, always_pass=True),
            )
            for name, host in pre_dnat_hosts(self._hosts).items()
        }
        return self._dispatch("dnat", direction, rules)

    def untracked(self, direction: Direction) -> str:
        """Ahead of conntrack, in raw: what is accepted here is never tracked and carries UNTRACKED on."""
        mark = f"-j MARK --set-xmark {UNTRACKED:#x}/{MARK_MASK:#x}"
        self._add(_EARLY, "accepted ahead of conntrack", (mark, "-j CT --notrack"))
        rules = {
            name: (
                *self._past_failsafes(direction, answers_too=True),
                *self._policies.tiers(host.untracked_tiers, direction, on_accept=_TO_EARLY, always_pass=True),
            )
            for name, host in untracked_hosts(self._hosts).items()
        }
        return self._dispatch("raw", direction, rules)

    def _normal(self, host: HostPolicy, direction: Direction) -> tuple[str, ...]:
        return (
            *conntrack_rules(self._settings),
            *self._past_failsafes(direction),
            *self._policies.tiers(host.tiers, direction),
            *self._policies.profiles(host.profiles, direction),
        )

    def _dispatch(
        self, kind: str, direction: Direction, rules: Mapping[str, tuple[str, ...]], on_accept: str = ""
    ) -> str:
        """A chain for each interface that has rules, and one that leads there; another's own endpoint shuts out "*"."""
        way, option = _WAYS[direction]
        root = f"{CHAIN_PREFIX}{kind}-{way}"
        leading: list[str] = []
        for interface in host_interfaces(self._hosts):
            match, host = on_interface(option, interface), self._hosts[interface]
            if interface not in rules:
                leading += [f"{match}-j RETURN"] if match else []
                continue
            name = f"{root}-{EVERY_OTHER}" if interface == EVERY_OTHER else chain_name(f"{kind}-{way}", interface)
            self._add(name, f"host endpoint {host.name} {_STAGES[kind]} {direction.value}", rules[interface])
            leading += [f"{match}-j {name}", f"{match}{on_accept}"] if on_accept else [f"{match}-g {name}"]
        self._add(root, f"dispatch to host endpoints {_STAGES[kind]} {direction.value}", tuple(leading))
        return root

    def _past_failsafes(self, direction: Direction, *, answers_too: bool = False) -> Iterator[str]:
        """Rules that start with a clear mark and return for a packet that no policy may stop."""
        yield CLEAR_MARK
        name = f"{CHAIN_PREFIX}failsafe-{_WAYS[direction][0]}"
        rules = tuple(self._failsafes(direction, answers_too=answers_too))
        if rules:
            self._add(name, f"failsafe ports {direction.value}", rules)
            yield f"-j {name}"
            yield f"{IF_ACCEPTED} -j RETURN"

    def _failsafes(self, direction: Direction, *, answers_too: bool) -> Iterator[str]:
        """The failsafe ports; before conntrack those packets too that answer one, or half of a flow were tracked."""
        inbound, outbound = self._settings.failsafe_inbound, self._settings.failsafe_outbound
        asked, answered = (inbound, outbound) if direction is Direction.INGRESS else (outbound, inbound)
        for port in asked:
            yield from self._failsafe(port, direction, answer=False)
        for port in answered if answers_too else ():
            yield from self._failsafe(port, direction, answer=True)

    def _failsafe(self, port: FailsafePort, direction: Direction, *, answer: bool) -> Iterator[str]:
        """The net is the other side's: where inbound packets come from, and outbound ones go to."""
        net = () if port.net is None else (port.net,)
        ports = (PortRange(port.port, port.port),)
        inbound = direction is Direction.INGRESS
        rule = SnapshotRule(
            Action.ALLOW,
            protocol=port.protocol,
            source=SnapshotSide(nets=net if inbound else (), ports=ports if answer else ()),
            destination=SnapshotSide(nets=() if inbound else net, ports=() if answer else ports),
        )
        about = f"failsafe {protocol_label(port.protocol)} {port.port}{' answers' if answer else ''}"
        yield from self._policies.lines(rule, f"-g {ALLOW}", about)

    def _add(self, name: str, about: str, rules: tuple[str, ...]) -> None:
        known = self._chains.setdefault(name, Chain(name, about, rules))
        if known.rules != rules:
            raise DataplaneError(f"two owners would share the chain {name}", value=about, next_step="rename one")


def _any_policy(tiers: Sequence[TierPolicies], direction: Direction) -> bool:
    return any(policies_of(tier, direction) for tier in tiers)
