# SPDX-License-Identifier: Apache-2.0
"""Why a plugin is not held to a promise."""

from __future__ import annotations

from lab.errors import LabError

__all__ = ["NotHeldError"]


class NotHeldError(LabError):
    """A promise does not concern this plugin: it lacks what it is about."""
