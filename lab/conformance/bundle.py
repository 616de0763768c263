# SPDX-License-Identifier: Apache-2.0
"""A saved counterexample: one directory that ``policylab replay`` runs again, here or elsewhere."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.conformance.evidence import DATAPLANE, Told
from lab.conformance.judged import combined_name
from lab.conformance.pool import Outcome
from lab.conformance.scenario import FLOWS, Scenario
from lab.document import read_documents
from lab.errors import LabError

__all__ = ["BUNDLE_VERSION", "CAPTURE", "Bundle", "read_bundle", "write_bundle"]

BUNDLE_VERSION = 1
_TOOLS = ("iptables-nft", "iptables-legacy", "ipset", "nft")
_TOOL_SECONDS = 5
MANIFEST, EXPECTED, OBSERVED, RULESETS, CAPTURE, CONNTRACK, MOMENTS = (
    "bundle.json",
    "expected.json",
    "observed.json",
    "rulesets",
    "capture.pcapng",
    "conntrack.json",
    "moments.txt",
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds besides the scenario: how it came about."""

    scenario: Scenario
    dataplane: str
    expectation: str
    seed: str | None = None
    """What makes the generator draw the same again; None for a hand-written case."""
    accelerators: tuple[str, ...] = ()

    @property
    def judged(self) -> str:
        """What was judged, in one word: ``iptables+xdp``."""
        return combined_name(self.dataplane, self.accelerators)


def write_bundle(directory: Path, bundle: Bundle, outcome: Outcome, evidence: Told) -> None:
    """Write everything but the capture; files of an earlier bundle in ``directory`` are replaced."""
    bundle.scenario.write(directory)
    rows = [row.to_dict() for row in outcome.results.rows]
    _write_json(directory / EXPECTED, [{**row, "observed": None} for row in rows])
    ends: list[dict[str, object]] = [
        {"sent": seen.sent, "arrived": seen.arrived, "told": str(seen)} for seen in outcome.observations
    ]
    for end, trail in zip(ends, outcome.trails, strict=False):  # trails are there for all, or for none
        end["trail"] = list(trail)
    error = None if outcome.error is None else str(outcome.error)
    observed = {"rows": rows, "ends": ends, "error": error, "unmet": list(outcome.unmet)}
    _write_json(directory / OBSERVED, observed)
    (directory / RULESETS).mkdir(exist_ok=True)
    for (node, plugin), told in evidence.items():
        stem = node if plugin == DATAPLANE else f"{node}.{plugin}"
        (directory / RULESETS / f"{stem}.txt").write_text(told.ruleset)
        _write_json(directory / RULESETS / f"{stem}.counters.json", dict(told.counters))
        if told.facts:
            _write_json(directory / RULESETS / f"{stem}.facts.json", dict(told.facts))
    if outcome.moments:
        (directory / MOMENTS).write_text("".join(f"{line}\n" for line in outcome.moments))
    if outcome.tracked:
        _write_json(directory / CONNTRACK, {node: list(map(str, each)) for node, each in outcome.tracked.items()})
    manifest = {
        "bundle_version": BUNDLE_VERSION,
        "policylab": version("policylab"),
        "dataplane": bundle.dataplane,
        "accelerators": list(bundle.accelerators),
        "expectation": bundle.expectation,
        "seed": bundle.seed,
        "host": _host_facts(),
    }
    _write_json(directory / MANIFEST, manifest)


def _host_facts() -> dict[str, object]:
    """What of a host may make the difference when the bundle fails there and not here."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "build": platform.version(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tools": {name: told for name in _TOOLS if (told := _version_of(name)) is not None},
    }


def _version_of(tool: str) -> str | None:
    """What a tool says of its version, None where it is not installed."""
    try:
        told = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False, timeout=_TOOL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(told.stdout.splitlines()), "").strip() or None


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle; raises LabError when it is none, or one of a version that this policylab cannot read."""
    manifest = directory / MANIFEST
    if not os.path.isfile(manifest):  # noqa: PTH113  (which is no error where the path is too long)
        raise LabError(
            "this is not a bundle: it holds no bundle.json",
            place=str(directory),
            next_step="name a directory that `policylab verify` or `conformance` wrote",
        )
    told = _manifest(manifest)
    scenario = Scenario.read(directory)
    if not (scenario.flows or scenario.conversations or scenario.watched):
        raise LabError("the bundle holds no flow to judge", place=str(directory / FLOWS))
    accelerators = tuple(told.get("accelerators", ()))
    return Bundle(scenario, told["dataplane"], told["expectation"], told.get("seed"), accelerators)


def _manifest(file: Path) -> dict[str, Any]:
    """Read what a bundle says of itself."""
    documents = read_documents(file, LabError)
    told = documents[0].value if len(documents) == 1 else None
    version_told = told.get("bundle_version") if isinstance(told, dict) else None
    if not isinstance(told, dict) or version_told is None:
        raise LabError("this is not what a bundle says of itself", place=str(file), allowed="JSON with bundle_version")
    if version_told != BUNDLE_VERSION:
        raise LabError(
            "a bundle of another version",
            place=documents[0].place(("bundle_version",)),
            value=version_told,
            allowed=str(BUNDLE_VERSION),
            next_step="replay it with the policylab that wrote it",
        )
    for key in ("dataplane", "expectation"):
        if not isinstance(told.get(key), str):
            raise LabError(f"{key} must be given, as text", place=documents[0].place((key,)), value=told.get(key))
    names = told.get("accelerators", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LabError("accelerators must be a list of names", place=documents[0].place(("accelerators",)), value=names)
    return told


def _write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n")
