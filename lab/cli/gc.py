# SPDX-License-Identifier: Apache-2.0
"""``policylab gc``: remove what labs have left whose process is gone."""

from __future__ import annotations

import click

from lab.fabric.orphans import take_away_orphans
from lab.report.terminal import say

__all__ = ["gc"]


@click.command(short_help="Remove what crashed labs have left.")
def gc() -> None:
    """Remove the containers, cgroups, processes and files of labs whose process is gone; tell what was removed.

    Labs that still run are left alone, and so is everything that no lab has made.
    """
    removed = take_away_orphans()
    for thing in removed:
        say(f"removed: {thing}")
    if not removed:
        say("nothing is left of labs that are gone")
