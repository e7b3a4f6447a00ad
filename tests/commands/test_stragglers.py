"""Whoever writes duplicates and orphans until the constraint stands: contract cleans up again, or says it cannot."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

import emc
from emc.cli.running import Live
from emc.cli.terminal import Terminal
from emc.commands import PhaseReport, stragglers
from emc.data import BatchPolicy
from emc.errors import ExitCode
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.state.ledger import Event
from emc.upgrade import Upgrade

QUICK = RetryPolicy(sleep=lambda _: None)
OLD = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50))",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER)",
    "INSERT INTO users VALUES (1, 'a'), (2, 'a'), (3, 'b')",
    "INSERT INTO orders VALUES (1, 1), (2, 3), (3, 99)",
)


def upgrade_of(
    *,
    unique: bool = False,
    constraint: bool = False,
    key: bool = False,
    declared: bool = True,
    merges: bool = False,
    action: Any = "delete",
) -> Upgrade:
    """Users with a unique address, by an index or by a constraint, or orders with a foreign key."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("email", String(50)),
    )
    refers = [ForeignKey("users.id", name="fk_orders_user")] if key else []
    orders = Table(
        "orders",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("user_id", Integer, *refers),
    )
    if unique:
        Index("uq_users_email", users.c.email, unique=True)
    if constraint:
        users.append_constraint(UniqueConstraint(users.c.email, name="uq_users_email"))
    upgrade = Upgrade(metadata, release="2")

    def merge(winner: Row[Any], loser: Row[Any], connection: Connection) -> None:
        connection.execute(orders.insert().values(id=loser.id + 1000, user_id=winner.id))

    if declared and (unique or constraint):
        upgrade.deduplicate(users.c.email, keep=users.c.id, merge=merge if merges else None)
    if declared and key:
        upgrade.orphans(orders.c.user_id, action=action)
    return upgrade


