# SPDX-License-Identifier: Apache-2.0
"""A mismatch in files of the user's own: made a scenario, cut down and told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataplanes.api import Dataplane
from lab.conformance.counterexample import Failing
from lab.conformance.judge import Judge
from lab.conformance.results import Results
from lab.conformance.scenario import Scenario
from lab.document import read_documents
from lab.errors import TopologyError
from lab.policy.load import resource_entries
from lab.topology.flows_file import flow_to_dict
from lab.topology.load import load_topology

__all__ = ["tell_mismatch"]


def tell_mismatch(
    topology_file: Path,
    resource_files: Sequence[Path],
    results: Results,
    dataplane: type[Dataplane],
    judge: Judge,
) -> str:
    """Find the smallest counterexample in files that gave ``results``, save its bundle, and put it into words."""
    # A shipped topology is given by its name; the one that was read knows where it lies.
    (topology,) = read_documents(Path(load_topology(topology_file).file), TopologyError)
    # The wrong rows first: shrinking tries the first flows alone before it tries anything else.
    rows = sorted(results.rows, key=lambda row: (not row.wrong, row.observed != "inconclusive"))
    flows = tuple(flow_to_dict(row.flow) for row in rows)
    scenario = Scenario(topology.value, tuple(resource_entries(resource_files, load_topology(topology_file))), flows)
    bundle = judge.bundle(scenario, dataplane, f"verify-{topology_file.stem}")
    failing = Failing(bundle, judge.pool.run(scenario, dataplane))
    return judge.tell(failing, f"flows of {topology_file} differ from the oracle", dataplane)
