# SPDX-License-Identifier: Apache-2.0
"""Ways to misread what a rule says of requests and service accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from misread import Misreading, calico, rules

from lab.policy.resources import Action, CalicoPolicy, Direction, EntityRule, HttpMatch, HttpPath, Rule

__all__ = ["REQUEST_MISREADINGS"]


def _of_requests(change: Callable[[HttpMatch], HttpMatch]) -> Callable[[Rule], Rule]:
    return lambda rule: rule if rule.http is None else replace(rule, http=change(rule.http))


def _paths(change: Callable[[HttpPath], HttpPath]) -> Callable[[HttpMatch], HttpMatch]:
    return lambda match: replace(match, paths=tuple(map(change, match.paths)))


def _apart(rule: Rule) -> Rule | tuple[Rule, ...]:
    """Two rules, one with the methods and one with the paths."""
    if rule.http is None or not rule.http.methods or not rule.http.paths:
        return rule
    return tuple(replace(rule, http=replace(rule.http, **{left_out: ()})) for left_out in ("methods", "paths"))


def _nothing_else(rule: Rule) -> Rule:
    return rule if rule.http is None else replace(rule, source=EntityRule(), destination=EntityRule())


def _http_last(policy: CalicoPolicy) -> CalicoPolicy:
    return replace(policy, ingress=tuple(sorted(policy.ingress, key=lambda rule: rule.http is not None)))


def _without_accounts(rule: Rule) -> Rule:
    return replace(rule, source=replace(rule.source, service_accounts=None))


REQUEST_MISREADINGS = (
    Misreading(
        "methods-ignored",
        "A rule is for every method.",
        ("http.method.one-of-them", "http.rule.method-and-path", "http.rule.other-conditions-too"),
        rules(_of_requests(lambda match: replace(match, methods=()))),
    ),
    Misreading(
        "star-is-a-method",
        "The method * is one of that name.",
        ("http.method.star-is-any",),
        rules(_of_requests(lambda m: replace(m, methods=tuple(each.replace("*", "STAR") for each in m.methods)))),
    ),
    Misreading(
        "paths-ignored",
        "A rule is for every path.",
        ("http.path.exact", "http.path.one-form", "http.method.star-is-any", "http.update.next-request"),
        rules(_of_requests(lambda match: replace(match, paths=()))),
    ),
    Misreading(
        "exact-is-prefix",
        "An exact path covers what lies below it.",
        ("http.path.exact",),
        rules(_of_requests(_paths(lambda path: replace(path, how="prefix")))),
    ),
    Misreading(
        "prefix-is-exact",
        "A prefix covers itself alone.",
        ("http.path.prefix-ends-at-segment", "http.path.one-form"),
        rules(_of_requests(_paths(lambda path: replace(path, how="exact")))),
    ),
    Misreading(
        "first-path-only",
        "Of several paths the first counts.",
        ("http.path.exact",),
        rules(_of_requests(lambda match: replace(match, paths=match.paths[:1]))),
    ),
    Misreading("method-or-path", "One of the two is enough.", ("http.rule.method-and-path",), rules(_apart)),
    Misreading(
        "http-and-nothing-else",
        "A rule with http asks nothing but that.",
        ("http.rule.other-conditions-too", "http.account.name-is-proven", "http.account.selector"),
        rules(_nothing_else),
    ),
    Misreading(
        "rules-without-http-are-not-for-requests",
        "What says nothing of requests is left out.",
        ("http.rule.without-http-is-for-every-request", "http.rule.first-match-decides"),
        rules(lambda rule: None if rule.http is None and rule.action is not Action.PASS else rule),
    ),
    Misreading(
        "http-comes-last",
        "Rules with http are asked after those without.",
        ("http.rule.first-match-decides",),
        calico(_http_last),
    ),
    Misreading(
        "rules-with-http-are-not-for-connections",
        "A rule with http is nothing that lets a connection in.",
        ("http.connection.rule-is-met-without-it",),
        rules(lambda rule: None if rule.http is not None else rule),
    ),
    Misreading(
        "who-asks-is-not-policed",
        "The egress policy of who asks does not count.",
        ("http.connection.denied-before-request",),
        calico(lambda policy: None if policy.types == {Direction.EGRESS} else policy),
    ),
    Misreading(
        "accounts-ignored",
        "Any service account will do.",
        ("http.account.name-is-proven", "http.account.selector"),
        rules(_without_accounts),
    ),
    Misreading(
        "pass-lets-requests-in",
        "A rule that passes on lets in.",
        ("http.tier.pass-goes-on",),
        rules(lambda rule: replace(rule, action=Action.ALLOW) if rule.action is Action.PASS else rule),
    ),
)
