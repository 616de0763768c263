# SPDX-License-Identifier: Apache-2.0
"""Draws scenarios: topology, policy, and flows at the policy's own borders.

Whatever is drawn loads. Small and plain things come first in every choice, so that Hypothesis shrinks towards
them.
"""

from lab.conformance.generate.scenarios import scenarios
from lab.conformance.generate.topologies import topologies, topology_document

__all__ = ["scenarios", "topologies", "topology_document"]
