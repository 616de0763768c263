# SPDX-License-Identifier: Apache-2.0
"""``policylab diff``: which flows two sets of resources decide differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lab.cli.options import (
    FilePath,
    flows_option,
    lenient_option,
    output_option,
    read_policy,
    read_question,
)
from lab.lint.differences import compare
from lab.report.differences import print_differences

__all__ = ["diff"]

EXIT_DIFFERENT = 1
_DASHES = "--"
_DIVIDE = "\0"
"""Stands for the dashes while click reads the line: no word of a command line can hold it."""


class _TwoSided(click.Command):
    """A command whose ``--`` divides its arguments, and not its options from its arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hide the first ``--`` from click; a second one has its usual meaning."""
        if _DASHES in args:
            at = args.index(_DASHES)
            taking = {name for option in self.params if _takes_value(option) for name in option.opts}
            if at and args[at - 1] in taking:
                raise click.BadOptionUsage(args[at - 1], f"Option {args[at - 1]!r} has no value.", ctx)
            args = [*args[:at], _DIVIDE, *args[at + 1 :]]
        return super().parse_args(ctx, args)


def _takes_value(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and not parameter.is_flag


class _SidedPath(FilePath):
    """A path, or what divides the old ones from the new ones: None."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Let the divide through as it is."""
        return value if value == _DIVIDE else super().convert(value, param, ctx)


@click.command(
    cls=_TwoSided,
    short_help="List the flows that two sets of resources decide differently.",
)
@click.argument("topology", type=_SidedPath())
@click.argument("resources", nargs=-1, type=_SidedPath(), metavar="[OLD]... -- [NEW]...")
@flows_option
@lenient_option
@output_option
@click.option("--exit-code", is_flag=True, help="End 1 when some flow is decided differently; default: 0 all the same.")
def diff(
    topology: Path,
    resources: tuple[Path | str, ...],
    flows_file: Path | None,
    *,
    lenient: bool,
    output: str,
    exit_code: bool,
) -> None:
    """List the flows whose verdict is another one under NEW than under OLD, with both decisions.

    OLD and NEW are resource files and directories, as for expect. Either side may be empty, which means no policy;
    the two dashes between them may not be left out. Ends 0 whether or not something differs, unless
    --exit-code is given.
    """
    old, new = _sides(topology, resources)
    question = read_question(topology, old, flows_file, lenient=lenient)
    changed = read_policy(new, question.topology, lenient=lenient)
    differences = compare(question.topology, question.resources, changed, question.flows)
    print_differences(differences, output)
    if exit_code and differences.changes:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _sides(topology: Path, words: tuple[Path | str, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The paths before the dashes and those behind them."""
    if str(topology) == _DIVIDE:
        raise click.UsageError("The topology comes first, before '--'.")
    if _DIVIDE not in words:
        raise click.UsageError("There is no '--' between the old resources and the new ones; either side may be empty.")
    at = words.index(_DIVIDE)
    return tuple(map(Path, words[:at])), tuple(map(Path, words[at + 1 :]))
