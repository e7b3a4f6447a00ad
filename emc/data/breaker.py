"""Is it the rows that fail, or what is done to them?

A migration that is wrong fails for every row from some point on; to try all of them would take as long as to migrate
them, and leave a record of each. So a run ends when most rows of its last batches have failed. GitLab's batched
migrations have such a breaker.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BATCHES: Final = 50
"""How many of the last batches are looked at. A row that failed by itself is a batch of its own."""
ROWS: Final = 50
"""Rows that have to fail among them."""


class Breaker:
    """Remembers what became of the rows of the last batches."""

    def __init__(self) -> None:
        self._last: deque[tuple[int, int]] = deque(maxlen=BATCHES)

    def record(self, *, done: int, failed: int) -> None:
        """A batch wrote *done* rows, and could not write *failed*."""
        self._last.append((done, failed))

    @property
    def has_tripped(self) -> bool:
        """Whether more rows failed than were done, and enough to tell."""
        failed = sum(batch[1] for batch in self._last)
        return failed >= ROWS and failed > sum(batch[0] for batch in self._last)
