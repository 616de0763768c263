# SPDX-License-Identifier: Apache-2.0
"""The accelerator ``flowtable``: established flows forwarded ahead of all rules, by nftables' flowtables."""

from dataplanes.flowtable.plugin import FlowtableAccelerator

__all__ = ["FlowtableAccelerator"]
