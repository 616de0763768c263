# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that several commands share, and what they are read into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lab.errors import LabError, TopologyError
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.report.terminal import complain
from lab.topology import Flow, Topology
from lab.topology.flows import default_flows
from lab.topology.flows_file import load_flows
from lab.topology.load import load_topology

__all__ = [
    "FilePath",
    "Question",
    "accelerator_option",
    "flows_option",
    "lenient_option",
    "output_option",
    "read_policy",
    "read_question",
    "resource_arguments",
    "topology_argument",
]


class FilePath(click.Path):
    """A path as the user wrote it; an empty one (a shell variable that is not set) is not the directory "."."""

    def __init__(self, *, file_okay: bool = True) -> None:
        super().__init__(path_type=Path, file_okay=file_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what names no file."""
        if value == "":
            self.fail("The path is empty.", param, ctx)
        return super().convert(value, param, ctx)


topology_argument = click.argument("topology", type=FilePath())
resource_arguments = click.argument("resources", nargs=-1, type=FilePath())
flows_option = click.option(
    "--flows", "flows_file", type=FilePath(), help="A YAML or JSON list of flows; default: every one that is declared."
)
accelerator_option = click.option(
    "--accelerator",
    "accelerators",
    multiple=True,
    metavar="NAME",
    help="What takes work off the dataplane; repeatable.",
)
lenient_option = click.option(
    "--lenient", is_flag=True, help="Leave out resources that are wrong, as Calico would, and say so; default: stop."
)
output_option = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form of the results."
)


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asks about: a topology, the resources in it, and flows."""

    topology: Topology
    resources: Resources
    flows: tuple[Flow, ...]


def read_policy(resource_files: tuple[Path, ...], topology: Topology, *, lenient: bool) -> Resources:
    """Read resources, or raise LabError; those that are wrong are only told of, and left out, if ``lenient``."""
    return load_resources(resource_files, topology, left_out=_tell_left_out if lenient else None)


def _tell_left_out(error: LabError) -> None:
    complain(f"policylab: {error}; left out")


def read_question(
    topology_file: Path, resource_files: tuple[Path, ...], flows_file: Path | None, *, lenient: bool = False
) -> Question:
    """Read all three from files, or raise LabError naming the place."""
    topology = load_topology(topology_file)
    resources = read_policy(resource_files, topology, lenient=lenient)
    flows = default_flows(topology) if flows_file is None else load_flows(flows_file, topology)
    if not flows:
        raise TopologyError(
            "no flow to judge",
            place=str(topology_file if flows_file is None else flows_file),
            next_step="declare ports on workloads or externals, or name flows with --flows",
        )
    return Question(topology, resources, flows)
