# SPDX-License-Identifier: Apache-2.0
"""The commands for whole snapshots and for changes between them, as reviewed: blocks of commands, a line each."""

from __future__ import annotations

import json
from dataclasses import replace

from nftables_world import Followed
from reviewed import as_reviewed
from snapshot_world import WEB, every_field, host_stages, rule

from dataplanes.api import Action


def spoken(transactions):
    return "\n".join("".join(f"{json.dumps(command)}\n" for command in each) for each in transactions)


def test_table_of_every_field_reads_as_reviewed():
    text = spoken(Followed().to(every_field()))
    assert text == as_reviewed("nftables/every-field.json", text)


def test_table_of_host_endpoints_at_every_stage_reads_as_reviewed():
    text = spoken([Followed(host_stages()).complete()])
    assert text == as_reviewed("nftables/host-stages.json", text)


def test_change_of_one_rule_reads_as_reviewed():
    before = every_field()
    web = before.policies[WEB]
    policies = {**before.policies, WEB: replace(web, ingress=(*web.ingress[:2], rule(Action.DENY)))}
    text = spoken(Followed(before).to(replace(before, policies=policies)))
    assert text == as_reviewed("nftables/one-policy.json", text)


def test_change_between_two_sets_of_host_endpoints_reads_as_reviewed():
    before = host_stages()
    only_normal = {"eth0": replace(before.host_endpoints["eth0"], untracked_tiers=())}
    text = spoken(Followed(before).to(replace(before, host_endpoints=only_normal)))
    assert text == as_reviewed("nftables/host-change.json", text)
