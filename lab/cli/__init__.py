# SPDX-License-Identifier: Apache-2.0
"""The command line: ``policylab COMMAND``. Commands are imported when they are called, to start quickly."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from lab.errors import HostError, LabError

__all__ = ["cli", "main"]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "bench": "lab.cli.bench:bench",
    "conformance": "lab.cli.conformance:conformance",
    "doctor": "lab.cli.doctor:doctor",
    "expect": "lab.cli.expect:expect",
    "explain": "lab.cli.explain:explain",
    "replay": "lab.cli.replay:replay",
    "verify": "lab.cli.verify:verify",
}


class LazyGroup(click.Group):
    """A group whose commands are named here and imported only when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Every command, by name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's signature)
        """Import one command, or None for click's own "no such command" error."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101  (the table above, not user input)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="policylab")
def cli() -> None:
    """Hold network-policy dataplanes to one set of expectations, with real packets in real kernels."""


def main() -> None:
    """Run the command line and end the process with the exit code that the design promises."""
    try:
        status = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (``| head``): nothing more to say, and nothing must complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.ClickException as mistake:
        mistake.show()
        status = EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("policylab: interrupted; nothing of the lab is left behind", err=True)
        status = EXIT_INTERRUPTED
    except LabError as error:
        click.echo(f"policylab: {error}", err=True)
        status = error.exit_code
    except OSError as error:
        click.echo(f"policylab: {_host_error(error)}", err=True)
        status = HostError.exit_code
    sys.exit(status)


def _host_error(error: OSError) -> HostError:
    """What the system refused, with the file where it names one: a full disk, a missing right."""
    return HostError(
        error.strerror or str(error),
        place=None if error.filename is None else str(error.filename),
        next_step="see `policylab doctor`",
    )
