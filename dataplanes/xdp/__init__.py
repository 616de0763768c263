# SPDX-License-Identifier: Apache-2.0
"""The accelerator ``xdp``: what untracked policy denies is dropped in the driver, ahead of everything else."""

from dataplanes.xdp.plugin import XdpAccelerator

__all__ = ["XdpAccelerator"]
