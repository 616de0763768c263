# SPDX-License-Identifier: Apache-2.0
"""Label selectors of Kubernetes, wherever they stand."""

from __future__ import annotations

from lab.policy.read.kubernetes_models import LabelSelectorModel, RequirementModel
from lab.policy.read.source import Path, Source
from lab.policy.read.values import check_labels, label_key, label_value
from lab.policy.resources import LabelRequirement, LabelSelector

__all__ = ["read_label_selector"]


def read_label_selector(source: Source, path: Path, model: LabelSelectorModel) -> LabelSelector:
    """Read a selector; what is wrong with it is among the source's errors."""
    check_labels(source, (*path, "matchLabels"), model.match_labels)
    expressions = tuple(
        _requirement(source, (*path, "matchExpressions", index), requirement)
        for index, requirement in enumerate(model.match_expressions)
    )
    return LabelSelector(model.match_labels, expressions)


def _requirement(source: Source, path: Path, model: RequirementModel) -> LabelRequirement:
    source.read((*path, "key"), label_key, model.key)
    source.read_all((*path, "values"), label_value, model.values)
    if model.operator in ("In", "NotIn") and not model.values:
        source.refuse(path, f"needs values for the operator {model.operator}")
    if model.operator in ("Exists", "DoesNotExist") and model.values:
        source.refuse((*path, "values"), f"cannot stand beside the operator {model.operator}", key=True)
    return LabelRequirement(model.key, model.operator, tuple(model.values))
