# SPDX-License-Identifier: Apache-2.0
"""The command line: ``policylab COMMAND``. Commands are imported when they are called, to start quickly."""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module

import click

from lab.errors import HostError, LabError
from lab.garbage import collect_rarely
from lab.report.terminal import complain, give_up_stderr

__all__ = ["cli", "main"]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "bench": "lab.cli.bench:bench",
    "blocklist": "lab.cli.blocklist:blocklist",
    "compare": "lab.cli.compare:compare",
    "conformance": "lab.cli.conformance:conformance",
    "diff": "lab.cli.diff:diff",
    "doctor": "lab.cli.doctor:doctor",
    "vagrant": "lab.cli.vagrant:vagrant",
    "expect": "lab.cli.expect:expect",
    "explain": "lab.cli.explain:explain",
    "gc": "lab.cli.gc:gc",
    "lint": "lab.cli.lint:lint",
    "new-dataplane": "lab.cli.new_dataplane:new_dataplane",
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
    _hold_standard_streams()
    collect_rarely()
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.ClickException as mistake:
        try:
            mistake.show()
        except OSError:
            give_up_stderr()
        status = EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: it would change the exit code
        complain("policylab: interrupted; nothing of the lab is left behind")
        status = EXIT_INTERRUPTED
    except LabError as error:
        complain(f"policylab: {error}")
        status = error.exit_code
    except OSError as error:
        complain(f"policylab: {_host_error(error)}")
        status = HostError.exit_code
    sys.exit(status)


def _hold_standard_streams() -> None:
    """Open what the caller has closed (``>&-``), so that no file of ours is taken for a standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _host_error(error: OSError) -> HostError:
    """What the system refused, with the file where it names one: a full disk, a missing right."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return HostError(
        error.strerror or str(error),
        place=None if error.filename is None else str(error.filename),
        next_step="make room where the output goes" if full else "see `policylab doctor`",
    )
