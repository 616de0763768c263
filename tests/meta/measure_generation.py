# SPDX-License-Identifier: Apache-2.0
"""Measures after how much that is drawn each fault is found, with all hand-written cases switched off.

Run as root, from a checkout, when faults or the generator have changed; then write the page anew:

    .venv/bin/python tests/meta/measure_generation.py [FAULT...]
    .venv/bin/python tests/meta/write_faults.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cluster_faults import CLUSTER_FAULTS
from faults import Fault, lay
from flow_faults import FLOW_FAULTS
from packet_faults import PACKET_FAULTS
from path_faults import PATH_FAULTS, SWITCH_FAULTS
from snapshot_faults import SNAPSHOT_FAULTS
from step_faults import STEP_FAULTS
from window_faults import WINDOW_FAULTS

from dataplanes.api import Dataplane
from dataplanes.iptables import IptablesDataplane
from lab.conformance.changing import CHANGES, Changing
from lab.conformance.generated import POLICIES, Generated
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.conformance.talking import TALKS, Talking

FILE: Final = Path(__file__).with_name("found_by_generation.json")
Found = dict[str, dict[str, int | None]]
"""By property and fault the number of the scenario or step that fails first, None where none of them did."""


def scenarios_until(judge: Judge, dataplane: type[Dataplane]) -> int | None:
    """The number of the first scenario that a dataplane fails, of those of the profile ci, which are no chance."""
    generated = Generated(judge, dataplane)
    generated.hold("ci", None)
    return generated.seen["scenarios"] if generated.failing else None  # without patience it stops at the first


def steps_until(judge: Judge, dataplane: type[Dataplane]) -> int | None:
    """The same of the steps of courses."""
    changing = Changing(judge, dataplane)
    changing.hold("ci", None)
    return changing.seen["steps"] if changing.failing else None


def talks_until(judge: Judge, dataplane: type[Dataplane]) -> int | None:
    """The same of scenarios of conversations."""
    talking = Talking(judge, dataplane)
    talking.hold("ci", None)
    return talking.seen["scenarios"] if talking.failing else None


MEASURED: Final[Mapping[str, tuple[Callable[[Judge, type[Dataplane]], int | None], tuple[Fault, ...]]]] = {
    POLICIES.id: (scenarios_until, (*SNAPSHOT_FAULTS, *STEP_FAULTS, *PATH_FAULTS, *SWITCH_FAULTS)),
    CHANGES: (steps_until, (*STEP_FAULTS, *CLUSTER_FAULTS, *WINDOW_FAULTS)),
    TALKS: (talks_until, (*FLOW_FAULTS, *PACKET_FAULTS)),
}
"""What looks for which faults, and how that is counted."""


def main(names: list[str]) -> None:
    """Measure the faults of these names, or what was not measured yet; what is known of others stays."""
    for drawn, (until, faults) in MEASURED.items():
        for fault in faults:
            found: Found = json.loads(FILE.read_text())
            if fault.name not in (names or {each.name for each in faults} - found.get(drawn, {}).keys()):
                continue
            with TemporaryDirectory() as directory, Pool() as pool:
                number = until(Judge(pool, Path(directory), Patience(0, 0)), lay(fault, IptablesDataplane))
            sys.stderr.write(f"{drawn} {fault.name}: {number}\n")
            found.setdefault(drawn, {})[fault.name] = number
            ordered = {key: dict(sorted(each.items())) for key, each in sorted(found.items())}
            FILE.write_text(json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
