# SPDX-License-Identifier: Apache-2.0
"""Measures after how many generated examples each fault is found, with all hand-written cases switched off.

Run as root, from a checkout, when faults or the generator have changed; then write the page anew:

    PYTHONPATH=tests/meta .venv/bin/python tests/meta/measure_generation.py [FAULT...]
    .venv/bin/python tests/meta/write_faults.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from all_faults import FAULTS
from faults import lay

from dataplanes.api import Dataplane
from dataplanes.iptables import IptablesDataplane
from lab.conformance.generated import Generated
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool

FILE: Final = Path(__file__).with_name("found_by_generation.json")
Found = dict[str, int | None]
"""By fault the number of the first scenario that fails, None where none of them did."""


def scenarios_until(dataplane: type[Dataplane]) -> int | None:
    """The number of the first scenario that a dataplane fails, of those of the profile ci, which are no chance."""
    with TemporaryDirectory() as directory, Pool() as pool:
        generated = Generated(Judge(pool, Path(directory), Patience(0, 0)), dataplane)
        generated.hold("ci", None)
        return generated.seen["scenarios"] if generated.failing else None  # without patience it stops at the first


def main(names: list[str]) -> None:
    """Measure the faults of these names, all when there are none; what is known of others stays."""
    found: Found = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for fault in FAULTS:
        if names and fault.name not in names:
            continue
        found[fault.name] = scenarios_until(lay(fault, IptablesDataplane))
        sys.stderr.write(f"{fault.name}: {found[fault.name]}\n")
        FILE.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
