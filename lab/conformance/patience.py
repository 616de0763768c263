# SPDX-License-Identifier: Apache-2.0
"""How long failures are looked into: each for a while, and all of a run together for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["ALTOGETHER_SECONDS", "EACH_SECONDS", "Patience"]

EACH_SECONDS: Final = 10.0
"""How long a user waits for a smaller example; what was reached by then is shown."""
ALTOGETHER_SECONDS: Final = 60.0
"""With a dataplane that fails everywhere the first failures tell what is wrong, and the run is to end."""


class Patience:
    """What is left of it decides how thoroughly the next failure is looked into."""

    def __init__(self, each: float = EACH_SECONDS, altogether: float = ALTOGETHER_SECONDS) -> None:
        self._each = each
        self._left = altogether

    @property
    def thorough(self) -> bool:
        """Whether there is time to make examples smaller and to repeat them."""
        return self._left > 0

    @property
    def seconds(self) -> float:
        """How long a smaller example may be looked for."""
        return max(0.0, min(self._each, self._left))

    @contextmanager
    def spent(self) -> Iterator[None]:
        """What the body takes is spent."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._left -= time.monotonic() - begun
