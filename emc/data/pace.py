"""How large is the next batch?"""

from __future__ import annotations

import math
from collections import deque

from emc.data.values import BatchPolicy


class Pace:
    """Follows the measured time of the last batches."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._target = policy.fast_target if policy.fast else policy.target
        self._seconds_per_row: deque[float] = deque(maxlen=policy.history)
        self.size = policy.start
        """Rows of the next batch."""

    def record(self, size: int, seconds: float) -> None:
        """A batch that was allowed *size* rows took *seconds*.

        What it was allowed counts, not what it found: a batch reads in proportion to it where few rows
        are pending.
        """
        policy = self._policy
        self._seconds_per_row.append(seconds / size)
        ordered = sorted(self._seconds_per_row)
        slow = ordered[math.ceil(0.9 * len(ordered)) - 1]
        ideal = self._target / slow if slow > 0 else math.inf
        wanted = min(ideal, max(self.size, size) * policy.growth)
        if seconds > 5 * self._target:
            wanted = min(wanted, size / 5)
        self.size = int(max(policy.smallest, min(policy.largest, wanted)))

    def pause(self, seconds: float) -> float:
        """Seconds to leave the database alone after a batch that took *seconds*."""
        return 0.0 if self._policy.fast else max(self._policy.shortest_pause, self._policy.rest * seconds)
