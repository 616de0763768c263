# SPDX-License-Identifier: Apache-2.0
"""The dataplane ``iptables`` and, on the other backend, ``iptables-legacy``."""

from dataplanes.iptables.plugin import IptablesDataplane, IptablesLegacyDataplane

__all__ = ["IptablesDataplane", "IptablesLegacyDataplane"]
