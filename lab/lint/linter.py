# SPDX-License-Identifier: Apache-2.0
"""All checks together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from lab.lint.contradictions import contradictions
from lab.lint.finding import Findings
from lab.lint.names import lost_accounts, lost_labels, lost_ports, lost_profiles, lost_services, lost_tiers
from lab.lint.nobody import Labels, nobody_asked, nobody_selected
from lab.lint.passed_over import passed_over
from lab.lint.policies import closed_rules, http_without_sidecar, left_out_rules, pointless_deletes, unreachable_rules
from lab.lint.scene import Scene
from lab.lint.shadows import shadowed_rules
from lab.lint.staged import staged_changes
from lab.lint.untracked import one_way_rules
from lab.lint.unused import unused_profiles, unused_sets, unused_tiers
from lab.policy.resources import Resources
from lab.topology import Flow, Topology

__all__ = ["lint"]


def lint(topology: Topology, resources: Resources, flows: Sequence[Flow] | None = None) -> Findings:
    """Everything odd in some resources, in the order of their files.

    ``flows`` are those on which verdicts are compared (staged policies, Deny rules that are passed over); without
    them the default ones, thinned out where there are very many. Raises TopologyError for a flow that cannot be judged.
    """
    scene = Scene(topology, resources, flows)
    labels = Labels(scene)
    found = chain(
        contradictions(scene),
        nobody_selected(scene, labels),
        nobody_asked(scene, labels),
        lost_labels(scene, labels),
        *(check(scene) for check in (lost_accounts, lost_ports, lost_profiles, lost_services, lost_tiers)),
        *(check(scene) for check in (unused_profiles, unused_sets, unused_tiers)),
        *(
            check(scene)
            for check in (closed_rules, http_without_sidecar, left_out_rules, pointless_deletes, unreachable_rules)
        ),
        *(check(scene) for check in (shadowed_rules, one_way_rules)),
        passed_over(scene),
        staged_changes(scene),
    )
    return Findings(tuple(sorted(found, key=lambda finding: finding.rank)))
