# SPDX-License-Identifier: Apache-2.0
"""The policy of a workload as configuration of Envoy's RBAC filters, made from its node's snapshot.

What a sidecar enforces is the ingress policy of its workload, as Calico's own (Dikastes) does: tiers, policies and
profiles in order, rules with all that they ask, ``http`` included. A list of tests in order, the first that holds
decides; a rule that passes on takes what it matches away from the rest of its tier.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lab.policy.resources import Action
from lab.policy.snapshot import EndpointPolicy, Snapshot, SnapshotRule, TierPolicies
from lab.sidecar.chains import Gate
from lab.sidecar.predicates import Predicate, all_of, negated
from lab.sidecar.rules import RuleTests
from lab.topology import Address

__all__ = ["Ruling", "gate_file", "open_file", "rulings"]

Json = dict[str, Any]

_API: Final = "type.googleapis.com/envoy"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is decided where a test holds that no earlier one did; ``name`` tells why in logs."""

    test: Predicate
    allowed: bool
    name: str


def gate_file(gate: Gate, snapshot: Snapshot, endpoint: EndpointPolicy, identities: Mapping[Address, str]) -> str:
    """The file with which a gate of a workload's sidecar enforces its policy.

    ``identities`` tell who is behind each address of the mesh, as certificates name it.
    """
    return _file(gate, rulings(snapshot, endpoint, RuleTests(snapshot, endpoint, gate, identities)))


def open_file(gate: Gate) -> str:
    """The file of a gate to which nobody has given a policy: it has no say in any verdict."""
    return _file(gate, [Ruling(True, allowed=True, name="no policy yet")])


def rulings(snapshot: Snapshot, endpoint: EndpointPolicy, tests: RuleTests) -> Iterator[Ruling]:
    """All rulings on what comes to a workload, in order."""
    for tier in endpoint.tiers:
        if tier.ingress:
            yield from _tier(snapshot, tier, tests)
    for name in endpoint.profiles:
        profile = snapshot.profiles.get(name)
        if profile is None:
            yield Ruling(True, allowed=False, name=f"missing profile {name}")
        else:
            yield from _group(profile.ingress, tests, [])
    yield Ruling(True, allowed=False, name="no profile decided")


def _tier(snapshot: Snapshot, tier: TierPolicies, tests: RuleTests) -> Iterator[Ruling]:
    passed: list[Predicate] = []
    for policy_id in tier.ingress:
        yield from _group(snapshot.policies[policy_id].ingress, tests, passed)
    if not tier.pass_by_default:
        yield Ruling(all_of(map(negated, passed)), allowed=False, name=f"end of tier {tier.name}")


def _group(rules: Iterable[SnapshotRule], tests: RuleTests, passed: list[Predicate]) -> Iterator[Ruling]:
    """The rulings of some rules; what ``passed`` collects is out of reach of all later ones."""
    for rule in rules:
        if rule.action is Action.LOG:
            continue
        test = tests.of(rule)
        if rule.action is Action.PASS:
            passed.append(test)
        else:
            yield Ruling(all_of([test, *map(negated, passed)]), rule.action is Action.ALLOW, _name(rule))


def _name(rule: SnapshotRule) -> str:
    origin = rule.origin
    return "a rule" if origin is None else f"{origin.owner} rule {origin.index}"


def _file(gate: Gate, ordered: Iterable[Ruling]) -> str:
    """What Envoy reads in place of an answer of its control plane."""
    matchers: list[Json] = []
    for ruling in ordered:
        if ruling.test is True:
            last = _action(ruling)
            break
        if ruling.test is not False:
            matchers.append({"predicate": ruling.test, "on_match": _action(ruling)})
    matcher: Json = {"on_no_match": last, **({"matcher_list": {"matchers": matchers}} if matchers else {})}
    extension = {
        "@type": f"{_API}.config.core.v3.TypedExtensionConfig",
        "name": gate.name,
        "typed_config": {
            "@type": gate.kind,
            "matcher": matcher,
            **({} if gate.http else {"stat_prefix": "inbound-tcp"}),
        },
    }
    return json.dumps({"resources": [extension]}, sort_keys=True)


def _action(ruling: Ruling) -> Json:
    action = {
        "@type": f"{_API}.config.rbac.v3.Action",
        "name": ruling.name,
        "action": "ALLOW" if ruling.allowed else "DENY",
    }
    return {"action": {"name": "ruling", "typed_config": action}}
