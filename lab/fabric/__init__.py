# SPDX-License-Identifier: Apache-2.0
"""Nodes, links and namespaces: a topology brought to life on this host."""
