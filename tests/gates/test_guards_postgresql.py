"""Guard, prove, drop on PostgreSQL, where a table is too big to be looked at under the lock of the drop."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Date,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    cast,
    create_engine,
    event,
    exists,
    func,
    not_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

import emc
from emc.commands import PhaseReport
from emc.errors import ExitCode, LockBudgetError, PrivilegeError, StatementFailedError
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.names import TableKey, dotted
from emc.upgrade import Upgrade
from tests.gates.gating import make, run_sql, table, upgrade_to
from tests.gates.test_guards import before, columns, live, old_release, retiring, rows
from tests.servers import make_role

C = partial(partial, Column)
GUARD = "ALTER TABLE users ADD CONSTRAINT emc_guard_"
PROOF = "SELECT count(*) AS count_1, coalesce(sum("
LOCK = "LOCK TABLE users IN ACCESS EXCLUSIVE MODE"
UNGUARD = "ALTER TABLE users DROP CONSTRAINT emc_guard_"
DROP = "ALTER TABLE users DROP COLUMN a"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
STRAGGLER = "INSERT INTO users (id, a) VALUES (7, 'x')"


@pytest.fixture(autouse=True)
def big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table that has a row counts as too big to be looked at under a lock."""
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    """An engine on a fresh PostgreSQL database."""
    engine = create_engine(postgresql_url)
    yield engine
    engine.dispose()


@pytest.fixture
def other(postgresql_url: str) -> Iterator[Engine]:
    """Another program's engine on it."""
    other = create_engine(postgresql_url)
    yield other
    other.dispose()


def contract(upgrade: Upgrade, engine: Engine, **more: Any) -> PhaseReport:
    """Run contract, with the old release gone."""
    return emc.contract(
        upgrade, engine, **{"old_code_gone": True, "retry": RetryPolicy(sleep=lambda _: None), **more}
    )


def refused(other: Engine, statement: str) -> None:
    """The guard refuses *statement*."""
    with pytest.raises(DBAPIError, match="emc_guard_"):
        run_sql(other, statement)


def test_no_row_is_looked_at_under_the_lock(engine: Engine) -> None:
    """Guard, proof, and a drop whose lock does not depend on the number of rows."""
    make(engine, old_release, users=[{"id": 1}, {"id": 2}])
    with before(engine, GUARD, lambda: None) as sent:
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    order = [word for one in sent for word in (GUARD, PROOF, LOCK, UNGUARD, DROP) if one.startswith(word)]
    assert order == [GUARD, PROOF, LOCK, UNGUARD, DROP]
    held = sent[next(at for at, one in enumerate(sent) if one.startswith(LOCK)) : sent.index(DROP)]
    assert not [one for one in held if "FROM users" in one]
    assert live(engine).guards == {}
    assert emc.plan(retiring(), engine).is_empty
    done = next(
        one for one in emc.history(engine) if one.event == "done" and one.operation == "drop-column:users.a"
    )
    assert done.details["evidence"]["data-elsewhere:users.a"]["rows_seen"] == 2


def test_a_writer_that_is_under_way_is_waited_for(engine: Engine, other: Engine) -> None:
    """The guard waits for a transaction that has written already; what it has written is seen, and keeps the column."""
    make(engine, old_release)
    straggler = other.connect()
    straggler.exec_driver_sql(STRAGGLER)
    waits: list[str] = []

    def hear(event: StepEvent) -> None:
        if event.state is StepState.WAITING:
            waits.append(event.step.id)
            straggler.commit()

    report = contract(retiring(), engine, report=hear)
    straggler.close()
    assert waits == ["guard:users.a"]
    assert report.exit_code is ExitCode.GATE_SHUT
    assert rows(engine) == [(7, "x")]
    assert live(engine).guards == {}
    run_sql(other, "UPDATE users SET b = 1 WHERE id = 7")


