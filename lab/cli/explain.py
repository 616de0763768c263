# SPDX-License-Identifier: Apache-2.0
"""``policylab explain``: which tier, policy and rule decides a flow, and why the earlier ones did not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click

from dataplanes.registry import accelerator_names, load_accelerator, load_dataplane
from lab.cli.options import (
    accelerator_option,
    lenient_option,
    output_option,
    read_policy,
    resource_arguments,
    topology_argument,
)
from lab.conformance.outlook import lacking, outlooks
from lab.oracle import Oracle, explanation_text
from lab.policy.load import resource_entries
from lab.report.terminal import say
from lab.topology.flows_file import read_flow
from lab.topology.load import load_topology

__all__ = ["explain"]


@click.command(short_help="Tell what decides one flow, and why.")
@topology_argument
@resource_arguments
@click.option("--from", "source", required=True, metavar="END", help="Who sends: namespace/workload, external or node.")
@click.option("--to", "destination", required=True, metavar="END", help="Who is to receive.")
@click.option("--protocol", default="TCP", show_default=True, help="Name or number.")
@click.option("--port", type=int, help="Destination port, for protocols that have one.")
@click.option("--source-port", type=int, help="Source port, if it matters.")
@click.option("--icmp-type", type=int, help="ICMP or ICMPv6 type; default: echo request.")
@click.option("--icmp-code", type=int, help="ICMP or ICMPv6 code; default: 0.")
@click.option("--family", type=click.Choice(["ipv4", "ipv6"]), help="Default: IPv4 where both ends have it.")
@click.option("--http", nargs=2, metavar="METHOD PATH", help="Of a request, to a workload with a sidecar.")
@click.option(
    "--dataplane",
    "dataplane_name",
    metavar="NAME",
    help="Tell also what this one does not declare of it, and what would be accelerated.",
)
@accelerator_option
@lenient_option
@output_option
def explain(
    topology: Path,
    resources: tuple[Path, ...],
    dataplane_name: str | None,
    accelerators: tuple[str, ...],
    *,
    lenient: bool,
    output: str,
    **words: object,
) -> None:
    """Tell for one flow what decides, in both directions, and why what came before did not."""
    loaded = load_topology(topology)
    policy = read_policy(resources, loaded, lenient=lenient)
    flow = read_flow(_flow_entry(words), loaded, "command line")
    explanation = Oracle(loaded, policy).explain(flow)
    told, lines = dict(explanation.to_dict()), [explanation_text(explanation)]
    asked = accelerators or (accelerator_names() if dataplane_name else ())
    if asked:
        found = outlooks(loaded, policy, flow, [load_accelerator(name) for name in asked])
        told["acceleration"] = [each.to_dict() for each in found]
        lines += map(str, found) if found else ["nothing for an accelerator to do"]
    if dataplane_name is not None:
        missing = lacking(load_dataplane(dataplane_name), resource_entries(resources, loaded), flow)
        told["not_declared"] = list(missing)
        lines.append(
            f"{dataplane_name} declares all that this needs" if not missing else _lack(dataplane_name, missing)
        )
    say(json.dumps(told, indent=1) if output == "json" else "\n".join(lines))


def _lack(dataplane: str, missing: Sequence[str]) -> str:
    return f"{dataplane} does not declare {', '.join(missing)}: it is not held to this"


def _flow_entry(words: dict[str, object]) -> dict[str, object]:
    """The options as an entry of a flows file, so that one reader checks both."""
    entry = {
        "from": words["source"],
        "to": words["destination"],
        "protocol": words["protocol"],
        "port": words["port"],
        "source_port": words["source_port"],
        "family": words["family"],
    }
    icmp = {"type": words["icmp_type"], "code": words["icmp_code"]}
    if any(value is not None for value in icmp.values()):
        entry["icmp"] = {key: value for key, value in icmp.items() if value is not None}
    if words["http"]:
        entry["http"] = dict(zip(("method", "path"), cast("tuple[str, str]", words["http"]), strict=True))
    return {key: value for key, value in entry.items() if value is not None}
