"""What an interrupted run has left on PostgreSQL is found by looking, and finished, waited for, or said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

import emc
from emc.errors import ExitCode, PlanRefusedError, PostconditionError
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.upgrade import Upgrade


@pytest.fixture
def database(postgresql_url: str) -> Iterator[sa.Engine]:
    """A database with a table of users."""
    engine = sa.create_engine(postgresql_url)
    send(engine, "CREATE TABLE users (id int PRIMARY KEY, name text)", "INSERT INTO users VALUES (1, 'ann')")
    yield engine
    engine.dispose()


def send(engine: sa.Engine, *statements: str) -> None:
    """Run *statements* in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def ask(engine: sa.Engine, query: str) -> Any:
    """The first value that *query* answers."""
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).scalar()


def upgrade(*more: Any, beside: Any = None) -> Upgrade:
    """An upgrade of the table of users, with *more* in it; *beside* is in a table of its own."""
    metadata = sa.MetaData()
    if beside is not None:
        sa.Table("fresh", metadata, sa.Column("name", sa.Text), beside)
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text),
        *more,
    )
    return Upgrade(metadata)


def indexed() -> Upgrade:
    """Users get an index."""
    return upgrade(sa.Index("ix_users_name", "name"))


def until(engine: sa.Engine, condition: str) -> None:
    """Wait until *condition* holds on the server."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.exec_driver_sql(f"SELECT {condition}").scalar():
            connection.exec_driver_sql("SELECT pg_sleep(0.01)")


BUILDING = (
    "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE %%INDEX CONCURRENTLY%%'"
    " AND wait_event_type = 'Lock' AND pid <> pg_backend_pid())"
)


@contextmanager
def orphaned_build(database: sa.Engine, statement: str) -> Iterator[Callable[[], None]]:
    """A concurrent build that the server goes on with, whatever became of the emc that has sent it.

    It waits for a writer that began before it. What is answered lets it finish, and waits for that.
    """
    other = sa.create_engine(database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def build() -> None:
        with other.connect() as connection:
            connection.exec_driver_sql("SET application_name = 'emc'")
            connection.exec_driver_sql(statement)

    with database.connect() as writer:
        writer.exec_driver_sql("UPDATE users SET name = 'bob'")
        builder = threading.Thread(target=build)
        builder.start()

        def finish() -> None:
            writer.rollback()
            builder.join()

        try:
            until(database, BUILDING)
            yield finish
        finally:
            finish()


def run(
    change: Upgrade, database: sa.Engine, on_waiting: Callable[[StepEvent], None]
) -> tuple[list[StepEvent], emc.commands.PhaseReport]:
    """Run expand; what is heard while it waits goes to *on_waiting* too."""
    events: list[StepEvent] = []

    def hear(event: StepEvent) -> None:
        events.append(event)
        if event.state is StepState.WAITING:
            on_waiting(event)

    report = emc.expand(change, database, report=hear, retry=RetryPolicy(sleep=lambda _: None))
    return events, report


def test_a_build_that_still_runs_is_waited_for_and_not_done_again(database: sa.Engine) -> None:
    """The index under construction looks INVALID: it is neither dropped nor built a second time."""
    with orphaned_build(database, "CREATE INDEX CONCURRENTLY ix_users_name ON users (name)") as finish:
        oid = ask(database, "SELECT CAST('ix_users_name' AS regclass)::oid")
        events, report = run(indexed(), database, lambda _: finish())
    assert report.exit_code is ExitCode.DONE
    [waiting] = [event for event in events if event.state is StepState.WAITING]
    [blocker] = waiting.blockers
    assert blocker.query.startswith("CREATE INDEX CONCURRENTLY ix_users_name")
    assert ask(database, "SELECT CAST('ix_users_name' AS regclass)::oid") == oid
    assert ask(database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_users_name'::regclass")
    assert emc.plan(indexed(), database).is_empty


def test_a_build_of_another_definition_is_waited_for_and_replaced(database: sa.Engine) -> None:
    """What a killed emc was building for other models is left to end, and said to be another; a new run replaces it."""
    other = "CREATE INDEX CONCURRENTLY ix_users_name ON users (id)"
    with orphaned_build(database, other) as finish, pytest.raises(PostconditionError, match="ix_users_name"):
        run(indexed(), database, lambda _: finish())
    assert emc.expand(indexed(), database).exit_code is ExitCode.DONE
    emc.contract(indexed(), database, old_code_gone=True)
    assert "(name)" in ask(database, "SELECT pg_get_indexdef('ix_users_name'::regclass)")
    assert emc.plan(indexed(), database).is_empty


def test_a_build_that_fails_in_the_end_is_made_anew(database: sa.Engine) -> None:
    """The server gives up the orphaned build (somebody ends it): its leftover is dropped, and the index is built."""

    def end(event: StepEvent) -> None:
        [blocker] = event.blockers
        send(database, f"SELECT pg_terminate_backend({blocker.session})")
        until(database, f"NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {blocker.session})")
        finish()

    failed: list[threading.ExceptHookArgs] = []
    threading.excepthook, before = failed.append, threading.excepthook
    try:
        with orphaned_build(database, "CREATE INDEX CONCURRENTLY ix_users_name ON users (name)") as finish:
            events, report = run(indexed(), database, end)
    finally:
        threading.excepthook = before
    assert len(failed) == 1
    assert report.exit_code is ExitCode.DONE
    assert [event.state for event in events] == [StepState.STARTED, StepState.WAITING, StepState.DONE]
    assert ask(database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_users_name'::regclass")


def test_a_build_on_another_table_is_no_reason_to_wait(database: sa.Engine) -> None:
    """Only builds on the table itself are waited for."""
    send(database, "CREATE TABLE other (id int)")
    with database.connect() as writer:
        writer.exec_driver_sql("INSERT INTO other VALUES (1)")
        other = sa.create_engine(database.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

        def build() -> None:
            with other.connect() as connection:
                connection.exec_driver_sql("CREATE INDEX CONCURRENTLY ix_other ON other (id)")

        builder = threading.Thread(target=build)
        builder.start()
        until(database, BUILDING)
        with database.connect() as connection:
            assert (
                emc.dialects.dialect_of(database).builders(connection, emc.names.TableKey(None, "users"))
                == []
            )
        writer.rollback()
        builder.join()


def test_an_invalid_leftover_is_dropped_and_built_again(database: sa.Engine) -> None:
    """INVALID is not there, whatever it says of itself; what a failed build of another definition left goes too."""
    send(database, "INSERT INTO users VALUES (2, 'ann')")
    apart = database.execution_options(isolation_level="AUTOCOMMIT")
    with apart.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY ix_users_name ON users (name)")
    assert emc.expand(indexed(), database).done == ("create-index:users.ix_users_name",)
    assert ask(
        database,
        "SELECT indisvalid AND NOT indisunique FROM pg_index WHERE indexrelid = 'ix_users_name'::regclass",
    )
    assert emc.plan(indexed(), database).is_empty


def test_an_unvalidated_constraint_is_validated(database: sa.Engine) -> None:
    """A CHECK that a killed contract has added NOT VALID holds for new rows only: the next one looks at the others."""
    change = upgrade(sa.CheckConstraint("name <> ''", name="ck_name"))
    send(database, "ALTER TABLE users ADD CONSTRAINT ck_name CHECK (name <> '') NOT VALID")
    assert emc.contract(change, database, old_code_gone=True).done == ("add-check:users.ck_name",)
    assert ask(database, "SELECT convalidated FROM pg_constraint WHERE conname = 'ck_name'")
    assert emc.plan(change, database).is_empty


OWN = "SELECT count(*) FROM pg_class c FULL JOIN pg_constraint k ON false WHERE c.relname LIKE 'emc_ne%%'"
OWN += " OR k.conname LIKE 'emc_nn%%'"


def test_what_no_step_finishes_any_more_is_taken_away(database: sa.Engine) -> None:
    """A killed run's own CHECK and index, for models that have changed since, are said, and go with contract."""
    send(
        database,
        "ALTER TABLE users ADD CONSTRAINT emc_nn_users_name CHECK (name IS NOT NULL) NOT VALID",
        "CREATE INDEX emc_new_ix_users_name ON users (name)",
    )
    plan = emc.plan(upgrade(), database).plan
    assert plan.is_empty
    assert [(note.kind, note.target) for note in plan.notes] == [("guard", "users"), ("guard", "users")]
    assert emc.status(upgrade(), database).next.startswith("emc contract")
    emc.contract(upgrade(), database)
    assert ask(database, OWN) == 0
    assert emc.plan(upgrade(), database).plan.notes == ()
    send(database, "INSERT INTO users VALUES (2, NULL)")