def test_a_writer_that_does_not_end_costs_the_lock_budget(engine: Engine, other: Engine) -> None:
    """A guard that cannot be had within the budget is given up."""
    make(engine, old_release)
    with other.connect() as straggler:
        straggler.exec_driver_sql(STRAGGLER)
        with pytest.raises(LockBudgetError) as caught:
            contract(retiring(), engine, retry=RetryPolicy(attempts=2, sleep=lambda _: None))
        assert caught.value.step == "guard:users.a"
    assert live(engine).guards == {}


@pytest.mark.parametrize("moment", [PROOF, LOCK])
@pytest.mark.parametrize("straggler", [STRAGGLER, "UPDATE users SET a = 'x' WHERE id = 1"])
def test_who_writes_behind_the_guard_is_refused(
    engine: Engine, other: Engine, moment: str, straggler: str
) -> None:
    """Between guard and proof, and between proof and drop, a row that would be lost is refused; others are not."""
    make(engine, old_release, users=[{"id": 1}])

    def write() -> None:
        refused(other, straggler)
        run_sql(other, "INSERT INTO users (id, b) VALUES (8, 1)")

    with before(engine, moment, write):
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert rows(engine, "SELECT id, b FROM users ORDER BY id") == [(1, None), (8, 1)]


@pytest.mark.parametrize("moment", [PROOF, LOCK])
def test_a_guard_that_somebody_takes_away_shuts_the_gate(engine: Engine, other: Engine, moment: str) -> None:
    """Without the guard the proof says nothing: nothing is dropped, and no row is lost."""
    make(engine, old_release)

    def unguard() -> None:
        for name in live(engine).guards:
            run_sql(other, f"ALTER TABLE users DROP CONSTRAINT {name}")
        run_sql(other, STRAGGLER)

    with before(engine, moment, unguard):
        report = contract(retiring(), engine)
    assert (report.done, report.exit_code) == ((), ExitCode.GATE_SHUT)
    assert rows(engine) == [(7, "x")]


MOMENTS = [GUARD, "COMMENT ON CONSTRAINT emc_guard_", PROOF, LOCK, UNGUARD, DROP]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_lost_connection_begins_where_nothing_is_lost(engine: Engine, other: Engine, moment: str) -> None:
    """Whichever statement the connection is lost at: the column goes in the end, and no guard stays."""
    make(engine, old_release, users=[{"id": 1}])
    sessions: list[int] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Connection, *_: Any) -> None:
        sessions.append(connection.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]

    with before(engine, moment, lambda: run_sql(other, f"SELECT pg_terminate_backend({sessions[-1]})")):
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert live(engine).guards == {}


