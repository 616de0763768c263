# SPDX-License-Identifier: Apache-2.0
"""What is judged in a run, and what it is called: dataplanes, alone and with accelerators before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["combinations", "combined_name"]


def combinations(dataplanes: Iterable[str], accelerators: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Each dataplane alone, and then with all accelerators: they may change no verdict."""
    sets = dict.fromkeys([(), tuple(accelerators)])
    return [(name, before) for name in dataplanes for before in sets]


def combined_name(dataplane: str, accelerators: Sequence[str]) -> str:
    """The name of a dataplane with the accelerators before it, as reports show it: ``iptables+xdp``."""
    return "+".join((dataplane, *accelerators))
