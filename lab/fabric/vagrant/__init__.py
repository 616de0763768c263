# SPDX-License-Identifier: Apache-2.0
"""Machines of Vagrant's: the box that they start from, and a libvirt daemon where the host has none."""