def test_what_a_step_will_finish_stays(database: sa.Engine) -> None:
    """A CHECK that SET NOT NULL is going to use is no leftover, though its gate is shut."""
    send(
        database,
        "INSERT INTO users VALUES (2, NULL)",
        "ALTER TABLE users ADD CONSTRAINT emc_nn_users_name CHECK (name IS NOT NULL) NOT VALID",
    )
    metadata = sa.MetaData()
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
    )
    required = Upgrade(metadata)
    assert emc.contract(required, database, old_code_gone=True).exit_code is ExitCode.GATE_SHUT
    assert ask(database, OWN) == 1
    send(database, "UPDATE users SET name = '' WHERE id = 2")
    assert emc.contract(required, database, old_code_gone=True).done == ("set-not-null:users.name",)
    assert ask(database, OWN) == 0


def test_an_invalid_index_that_nobody_asked_for_is_pointed_out(database: sa.Engine) -> None:
    """A REINDEX CONCURRENTLY that failed leaves an index that costs and serves nobody; it is not emc's to drop."""
    send(database, "CREATE INDEX ix_users_name ON users (name)", "INSERT INTO users VALUES (2, 'ann')")
    apart = database.execution_options(isolation_level="AUTOCOMMIT")
    with apart.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY ix_users_name_ccnew ON users (name)")
    plan = emc.plan(indexed(), database).plan
    assert plan.is_empty
    [note] = plan.notes
    assert (note.kind, note.target) == ("unfinished", "users.ix_users_name_ccnew")
    emc.contract(indexed(), database, old_code_gone=True)
    with apart.connect() as connection:
        connection.exec_driver_sql(note.text.partition("now: ")[2])
    assert emc.plan(indexed(), database).plan.notes == ()


