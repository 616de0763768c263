# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: two things or more measured side by side in one run, reported as ratios."""
