# SPDX-License-Identifier: Apache-2.0
"""The accelerator ``sockmap``: bytes between a workload, its sidecar and other sidecars skip the TCP/IP stack."""

from dataplanes.sockmap.plugin import SockmapAccelerator

__all__ = ["SockmapAccelerator"]
