"""What does emc have to know of a server to work with it: connections, failures, and who else is at work?"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, TypeVar

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Blocker, Failure, Pressure, Progress
from emc.dialects.lexis import Lexis
from emc.names import TableKey
from emc.steps import LockPolicy, Transaction

_T = TypeVar("_T")

_SNAPSHOTS = 5
"""How many snapshots are taken for one question that others' DDL keeps from being answered."""


class Server(abc.ABC):
    """The part of a dialect that answers this."""

    name: ClassVar[str]
    """SQLAlchemy's name of the dialect."""
    standpoint: ClassVar[str | None] = None
    """A query that tells as whom a session works, and where names without a schema lead in it; ``None`` where that is
    the same in all sessions."""

    @abc.abstractmethod
    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """A connection for one attempt at one unit of work, with every timeout set and read back.

        :param transaction: with ``TOGETHER`` and ``REBUILD`` the block is one transaction that can write, committed
            when it ends and rolled back when it raises; with ``AUTOCOMMIT`` each statement is one of its own.
        :param lock_timeout: seconds to wait for a lock under ``LockPolicy.SHORT``.
        """

    def renew(self, connection: Connection) -> bool:
        """Set the timeouts of :meth:`open` again, after a user's function had *connection* in its hands.

        :returns: whether its transaction is still the one that :meth:`open` began, as far as the database tells.
        """
        return True

    @abc.abstractmethod
    def lexis(self, connection: Connection) -> Lexis:
        """How the server reads SQL that :meth:`open` sends."""

    def absent(self, engine: Engine) -> str | None:
        """Why there is no database behind *engine* to look at, where connecting would make one; else ``None``."""
        return None

    def no_database(self, connection: Connection) -> str | None:
        """Why *connection* works in no database, where a server may be entered without naming one; else ``None``."""
        return None

    def entry_remedy(self, error: DBAPIError) -> str | None:
        """What would settle that a connection was refused with *error*; ``None`` where that is to check the URL."""
        return None

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection whose reads are one consistent snapshot, and whose transaction is always rolled back."""
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    def ask(self, engine: Engine, question: Callable[[Connection], _T]) -> _T:
        """What *question*, which only reads, finds in one consistent snapshot.

        It is asked again in a fresh one where DDL of another session got in its way: a snapshot cannot see into a table
        that was made or rebuilt after it (MariaDB: error 1412).

        :param question: given the connection of :meth:`reading`; may run several times.
        """
        for _ in range(_SNAPSHOTS - 1):
            try:
                with self.reading(engine) as connection:
                    return question(connection)
            except DBAPIError as error:
                if self.failure(error) is not Failure.LOCKED:
                    raise
        with self.reading(engine) as connection:
            return question(connection)

    @abc.abstractmethod
    def lock(self, connection: Connection, keys: Sequence[TableKey]) -> None:
        """Keep everybody out of tables *keys* until the transaction of *connection* ends.

        So what is proved next is still true when the drop runs. Nothing to do where :meth:`open` keeps writers out.
        """

    @abc.abstractmethod
    def failure(self, error: DBAPIError) -> Failure:
        """What *error* means."""

    def cut_off(self, error: DBAPIError) -> bool:
        """Whether a statement was ended because of the time it took, rather than because of that for which it waited.

        It may have kept everybody out meanwhile, and would again.
        """
        return False

    def blockers(self, connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
        """The sessions, other than emc's, that hold locks on tables *keys*; empty where the database cannot tell."""
        return ()

    def long_transactions(self, connection: Connection) -> Sequence[Blocker]:
        """Transactions, other than emc's, that have been open for longer than a build could wait for them at its end.

        Empty where a build loses nothing by waiting, and where the database does not tell.
        """
        return ()

    def builders(self, connection: Connection, key: TableKey) -> Sequence[Blocker]:
        """The sessions that build an index on table *key* at this moment.

        The server goes on with a build whose emc was killed; what it has made so far looks like a leftover. Empty where
        such a statement ends with its session.
        """
        return ()

    def knock(self, connection: Connection, key: TableKey) -> None:
        """Make sure that nobody holds table *key* at this moment, so that a build of *connection* can begin at once.

        :raises DBAPIError: somebody does; :meth:`failure` says ``LOCKED``. Nothing happens where a build that waits for
            its beginning stalls nobody.
        """
        return

    def session(self, connection: Connection) -> str | None:
        """What :meth:`progress` knows the session of *connection* by; ``None`` where the server tells no progress."""
        return None

    def progress(self, connection: Connection, session: str, key: TableKey) -> Progress | None:
        """How far *session* is with the statement about table *key* that it has sent; ``None`` if none is under way.

        :param connection: another one, that commits by itself.
        """
        return None

    def pressures(self, connection: Connection) -> Sequence[Pressure]:
        """How much the server has to bear at this moment, by every signal that it has; what cannot be read among them.

        :param connection: in a transaction of :meth:`open`.
        """
        return ()

    def waiters(self, connection: Connection) -> Pressure | None:
        """How long another session has waited for what the transaction of *connection* holds; ``None`` if none does.

        ``None`` too where that cannot be told at little cost.
        """
        return None

    def replica_lag(self, connection: Connection) -> Pressure | None:
        """How far the replica behind *connection* is behind its primary; ``None`` where it is none."""
        return None

    def server_version(self, connection: Connection) -> str:
        """The version, for the ledger, e.g. ``PostgreSQL 15.18``."""
        version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
        return f"{self.name} {version}"

    def now(self, connection: Connection) -> dt.datetime:
        """The server's clock, in UTC: hosts whose own clocks differ agree on it."""
        now: dt.datetime = connection.execute(select(func.current_timestamp())).scalar_one()
        return now.replace(tzinfo=dt.UTC) if now.tzinfo is None else now.astimezone(dt.UTC)
