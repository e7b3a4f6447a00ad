"""The least of a dialect: sessions, failures and blockers, for tests of what stands above the dialects."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from emc.dialects.base import Blocker, Dialect, Failure
from emc.names import TableKey
from emc.operations import Operation
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction


class SimpleDialect(Dialect):
    """Cannot read or plan."""

    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """Not here."""
        raise NotImplementedError

    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """Not here."""
        raise NotImplementedError

    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """Not here."""
        raise NotImplementedError


class SimpleSQLite(SimpleDialect):
    """SQLite."""

    name = "sqlite"
    transactional_ddl = True
    concurrent_sessions = False

    @contextmanager
    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> Iterator[Connection]:
        """One transaction that can write from its beginning."""
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(lock_timeout * 1000)}")
            if transaction is Transaction.AUTOCOMMIT:
                yield connection
                return
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def failure(self, error: DBAPIError) -> Failure:
        """What *error* means."""
        if isinstance(error.orig, sqlite3.OperationalError) and "locked" in str(error.orig):
            return Failure.LOCKED
        return Failure.INTEGRITY if isinstance(error.orig, sqlite3.IntegrityError) else Failure.OTHER


class SimplePostgreSQL(SimpleDialect):
    """PostgreSQL."""

    name = "postgresql"
    transactional_ddl = True

    @contextmanager
    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> Iterator[Connection]:
        """A connection with its lock timeout set."""
        timeout = int(lock_timeout * 1000) if locks is LockPolicy.SHORT else 0
        if transaction is Transaction.AUTOCOMMIT:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(f"SET lock_timeout = {timeout}")
                try:
                    yield connection
                finally:
                    if not connection.invalidated:
                        connection.exec_driver_sql("RESET lock_timeout")
            return
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {timeout}")
            yield connection

    def failure(self, error: DBAPIError) -> Failure:
        """What *error* means."""
        state = getattr(error.orig, "sqlstate", None)
        if error.connection_invalidated or state in {"57P01", "57P02", "57P03"}:
            return Failure.DISCONNECTED
        known = {"55P03": Failure.LOCKED, "40P01": Failure.LOCKED, "42501": Failure.FORBIDDEN}
        if state and state.startswith("23"):
            return Failure.INTEGRITY
        return known.get(state or "", Failure.DISCONNECTED if state is None else Failure.OTHER)

    def blockers(self, connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
        """Who holds locks on *keys*."""
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT a.pid, a.usename, extract(epoch FROM clock_timestamp() - a.xact_start), a.query"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " JOIN pg_class c ON c.oid = l.relation WHERE c.relname = ANY(%s) AND a.pid <> pg_backend_pid()",
            ([key.name for key in keys],),
        )
        return [Blocker(str(pid), user, float(age), query[:100]) for pid, user, age, query in rows]


def simple_dialect(engine: Engine) -> Dialect:
    """The dialect of *engine*."""
    return {"sqlite": SimpleSQLite, "postgresql": SimplePostgreSQL}[engine.dialect.name]()
