"""How much have all workers done together, how much may they do, and how long will the rest take?"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

_WINDOW = 60.0
"""Seconds that the pace is taken from: long enough to even out pauses, short enough to follow a busy database."""
_SAMPLE = 1.0
"""Seconds between two samples of it."""
_AT_LEAST = 2.0
"""Seconds before there is a pace worth telling: the first batches are small."""


class Tempo:
    """How fast rows were done of late.

    :param clock: seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def record(self, done: int) -> None:
        """So many rows are done by now, altogether."""
        now = self._clock()
        # The newest sample is replaced until it is old enough for another one.
        if len(self._samples) > 1 and now - self._samples[-2][0] < _SAMPLE:
            self._samples.pop()
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW:
            self._samples.popleft()

    def seconds_for(self, rows: int) -> float | None:
        """How long *rows* more will take; ``None`` before there is a pace."""
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        if after <= before or ended - began < _AT_LEAST:
            return None
        return max(0, rows) * (ended - began) / (after - before)


class Quota:
    """Rows that a run may still write, shared by its workers.

    :param rows: ``None``: any number.
    """

    def __init__(self, rows: int | None) -> None:
        self._left = rows
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, rows: int) -> int | None:
        """Reserve up to so many; 0: none is left, ``None``: there is no limit.

        Waits while all that is left is reserved by others, who may not need it.
        """
        if self._left is None:
            return None
        with self._changed:
            while self._left <= 0 and self._taken:
                self._changed.wait()
            share = max(0, min(rows, self._left))
            self._left -= share
            self._taken += share
            return share

    def settle(self, share: int | None, used: int) -> None:
        """Give back what of a reserved *share* was not *used*."""
        if self._left is None or share is None:
            return
        with self._changed:
            self._taken -= share
            self._left += share - used
            self._changed.notify_all()
