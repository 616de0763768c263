# SPDX-License-Identifier: Apache-2.0
"""What the cluster knows of its namespaces and workloads: other labels, ports and profiles; pods that come and go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from dataplanes.api import Capability
from lab.conformance.generate.facts import Facts, Labels
from lab.conformance.generate.picks import chance, pick
from lab.conformance.scenario import Entry

__all__ = ["Known", "cluster_document", "clusters"]

Known = Mapping[tuple[str, str], Entry | None]
"""By section and name what is otherwise than in the topology; None: the workload is not there."""

_NAME = "kubernetes.io/metadata.name"
"""A namespace's label that always holds its name."""
_FIELDS = ("labels", "labels", "ports", "serviceAccount", "profiles", "gone")


def clusters(draw: st.DrawFn, facts: Facts) -> Known:
    """A change of about every third namespace and workload."""
    changed: dict[tuple[str, str], Entry | None] = {}
    for name in facts.namespaces:
        if chance(draw, 3):
            changed["namespaces", name] = {"labels": _labels(draw, facts.namespace_labels)}
    for name in facts.workloads:
        if chance(draw, 3):
            changed["workloads", name] = _workload(draw, facts, name)
    return changed


def cluster_document(known: Known) -> Iterator[dict[str, Any]]:
    """The document that says it; none where nothing is otherwise."""
    document: dict[str, dict[str, Any]] = {}
    for (section, name), change in known.items():
        document.setdefault(section, {})[name] = None if change is None else dict(change)
    if document:
        yield document


def _workload(draw: st.DrawFn, facts: Facts, name: str) -> Entry | None:
    field = pick(draw, _FIELDS)
    if field == "gone" and Capability.WORKLOADS_CHANGE in facts.capabilities:
        return None
    if field == "ports":  # those of another: then a port's name stands for another number
        return {"ports": facts.declared(pick(draw, facts.workloads))}
    if field == "serviceAccount" and facts.accounts_of(name):
        return {"serviceAccount": pick(draw, facts.accounts_of(name))}
    if field == "profiles" and facts.profiles and Capability.PROFILES in facts.capabilities:
        return {"profiles": [each for each in facts.profiles if chance(draw, 2)]}
    return {"labels": _labels(draw, facts.pod_labels)}


def _labels(draw: st.DrawFn, known: Labels) -> dict[str, str]:
    return {key: pick(draw, values) for key, values in known.items() if key != _NAME and chance(draw, 2)}