TAKEN = {
    "view": ("CREATE VIEW ix_users_name AS SELECT 1 AS one", "view"),
    "sequence": ("CREATE SEQUENCE ix_users_name", "sequence"),
    "table": ("CREATE TABLE ix_users_name (id int)", "table"),
    "index of another table": (
        "CREATE TABLE other (id int); CREATE INDEX ix_users_name ON other (id)",
        "index of table other",
    ),
    "constraint of another table": (
        "CREATE TABLE other (id int CONSTRAINT ix_users_name UNIQUE)",
        "index of table other",
    ),
}


@pytest.mark.parametrize(
    ("how", "what"),
    [
        *(("index", what) for what in TAKEN),
        ("unique", "view"),
        ("index of a new table", "sequence"),
        ("unique of a new table", "index of another table"),
    ],
)
def test_a_name_that_something_else_has_stops_the_run_before_it_begins(
    database: sa.Engine, what: str, how: str
) -> None:
    """Relations share their names within a schema: whose name it is is said when planning, and nothing was done."""
    statement, said = TAKEN[what]
    send(database, statement)
    made: Any = (
        sa.Index("ix_users_name", "name")
        if "index" in how
        else sa.UniqueConstraint("name", name="ix_users_name")
    )
    change = upgrade(beside=made) if "new table" in how else upgrade(made)
    with pytest.raises(PlanRefusedError) as refused:
        emc.plan(change, database)
    [refusal] = refused.value.refusals
    assert "ix_users_name" in refusal.reason
    assert said in refusal.reason


