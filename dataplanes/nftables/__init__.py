# SPDX-License-Identifier: Apache-2.0
"""The dataplane ``nftables``: one table of its own, sets and verdict maps, one transaction for a change."""

from dataplanes.nftables.plugin import NftablesDataplane

__all__ = ["NftablesDataplane"]
