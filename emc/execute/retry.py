"""How patiently does emc ask for a lock?

A statement that waits for an exclusive lock stalls everybody who comes after it, so each attempt waits briefly and the
pauses between attempts are long. No attempt is without a timeout, the last one neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from emc.waiting import Waiting


@dataclass(frozen=True)
class RetryPolicy(Waiting):
    """Attempts, timeouts and pauses; lengths of time are in seconds."""

    lock_timeout_first: float = 0.1
    lock_timeout_cap: float = 1.0
    """The timeout doubles with each attempt up to this."""
    attempts: int = 40
    budget: float = 600.0
    """No attempt begins later than so long after the first."""
    pause_first: float = 0.25
    pause_factor: float = 1.7
    pause_cap: float = 30.0
    reconnects: int = 10
    """How often a lost connection is made again."""
    blockers_after: int = 3
    """Failed attempts after which the sessions in the way are looked up."""
    doubts: int = 3
    """How often duplicates that the server may only believe to see are looked for again, and how often what was refused
    is looked up because it may have been done already."""
    build_patience: float = 300.0
    """For how long a build is put off at most because of transactions that it would meet at its end."""
    build_pauses: tuple[float, ...] = (60.0, 120.0, 300.0, 600.0)
    """Pauses between attempts at a build that lost its work because a lock was not to be had at its end."""
    progress_every: float = 1.0
    """Seconds between two looks at how far a long statement is; 0: nobody looks, and no connection is made for it."""

    def lock_timeout(self, attempt: int) -> float:
        """Seconds to wait for a lock in the *attempt*-th attempt, counted from 1."""
        # The exponent is capped too: 2.0 ** 1100 does not fit into a float.
        return min(self.lock_timeout_cap, self.lock_timeout_first * 2.0 ** min(attempt - 1, 60))

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the *attempt*-th attempt failed."""
        return self.longest_pause(attempt) * self.random()

    def longest_pause(self, attempt: int) -> float:
        """The most that :meth:`pause` answers."""
        return min(self.pause_cap, self.pause_first * self.pause_factor ** min(attempt - 1, 60))
