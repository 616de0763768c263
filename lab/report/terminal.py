# SPDX-License-Identifier: Apache-2.0
"""Lines for the terminal: a reader who goes away, or a full disk behind ``2>``, changes no exit code."""

from __future__ import annotations

import os
import sys

import click

__all__ = ["complain", "give_up_stderr", "say"]


def say(text: str) -> None:
    """Print to stdout. When its reader has gone away (``| head``), this and all that follows goes nowhere."""
    try:
        click.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Print to stderr, if that takes it: there is no other place to tell that it does not."""
    try:
        click.echo(text, err=True)
    except OSError:
        give_up_stderr()


def give_up_stderr() -> None:
    """Let what stderr did not take go nowhere: Python would try again at exit, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
