# SPDX-License-Identifier: Apache-2.0
"""Packets, how they are sent and observed, and what was seen of them."""
