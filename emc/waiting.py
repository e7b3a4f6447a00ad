"""How does emc wait, and tell the time?

Both can be replaced, so that a test waits for nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What a policy of retries needs besides its numbers."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    """Seconds since some moment."""
    random: Callable[[], float] = random.random
    """A number from 0 to 1: the share of a pause that is taken, so that two runners drift apart (full jitter)."""
