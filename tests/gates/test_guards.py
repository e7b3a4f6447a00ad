"""Guard, prove, drop on MariaDB: what other sessions do between any two of its statements is refused or seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    exists,
    func,
    not_,
    select,
)
from sqlalchemy.exc import DBAPIError

import emc
from emc.commands import PhaseReport
from emc.dialects import dialect_of
from emc.errors import (
    DatabaseUnavailableError,
    ExitCode,
    LockBudgetError,
    PlanRefusedError,
    StatementFailedError,
)
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.names import TableKey
from emc.state.ledger import Event
from emc.upgrade import Upgrade
from tests.gates.gating import Build, make, modelled, run_sql, table, upgrade_to

C = partial(partial, Column)
USERS = TableKey(None, "users")
GUARD = "CREATE TRIGGER"
PROOF = "SELECT count(*) AS count_1, coalesce(sum("
LOCK = "LOCK TABLES"
UNGUARD = "DROP TRIGGER `emc_guard"
DROP = "ALTER TABLE users DROP COLUMN a"
STRAGGLER = "INSERT INTO users (id, a) VALUES (7, 'x')"
ONCE = RetryPolicy(attempts=1, sleep=lambda _: None)
"""Gives up at once."""


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a fresh MariaDB database."""
    engine = create_engine(mariadb_url)
    yield engine
    engine.dispose()


@pytest.fixture
def other(mariadb_url: str) -> Iterator[Engine]:
    """Another program's engine on it, which waits for no lock."""
    other = create_engine(mariadb_url, connect_args={"init_command": "SET lock_wait_timeout = 1"})
    yield other
    other.dispose()