def send(engine: Engine, *statements: str) -> None:
    """Another session commits *statements*."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def migrated(engine: Engine, upgrade: Upgrade) -> None:
    """The database of the old release, cleaned up once."""
    send(engine, *OLD)
    assert emc.migrate(upgrade, engine, batch=BatchPolicy(fast=True)).exit_code is ExitCode.DONE


def contract(engine: Engine, upgrade: Upgrade) -> PhaseReport:
    """Contract, without pauses."""
    return emc.contract(upgrade, engine, old_code_gone=True, retry=QUICK)


def rounds(engine: Engine) -> list[Any]:
    """The clean-ups of contract, as the ledger has them."""
    return [
        entry.details
        for entry in emc.history(engine)
        if entry.event is Event.FINISHED and entry.phase == "contract"
    ]


@contextmanager
def writing(engine: Engine, when: str, *statements: str, times: int = 1) -> Iterator[list[str]]:
    """Another session commits *statements* right before those that begin with *when*; answers where it could not."""
    other, done, locked_out = create_engine(engine.url), list[str](), list[str]()

    @event.listens_for(engine, "before_cursor_execute")
    def sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(when) and len(done) < times:
            done.append(statement)
            try:
                send(
                    other, *WAITS[engine.dialect.name], *(one.format(n=100 + len(done)) for one in statements)
                )
            except DBAPIError:  # emc keeps writers out: this one gives up.
                locked_out.append(statement)

    yield locked_out
    event.remove(engine, "before_cursor_execute", sent)
    other.dispose()


WAITS = {
    "postgresql": ["SET LOCAL lock_timeout = '20ms'"],
    "mariadb": ["SET lock_wait_timeout = 0"],
    "mysql": [],
}
SECOND = "INSERT INTO users VALUES (1{n}, 'b')"
DUPLICATE, ORPHAN = "INSERT INTO users VALUES ({n}, 'b')", "INSERT INTO orders VALUES ({n}, 99)"


@pytest.mark.parametrize("what", ["unique", "key"])
def test_what_came_after_migrate_is_cleaned_up(engine: Engine, what: str) -> None:
    """Rows that the declaration names, written since migrate was complete, go before the constraint comes."""
    upgrade = upgrade_of(**{what: True})
    migrated(engine, upgrade)
    send(engine, DUPLICATE.format(n=7), ORPHAN.format(n=7))
    foreseen = emc.contract(upgrade, engine, old_code_gone=True, dry_run=True)
    assert (foreseen.exit_code, foreseen.done, rounds(engine)) == (ExitCode.DONE, (), [])
    assert [(one.rows_done, one.rows_left) for one in foreseen.cleaned] == [(0, 1)]
    report = contract(engine, upgrade)
    assert (report.exit_code, len(report.done)) == (ExitCode.DONE, 1)
    assert [(one.outcome, one.rows_done) for one in report.cleaned] == [("complete", 1)]
    [cleaned] = rounds(engine)
    assert (cleaned["rows_done"], cleaned["for"]) == (1, list(report.done))
    assert emc.plan(upgrade, engine).is_empty
    with engine.connect() as connection:
        left = connection.execute(
            text(f"SELECT count(*) FROM {'users' if what == 'unique' else 'orders'}")
        ).scalar()
    assert left == 2


@pytest.mark.parametrize("what", ["unique", "key"])
def test_what_migrate_has_not_done_is_not_done_by_contract(engine: Engine, what: str) -> None:
    """As long as migrate was never complete, contract deletes nothing, and says what to run."""
    upgrade = upgrade_of(**{what: True})
    send(engine, *OLD)
    report = contract(engine, upgrade)
    assert (report.exit_code, report.done, rounds(engine)) == (ExitCode.GATE_SHUT, (), [])
    assert "emc migrate --only" in str(report.blocked[0].verdicts[0].remedy)


def test_rows_that_are_left_to_a_person_are_left(engine: Engine) -> None:
    """With ``report`` migrate says how many there are, and which; contract stays out of it until they are repaired."""
    upgrade = upgrade_of(key=True, action="report")
    send(engine, *OLD)
    for _ in range(2):
        report = emc.migrate(upgrade, engine)
        [result] = report.results
        assert (report.exit_code, result.outcome, result.rows_left) == (ExitCode.GATE_SHUT, "reported", 1)
        assert "id=3: user_id=99 has no parent" in str(result.reason)
        blocked = contract(engine, upgrade).blocked[0].verdicts[0]
        assert (blocked.gate, blocked.rows, blocked.keys) == (
            "no-orphans:orders.fk_orders_user",
            1,
            ("id=3",),
        )
    send(engine, "UPDATE orders SET user_id = 1 WHERE id = 3")
    assert emc.migrate(upgrade, engine).exit_code is ExitCode.DONE
    assert contract(engine, upgrade).exit_code is ExitCode.DONE


@pytest.mark.parametrize("kind", ["postgresql_url", "mariadb_url"])
def test_a_duplicate_that_nobody_declared_shuts_the_gate(request: pytest.FixtureRequest, kind: str) -> None:
    """gh-ost #1636: born right before the build, it ends contract with exit code 3 and the row, not with an error."""
    engine = create_engine(request.getfixturevalue(kind))
    send(engine, *OLD, "DELETE FROM users WHERE id = 2")
    when = "CREATE UNIQUE INDEX" if kind.startswith("postgresql") else "ALTER TABLE"
    upgrade = upgrade_of(unique=True, declared=False)
    with writing(engine, when, DUPLICATE):
        report = contract(engine, upgrade)
    assert (report.exit_code, report.done) == (ExitCode.GATE_SHUT, ())
    [verdict] = report.blocked[0].verdicts
    assert (verdict.rows, verdict.keys) == (1, ("email='b' (2 rows)",))
    assert "upgrade.deduplicate" in str(verdict.remedy)
    # Nobody is hindered by what is left, and with the row gone it goes on.
    send(engine, "UPDATE users SET id = id WHERE email = 'b'", "DELETE FROM users WHERE id = 101")
    assert contract(engine, upgrade).exit_code is ExitCode.DONE
    assert emc.plan(upgrade, engine).is_empty
    engine.dispose()


@pytest.mark.parametrize("kind", ["postgresql_url", "mariadb_url"])
def test_a_straggler_that_cannot_be_cleaned_up(request: pytest.FixtureRequest, kind: str) -> None:
    """A row that others refer to keeps its place: contract says which, and why; it forces nothing."""
    engine = create_engine(request.getfixturevalue(kind))
    upgrade = upgrade_of(unique=True)
    migrated(engine, upgrade)
    send(
        engine,
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, user_id INTEGER, FOREIGN KEY (user_id) REFERENCES users (id))",
        "INSERT INTO users VALUES (7, 'b'), (8, 'b')",
        "INSERT INTO logs VALUES (1, 7)",
    )
    report = contract(engine, upgrade)
    assert (report.exit_code, report.done) == (ExitCode.GATE_SHUT, ())
    [verdict] = report.blocked[0].verdicts
    assert "could not clean them up" in verdict.reason
    assert "emc migrate --only deduplicate:users.email" in str(verdict.remedy)
    with engine.connect() as connection:
        left = connection.execute(text("SELECT id FROM users ORDER BY id")).scalars().all()
    assert left == [1, 3, 7]
    send(engine, "DELETE FROM logs")
    assert contract(engine, upgrade).exit_code is ExitCode.DONE
    engine.dispose()


