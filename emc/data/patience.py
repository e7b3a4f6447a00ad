"""How does a run ask the database something, in spite of locks and lost connections?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from emc.data.values import BatchPolicy
from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.errors import DatabaseUnavailableError, LockBudgetError
from emc.state.lease import Fence, Lease
from emc.steps import LockPolicy, Transaction
from emc.work import Work

_T = TypeVar("_T")


class Patience:
    """The connections of one run, and how long it waits for them and for what others hold."""

    def __init__(
        self, engine: Engine, dialect: Dialect, work: Work, lease: Lease | Fence, policy: BatchPolicy
    ) -> None:
        self.engine = engine
        self.dialect = dialect
        self.work = work
        self.lease = lease
        self.policy = policy
        self.connections_lost = 0
        """In a row."""

    def bear_with(self, error: DBAPIError) -> None:
        """Wait for a server that has cut the connection off.

        :raises DatabaseUnavailableError: it has done so too often in a row.
        """
        self.connections_lost += 1
        if self.connections_lost > self.policy.reconnects:
            raise DatabaseUnavailableError(
                f"The connection was lost {self.connections_lost} times in a row: {said(error)}",
                remedy=f"Run {self.work.command} again when the database is back; everything committed is kept.",
            ) from error
        # As long as a server takes to come back from a crash: half a minute on average for all ten.
        pause = min(30.0, 0.25 * 1.7 ** min(self.connections_lost, 60))
        self.policy.sleep(self.policy.random() * pause)

    def open(self) -> AbstractContextManager[Connection]:
        """A transaction for one batch."""
        # WEAK: a batch takes as long as it takes, but waits for the rows of others no longer than the lock timeout.
        return self.dialect.open(self.engine, Transaction.TOGETHER, LockPolicy.WEAK, self.policy.lock_timeout)

    def read(self, question: Callable[[Connection], _T]) -> _T:
        """Ask the database something, patiently."""
        return self._patiently(lambda: self.dialect.reading(self.engine), question)

    def write(self, change: Callable[[Connection], _T]) -> _T:
        """Change what emc keeps, by statements that may be repeated."""

        def confirmed(connection: Connection) -> _T:
            self.lease.confirm(connection)
            return change(connection)

        return self._patiently(self.open, confirmed)

    def _patiently(
        self, opened: Callable[[], AbstractContextManager[Connection]], do: Callable[[Connection], _T]
    ) -> _T:
        attempts = 0
        while True:
            try:
                with opened() as connection:
                    return do(connection)
            except DBAPIError as error:
                failure = self.dialect.failure(error)
                if failure is Failure.DISCONNECTED:
                    self.bear_with(error)
                elif failure is Failure.LOCKED and attempts < self.policy.lock_attempts:
                    attempts += 1
                    self.wait(attempts)
                elif failure is Failure.LOCKED:
                    raise self.out_of_patience(error) from error
                else:
                    raise

    def wait(self, attempts: int) -> None:
        """Let others get on with what they hold; longer after more *attempts*."""
        self.policy.sleep(self.policy.random() * min(1.0, 0.1 * 2**attempts))

    def out_of_patience(self, error: DBAPIError) -> LockBudgetError:
        """What is to be raised when the table as a whole stays locked."""
        return LockBudgetError(
            f"Other sessions do not let go of table {self.work.key}, so {self.work.name} cannot go on; "
            f"everything done so far is kept. The database said: {said(error)}",
            remedy=f"Run {self.work.command} again when the transactions that hold it are over.",
        )


def said(error: BaseException) -> str:
    """What went wrong, without the statement and parameters that SQLAlchemy adds."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    return f"{type(error).__name__}: {error}".strip()
