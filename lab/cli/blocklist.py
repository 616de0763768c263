# SPDX-License-Identifier: Apache-2.0
"""``policylab blocklist``: a list of networks, one a line, as a GlobalNetworkSet."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lab.errors import LabError
from lab.policy.blocklist import network_set_lines, read_blocklist, set_name
from lab.report.terminal import say

__all__ = ["blocklist"]


@click.command(short_help="Turn a list of networks into a GlobalNetworkSet.")
@click.argument("file")
@click.option("--name", help="Name of the set, and value of its label blocklist. [default: made of FILE's]")
def blocklist(file: str, name: str | None) -> None:
    """Print the networks of FILE ("-": standard input) as a GlobalNetworkSet.

    One address or network a line; what follows # or ; is a comment. Rules select the set by its label:
    blocklist == "NAME".
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")  # some editors put a mark ahead of everything
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise LabError(f"this blocklist cannot be read: {reason}", place=file) from error
    chosen = set_name(name or ("" if file == "-" else Path(file).stem))
    say("\n".join(network_set_lines(read_blocklist(text.split("\n"), file), chosen)))