def big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables count as too big for writers to wait unasked."""
    for where in ("postgresql.ground", "mysql.guards"):
        monkeypatch.setattr(f"emc.dialects.{where}.SMALL", -1)


@pytest.mark.parametrize("times", [1, 3, 99])
@pytest.mark.parametrize("kind", ["postgresql_url", "mariadb_url"])
def test_duplicates_born_right_before_each_build(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str, times: int
) -> None:
    """A bounded number of rounds: it ends with the constraint, or says that it was outrun, and hinders nobody."""
    big(monkeypatch)
    engine = create_engine(request.getfixturevalue(kind))
    upgrade = upgrade_of(unique=True)
    migrated(engine, upgrade)
    when = "CREATE UNIQUE INDEX" if kind.startswith("postgresql") else "ALTER TABLE"
    # The server is asked again up to three times for each round: it may only believe to see duplicates.
    tries = RetryPolicy(sleep=lambda _: None, doubts=0)
    with writing(engine, when, DUPLICATE, times=times):
        report = emc.contract(upgrade, engine, old_code_gone=True, retry=tries)
    if times < stragglers.ROUNDS:
        # MariaDB refuses one way of the ALTER, and is sent the next: two are born in one round.
        assert report.exit_code is ExitCode.DONE
        assert sum(one["rows_done"] for one in rounds(engine)) == times
        assert emc.plan(upgrade, engine).is_empty
    else:
        assert (report.exit_code, len(rounds(engine))) == (ExitCode.GATE_SHUT, stragglers.ROUNDS)
        [verdict] = report.blocked[0].verdicts
        assert verdict.rows
        assert f"cleaned up {stragglers.ROUNDS} times" in verdict.reason
        assert verdict.keys == ("email='b' (2 rows)",)
        assert "upgrade.allow(" in str(verdict.remedy)
        [failed] = [one for one in emc.history(engine) if one.event is Event.FAILED]
        assert (failed.operation, failed.details["round"]) == (report.blocked[0].step.id, stragglers.ROUNDS)
        send(engine, "UPDATE users SET id = id WHERE email = 'b'")
        assert contract(engine, upgrade).exit_code is ExitCode.DONE
    engine.dispose()


@pytest.mark.parametrize("kind", ["postgresql_url", "newest_postgresql_url"])
def test_a_build_that_fails_in_its_second_look_guards(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its index is INVALID, and refuses duplicates; it does so until another one has been built beside it."""
    big(monkeypatch)
    engine = create_engine(request.getfixturevalue(kind), pool_size=20)
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("email", String(50)),
    )
    Index("uq_users_email", func.held(users.c.email), unique=True)
    Table(
        "orders",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("user_id", Integer),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.deduplicate(users.c.email, keep=users.c.id)
    send(
        engine,
        """CREATE FUNCTION held(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
           'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN $1; END'""",
    )
    migrated(engine, upgrade)
    sent: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("CREATE UNIQUE INDEX", "DROP INDEX", "DO ")):
            sent.append(statement)

    other = create_engine(engine.url)
    refused: list[str] = []

    def straggle() -> None:
        with other.connect() as holder:
            holder.execute(text("SELECT pg_advisory_lock(42)"))
            holder.commit()
            started.set()
            while not other_sees(other, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                pass
            # The index does not hear of this row: the build is at its first look.
            with other.begin() as straggler:
                straggler.execute(text("INSERT INTO users VALUES (50, 'b')"))
            holder.execute(text("SELECT pg_advisory_unlock(42)"))
            holder.commit()

    started = threading.Event()
    with (
        once_before(engine, "CREATE UNIQUE INDEX", straggle, started),
        once_after_failure(engine, other, refused),
    ):
        report = contract(engine, upgrade)
    assert report.exit_code is ExitCode.DONE
    assert [one["rows_done"] for one in rounds(engine)] == [1]
    assert refused == ["refused"]
    builds = [one for one in sent if one.startswith("CREATE")]
    assert ["emc_new" in one for one in builds] == [False, True]
    assert not [one for one in sent if one.startswith("DROP INDEX CONCURRENTLY")]
    assert emc.plan(upgrade, engine).is_empty
    assert [one["name"] for one in inspect(engine).get_indexes("users")] == ["uq_users_email"]
    other.dispose()
    engine.dispose()


def other_sees(engine: Engine, query: str) -> bool:
    """Whether *query* answers a row."""
    with engine.connect() as connection:
        return connection.execute(text(query)).first() is not None


@contextmanager
def once_before(
    engine: Engine, when: str, what: Callable[[], None], started: threading.Event
) -> Iterator[None]:
    """Let *what* run beside the first statement that begins with *when*, which waits until it has started."""
    threads: list[threading.Thread] = []

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(when) and not threads:
            threads.append(threading.Thread(target=what))
            threads[0].start()
            started.wait(60)

    yield
    event.remove(engine, "before_cursor_execute", begin)
    for thread in threads:
        thread.join()


@contextmanager
def once_after_failure(engine: Engine, other: Engine, refused: list[str]) -> Iterator[None]:
    """Right before the second build, write another duplicate, and note down what became of it."""
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("CREATE UNIQUE INDEX"):
            seen.append(statement)
            if len(seen) == 2:
                try:
                    send(other, "INSERT INTO users VALUES (51, 'b')")
                except IntegrityError:
                    refused.append("refused")

    yield
    event.remove(engine, "before_cursor_execute", begin)


# -- one who goes on and on -----------------------------------------------------------------------------------------


@contextmanager
def somebody(engine: Engine, statement: str) -> Iterator[list[str]]:
    """Another program goes on writing such rows until the end; answers how it was refused, if it was."""
    other, over, refused = create_engine(engine.url), threading.Event(), list[str]()
    problems: list[BaseException] = []

    def write() -> None:
        for n in itertools.count(1000):
            # SQLite lets one write at a time, in no order: who never paused would keep emc out by that alone.
            if over.wait(0.02 if engine.dialect.name == "sqlite" else 0):
                return
            try:
                send(other, statement.format(n=n))
            except IntegrityError as error:
                refused.append(str(error.orig))
            except DBAPIError as error:
                if "lock" not in str(error.orig).lower():  # It waits its turn, and may give up.
                    problems.append(error)
                    return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield refused
    finally:
        over.set()
        thread.join()
        other.dispose()
    assert problems == []


@pytest.mark.parametrize("action", ["delete", "set null"])
def test_orphans_that_go_on_coming(engine: Engine, action: str) -> None:
    """The foreign key keeps them away while those behind it are cleaned up, so that contract comes to its end."""
    upgrade = upgrade_of(key=True, action=action)
    migrated(engine, upgrade)
    with somebody(engine, ORPHAN):
        report = contract(engine, upgrade)
    if engine.dialect.name != "sqlite":
        assert report.exit_code is ExitCode.DONE
    if report.exit_code is ExitCode.DONE:
        assert emc.plan(upgrade, engine).is_empty
    else:
        assert "cleaned up" in report.blocked[0].verdicts[0].reason
    with engine.connect() as connection:
        # No row that has its parent, and no row of a user, was touched.
        assert connection.execute(text("SELECT count(*) FROM orders WHERE id < 3")).scalar() == 2


def test_duplicates_that_go_on_coming(engine: Engine) -> None:
    """Contract ends with the constraint, or says that it was outrun; then the row, and what to do."""
    upgrade = upgrade_of(unique=True)
    migrated(engine, upgrade)
    with somebody(engine, DUPLICATE) as refused:
        report = emc.contract(
            upgrade, engine, old_code_gone=True, retry=RetryPolicy(sleep=lambda _: None, doubts=0)
        )
    if engine.dialect.name != "sqlite":
        assert report.exit_code is ExitCode.DONE
    if report.exit_code is ExitCode.DONE:
        assert all("uq_users_email" in one or "users.email" in one for one in refused)
        assert emc.plan(upgrade, engine).is_empty
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM users WHERE email = 'b'")).scalar() == 1
        return
    assert report.exit_code is ExitCode.GATE_SHUT
    [verdict] = report.blocked[0].verdicts
    assert "cleaned up" in verdict.reason
    assert verdict.rows
    # When they pause, one run is enough.
    assert contract(engine, upgrade).exit_code is ExitCode.DONE


@pytest.mark.parametrize("how", ["small", "allowed", "merged", "constraint"])
def test_who_was_disturbed_once_goes_on_where_nobody_writes(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The last duplicate goes in the transaction of the index, where that takes a moment or writers may be kept out."""
    engine = create_engine(postgresql_url)
    upgrade = upgrade_of(unique=how != "constraint", constraint=how == "constraint", merges=how == "merged")
    if how == "allowed":
        big(monkeypatch)
        upgrade.allow("create-index:users.uq_users_email", reason="agreed with everybody")
    migrated(engine, upgrade)
    told: list[StepEvent] = []
    # The first is born before the build, the second before the lock.
    with writing(engine, "CREATE UNIQUE INDEX", DUPLICATE) as kept_out, writing(engine, "LOCK TABLE", SECOND):
        report = emc.contract(upgrade, engine, old_code_gone=True, report=told.append, retry=QUICK)
    assert (report.exit_code, kept_out) == (ExitCode.DONE, [])
    assert [one.rows_done for one in report.cleaned] == [1, 1]
    assert [(one["rows_done"], one["round"]) for one in rounds(engine)] == [(1, 1), (1, 1)]
    assert [one.state for one in told if one.state is not StepState.WAITING] == [
        StepState.STARTED,
        StepState.CLEANED,
        StepState.STARTED,
        StepState.DONE,
    ]
    assert not [one for one in emc.history(engine) if one.event is Event.FAILED]
    assert emc.plan(upgrade, engine).is_empty
    [index] = inspect(engine).get_indexes("users")
    assert index["unique"]
    if how == "merged":
        with engine.connect() as connection:
            merged = connection.execute(
                text("SELECT id, user_id FROM orders WHERE id > 900 ORDER BY id")
            ).all()
        assert merged == [(1002, 1), (1101, 3), (2101, 3)]
    engine.dispose()


def test_a_last_duplicate_that_refuses_to_go(postgresql_url: str) -> None:
    """A row that others refer to is not forced under the lock either: contract says which, and leaves writers alone."""
    engine = create_engine(postgresql_url)
    upgrade = upgrade_of(unique=True)
    migrated(engine, upgrade)
    send(
        engine,
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, user_id INTEGER, FOREIGN KEY (user_id) REFERENCES users (id))",
    )
    referred = ("INSERT INTO users VALUES (201, 'b')", "INSERT INTO logs VALUES (1, 201)")
    with writing(engine, "CREATE UNIQUE INDEX", DUPLICATE), writing(engine, "LOCK TABLE", *referred):
        report = contract(engine, upgrade)
    assert (report.exit_code, report.done) == (ExitCode.GATE_SHUT, ())
    assert "could not clean them up" in report.blocked[0].verdicts[0].reason
    send(engine, "UPDATE users SET id = id WHERE email = 'b'", "DELETE FROM logs")
    assert contract(engine, upgrade).exit_code is ExitCode.DONE
    engine.dispose()


def test_the_command_line_tells_of_late_rows(postgresql_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit that starts over is not said to have failed."""
    engine = create_engine(postgresql_url)
    upgrade = upgrade_of(unique=True)
    migrated(engine, upgrade)
    with writing(engine, "CREATE UNIQUE INDEX", DUPLICATE), Live(Terminal()) as live:
        emc.contract(upgrade, engine, old_code_gone=True, report=live.hear, retry=QUICK)
    said = "".join(capsys.readouterr())
    assert (
        "create-index:users.uq_users_email: late rows: deduplicate:users.email cleaned up 1, starts over"
        in said
    )
    assert "failed" not in said
    engine.dispose()


def test_on_mariadb_the_last_duplicates_go_under_the_lock_of_the_index(mariadb_url: str) -> None:
    """Who writes one before each build is kept out in the end, and what was deleted then is in the ledger."""
    engine = create_engine(mariadb_url)
    upgrade = upgrade_of(unique=True)
    migrated(engine, upgrade)
    tries = RetryPolicy(sleep=lambda _: None, doubts=0)
    with (
        writing(engine, "ALTER TABLE", DUPLICATE, times=99) as kept_out,
        writing(engine, "LOCK TABLES users WRITE,", SECOND),
    ):
        report = emc.contract(upgrade, engine, old_code_gone=True, retry=tries)
    assert report.exit_code is ExitCode.DONE
    assert kept_out
    [done] = [one for one in emc.history(engine) if one.event is Event.DONE]
    assert [one.split()[0] for one in done.details["statements"]] == ["LOCK", "DELETE", "ALTER"]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM users ORDER BY id")).scalars().all() == [1, 3]
    assert emc.plan(upgrade, engine).is_empty
    engine.dispose()
