# SPDX-License-Identifier: Apache-2.0
"""No property fails because the machine is slow: Hypothesis looks at no clock, whatever else a test asks of it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient",
    parent=settings.default,
    deadline=None,
    suppress_health_check={*settings.default.suppress_health_check, HealthCheck.too_slow},
)
settings.load_profile("patient")
