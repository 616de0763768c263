# SPDX-License-Identifier: Apache-2.0
"""What people read: tables, grids, the conformance matrix."""
