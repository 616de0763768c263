# SPDX-License-Identifier: Apache-2.0
"""The expectations, how they are held against a dataplane, and how a failure is told."""
