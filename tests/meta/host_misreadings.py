# SPDX-License-Identifier: Apache-2.0
"""Misreadings of what concerns nodes: host endpoints, failsafe ports, what Felix is told, pools."""

from __future__ import annotations

from dataclasses import replace

from misread import Change, Misreading, Reading, calico, felix, hosts

from lab.policy.resources import (
    Action,
    CalicoPolicy,
    Direction,
    EntityRule,
    Failsafe,
    FelixConfiguration,
    PortRange,
    ProtocolMatch,
    Resources,
    Rule,
)
from lab.protocols import TCP, UDP
from lab.topology import Topology

__all__ = ["HOST_MISREADINGS"]

_EVERY_INTERFACE = "*"


def _from(kind: str, other: str | None) -> Change:
    """Host endpoints of one interface are taken for those of another, or (None) are not there."""
    return hosts(
        lambda each: each if each.interface != kind else None if other is None else replace(each, interface=other)
    )


def _first_by_name_goes(topology: Topology, told: Resources) -> Reading:
    found = sorted(told.host_endpoints, key=lambda each: each.name)
    last = {(each.node, each.interface): each for each in found}
    return topology, replace(told, host_endpoints=tuple(last.values()))


def _flags(policy: CalicoPolicy, *, early: bool) -> CalicoPolicy:
    """An early policy is an ordinary one; with ``early`` one that is asked of what passes through, too."""
    if not policy.do_not_track and not policy.pre_dnat:
        return policy
    return replace(policy, do_not_track=False, pre_dnat=False, apply_on_forward=early)


def _early_ends_in_deny(policy: CalicoPolicy) -> CalicoPolicy:
    if not policy.do_not_track and not policy.pre_dnat:
        return policy
    rest = (Rule(Action.DENY, policy.place),)
    both = Direction.EGRESS in policy.types
    return replace(policy, ingress=policy.ingress + rest, egress=policy.egress + rest if both else policy.egress)


def _answers_pass(policy: CalicoPolicy) -> CalicoPolicy:
    """What an early policy allows, it allows to be answered as well."""
    if not policy.do_not_track:
        return policy
    answers = tuple(replace(rule, source=rule.destination, destination=rule.source) for rule in policy.ingress)
    return replace(policy, types=frozenset(Direction), egress=policy.egress + answers)


def _failsafes_first(policy: CalicoPolicy) -> CalicoPolicy:
    """The failsafe ports are open in whatever a policy is asked of."""
    opened = tuple(
        Rule(
            Action.ALLOW,
            policy.place,
            protocol=ProtocolMatch(protocol, by_name=True),
            destination=EntityRule(ports=(PortRange(port, port),)),
        )
        for protocol, port in ((TCP, 22), (UDP, 68), (UDP, 53), (UDP, 67), (TCP, 179), (TCP, 2379))
    )
    return replace(policy, ingress=opened + policy.ingress, egress=opened + policy.egress)


def _without_failsafes(each: FelixConfiguration) -> FelixConfiguration:
    return replace(each, failsafe_inbound=(), failsafe_outbound=())


def _everywhere(failsafes: tuple[Failsafe, ...] | None) -> tuple[Failsafe, ...] | None:
    return None if failsafes is None else tuple(replace(each, net=None) for each in failsafes)


def _actions(**instead: str) -> Change:
    def changed(each: FelixConfiguration) -> FelixConfiguration:
        action = each.endpoint_to_host_action or ("Drop" if each.node is None else None)
        return each if action is None else replace(each, endpoint_to_host_action=instead.get(action, action))  # type: ignore[arg-type]

    return felix(changed)


def _without_pools(topology: Topology, told: Resources) -> Reading:
    return topology, replace(told, ip_pools=tuple(pool for pool in told.ip_pools if pool.nat_outgoing))


def _without_nat(topology: Topology, told: Resources) -> Reading:
    return topology, replace(told, ip_pools=())


def _forwards(policy: CalicoPolicy) -> CalicoPolicy:
    return replace(policy, apply_on_forward=policy.namespace is None)


