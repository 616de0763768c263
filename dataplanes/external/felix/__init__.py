# SPDX-License-Identifier: Apache-2.0
"""The second encoding: messages as Calico's Felix exchanges them with an external dataplane driver."""

from dataplanes.external.felix.decode import FelixState
from dataplanes.external.felix.encode import updates
from dataplanes.external.felix.plugin import FelixDataplane
from dataplanes.external.felix.schema import Form

__all__ = ["FelixDataplane", "FelixState", "Form", "updates"]
