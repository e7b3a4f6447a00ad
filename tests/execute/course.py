"""Runs units of steps, and keeps what happened."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from emc.dialects import dialect_of
from emc.dialects.base import Dialect
from emc.errors import EmcError
from emc.execute import RetryPolicy, StepEvent, StepState, run_unit
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.state import Entry, Event, Lease, Runner, acquire, entries
from emc.steps import LockPolicy, Probe, Step, Transaction


def step(
    name: str,
    *statements: str,
    holds: str,
    phase: Phase = Phase.CONTRACT,
    kind: str = Kind.DROP_COLUMN,
    **more: Any,
) -> Step:
    """A step about column *name* of users that sends *statements* and is done when *holds* answers true."""
    operation = Operation(
        ops.ExecuteSQLOp("SELECT 1"),
        kind,
        Element(ElementKind.COLUMN, TableKey(None, "users"), name),
        phase,
        f"do something with users.{name}",
    )
    return Step(operation, statements, Probe(holds, f"{name} is done"), unit="1", **more)


class Course:
    """Runs units on one engine, and keeps what happened."""

    def __init__(self, engine: Engine, dialect: Dialect, lease: Lease | None = None) -> None:
        self.engine = engine
        self.dialect = dialect
        self.lease: Lease = lease or acquire(engine, dialect, command="emc test")
        self.events: list[StepEvent] = []
        self.opened: list[tuple[Transaction, LockPolicy, float]] = []
        self.pauses: list[float] = []
        self.on_pause: list[Callable[[], None]] = []
        """What happens during the first pause, the second, …"""
        self.after_open: Callable[[Connection], None] = lambda _: None
        self.after_commit: Callable[[], None] = lambda: None
        original = dialect.open

        def opened(
            engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
        ) -> AbstractContextManager[Connection]:
            self.opened.append((transaction, locks, lock_timeout))

            @contextmanager
            def both() -> Iterator[Connection]:
                with original(engine, transaction, locks, lock_timeout) as connection:
                    self.after_open(connection)
                    yield connection
                self.after_commit()

            return both()

        dialect.open = opened  # type: ignore[method-assign]

    @property
    def usual(self) -> Transaction:
        """How DDL meets transactions here."""
        return Transaction.TOGETHER if self.dialect.transactional_ddl else Transaction.AUTOCOMMIT

    def pause(self, seconds: float) -> None:
        """Let no time pass, and do what is to happen meanwhile."""
        self.pauses.append(seconds)
        if self.on_pause:
            self.on_pause.pop(0)()

    def run(self, *steps: Step, **more: Any) -> None:
        """Run *steps* as one unit."""
        retry = {"lock_timeout_first": 0.01, "lock_timeout_cap": 0.05, "attempts": 6, **more.pop("retry", {})}
        run_unit(
            self.engine,
            self.dialect,
            steps,
            lease=more.pop("lease", self.lease),
            release="2026.2",
            phase=more.pop("phase", Phase.CONTRACT),
            retry=RetryPolicy(sleep=self.pause, **retry),
            report=self.events.append,
            **more,
        )

    def fail(self, kind: type[EmcError], *steps: Step, **more: Any) -> Any:
        """Run *steps*, see them fail, and answer the error."""
        with pytest.raises(kind) as caught:
            self.run(*steps, **more)
        return caught.value

    @property
    def states(self) -> list[StepState]:
        """What happened, in order; how far a statement is depends on the machine."""
        return [event.state for event in self.events if event.state is not StepState.RUNNING]

    @property
    def ledger(self) -> tuple[Entry, ...]:
        """What was recorded of the outcome."""
        with self.engine.connect() as connection:
            return tuple(entry for entry in entries(connection) if entry.event is not Event.SENT)

    @property
    def intended(self) -> list[Any]:
        """What the ledger heard before anything was sent."""
        with self.engine.connect() as connection:
            return [entry.operation for entry in entries(connection) if entry.event is Event.SENT]

    def sql(self, statement: str) -> Any:
        """The first value that a statement answers, if it answers any."""
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None

    def columns(self, table: str = "users") -> list[str]:
        """The columns of a table."""
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql(f"SELECT * FROM {table}").keys())


def make_course(engine: Engine) -> Course:
    """A course with a table of users."""
    with engine.connect():  # Only then it is known whether it is MySQL or MariaDB.
        made = Course(engine, type(dialect_of(engine))())  # Of its own, since open() is replaced.
    made.sql("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(100))")
    made.sql("INSERT INTO users VALUES (1, 'ann'), (2, NULL)")
    made.opened.clear()
    return made


def has_table(name: str, engine: Engine) -> str:
    """A probe: is there a table *name*?"""
    if engine.dialect.name == "sqlite":
        return f"SELECT count(*) FROM sqlite_master WHERE name = '{name}'"
    if engine.dialect.name in ("mysql", "mariadb"):
        schema = "TABLE_SCHEMA = DATABASE()"
        return f"SELECT count(*) FROM information_schema.TABLES WHERE {schema} AND TABLE_NAME = '{name}'"
    return f"SELECT to_regclass('{name}') IS NOT NULL"


STRANGER = Runner("elsewhere", 1, "bob", None)


def has_column(name: str, engine: Engine) -> str:
    """A probe: has users a column *name*?"""
    schema = "DATABASE()" if engine.dialect.name in ("mysql", "mariadb") else "current_schema()"
    return (
        "SELECT count(*) FROM information_schema.columns"
        f" WHERE table_schema = {schema} AND table_name = 'users' AND column_name = '{name}'"
    )


def has_index(name: str) -> str:
    """A probe for MariaDB: has users an index *name*?"""
    return (
        "SELECT count(*) FROM information_schema.STATISTICS"
        f" WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'users' AND INDEX_NAME = '{name}'"
    )


def disconnected() -> DBAPIError:
    """What SQLAlchemy raises when the connection has gone."""
    return DBAPIError("COMMIT", None, Exception("server closed the connection"), connection_invalidated=True)