HOST_MISREADINGS = (
    Misreading(
        "no-host-endpoints",
        "Host endpoints are nobody's business.",
        ("host.endpoint.closed-without-policy", "host.policy.ingress", "host.forward.one-interface"),
        hosts(lambda _: None),
    ),
    Misreading(
        "every-interface-is-eth0",
        "The host endpoint of every interface is that of eth0.",
        (
            "host.endpoint.every-interface-has-loopback",
            "host.forward.every-interface",
            "host.pre-dnat.deny-stops-own-workload",
            "host.pre-dnat.every-interface-has-workloads",
            "host.do-not-track.every-interface-ignored",
        ),
        _from(_EVERY_INTERFACE, "eth0"),
    ),
    Misreading(
        "eth0-is-every-interface",
        "The host endpoint of eth0 is that of every interface.",
        (
            "host.forward.one-interface",
            "host.pre-dnat.every-interface-has-workloads",
            "host.endpoint.every-interface-has-loopback",
        ),
        _from("eth0", _EVERY_INTERFACE),
    ),
    Misreading(
        "every-interface-first",
        "An interface's own host endpoint is not heard.",
        ("host.endpoint.own-before-every-other",),
        _from("eth0", None),
    ),
    Misreading(
        "last-by-name",
        "Of two host endpoints for one interface the last by name has it.",
        ("host.endpoint.first-by-name",),
        _first_by_name_goes,
    ),
    Misreading(
        "interfaces-have-names",
        "A host endpoint that names no interface has none.",
        ("host.endpoint.found-by-address",),
        hosts(lambda each: each if each.interface else None),
    ),
    Misreading(
        "no-expected-ips",
        "Selectors find no host endpoint.",
        ("host.endpoint.expected-ips-in-selectors",),
        hosts(lambda each: replace(each, expected_ips=())),
    ),
    Misreading(
        "no-ports-of-hosts",
        "Host endpoints declare no ports.",
        ("host.endpoint.named-ports",),
        hosts(lambda each: replace(each, ports=())),
    ),
    Misreading(
        "no-profiles-of-hosts",
        "Host endpoints have no profiles.",
        ("host.endpoint.profile-after-policy",),
        hosts(lambda each: replace(each, profiles=())),
    ),
    Misreading(
        "no-failsafes",
        "No port is a failsafe one.",
        (
            "host.failsafe.inbound",
            "host.failsafe.outbound",
            "host.failsafe.configured",
            "host.do-not-track.failsafe-answers",
            "host.pre-dnat.failsafe-first",
        ),
        felix(_without_failsafes),
    ),
    Misreading(
        "no-failsafes-said-is-default",
        "An empty list of failsafe ports is as if it were not there.",
        ("host.failsafe.none",),
        felix(
            lambda each: replace(
                each, failsafe_inbound=each.failsafe_inbound or None, failsafe_outbound=each.failsafe_outbound or None
            )
        ),
    ),
    Misreading(
        "failsafes-for-everybody",
        "The net of a failsafe port is not looked at.",
        ("host.failsafe.configured",),
        felix(
            lambda each: replace(
                each,
                failsafe_inbound=_everywhere(each.failsafe_inbound),
                failsafe_outbound=_everywhere(each.failsafe_outbound),
            )
        ),
    ),
    Misreading(
        "failsafes-both-ways",
        "What is open into a node is open out of it.",
        ("host.failsafe.both-nodes",),
        felix(lambda each: replace(each, failsafe_outbound=(Failsafe(TCP, 22), Failsafe(TCP, 179)))),
    ),
    Misreading(
        "failsafes-everywhere",
        "Failsafe ports are open for workloads and for what passes through as well.",
        ("host.failsafe.not-for-workloads", "host.forward.no-failsafe-no-profile"),
        calico(_failsafes_first),
    ),
    Misreading(
        "untracked-is-ordinary",
        "doNotTrack and preDNAT do not matter.",
        (
            "host.do-not-track.beats-other-policy",
            "host.workloads.early-policy-ignored",
            "host.node-port.untracked-gets-nowhere",
            "host.pre-dnat.sees-node-port",
            "host.pre-dnat.allow-spares-host-policy",
            "host.do-not-track.no-match-goes-on",
            "host.do-not-track.workload-interfaces-untouched",
            "host.pre-dnat.no-match-goes-on",
        ),
        calico(lambda policy: _flags(policy, early=False)),
    ),
    Misreading(
        "answers-pass",
        "What is allowed without tracking may be answered.",
        ("host.do-not-track.each-direction",),
        calico(_answers_pass),
    ),
    Misreading(
        "early-ends-in-deny",
        "What no early policy decides is denied.",
        ("host.pre-dnat.no-match-goes-on", "host.do-not-track.no-match-goes-on"),
        calico(_early_ends_in_deny),
    ),
    Misreading(
        "all-is-forwarded",
        "Every policy of a host endpoint is asked of what passes through.",
        ("host.policy.forwarded-left-alone", "host.node-port.ordinary-policy-not-asked"),
        calico(_forwards),
    ),
    Misreading(
        "nothing-is-forwarded",
        "No policy of a host endpoint is asked of what passes through.",
        ("host.node-port.forwarded", "host.forward.workload-policy-too", "host.tunnel.decapsulated-is-forwarded"),
        calico(lambda policy: replace(policy, apply_on_forward=False)),
    ),
    Misreading(
        "forward-in-both-directions",
        "A policy with applyOnForward closes the direction that it is not about.",
        ("host.forward.one-direction-only",),
        calico(lambda policy: replace(policy, types=frozenset(Direction))),
    ),
    Misreading(
        "own-node-is-open",
        "Workloads reach their node, whatever Felix is told.",
        (
            "host.to-own-node.closed-by-default",
            "host.to-own-node.ordinary-allow-opens-nothing",
            "host.pre-dnat.allow-opens-no-own-node",
        ),
        _actions(Drop="Accept"),
    ),
    Misreading(
        "return-is-drop",
        "Return is a deny.",
        ("host.to-own-node.return-leaves-it-to-the-node",),
        _actions(Return="Drop"),
    ),
    Misreading(
        "accept-is-drop",
        "Workloads never reach their node.",
        ("host.to-own-node.ordinary-policy-not-asked", "host.to-own-node.after-workload-policy"),
        _actions(Accept="Drop"),
    ),
    Misreading(
        "one-configuration",
        "Only the FelixConfiguration for all nodes is read.",
        ("host.to-own-node.action-per-node",),
        felix(lambda each: each if each.node is None else None),
    ),
    Misreading(
        "workloads-may-tunnel",
        "Workloads may send VXLAN and IP in IP.",
        ("path.encapsulation.ipip-from-workload", "path.encapsulation.vxlan-from-workload"),
        felix(lambda each: replace(each, allow_vxlan_from_workloads=True, allow_ipip_from_workloads=True)),
    ),
    Misreading(
        "other-pools-are-outside",
        "A pool without natOutgoing is none.",
        ("host.nat-outgoing.not-into-pools",),
        _without_pools,
    ),
    Misreading("no-nat-outgoing", "Nothing is masqueraded.", ("host.nat-outgoing.remote-sees-node",), _without_nat),
)