@contextmanager
def before(
    engine: Engine, beginning: str, happens: Callable[[], object], *, times: int = 1
) -> Iterator[list[str]]:
    """Right before emc sends a statement that begins so, something *happens*; answers the statements that were sent.

    :param times: how often at most.
    """
    sent: list[str] = []
    left = times

    @event.listens_for(engine, "before_cursor_execute")
    def about_to_send(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal left
        if statement.startswith(beginning) and left:
            left -= 1
            happens()
        sent.append(statement)

    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", about_to_send)
    assert left < times, f"nothing was sent that begins with {beginning!r}"


def old_release(m: MetaData) -> object:
    """The models before."""
    return table(C("a", String(9)), C("b", Integer))(m)


def retiring() -> Upgrade:
    """Column a goes once it holds no data."""
    return upgrade_to(table(C("b", Integer)), lambda upgrade, _: upgrade.retire("users.a"))


def contract(upgrade: Upgrade, engine: Engine, **more: Any) -> PhaseReport:
    """Run contract, with the old release gone."""
    return emc.contract(
        upgrade, engine, **{"old_code_gone": True, "retry": RetryPolicy(sleep=lambda _: None), **more}
    )


def columns(engine: Engine) -> set[str]:
    """The columns of users."""
    return set(live(engine).columns)


def live(engine: Engine, key: TableKey = USERS) -> Any:
    """A table as it is."""
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        return dialect.read(connection, [key.schema]).tables[key]


def rows(engine: Engine, sql: str = "SELECT id, a FROM users ORDER BY id") -> list[tuple[Any, ...]]:
    """What a query answers."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def assert_kept(report: PhaseReport, engine: Engine) -> None:
    """Nothing was dropped, a gate says why, and no guard is left."""
    assert report.done == ()
    assert report.exit_code is ExitCode.GATE_SHUT
    assert [one.step.id for one in report.blocked] == ["drop-column:users.a"]
    assert "a" in columns(engine)
    assert live(engine).guards == {}


def refused(other: Engine, statement: str) -> str:
    """What the guard says to *statement*."""
    with pytest.raises(DBAPIError) as caught:
        run_sql(other, statement)
    assert caught.value.orig is not None
    code, message = caught.value.orig.args[:2]
    assert code == 1644
    return str(message)


# -- stragglers --------------------------------------------------------------------------------------------------------


def test_a_drop_that_nobody_disturbs(engine: Engine) -> None:
    """The guard comes, every row is looked at, the column goes and takes the guard along; the ledger has the proof."""
    make(engine, old_release, users=[{"id": at} for at in range(1, 11)])
    with before(engine, GUARD, lambda: None) as sent:
        report = contract(retiring(), engine)
    assert report.done == ("drop-column:users.a",)
    assert report.exit_code is ExitCode.DONE
    order = [word for one in sent for word in (GUARD, PROOF, LOCK, UNGUARD, DROP) if one.startswith(word)]
    # InnoDB's own threads hold a table now and then, and NOWAIT is refused then: a statement is sent again, or, at the
    # last one, all of it begins anew.
    once = [GUARD, PROOF, LOCK, UNGUARD, DROP]
    words = [word for word, _ in groupby(order)]
    assert words == once * max(1, len(words) // len(once))
    assert live(engine).guards == {}
    assert emc.plan(retiring(), engine).is_empty
    (done,) = (
        one
        for one in emc.history(engine)
        if (one.event, one.operation) == (Event.DONE, "drop-column:users.a")
    )
    proof = done.details["evidence"]["data-elsewhere:users.a"]
    assert (proof["rows_seen"], proof["rows"]) == (10, 0)
    assert proof["predicate"] == "users.a IS DISTINCT FROM NULL"
    assert proof["seconds"] >= 0
    assert len(proof["guards"]) == 2
    assert str(done.server).startswith("MariaDB 1")


def test_a_writer_that_is_under_way_is_waited_for(engine: Engine, other: Engine) -> None:
    """The guard waits for a transaction that has written already; what it has written is seen, and keeps the column."""
    make(engine, old_release)
    straggler = other.connect()
    straggler.exec_driver_sql(STRAGGLER)
    waits: list[StepEvent] = []

    def hear(event: StepEvent) -> None:
        if event.state is StepState.WAITING:
            waits.append(event)
            straggler.commit()

    report = contract(retiring(), engine, report=hear)
    straggler.close()
    assert [event.step.id for event in waits] == ["guard:users.a"]
    assert_kept(report, engine)
    assert report.blocked[0].verdicts[0].rows == 1
    assert rows(engine) == [(7, "x")]


def test_a_writer_that_gives_up_is_no_obstacle(engine: Engine, other: Engine) -> None:
    """What is rolled back while the guard waits was never there."""
    make(engine, old_release)
    straggler = other.connect()
    straggler.exec_driver_sql(STRAGGLER)

    def hear(event: StepEvent) -> None:
        if event.state is StepState.WAITING:
            straggler.rollback()

    assert contract(retiring(), engine, report=hear).done == ("drop-column:users.a",)
    straggler.close()


def test_a_writer_that_does_not_end_costs_the_lock_budget(engine: Engine, other: Engine) -> None:
    """A guard that cannot be had within the budget is given up: exit code 4, who is in the way, and nothing left."""
    make(engine, old_release)
    with other.connect() as straggler:
        straggler.exec_driver_sql(STRAGGLER)
        with pytest.raises(LockBudgetError) as caught:
            contract(retiring(), engine, retry=RetryPolicy(attempts=4, sleep=lambda _: None))
        assert caught.value.exit_code is ExitCode.LOCK_BUDGET
        assert caught.value.step == "guard:users.a"
        assert [one.session for one in caught.value.blockers] == [
            str(straggler.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one())
        ]
    assert live(engine).guards == {}
    assert contract(retiring(), engine).done == ("drop-column:users.a",)


@pytest.mark.parametrize("moment", [PROOF, LOCK])
@pytest.mark.parametrize(
    "straggler",
    [STRAGGLER, "UPDATE users SET a = 'x' WHERE id = 1", "REPLACE INTO users (id, a) VALUES (1, 'x')"],
)
def test_who_writes_behind_the_guard_is_refused(
    engine: Engine, other: Engine, moment: str, straggler: str
) -> None:
    """Between guard and proof, and between proof and drop, a row that would be lost is refused; others are not."""
    make(engine, old_release, users=[{"id": 1}, {"id": 2}])
    messages: list[str] = []

    def write() -> None:
        messages.append(refused(other, straggler))
        run_sql(other, "INSERT INTO users (id, b) VALUES (8, 1)", "UPDATE users SET b = 2 WHERE id = 2")

    with before(engine, moment, write):
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert messages == ["emc: users.a is being dropped"]
    assert rows(engine, "SELECT id, b FROM users ORDER BY id") == [(1, None), (2, 2), (8, 1)]


def test_a_reader_that_stays_costs_the_lock_budget_at_the_drop(engine: Engine, other: Engine) -> None:
    """The drop waits briefly for an open transaction, then is given up with its guard; nothing is lost on the way."""
    make(engine, old_release)
    reader = other.connect()

    with (
        before(engine, LOCK, lambda: reader.exec_driver_sql("SELECT * FROM users").all()),
        pytest.raises(LockBudgetError) as caught,
    ):
        contract(
            retiring(),
            engine,
            retry=RetryPolicy(attempts=3, sleep=lambda _: None),
            report=lambda event: reader.rollback() if event.state is StepState.FAILED else None,
        )
    reader.close()
    assert caught.value.step == "drop-column:users.a"
    assert live(engine).guards == {}
    assert "a" in columns(engine)


def test_a_drop_that_finds_the_table_in_use_tries_again(engine: Engine, other: Engine) -> None:
    """The lock is asked for again, behind the same guard and the same proof."""
    make(engine, old_release)
    reader = other.connect()

    def hear(event: StepEvent) -> None:
        if event.state is StepState.WAITING:
            reader.rollback()

    with before(engine, LOCK, lambda: reader.exec_driver_sql("SELECT * FROM users").all()) as sent:
        assert contract(retiring(), engine, report=hear).done == ("drop-column:users.a",)
    reader.close()
    counted = [sum(one.startswith(word) for one in sent) for word in (GUARD, PROOF, LOCK, DROP)]
    assert counted == [2, 1, 2, 1]


# -- guards that somebody takes away -------------------------------------------------------------------------------


def unguard(engine: Engine, other: Engine) -> None:
    """Somebody drops the guards, and a straggler writes."""
    for name in live(engine).guards:
        run_sql(other, f"DROP TRIGGER {name}")
    run_sql(other, STRAGGLER)


@pytest.mark.parametrize("moment", [PROOF, LOCK])
def test_a_guard_that_somebody_takes_away_shuts_the_gate(engine: Engine, other: Engine, moment: str) -> None:
    """Without the guard the proof says nothing: nothing is dropped, and no row is lost."""
    make(engine, old_release)
    with before(engine, moment, lambda: unguard(engine, other)):
        report = contract(retiring(), engine)
    assert_kept(report, engine)
    assert rows(engine) == [(7, "x")]


@pytest.mark.parametrize("moment", [PROOF, LOCK])
def test_a_guard_that_was_away_for_a_moment_shuts_the_gate(
    engine: Engine, other: Engine, moment: str
) -> None:
    """Even where the last look finds no row again, the operation that was not done is reported as blocked."""
    make(engine, old_release)

    def come_and_go() -> None:
        unguard(engine, other)
        run_sql(other, "DELETE FROM users")

    with before(engine, moment, come_and_go):
        report = contract(retiring(), engine)
    assert_kept(report, engine)
    assert "took away guard emc_guard_" in report.blocked[0].verdicts[0].reason


def test_a_guard_that_was_changed_shuts_the_gate(engine: Engine, other: Engine) -> None:
    """The definition counts, not the name."""
    make(engine, old_release)

    def change() -> None:
        names = list(live(engine).guards)
        unguard(engine, other)
        for name in names:
            run_sql(other, f"CREATE TRIGGER {name} AFTER INSERT ON users FOR EACH ROW SET @seen = 1")

    with before(engine, PROOF, change):
        report = contract(retiring(), engine)
    assert_kept(report, engine)
    assert rows(engine) == [(7, "x")]


# -- connections that are lost ---------------------------------------------------------------------------------------


class Killer:
    """Ends emc's session on the server, right before it sends something, while another session does something."""

    def __init__(self, engine: Engine, other: Engine, *meanwhile: str) -> None:
        self.other = other
        self.meanwhile = meanwhile
        self.session = 0
        event.listen(engine, "before_cursor_execute", self.note)

    def note(self, connection: Connection, *_: Any) -> None:
        """Remember whose statement is about to be sent."""
        self.session = connection.connection.dbapi_connection.thread_id()  # type: ignore[union-attr]

    def strike(self) -> None:
        """Now."""
        run_sql(self.other, f"KILL CONNECTION {self.session}", *self.meanwhile)


MOMENTS = [GUARD, PROOF, LOCK, UNGUARD, DROP]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_lost_connection_begins_where_nothing_is_lost(engine: Engine, other: Engine, moment: str) -> None:
    """Whichever statement the connection is lost at: the column goes in the end, behind a guard and a proof."""
    make(engine, old_release, users=[{"id": 1}])
    killer = Killer(engine, other)
    with before(engine, moment, killer.strike) as sent:
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert live(engine).guards == {}
    last = len(sent) - 1 - sent[::-1].index(next(one for one in sent[::-1] if one.startswith(DROP)))
    guards, proofs = (
        [at for at, one in enumerate(sent[:last]) if one.startswith(w)] for w in (UNGUARD, PROOF)
    )
    assert proofs[-1] < guards[-1]


@pytest.mark.parametrize("moment", [UNGUARD, DROP])
def test_who_writes_when_the_lock_is_lost_is_seen(engine: Engine, other: Engine, moment: str) -> None:
    """Between DROP TRIGGER and the drop the lock ends with the connection: the drop never runs without it."""
    make(engine, old_release)
    killer = Killer(engine, other, *([STRAGGLER] if moment == DROP else []))
    with before(engine, moment, killer.strike) as sent:
        report = contract(retiring(), engine)
    if moment == DROP:
        assert_kept(report, engine)
        assert rows(engine) == [(7, "x")]
        assert sum(one.startswith(DROP) for one in sent) == 1
    else:
        assert report.done == ("drop-column:users.a",)


def test_a_connection_that_is_always_lost_ends_the_run(engine: Engine, other: Engine) -> None:
    """Somebody who ends each session at the drop gets an error at last, with no guard left behind."""
    make(engine, old_release)
    killer = Killer(engine, other)
    with (
        before(engine, DROP, killer.strike, times=100),
        pytest.raises(DatabaseUnavailableError, match="5 times"),
    ):
        contract(retiring(), engine)
    assert "a" in columns(engine)
    assert live(engine).guards == {}


def test_a_drop_that_the_server_refuses_takes_the_guard_away(engine: Engine, other: Engine) -> None:
    """Under the lock the drop fails: the person hears why, and writes are not refused any more."""
    make(engine, old_release)
    generated = "ALTER TABLE users ADD COLUMN g INT AS (CHAR_LENGTH(a)) VIRTUAL"
    with (
        before(engine, LOCK, lambda: run_sql(other, generated)),
        pytest.raises((StatementFailedError, PlanRefusedError), match=r"(?i)generated"),
    ):
        contract(retiring(), engine)
    assert live(engine).guards == {}
    run_sql(engine, STRAGGLER)


def test_an_interrupt_takes_the_guard_away(engine: Engine) -> None:
    """Ctrl-C while the rows are looked at leaves nothing that would refuse a write."""
    make(engine, old_release)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with before(engine, PROOF, interrupt), pytest.raises(KeyboardInterrupt):
        contract(retiring(), engine)
    assert live(engine).guards == {}


# -- guards that an interrupted run left -----------------------------------------------------------------------------


class KilledError(BaseException):
    """Stands for the end of the process: nothing is cleaned up."""


@pytest.fixture
def die(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Ends a run as the end of its process would, with guards left in place."""

    def dead() -> None:
        monkeypatch.setattr("emc.commands.guarding.lift", lambda *_, **__: None)
        raise KilledError

    return dead


def interrupted(
    upgrade: Upgrade, engine: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of contract that ended between guard and proof."""
    with before(engine, PROOF, die), pytest.raises(KilledError):
        contract(upgrade, engine)
    monkeypatch.undo()
    assert len(live(engine).guards) == 2


def test_guards_in_place_are_told(
    engine: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan and status name the guards that stand; they are no differences."""
    make(engine, old_release)
    interrupted(retiring(), engine, die, monkeypatch)
    plan = emc.plan(retiring(), engine).plan
    (note,) = [note for note in plan.notes if note.kind == "guard"]
    assert note.target == "users"
    assert all(name in note.text for name in live(engine).guards)
    assert [step.id for step in plan.contract] == ["drop-column:users.a"]
    assert plan.unmanaged == ()
    assert "emc contract" in emc.status(retiring(), engine).next


def test_a_guard_that_is_needed_is_used_again(
    engine: Engine, other: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run goes on from the guard that stands, and looks at every row again."""
    make(engine, old_release)
    interrupted(retiring(), engine, die, monkeypatch)
    refused(other, STRAGGLER)
    with before(engine, PROOF, lambda: None) as sent:
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert not any(one.startswith(GUARD) for one in sent)


def test_a_guard_that_somebody_changed_is_made_anew(
    engine: Engine, other: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands under the name of a guard, and is none, is replaced before the proof."""
    make(engine, old_release)
    interrupted(retiring(), engine, die, monkeypatch)
    name = next(iter(live(engine).guards))
    run_sql(
        other, f"DROP TRIGGER {name}", f"CREATE TRIGGER {name} BEFORE INSERT ON users FOR EACH ROW SET @x = 1"
    )
    with before(engine, PROOF, lambda: refused(other, STRAGGLER)):
        assert contract(retiring(), engine).done == ("drop-column:users.a",)


@pytest.mark.parametrize("word", [True, False])
def test_a_guard_that_nothing_needs_is_taken_away(
    engine: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch, word: bool
) -> None:
    """Where the column stays after all, the next contract takes the guard away, with or without the operator's word."""
    make(engine, old_release)
    interrupted(retiring(), engine, die, monkeypatch)
    kept = upgrade_to(old_release)
    assert emc.status(kept, engine).next.startswith("emc contract")
    assert contract(kept, engine, old_code_gone=word).steps == ()
    assert live(engine).guards == {}
    run_sql(engine, STRAGGLER)
    assert not emc.plan(kept, engine).plan.notes


def test_a_guard_goes_where_the_gate_is_shut(
    engine: Engine, other: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the gate is shut nothing refuses writes, since a row in the way could not be written at all."""
    make(engine, old_release)
    interrupted(retiring(), engine, die, monkeypatch)
    for name in live(engine).guards:
        run_sql(other, f"DROP TRIGGER {name}")
    run_sql(other, STRAGGLER)
    interrupted_again = contract(retiring(), engine, old_code_gone=False)
    assert interrupted_again.exit_code is ExitCode.GATE_SHUT
    run_sql(other, "UPDATE users SET b = 3 WHERE id = 7")


def test_a_dry_run_leaves_guards_alone(
    engine: Engine, die: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking changes nothing."""
    make(engine, old_release)
    interrupted(retiring(), engine, die, monkeypatch)
    contract(retiring(), engine, dry_run=True)
    contract(upgrade_to(old_release), engine, dry_run=True)
    assert len(live(engine).guards) == 2


# -- claims ----------------------------------------------------------------------------------------------------------


def moving(where: Callable[[Any], Any]) -> Upgrade:
    """Column a goes once a data migration has moved it to b."""

    def declare(upgrade: Upgrade, t: Any) -> None:
        @upgrade.data_migration(t["users"], name="move", where=where)
        def move(row: Any) -> dict[str, Any]:
            return {"b": int(row.a)}

        upgrade.retire("users.a", after=["move"])

    return upgrade_to(table(C("b", Integer)), declare)


def test_rows_that_a_data_migration_has_not_seen_are_refused(engine: Engine, other: Engine) -> None:
    """Where `after` says what counts, the guard refuses what its condition finds, and rows of which it does not say."""
    make(engine, old_release, users=[{"id": 1, "a": "5"}, {"id": 2, "a": "6", "b": 6}])
    upgrade = moving(lambda live: live.c.b != func.coalesce(live.c.a, -1))
    run_sql(engine, "UPDATE users SET b = 4 WHERE id = 1")
    assert emc.migrate(upgrade, engine).exit_code is ExitCode.DONE
    messages: list[str] = []

    def write() -> None:
        messages.append(refused(other, "INSERT INTO users (id, a, b) VALUES (3, '7', 8)"))
        messages.append(refused(other, "INSERT INTO users (id, a) VALUES (3, '7')"))
        run_sql(other, "INSERT INTO users (id, a, b) VALUES (3, '7', 7)")

    with before(engine, LOCK, write) as sent:
        assert contract(upgrade, engine).done == ("drop-column:users.a",)
    assert set(messages) == {"emc: users.a is being dropped, and data migration move has not seen this row"}
    assert sum(one.startswith(GUARD) for one in sent) == 2  # two gates ask the same, and share the guard
    assert rows(engine, "SELECT id, b FROM users ORDER BY id") == [(1, 5), (2, 6), (3, 7)]


def test_a_table_is_closed_before_it_goes(engine: Engine, other: Engine) -> None:
    """A retired table takes no new rows from the guard on."""
    make(engine, lambda m: (old_release(m), table(name="logs")(m)))
    upgrade = upgrade_to(old_release, lambda upgrade, _: upgrade.retire("logs"))
    messages: list[str] = []
    with before(engine, LOCK, lambda: messages.append(refused(other, "INSERT INTO logs VALUES (1)"))):
        assert contract(upgrade, engine).done == ("drop-table:logs",)
    assert messages == ["emc: logs is being dropped"]


def test_a_discarded_column_needs_no_guard(engine: Engine) -> None:
    """Where a person has said that the data may be lost, nobody's writes are refused for it."""
    make(engine, old_release, users=[{"id": 1, "a": "x"}])
    upgrade = upgrade_to(
        table(C("b", Integer)), lambda upgrade, _: upgrade.discard("users.a", reason="a cache")
    )
    with before(engine, DROP, lambda: None) as sent:
        assert contract(upgrade, engine).done == ("drop-column:users.a",)
    assert not any(one.startswith((GUARD, LOCK)) for one in sent)


def test_what_cannot_be_guarded_keeps_the_gate_shut(engine: Engine) -> None:
    """A condition that speaks of other rows could come true behind the proof: the gate says so, and how to go on."""
    make(engine, lambda m: (old_release(m), table(C("user_id", Integer), name="notes")(m)), users=[{"id": 1}])

    def declare(upgrade: Upgrade, t: Any) -> None:
        noted = exists(select(1).where(t["notes"].c.user_id == t["users"].c.id))

        @upgrade.data_migration(t["users"], name="note", where=not_(noted))
        def note(row: Any, connection: Connection) -> None:
            connection.execute(t["notes"].insert().values(id=row.id, user_id=row.id))

        upgrade.retire("users.a", after=["note"])

    upgrade = upgrade_to(
        lambda m: (table(C("b", Integer))(m), table(C("user_id", Integer), name="notes")(m)), declare
    )
    emc.migrate(upgrade, engine)
    verdicts = {v.gate: v for v in emc.plan(upgrade, engine).verdicts["drop-column:users.a"]}
    verdict = verdicts["data-elsewhere:users.a"]
    assert not verdict.open
    assert "subquery" in verdict.reason
    assert "--override data-elsewhere:users.a" in str(verdict.remedy)
    report = contract(upgrade, engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    assert live(engine).guards == {}
    overridden = {gate: "checked by hand" for gate, v in verdicts.items() if "subquery" in v.reason}
    assert contract(upgrade, engine, overrides=overridden).done == ("drop-column:users.a",)


def test_prepared_transactions_are_waited_for(engine: Engine, other: Engine) -> None:
    """A transaction that was prepared and left by its session brings its rows in past every guard: it has to end."""
    make(engine, old_release)
    leaver = other.raw_connection()
    leaver.detach()
    for statement in ("XA START 'left'", STRAGGLER, "XA END 'left'", "XA PREPARE 'left'"):
        leaver.cursor().execute(statement)
    assert leaver.dbapi_connection is not None
    leaver.dbapi_connection.close()
    with pytest.raises(LockBudgetError, match="XA RECOVER"):
        contract(retiring(), engine, retry=ONCE)
    assert live(engine).guards == {}

    def commit(_: float) -> None:
        if rows(other, "XA RECOVER"):
            with other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("XA COMMIT 'left'")

    assert_kept(contract(retiring(), engine, retry=RetryPolicy(sleep=commit)), engine)
    assert rows(engine) == [(7, "x")]


def test_quoted_names_and_other_schemas(engine: Engine, other: Engine) -> None:
    """Names that need quotes, and tables of another database, are guarded like any."""
    schema = f"{engine.url.database}_too"
    with_quotes = "o`dd %s :x"
    run_sql(engine, f"CREATE DATABASE {schema}")
    try:
        odd = lambda m: Table(  # noqa: E731
            "we`ird", m, Column("id", Integer, primary_key=True), schema=schema
        )
        run_sql(
            engine,
            f"CREATE TABLE {schema}.`we``ird` (id INT PRIMARY KEY AUTO_INCREMENT, `o``dd %%s :x` VARCHAR(9))",
            f"INSERT INTO {schema}.`we``ird` (id) VALUES (1)",
        )
        upgrade = upgrade_to(odd, lambda upgrade, _: upgrade.retire(f'{schema}.we`ird."{with_quotes}"'))
        messages: list[str] = []
        insert = f"INSERT INTO {schema}.`we``ird` VALUES (2, 'x')"
        with before(engine, LOCK, lambda: messages.append(refused(other, insert))):
            assert contract(upgrade, engine).exit_code is ExitCode.DONE
        assert messages == [f'emc: {schema}.we`ird."{with_quotes}" is being dropped']
        assert set(live(engine, TableKey(schema, "we`ird")).columns) == {"id"}
    finally:
        run_sql(engine, f"DROP DATABASE {schema}")


# -- foreign keys ------------------------------------------------------------------------------------------------------

SWAP = "SET STATEMENT foreign_key_checks=0 FOR ALTER TABLE orders"


def orders(*more: Any) -> Build:
    """A child and its parent."""
    return lambda m: (
        old_release(m),
        Table(
            "orders",
            m,
            Column("id", Integer, primary_key=True),
            Column("user_id", Integer, *(one() for one in more)),
        ),
    )


def referring() -> Upgrade:
    """The child gets its foreign key."""
    return upgrade_to(orders(lambda: ForeignKey("users.id", name="fk_orders_user")))


def foreign_keys(engine: Engine) -> list[str]:
    """The names of the child's foreign keys."""
    return [one["name"] for one in live(engine, TableKey(None, "orders")).foreign_keys]


def test_a_foreign_key_guards_itself(engine: Engine, other: Engine) -> None:
    """It stands under a guard's name first, so that no new row is without a parent, until all are looked at."""
    make(engine, orders(), users=[{"id": 1}], orders=[{"id": 1, "user_id": 1}, {"id": 2}])
    messages: list[Any] = []

    def write() -> None:
        with pytest.raises(DBAPIError) as caught:
            run_sql(other, "INSERT INTO orders VALUES (3, 99)")
        messages.append(caught.value.orig.args[0])  # type: ignore[union-attr]

    with before(engine, PROOF, write):
        report = contract(referring(), engine)
    assert report.done == ("add-foreign-key:orders.fk_orders_user",)
    assert messages == [1452]
    assert foreign_keys(engine) == ["fk_orders_user"]
    after = live(engine, TableKey(None, "orders"))
    assert after.guards == {}
    assert emc.plan(referring(), engine).is_empty
    fresh = modelled(orders(lambda: ForeignKey("users.id", name="fk_orders_user")))
    run_sql(engine, "DROP TABLE orders, users")
    fresh.create_all(engine)
    anew = live(engine, TableKey(None, "orders"))
    assert (after.foreign_keys, after.implied, after.indexes) == (
        anew.foreign_keys,
        anew.implied,
        anew.indexes,
    )


def test_a_row_without_parent_shuts_the_gate(engine: Engine, other: Engine) -> None:
    """An orphan that came before the guard is found by the proof, and the guard is taken away again."""
    make(engine, orders(), users=[{"id": 1}])
    with before(engine, "SET STATEMENT", lambda: run_sql(other, "INSERT INTO orders VALUES (3, 99)")):
        report = contract(referring(), engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    assert report.blocked[0].verdicts[0].gate == "no-orphans:orders.fk_orders_user"
    assert live(engine, TableKey(None, "orders")).guards == {}
    assert foreign_keys(engine) == []
    run_sql(other, "INSERT INTO orders VALUES (4, 98)")


def test_a_foreign_key_whose_guard_is_gone_is_not_added(engine: Engine, other: Engine) -> None:
    """The statement that gives the foreign key its name fails where the guard is gone."""
    make(engine, orders(), users=[{"id": 1}])
    times = 0

    def unguard_at_the_swap() -> None:
        nonlocal times
        times += 1
        if times == 2:
            (name,) = live(engine, TableKey(None, "orders")).guards
            run_sql(other, f"ALTER TABLE orders DROP FOREIGN KEY {name}", "INSERT INTO orders VALUES (3, 99)")

    with before(engine, SWAP, unguard_at_the_swap, times=2):
        report = contract(referring(), engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    assert foreign_keys(engine) == []
    assert rows(engine, "SELECT * FROM orders") == [(3, 99)]
