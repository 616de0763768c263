# SPDX-License-Identifier: Apache-2.0
"""The whole text for a snapshot with every field, as reviewed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reviewed import as_reviewed
from snapshot_world import every_field, host_stages

from dataplanes.iptables.ruleset import render
from dataplanes.iptables.sets import restore_text
from dataplanes.iptables.text import NOTHING
from dataplanes.iptables.transaction import change


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_every_field_read_as_reviewed(family):
    text = change(render(every_field(), family), NOTHING).text
    assert text == as_reviewed(f"iptables/every-field.ipv{family}.rules", text)


@pytest.mark.parametrize("family", [4, 6])
def test_sets_of_every_field_read_as_reviewed(family):
    text = restore_text(render(every_field(), family).sets.values())
    assert text == as_reviewed(f"iptables/every-field.ipv{family}.sets", text)


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_host_endpoints_at_every_stage_read_as_reviewed(family):
    text = change(render(host_stages(), family), NOTHING).text
    assert text == as_reviewed(f"iptables/host-stages.ipv{family}.rules", text)


def test_change_between_two_sets_of_host_endpoints_reads_as_reviewed():
    before = host_stages()
    only_normal = {"eth0": replace(before.host_endpoints["eth0"], untracked_tiers=())}
    first = change(render(before, 4), NOTHING)
    text = change(render(replace(before, host_endpoints=only_normal), 4), first.after).text
    assert text == as_reviewed("iptables/host-change.ipv4.rules", text)
