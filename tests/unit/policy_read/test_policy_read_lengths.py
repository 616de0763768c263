# SPDX-License-Identifier: Apache-2.0
"""How long names, labels and ports' names may be: the longest is read, and one character more is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.policy.read.source import Refusal
from lab.policy.read.values import (
    calico_port_name,
    dns_label,
    dns_subdomain,
    label_key,
    label_value,
    port_match,
    port_name,
)

LIMITS: list[tuple[Callable[[str], object], str, int, str]] = [
    (dns_subdomain, "", 253, ""),
    (dns_label, "", 63, ""),
    (label_key, "", 63, ""),
    (label_key, "", 253, "/a"),
    (label_key, "a/", 63, ""),
    (label_value, "", 63, ""),
    (port_name, "", 15, ""),
    (calico_port_name, "", 128, ""),
    (port_match, "", 128, ""),
]


@pytest.mark.parametrize(("read", "before", "most", "after"), LIMITS)
def test_longest_text_is_read_and_a_longer_one_refused(
    read: Callable[[str], object], before: str, most: int, after: str
) -> None:
    longest = f"{before}{'a' * most}{after}"
    assert read(longest) == longest
    with pytest.raises(Refusal):
        read(f"{before}{'a' * (most + 1)}{after}")
