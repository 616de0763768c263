# SPDX-License-Identifier: Apache-2.0
"""``python -m lab.cli``: the same as ``policylab``."""

from lab.cli import main

main()