def test_a_guard_that_was_left_is_told_and_used_or_taken_away(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard that an interrupted run left is no difference; the next run goes on from it, or takes it away."""
    make(engine, old_release)

    class KilledError(BaseException):
        """Stands for the end of the process."""

    def die() -> None:
        monkeypatch.setattr("emc.commands.guarding.lift", lambda *_, **__: None)
        raise KilledError

    def interrupt() -> None:
        with before(engine, PROOF, die), pytest.raises(KilledError):
            contract(retiring(), engine)
        monkeypatch.undo()
        monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)

    interrupt()
    plan = emc.plan(retiring(), engine).plan
    assert [note.kind for note in plan.notes] == ["guard"]
    assert [step.id for step in plan.contract] == ["drop-column:users.a"]
    assert contract(upgrade_to(old_release), engine).steps == ()
    assert live(engine).guards == {}
    interrupt()
    with before(engine, PROOF, lambda: None) as sent:
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert not any(one.startswith(GUARD) for one in sent)


def test_a_table_that_has_grown_is_not_looked_at_under_the_lock(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics may call small what has grown since; under the lock the files are asked, and the gate is shut."""
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", 8192)
    make(engine, old_release, users=[{"id": 1}])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ALTER TABLE users SET (autovacuum_enabled = false)")
        connection.exec_driver_sql("VACUUM ANALYZE users")
    run_sql(engine, "INSERT INTO users (id) SELECT n FROM generate_series(2, 5000) n")
    with before(engine, LOCK, lambda: None) as sent:
        report = contract(retiring(), engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    [verdict] = report.blocked[0].verdicts
    assert (verdict.remedy or "").startswith("ANALYZE users;")
    asked, shut = (at for at, one in enumerate(sent) if one.startswith(LOCK) or "pg_table_size" in one)
    assert not [one for one in sent[asked:shut] if "FROM users" in one]
    run_sql(engine, "ANALYZE users")
    assert contract(retiring(), engine).done == ("drop-column:users.a",)


def noting(**allowed: str) -> Upgrade:
    """Column a is retired once each user has a note, which no CHECK on users could keep true."""

    def declare(upgrade: Upgrade, t: Any) -> None:
        noted = exists(select(1).where(t["notes"].c.user_id == t["users"].c.id))

        @upgrade.data_migration(t["users"], name="note", where=not_(noted))
        def note(row: Any, connection: Connection) -> None:
            connection.execute(t["notes"].insert().values(id=row.id, user_id=row.id))

        upgrade.retire("users.a", after=["note"])
        for reason in allowed.values():
            upgrade.allow("drop-column:users.a", reason=reason)

    return upgrade_to(
        lambda m: (table(C("b", Integer))(m), table(C("user_id", Integer), name="notes")(m)), declare
    )


def with_notes(engine: Engine) -> None:
    """The tables of the old release, with everything noted."""
    make(engine, lambda m: (old_release(m), table(C("user_id", Integer), name="notes")(m)), users=[{"id": 1}])
    assert emc.migrate(noting(), engine).exit_code is ExitCode.DONE


def test_what_no_check_could_keep_keeps_the_gate_shut(engine: Engine) -> None:
    """A condition that speaks of other rows would be proved under the lock of a big table: nobody may, unasked."""
    with_notes(engine)
    report = contract(noting(), engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    shut = [verdict for blocked in report.blocked for verdict in blocked.verdicts]
    assert [one.gate for one in shut] == ["data-elsewhere:users.a", "migrate-done:users.a"]
    assert all('upgrade.allow("drop-column:users.a", ' in (one.remedy or "") for one in shut)
    assert "a" in columns(engine)


def test_what_no_check_could_keep_is_looked_at_under_the_lock_where_somebody_agrees(
    engine: Engine, other: Engine
) -> None:
    """Then it is proved in the transaction of the drop, as for a small table: a straggler's row is seen."""
    with_notes(engine)
    agreed = noting(reason="on Sunday")
    with before(engine, LOCK, lambda: run_sql(other, STRAGGLER)) as sent:
        assert contract(agreed, engine).exit_code is ExitCode.GATE_SHUT
    assert not any(one.startswith(GUARD) for one in sent)
    assert "a" in columns(engine)
    assert emc.migrate(agreed, engine).exit_code is ExitCode.DONE
    assert contract(agreed, engine).done == ("drop-column:users.a",)


def slow_to_rewrite(engine: Engine) -> None:
    """A table that stands for one that takes long to copy: an index is computed anew for each row."""
    make(engine, table(C("b", Integer)))
    run_sql(
        engine,
        "INSERT INTO users (id, b) VALUES (1, 1)",
        "CREATE FUNCTION slow(bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(0.5)'",
        "CREATE INDEX ix_slow ON users (slow(CAST(b AS bigint)))",
    )


def test_what_somebody_agrees_to_may_take_long(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that is allowed is not cut off after the few seconds that a change of the catalog gets."""
    monkeypatch.setattr("emc.dialects.postgresql.sessions._METADATA_TIMEOUT", 0.2)
    slow_to_rewrite(engine)
    upgrade = upgrade_to(
        table(C("b", BigInteger)),
        lambda upgrade, _: upgrade.allow("alter-type:users.b", reason="on Sunday"),
    )
    report = emc.expand(upgrade, engine, retry=RetryPolicy(attempts=1, sleep=lambda _: None))
    assert report.done == ("alter-type:users.b",)


def test_what_takes_too_long_under_a_lock_is_not_tried_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt at a statement that is cut off has kept everybody out: nobody has to bear a fourth one."""
    monkeypatch.setattr("emc.dialects.postgresql.sessions._METADATA_TIMEOUT", 0.2)
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", 10**9)
    slow_to_rewrite(engine)
    again: list[int] = []

    def hear(event: StepEvent) -> None:
        if event.state is StepState.WAITING:
            again.append(event.attempt)

    policy = RetryPolicy(lock_timeout_cap=0.1, sleep=lambda _: None)
    with pytest.raises(StatementFailedError, match="took too long") as caught:
        emc.expand(upgrade_to(table(C("b", BigInteger))), engine, report=hear, retry=policy)
    assert again == [1, 2]
    assert 'upgrade.allow("alter-type:users.b"' in (caught.value.remedy or "")


def test_a_small_table_goes_once_a_big_one_is_done_without_a_look_at_it(
    engine: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that speak for the drop of a table may be those of another one, and many: there the guard stands."""
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", 8192)
    make(engine, lambda m: (old_release(m), table(C("code", String(9)), name="codes")(m)))
    run_sql(
        engine, "INSERT INTO users (id, a, b) SELECT n, 'x', 1 FROM generate_series(1, 1000) n", "ANALYZE"
    )

    def declare(upgrade: Upgrade, t: Any) -> None:
        upgrade.data_migration(t["users"], name="copy", where=t["users"].c.b.is_(None), values={"b": 1})
        upgrade.retire("codes", after=["copy"])

    upgrade = upgrade_to(old_release, declare)
    drop = "DROP TABLE codes"
    with before(engine, UNGUARD, lambda: refused(other, "INSERT INTO users (id) VALUES (0)")) as sent:
        assert contract(upgrade, engine).done == ("drop-table:codes",)
    locked = next(at for at, one in enumerate(sent) if one.startswith("LOCK TABLE codes"))
    assert any(one.startswith(GUARD) for one in sent[:locked])
    assert not [one for one in sent[locked : sent.index(drop)] if "FROM users" in one]
    assert live(engine).guards == {}
    # The migration is over with the table that it emptied, whatever rows come now.
    run_sql(other, "INSERT INTO users (id) VALUES (0)")
    assert emc.plan(upgrade, engine).is_empty


STRAGGLERS = (
    STRAGGLER,
    "INSERT INTO users (id, b) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET a = 'x'",
    "MERGE INTO users USING (VALUES (1)) new (id) ON users.id = new.id WHEN MATCHED THEN UPDATE SET a = 'x'",
    "WITH moved AS (DELETE FROM users RETURNING id) INSERT INTO users (id, a) SELECT id + 100, 'x' FROM moved",
    "SET session_replication_role = replica; UPDATE users SET a = 'x'",
    "DO $$ BEGIN UPDATE users SET a = 'x'; END $$",
)
"""Ways to write a value that is about to be dropped."""


def copy_in(other: Engine) -> None:
    """A straggler that loads rows in bulk."""
    with other.connect() as connection:
        dbapi: Any = connection.connection.dbapi_connection
        with dbapi.cursor().copy("COPY users (id, a) FROM STDIN") as copy:
            copy.write_row((9, "x"))


def test_no_way_to_write_is_open(engine: Engine, other: Engine) -> None:
    """Whichever statement a straggler uses, COPY and a replica's session too, behind the guard it is refused."""
    make(engine, old_release, users=[{"id": 1}])

    def write() -> None:
        for straggler in STRAGGLERS:
            refused(other, straggler)
        with pytest.raises(CheckViolation, match="emc_guard_"):
            copy_in(other)
        run_sql(other, "UPDATE users SET a = NULL, b = 5")

    with before(engine, PROOF, write):
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert rows(engine, "SELECT id, b FROM users") == [(1, 5)]


def test_a_prepared_transaction_is_waited_for(engine: Engine, other: Engine) -> None:
    """One that no session holds any more has its locks still: no guard stands before it is over."""
    make(engine, old_release)
    with other.connect().execution_options(isolation_level="AUTOCOMMIT") as straggler:
        for statement in ("BEGIN", STRAGGLER, "PREPARE TRANSACTION 'straggler'"):
            straggler.exec_driver_sql(statement)
        try:
            with pytest.raises(LockBudgetError):
                contract(retiring(), engine, retry=RetryPolicy(attempts=2, sleep=lambda _: None))
        finally:
            straggler.exec_driver_sql("COMMIT PREPARED 'straggler'")
    assert contract(retiring(), engine).exit_code is ExitCode.GATE_SHUT
    assert rows(engine) == [(7, "x")]


PARTED = {
    "partitions": (
        "CREATE TABLE users (id integer PRIMARY KEY, a varchar(9), b integer) PARTITION BY RANGE (id)",
        "CREATE TABLE child PARTITION OF users FOR VALUES FROM (0) TO (100)",
    ),
    "children": (
        "CREATE TABLE users (id integer PRIMARY KEY, a varchar(9), b integer)",
        "CREATE TABLE child () INHERITS (users)",
    ),
}


@pytest.mark.parametrize("kind", PARTED)
def test_parts_of_a_table_are_guarded_too(engine: Engine, other: Engine, kind: str) -> None:
    """A row goes into a partition or child by its own name, or comes along with one that is made or attached."""
    run_sql(engine, *PARTED[kind], "INSERT INTO child (id) VALUES (1)", "ANALYZE")
    run_sql(engine, "CREATE TABLE stray (id integer NOT NULL, a varchar(9), b integer)")
    run_sql(engine, "INSERT INTO stray VALUES (200, 'x', 2)")
    attach = {
        "partitions": "ALTER TABLE users ATTACH PARTITION stray FOR VALUES FROM (200) TO (300)",
        "children": "ALTER TABLE stray INHERIT users",
    }

    def write() -> None:
        refused(other, "INSERT INTO child (id, a) VALUES (7, 'x')")
        refused(other, STRAGGLER)
        refused(other, attach[kind])

    models = MetaData()
    options: dict[str, Any] = {"postgresql_partition_by": "RANGE (id)"} if kind == "partitions" else {}
    Table(
        "users",
        models,
        Column("id", Integer, primary_key=True, autoincrement=False),
        C("b", Integer)(),
        **options,
    )
    upgrade = Upgrade(models)
    upgrade.retire("users.a")
    with before(engine, PROOF, write) as sent:
        assert contract(upgrade, engine).done == ("drop-column:users.a",)
    assert any(one.startswith(GUARD) for one in sent)
    assert live(engine).guards == {}
    assert rows(engine, "SELECT * FROM users") == [(1, None)]
    assert rows(engine, "SELECT * FROM stray") == [(200, "x", 2)]


def test_rows_that_a_policy_hides_prove_nothing(postgresql_url: str) -> None:
    """Where row security applies to the owner too, nothing is proved from the rest of the rows, and nothing goes."""
    engine = create_engine(make_role(postgresql_url, "emc_test_hidden", "owner"))
    make(engine, old_release, users=[{"id": 1, "a": "x"}, {"id": 2}])
    run_sql(
        engine,
        "CREATE POLICY visible ON users USING (a IS NULL)",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    assert rows(engine, "SELECT id FROM users") == [(2,)]
    with pytest.raises(PrivilegeError, match="row-level security"):
        contract(retiring(), engine)
    run_sql(engine, "ALTER TABLE users NO FORCE ROW LEVEL SECURITY")
    assert contract(retiring(), engine).exit_code is ExitCode.GATE_SHUT
    engine.dispose()


def test_names_that_need_quotes_and_other_schemas(engine: Engine, other: Engine) -> None:
    """A guard stands whatever the names are: quotes, signs that drivers read, capitals, other schemas, 63 bytes."""
    odd, column = 'We"ird %s :x', "Ö" * 31
    run_sql(
        engine,
        'CREATE SCHEMA "Too"',
        f'CREATE TABLE "Too"."We""ird %%s :x" (id integer PRIMARY KEY, "{column}" varchar(9))',
        'INSERT INTO "Too"."We""ird %%s :x" (id) VALUES (1)',
    )
    models = MetaData()
    Table(odd, models, Column("id", Integer, primary_key=True, autoincrement=False), schema="Too")
    upgrade = Upgrade(models)
    upgrade.retire(dotted("Too", odd, column))
    with before(engine, PROOF, lambda: refused(other, f'UPDATE "Too"."We""ird %%s :x" SET "{column}" = 1')):
        assert contract(upgrade, engine).exit_code is ExitCode.DONE
    assert set(live(engine, TableKey("Too", odd)).columns) == {"id"}


CONDITIONS: dict[str, tuple[Callable[[Any], Any], str | None]] = {
    "null": (lambda t: t.c.a.is_(None), "a = NULL"),
    "text": (lambda t: t.c.a == "it's 100% b\\c :x", "a = 'it''s 100%% b\\c :x'"),
    "undecided": (lambda t: t.c.b > 5, "b = NULL"),
    "list": (lambda t: t.c.b.in_([1, 2]), "b = 2"),
    "document": (lambda t: t.c.doc["k"].astext == "it's", """doc = '{"k": "it''s"}'"""),
    "moment": (lambda t: t.c.at < LONG_AGO, "at = '2019-12-31 23:59:59+00'"),
    "clock": (lambda t: t.c.at < func.now() - func.make_interval(10), None),
    "time zone": (lambda t: func.date_trunc("day", t.c.at) > t.c.at, None),
    "unknown function": (lambda t: func.txid_current() < t.c.b - 10, None),
    "date as text": (lambda t: cast(t.c.day, String).like("%2019%"), None),
    "operator": (lambda t: t.c.b.op("%")(2) == 0, None),
}
"""Conditions, and what makes one true of a row, where a CHECK can ask it."""


def models(*more: Any) -> Any:
    """A table with a bit of everything."""
    zoned = DateTime(timezone=True)
    return table(C("a", String(40)), C("b", Integer), C("doc", JSONB), C("at", zoned), C("day", Date), *more)


@pytest.mark.parametrize("name", CONDITIONS)
def test_checks_refuse_what_the_query_finds(engine: Engine, other: Engine, name: str) -> None:
    """A CHECK asks the same as the query, NULL included; what may change without the row keeps the gate shut."""
    condition, violation = CONDITIONS[name]
    make(engine, models(C("old", Integer)))
    run_sql(
        engine,
        "INSERT INTO users VALUES (1, 'x', 5, '{\"k\": \"v\"}', '2021-01-01 00:00:00+00', '2021-01-01', 1)",
    )

    def declare(upgrade: Upgrade, t: Any) -> None:
        upgrade.data_migration(t["users"], name="move", where=condition)(lambda _: {})
        upgrade.retire("users.old", after=["move"])

    upgrade = upgrade_to(models(), declare)
    if violation is None:
        with before(engine, "SELECT", lambda: None) as sent:
            assert contract(upgrade, engine).exit_code is ExitCode.GATE_SHUT
        assert not [one for one in sent if one.startswith((GUARD, LOCK))]
        return

    def violate() -> None:
        refused(other, f"UPDATE users SET {violation}")
        run_sql(other, "SET TIME ZONE 'Asia/Tokyo'", "UPDATE users SET old = 2")

    with before(engine, LOCK, violate) as sent:
        report = contract(upgrade, engine)
    assert report.done == ("drop-column:users.old",)
    assert any(one.startswith(GUARD) for one in sent)
