"""Transactions of the application that are open while emc works, at every statement of expand and contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

import emc
from emc.commands import PhaseReport
from emc.data import BatchPolicy
from emc.errors import ExitCode, LockBudgetError
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.testing.copying import copies
from tests.lifecycle.pairs_mixed import SHOP
from tests.lifecycle.ritual import Release, build_old, modelled, upgrade_of
from tests.lifecycle.test_interruptions import OWN_TABLES, WRITING, connected, nothing_left_of, state

TABLES = ("countries", "customers", "orders", "faxes")
SNAPSHOT = "REPEATABLE READ"
READER = [f"SELECT * FROM {name}" for name in TABLES]
"""A report: from its first statement on it holds a snapshot, and the lock of every table that it has read."""
WRITER = [f"UPDATE {name} SET id = id WHERE id = 1" for name in TABLES]
OPEN = {"reader": (SNAPSHOT, READER), "writer": ("READ COMMITTED", WRITER)}
TRAFFIC = [
    "SELECT id, points FROM customers",
    "SELECT count(*) FROM orders",
    "UPDATE customers SET country_id = country_id WHERE id = 4",
    "UPDATE orders SET amount = amount WHERE id = 2",
]
"""What old and new release send all the time."""
PATIENCE = "10s"
"""For so long the application waits for an answer: much longer than emc's lock timeout, which is at most a second."""
STALLS_NOBODY = (
    "CREATE INDEX CONCURRENTLY",
    "CREATE UNIQUE INDEX CONCURRENTLY",
    "DROP INDEX CONCURRENTLY",
    "VALIDATE",
)

PASS_BY = {
    ("expand", "reader"): {
        "create-table:visits",
        "create-index:visits.ix_visits_customer_id",
        "add-foreign-key:customers.fk_customers_invited_by",
    },
    ("expand", "writer"): {"create-index:visits.ix_visits_customer_id"},
    ("contract", "reader"): {"add-foreign-key:customers.fk_customers_country"},
    ("contract", "writer"): set(),
}
"""The steps that such a transaction keeps from nothing: a new foreign key waits for writers only, and to the new table
nobody has come yet."""


class InTheWay:
    """Opens a transaction of the application right before each statement of emc that changes the schema.

    Args:
        engine: emc's.
        kind: of transaction, see `OPEN`.
        leaves: whether it ends when emc gives up waiting for it. In the end everybody leaves whom a concurrent build
            waits for, which stalls nobody meanwhile.
    """

    def __init__(self, engine: Engine, kind: str, *, leaves: bool) -> None:
        self.level, self.statements = OPEN[kind]
        self.leaves = leaves
        self.met: set[tuple[str, str]] = set()
        """The steps, and their statements, before which one was opened."""
        self.waited: set[str] = set()
        """The steps that had to wait for one."""
        self.timeouts: dict[str, int] = {}
        """By statement, emc's lock_timeout in milliseconds."""
        self._engine = engine
        self._application = create_engine(engine.url, poolclass=NullPool)
        self._step = ""
        self._open: Connection | None = None
        self._main = threading.main_thread()
        event.listen(engine, "before_cursor_execute", self._sent)

    def _sent(self, _connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        label = " ".join(statement.split())
        if threading.current_thread() is not self._main or "pg_temp" in label or OWN_TABLES.search(label):
            return
        if not label.startswith((*WRITING, "LOCK")):
            return
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'")
        self.timeouts[label] = int(cursor.fetchone()[0])
        # One that never leaves meets each step, one that does each of its statements.
        met = (self._step, label if self.leaves else "")
        if met in self.met:
            return
        self.end()
        self.met.add(met)
        connection = self._application.connect().execution_options(isolation_level=self.level)
        try:
            # emc may have locked the table already, and then nobody is in its way.
            connection.exec_driver_sql("SET lock_timeout = '20ms'")
            connection.commit()
            for one in self.statements:
                connection.exec_driver_sql(one)
        except DBAPIError:
            connection.close()
        else:
            self._open = connection

    def hear(self, event: StepEvent) -> None:
        """Notice that emc waits, see that meanwhile nobody else does, and end."""
        self._step = event.step.id
        running = event.progress is not None and event.progress.waits_for
        if event.state is not StepState.WAITING and not running:
            return
        self.waited.add(event.step.id)
        if event.state is StepState.WAITING:
            # emc has given up and pauses: only the transaction of the application holds a lock.
            with self._application.connect() as other:
                for name in ("customers", "orders", "countries"):
                    other.exec_driver_sql(f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE NOWAIT")
        if self.leaves or running:
            self.end()

    def close(self) -> None:
        """Get out of the way for good."""
        event.remove(self._engine, "before_cursor_execute", self._sent)
        self.end()

    def end(self) -> None:
        """End the transaction that is open, from whichever thread."""
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()


@contextmanager
def traffic(engine: Engine) -> Iterator[None]:
    """Sessions of the application, which read and write all the time; none of their statements may fail."""
    over = threading.Event()
    errors: list[BaseException] = []
    sent: dict[str, int] = dict.fromkeys(TRAFFIC, 0)
    # Without prepared statements: PostgreSQL refuses those that show a column whose type has changed.
    application = create_engine(
        engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"prepare_threshold": None}
    )

    def send(statement: str) -> None:
        try:
            with application.connect() as connection:
                connection.exec_driver_sql(f"SET statement_timeout = '{PATIENCE}'")
                while not over.is_set():
                    connection.exec_driver_sql(statement)
                    sent[statement] += 1
                    over.wait(0.002)  # Or the server would be busy with nothing else.
        except DBAPIError as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=(one,)) for one in TRAFFIC]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in threads:
            one.join()
    assert errors == []
    assert all(sent.values())


