# SPDX-License-Identifier: Apache-2.0
"""The whole text for a snapshot with every field, as reviewed; ``POLICYLAB_GOLDEN=write`` renews the files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from iptables_world import every_field, host_stages

from dataplanes.iptables.ruleset import render
from dataplanes.iptables.sets import restore_text
from dataplanes.iptables.text import NOTHING
from dataplanes.iptables.transaction import change

GOLDEN = Path(__file__).parent / "golden" / "iptables"


def as_reviewed(name, text):
    file = GOLDEN / name
    if os.environ.get("POLICYLAB_GOLDEN") == "write":
        file.write_text(text)
    return file.read_text()


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_every_field_read_as_reviewed(family):
    text = change(render(every_field(), family), NOTHING).text
    assert text == as_reviewed(f"every-field.ipv{family}.rules", text)


@pytest.mark.parametrize("family", [4, 6])
def test_sets_of_every_field_read_as_reviewed(family):
    text = restore_text(render(every_field(), family).sets.values())
    assert text == as_reviewed(f"every-field.ipv{family}.sets", text)


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_host_endpoints_at_every_stage_read_as_reviewed(family):
    text = change(render(host_stages(), family), NOTHING).text
    assert text == as_reviewed(f"host-stages.ipv{family}.rules", text)


def test_change_between_two_sets_of_host_endpoints_reads_as_reviewed():
    before = host_stages()
    only_normal = {"eth0": replace(before.host_endpoints["eth0"], untracked_tiers=())}
    first = change(render(before, 4), NOTHING)
    text = change(render(replace(before, host_endpoints=only_normal), 4), first.after).text
    assert text == as_reviewed("host-change.ipv4.rules", text)
