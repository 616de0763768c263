# SPDX-License-Identifier: Apache-2.0
"""Nodes that are virtual machines: kernels, boot, ssh, and the policylab on the far side."""