def before(command: str, engine: Engine) -> None:
    """Bring the database to where *command* is the next one."""
    build_old(SHOP, engine)
    Release(modelled(SHOP.old), SHOP.old_work).exercise(engine, 1000)
    if command == "contract":
        assert emc.expand(upgrade_of(SHOP), engine).exit_code is ExitCode.DONE
        assert emc.migrate(upgrade_of(SHOP), engine, batch=BatchPolicy(fast=True)).exit_code is ExitCode.DONE


def run(command: str, engine: Engine, way: InTheWay | None, **retry: Any) -> PhaseReport:
    """Run *command*; no pause takes time."""
    policy = RetryPolicy(sleep=lambda _: None, progress_every=0.02, **retry)
    upgrade, report = upgrade_of(SHOP), way.hear if way is not None else lambda _: None
    if command == "expand":
        return emc.expand(upgrade, engine, retry=policy, report=report)
    return emc.contract(upgrade, engine, old_code_gone=True, retry=policy, report=report)


def undisturbed(command: str, url: str) -> dict[str, Any]:
    """What *command* makes of the database at *url* when nobody else is there."""
    with connected(url) as engine:
        assert run(command, engine, None).exit_code is ExitCode.DONE
    return state(url)


def assert_timeouts(way: InTheWay) -> None:
    """Whatever stalls others while it waits had a lock timeout, of no more than a second."""
    stalling = {
        label: ms for label, ms in way.timeouts.items() if not any(one in label for one in STALLS_NOBODY)
    }
    assert stalling
    assert {label: ms for label, ms in stalling.items() if not 0 < ms <= 1000} == {}


def steps_left(command: str, engine: Engine) -> list[str]:
    """What *command* has to do, in order."""
    plan = emc.plan(upgrade_of(SHOP), engine).plan
    return [step.id for step in (plan.expand if command == "expand" else plan.contract)]


@pytest.mark.parametrize("kind", OPEN)
@pytest.mark.parametrize("command", ["expand", "contract"])
def test_nobody_waits_longer_than_emc(postgresql_url: str, command: str, kind: str, tmp_path: Path) -> None:
    """An open reader or writer at every statement: emc waits for it and nobody for emc, and it ends well."""
    with connected(postgresql_url) as engine:
        before(command, engine)
    with copies(postgresql_url, tmp_path) as copy:
        expected = undisturbed(command, copy())
        url = copy()
        with connected(url) as engine:
            way = InTheWay(engine, kind, leaves=True)
            with traffic(engine):
                report = run(command, engine, way)
            way.close()
            assert report.done == tuple(step.id for step in report.steps)
            nothing_left_of(command, engine)
        assert_timeouts(way)
        assert {step.id for step in report.steps} - way.waited == PASS_BY[command, kind]
        assert state(url) == expected


@pytest.mark.parametrize(("command", "kind"), [("expand", "reader"), ("contract", "writer")])
def test_who_never_leaves_costs_no_more_than_one_step(
    postgresql_url: str, command: str, kind: str, tmp_path: Path
) -> None:
    """A transaction that does not end costs the budget of a step: those before it are kept, and it goes on there."""
    with connected(postgresql_url) as engine:
        before(command, engine)
    with copies(postgresql_url, tmp_path) as copy:
        expected = undisturbed(command, copy())
        url = copy()
        met: set[tuple[str, str]] = set()
        given_up: list[str] = []
        with connected(url) as engine:
            first = steps_left(command, engine)
            while left := steps_left(command, engine):
                # What was done is kept, and nothing behind the step that could not be had was tried.
                assert not given_up or left == first[first.index(given_up[-1]) :]
                way = InTheWay(engine, kind, leaves=False)
                way.met = met
                try:
                    run(command, engine, way, attempts=2, lock_timeout_first=0.01)
                except LockBudgetError as error:
                    given_up.append(str(error.step))
                finally:
                    way.close()
            nothing_left_of(command, engine)
        # A build is waited for by nobody, and goes on.
        patient = ("create-index:", "add-unique:")
        assert given_up == [
            one for one in first if not one.startswith(patient) and one not in PASS_BY[command, kind]
        ]
        assert state(url) == expected
