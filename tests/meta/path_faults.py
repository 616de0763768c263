# SPDX-License-Identifier: Apache-2.0
"""Faults of the path: the dataplane enforces what it should, and packets go another way or no way at all."""

from __future__ import annotations

from faults import Detour, Door, Fault, Switch, both_families

__all__ = ["PATH_FAULTS", "SWITCH_FAULTS"]

# An ACCEPT ends the chains of its own backend only, so it takes one of each to open a way past either.
_EITHER = ("nft", "legacy")
# Rules that are not to be seen by the dataplane stand in tables that the packet meets before it.
_NFT = ("nft",)

# Addresses of the suite's topology: x/red, and the external client.
_RED = (("iptables", "198.18.1.12"), ("ip6tables", "fd00:18:1::c"))
# The first one is x/server there, the second one the first workload of drawn topologies.
_SERVERS = (("198.18.1.10", "198.18.1.11"), ("fd00:18:1::a", "fd00:18:1::b"))
_CLIENT = (("iptables", "203.0.113.9"), ("ip6tables", "2001:db8::9"))
_WORDS = {"iptables": "ip", "ip6tables": "ip6"}

PATH_FAULTS = (
    Fault(
        "back-door",
        "Someone else's rule accepts all that comes from one address before policy is asked.",
        "control.deny-all",
        path=(
            *(
                Detour(f"{command}-{backend}", "filter", "FORWARD", f"-s {address} -j ACCEPT")
                for command, address in _CLIENT
                for backend in _EITHER
            ),
            *(Door("forward", f"{_WORDS[command]} saddr {address} accept") for command, address in _CLIENT),
        ),
    ),
    Fault(
        "local-short-cut",
        "What goes from one workload of a node to another is accepted before policy is asked.",
        "path.same-node.ingress-enforced",
        path=(
            *both_families(_EITHER, "filter", "FORWARD", "-i cali+ -o cali+ -j ACCEPT"),
            Door("forward", "iifname cali* oifname cali* accept"),
        ),
    ),
    Fault(
        "duplicator",
        "A copy of each packet between two workloads goes its own way.",
        "control.no-policy",
        path=tuple(
            Detour(f"{command}-nft", "mangle", "PREROUTING", f"-s {source} -d {server} -j TEE --gateway {server}")
            for (command, source), servers in zip(_RED, _SERVERS, strict=True)
            for server in servers
        ),
    ),
    Fault(
        "ipv6-black-hole",
        "No IPv6 packet gets as far as policy.",
        "control.no-policy",
        path=(Detour("ip6tables-nft", "raw", "PREROUTING", "-i cali+ -j DROP"),),
    ),
    Fault(
        "sctp-black-hole",
        "What policy has accepted is lost after it, for one protocol.",
        "control.no-policy",
        path=tuple(both_families(_NFT, "mangle", "POSTROUTING", "-p sctp -j DROP")),
    ),
    Fault(
        "node-cannot-reach-its-own",
        "What a node sends to its own workloads is lost.",
        "host.own-workload.always-reached",
        path=tuple(both_families(_NFT, "mangle", "OUTPUT", "-o cali+ -j DROP")),
    ),
    Fault(
        "node-port-cannot-reach-its-own",
        "What a node port leads to a workload of the node itself is lost.",
        "host.own-workload.through-node-port",
        path=tuple(both_families(_NFT, "mangle", "POSTROUTING", "-o cali+ -m conntrack --ctstate DNAT -j DROP")),
    ),
    Fault(
        "masquerade",
        "Packets that leave a node take its address, so that nobody behind it knows who sent them.",
        "control.no-policy",
        path=tuple(both_families(_NFT, "nat", "POSTROUTING", "! -o cali+ -j MASQUERADE")),
    ),
)

SWITCH_FAULTS = (
    Fault(
        "forwards-anyway",
        "Makes its node forward, which nobody has asked it to.",
        "host.forwarding.off",
        path=(Switch("ipv4.ip_forward", "1", "0"), Switch("ipv6.conf.all.forwarding", "1", "0")),
    ),
)
