# SPDX-License-Identifier: Apache-2.0
"""Faults of what comes after the first packet: state, answers, ICMP errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from faults import Detour, Door, Fault, both_families
from obstacles import EITHER, lost, past

from dataplanes.api import Node, PolicyId, Snapshot, SnapshotPolicy

__all__ = ["FLOW_FAULTS"]

_ANSWER = "-m conntrack --ctdir REPLY"
_SERVERS = {"iptables": ("198.18.1.10", "198.18.1.11"), "ip6tables": ("fd00:18:1::a", "fd00:18:1::b")}
"""Addresses of x/server in the suite's topology, and of the first workload in drawn ones."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Conntrack is emptied whenever policy changes."""

    def lay(self, node: Node) -> None:
        """Empty it."""
        node.run(("conntrack", "-F"))

    def lift(self, node: Node) -> None:
        """There is nothing to be undone."""


def _closed_for_good(before: Snapshot, after: Snapshot) -> Snapshot:
    """A policy that once allowed nothing never allows anything again."""

    def kept(key: PolicyId, policy: SnapshotPolicy) -> SnapshotPolicy:
        old = before.policies.get(key)
        return policy if old is None or old.ingress or old.egress else replace(policy, ingress=(), egress=())

    return replace(after, policies={key: kept(key, policy) for key, policy in after.policies.items()})


def _untracked_port() -> Iterator[Detour | Door]:
    """An open door for what the host's untracked policy is about."""
    for table, chain in (("raw", "OUTPUT"), ("filter", "OUTPUT")):
        yield from both_families(EITHER, table, chain, "-p udp --sport 7000 -j ACCEPT")
    yield Door("output", "udp sport 7000 accept")


def _kept_port() -> Iterator[Detour | Door]:
    for table, chain in (("raw", "PREROUTING"), ("filter", "INPUT")):
        yield from both_families(EITHER, table, chain, "-p udp --dport 7000 -j ACCEPT")
    yield Door("prerouting", "udp dport 7000 accept")
    yield Door("input", "udp dport 7000 counter accept")


_ERRORS = {
    "iptables": "-p icmp -m icmp --icmp-type 3",
    "ip6tables": "-p ipv6-icmp -m icmp6 --icmpv6-type 1",
}

FLOW_FAULTS = (
    Fault(
        "answers-need-a-rule",
        "Takes what answers a connection for something new.",
        "flow.tcp.answers-by-state",
        path=lost(f"-p tcp {_ANSWER}"),
    ),
    Fault(
        "wrong-conntrack-zone",
        "Looks for the connections of one workload in another zone than that in which it notes those of the others.",
        "flow.udp.answers-by-state",
        path=tuple(
            Detour(f"{command}-nft", "raw", "PREROUTING", f"-s {address} -j CT --zone 7")
            for command, addresses in _SERVERS.items()
            for address in addresses
        ),
    ),
    Fault(
        "closes-with-first-fin",
        "Takes a connection for over when one end has said all.",
        "flow.tcp.half-close",
        path=lost(f"-p tcp {_ANSWER} -m conntrack --ctexpire 0:130"),
    ),
    Fault("resets-lost", "Resets do not come through.", "flow.tcp.reset", path=lost("-p tcp --tcp-flags RST RST")),
    Fault(
        "nothing-twice",
        "Lets a SYN through once only.",
        "flow.tcp.retransmission",
        path=(
            *both_families(("nft",), "mangle", "FORWARD", "-p tcp --syn -m recent --name once --set"),
            *lost("-p tcp --syn -m recent --name once --rcheck"),
        ),
    ),
    Fault(
        "one-syn-only",
        "Thinks that a SYN never answers another.",
        "flow.tcp.simultaneous-open",
        path=lost(f"-p tcp {_ANSWER} --tcp-flags SYN,ACK SYN"),
    ),
    Fault(
        "old-friends",
        "Lets through who once had a connection, for good.",
        "flow.tcp.port-reuse",
        path=(
            *past("-p tcp -m recent --name friends --rcheck"),
            *both_families(
                ("nft",),
                "mangle",
                "FORWARD",
                "-p tcp -m conntrack --ctstate ESTABLISHED -m recent --name friends --set",
            ),
        ),
    ),
    Fault(
        "only-syns-are-asked-about",
        "Asks policy about SYNs only: any other segment must belong to something.",
        "flow.tcp.stray-segments",
        path=past("-p tcp ! --syn"),
    ),
    Fault(
        "no-flag-no-connection",
        "Lets TCP segments through that have neither SYN nor ACK.",
        "flow.tcp.odd-flags",
        path=past("-p tcp --tcp-flags SYN,ACK NONE"),
    ),
    Fault(
        "no-udp-answers",
        "Has connections of TCP only.",
        "flow.egress.answers-by-state",
        path=lost(f"-p udp {_ANSWER}"),
    ),
    Fault(
        "sctp-begins-and-ends-there",
        "Knows how an association begins, and not what follows.",
        "flow.sctp.association",
        path=lost("-p sctp --chunk-types any DATA"),
    ),
    Fault(
        "echo-replies-pass",
        "Lets every echo reply through: somebody will have asked.",
        "flow.icmp.echo",
        path=(
            *past("-p icmp -m icmp --icmp-type 0", families=("iptables",)),
            *past("-p ipv6-icmp -m icmp6 --icmpv6-type 129", families=("ip6tables",)),
        ),
    ),
    Fault(
        "errors-pass",
        "Lets every ICMP error through, be it about a connection or made up.",
        "flow.icmp.related-error",
        path=tuple(part for family, match in _ERRORS.items() for part in past(match, families=(family,))),
    ),
    Fault(
        "errors-are-cut",
        "Takes ICMP errors about a connection for nothing that belongs to it.",
        "flow.icmp.related-error",
        path=lost("-m conntrack --ctstate RELATED"),
    ),
    Fault(
        "errors-from-strangers-are-cut",
        "Believes ICMP errors of the other end only, not those of routers on the way.",
        "flow.icmp.related-error",
        path=(
            Detour("iptables-nft", "mangle", "FORWARD", "-s 203.0.113.9 -m conntrack --ctstate RELATED -j DROP"),
            Detour("ip6tables-nft", "mangle", "FORWARD", "-s 2001:db8::9 -m conntrack --ctstate RELATED -j DROP"),
        ),
    ),
    Fault(
        "change-cuts-connections",
        "Forgets all connections when policy changes.",
        "flow.update.established-goes-on",
        path=(Forgetting(),),
    ),
    Fault(
        "one-packet-opens",
        "Takes a connection for established that nobody has answered.",
        "flow.update.unanswered-is-judged-again",
        path=past("-m conntrack --ctstatus CONFIRMED"),
    ),
    Fault(
        "closed-for-good",
        "What a policy denied once it denies for good.",
        "flow.update.opened-anew",
        step=_closed_for_good,
    ),
    Fault(
        "other-protocols-one-way",
        "Tracks protocols with ports only.",
        "flow.other.both-ways",
        path=lost(f"-p 253 {_ANSWER}"),
    ),
    Fault(
        "answers-by-port",
        "Takes what comes from a service's port for an answer.",
        "flow.path.each-node-tracks",
        path=past("-p udp --sport 80"),
    ),
    Fault(
        "untracked-answers-pass",
        "Lets the answers to untracked packets out without asking.",
        "flow.untracked.no-state",
        path=tuple(_untracked_port()),
    ),
    Fault(
        "untracked-goes-on",
        "Lets on through what came through ahead of connection tracking once.",
        "flow.untracked.cut-by-change",
        path=tuple(_kept_port()),
    ),
)
