# SPDX-License-Identifier: Apache-2.0
"""The benchmark of growing rules, in its shortest form."""

from __future__ import annotations

import os

import pytest
from jsonschema import Draft202012Validator

from lab.bench.scale import DATAPLANES, run
from lab.schemas import load_schema

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="labs are built by root only")


def test_change_of_one_rule_does_not_grow_with_the_rest_on_nftables_as_it_does_on_iptables() -> None:
    result = run(3, (10, 1000))
    Draft202012Validator(load_schema("benchmark")).validate(result.to_dict())
    assert [(row.details["rules"], row.details["dataplane"]) for row in result.rows[::3]] == [
        (rules, name) for rules in (10, 1000) for name in DATAPLANES
    ]
    growth = {name: result.ratios[f"apply_delta.growth.{name}"].median for name in DATAPLANES}
    assert growth["nftables"] < growth["iptables"]
    assert result.ratios["apply_delta.1000"].median > 1
