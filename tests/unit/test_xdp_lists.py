# SPDX-License-Identifier: Apache-2.0
"""How sources are looked up: a trie for few, flat tables for many, and what a kernel can make."""

from __future__ import annotations

import platform
from functools import cache
from typing import Literal

import pytest

from dataplanes.xdp.lists import Kind, SourceList, value_limit
from dataplanes.xdp.nets import Prefix


@cache
def spread(count: int, version: Literal[4, 6]) -> list[Prefix]:
    """So many addresses, each in a /28 of its own."""
    return [Prefix(number << 4 | 1, 32 if version == 4 else 128) for number in range(count)]


@pytest.mark.parametrize(
    ("release", "limit"), [("5.10.0-32-amd64", 4 << 20), ("5.19.17", 4 << 20), ("6.0.1", None), ("7.2.1+deb14", None)]
)
def test_kernels_before_six_take_values_of_four_megabytes(release: str, limit: int | None) -> None:
    assert value_limit(release) == limit


@pytest.mark.parametrize(
    ("version", "count", "release", "kind"),
    [
        (4, 31, "6.1.0", Kind.TRIE),
        (4, 32, "5.10.0", Kind.FLAT),
        (4, 600_000, "5.10.0", Kind.FLAT),
        (4, 700_000, "5.10.0", Kind.TRIE),
        (4, 700_000, "6.1.0", Kind.FLAT),
        (6, 32, "5.10.0", Kind.FLAT),
        (6, 120_000, "5.10.0", Kind.FLAT),
        (6, 140_000, "5.10.0", Kind.TRIE),
        (6, 140_000, "6.1.0", Kind.FLAT),
    ],
)
def test_list_whose_tables_the_kernel_does_not_make_is_looked_up_in_a_trie(
    monkeypatch: pytest.MonkeyPatch, version: Literal[4, 6], count: int, release: str, kind: Kind
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    made = SourceList(version, spread(count, version))
    assert made.kind is kind
    assert (max(made.sizes().values()) == 1) is (kind is Kind.TRIE)


def test_tables_that_are_asked_for_are_taken_whatever_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.10.0")
    assert SourceList(4, spread(700_000, 4), Kind.FLAT).kind is Kind.FLAT