LONG = "ü" * 32
"""Fits into the 63 characters that SQLAlchemy allows, and not into the server's 63 bytes."""


@pytest.mark.parametrize(
    "models",
    [
        lambda: upgrade(sa.Column(LONG, sa.Integer)),
        lambda: upgrade(beside=sa.Column(LONG, sa.Integer)),
        lambda: upgrade(sa.Column("mood", sa.Enum("glad", name=LONG))),
        lambda: upgrade(sa.UniqueConstraint("name", name=LONG)),
    ],
    ids=["column", "column of a new table", "type", "unique"],
)
def test_a_name_that_the_server_would_cut_is_refused(
    database: sa.Engine, models: Callable[[], Upgrade]
) -> None:
    """What was made under half a name would not be found again, and be made again for ever."""
    with pytest.raises(PlanRefusedError) as caught:
        emc.plan(models(), database)
    assert "takes 64 bytes, of which PostgreSQL keeps 63" in str(caught.value)


@pytest.mark.parametrize(
    ("there", "made", "said"),
    [
        (
            "CREATE INDEX name_of_two ON users (lower(name))",
            lambda: sa.UniqueConstraint("name", name="name_of_two"),
            "USING btree (lower(name))",
        ),
        (
            "ALTER TABLE users ADD CONSTRAINT name_of_two CHECK (name <> '')",
            lambda: sa.UniqueConstraint("name", name="name_of_two"),
            "CHECK (name <> ''::text)",
        ),
        (
            "ALTER TABLE users ADD CONSTRAINT name_of_two UNIQUE (name)",
            lambda: sa.CheckConstraint("name <> ''", name="name_of_two"),
            "UNIQUE (name)",
        ),
    ],
)
def test_another_definition_under_the_name_is_shown_beside_the_wanted_one(
    database: sa.Engine, there: str, made: Callable[[], Any], said: str
) -> None:
    """What nobody has named is not dropped to make room for its namesake; the two definitions are said."""
    send(database, there)
    with pytest.raises(PlanRefusedError) as refused:
        emc.expand(upgrade(made()), database)
    [refusal] = refused.value.refusals
    assert said in refusal.reason
    assert "ADD CONSTRAINT name_of_two" in refusal.reason
    assert ask(database, "SELECT count(*) FROM pg_class WHERE relname LIKE 'emc%%'") == 0


def test_unnamed_constraint_whose_index_is_there(database: sa.Engine) -> None:
    """Killed between the index and the constraint, a run goes on with that index, also where the models name neither.

    emc took the name for another's and built ``users_name_key_2`` beside it; seen on PostgreSQL 15.
    """
    send(database, "CREATE UNIQUE INDEX users_name_key ON users (name)")
    change = upgrade(sa.UniqueConstraint("name"))
    assert [step.id for step in emc.plan(change, database).plan.contract] == [
        "add-unique:users.users_name_key"
    ]
    assert emc.contract(change, database, old_code_gone=True).exit_code is ExitCode.DONE
    uniques = "SELECT conname FROM pg_constraint WHERE contype = 'u' AND conrelid = 'users'::regclass"
    assert ask(database, uniques) == "users_name_key"
    assert ask(database, "SELECT count(*) FROM pg_indexes WHERE tablename = 'users'") == 2
    assert emc.plan(change, database).is_empty


def test_unnamed_constraint_beside_another_index(database: sa.Engine) -> None:
    """An index of that name that is something else is left alone, and the constraint gets the name that is free."""
    send(database, "CREATE INDEX users_name_key ON users (id)")
    change = upgrade(sa.UniqueConstraint("name"))
    assert [step.id for step in emc.plan(change, database).plan.contract] == [
        "add-unique:users.users_name_key_2"
    ]
