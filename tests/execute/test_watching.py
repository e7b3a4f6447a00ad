"""How far a long statement is, as told while PostgreSQL carries it out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from emc.dialects.answers import Progress
from emc.dialects.postgresql.progress import VALIDATING
from emc.errors import StatementFailedError
from emc.execute import RetryPolicy, StepEvent, StepState, run_unit
from emc.phases import Phase
from emc.steps import LockPolicy, Step, Transaction
from tests.execute.course import Course, has_table, step
from tests.servers import make_role

HOLD = "SELECT pg_advisory_lock(4)"
LET_GO = "SELECT pg_advisory_unlock(4)"


@pytest.fixture
def held(pg: Course) -> Iterator[Connection]:
    """Another session, which holds what ``waits()`` waits for, in a transaction for each statement."""
    pg.sql(
        "CREATE FUNCTION waits(x anyelement) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_lock_shared(4); PERFORM pg_advisory_unlock_shared(4); RETURN true; END'"
    )
    with pg.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.exec_driver_sql(HOLD)
        yield other
        other.exec_driver_sql("SELECT pg_advisory_unlock_all()")


def building(statement: str, holds: str) -> Step:
    """A step whose statement may take as long as it likes, and is a transaction of its own."""
    return step("name", statement, holds=holds, transaction=Transaction.AUTOCOMMIT, locks=LockPolicy.WEAK)


def index(name: str) -> str:
    """A probe: is the index there, complete?"""
    return f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')"


def shown(
    course: Course, what: Step, enough: Callable[[Progress], bool], then: Callable[[], object]
) -> list[StepEvent]:
    """What is told while *what* runs; when *enough* has been told, *then* lets it go on."""
    events: list[StepEvent] = []
    waiting = True

    def hear(event: StepEvent) -> None:
        nonlocal waiting
        events.append(event)
        if waiting and event.progress is not None and enough(event.progress):
            waiting = False
            then()

    run(course, what, hear)
    assert not waiting
    return [event for event in events if event.state is StepState.RUNNING]


def run(course: Course, what: Step, hear: Callable[[StepEvent], None], every: float = 0.02) -> None:
    """Run *what*, and look at it often."""
    run_unit(
        course.engine,
        course.dialect,
        [what],
        lease=course.lease,
        release=None,
        phase=Phase.CONTRACT,
        retry=RetryPolicy(progress_every=every),
        report=hear,
    )


def pid(connection: Connection) -> str:
    """Its process."""
    return str(connection.execute(text("SELECT pg_backend_pid()")).scalar())


def test_a_build_names_whom_it_waits_for(pg: Course) -> None:
    """A concurrent build that waits for an open writer says so, with the session, and goes on when that has ended."""
    with pg.engine.connect() as writer:
        writer.exec_driver_sql("INSERT INTO users VALUES (9, 'the long import')")
        expected = pid(writer)
        writer.exec_driver_sql("SELECT 'the long import'")
        what = building("CREATE INDEX CONCURRENTLY i ON users (name)", holds=index("i"))
        events = shown(pg, what, lambda found: bool(found.waits_for), writer.rollback)
    told = next(event for event in events if event.progress is not None and event.progress.waits_for)
    assert told.progress is not None
    assert told.progress.doing == "waiting for writers before build"
    assert (told.progress.done, told.progress.total, told.progress.unit) == (0, 1, "transactions")
    [blocker] = told.progress.waits_for
    assert (blocker.session, blocker.query) == (expected, "SELECT 'the long import'")
    assert told.seconds > 0
    assert told.step is what


def test_dropping_an_index_names_whom_it_waits_for(pg: Course) -> None:
    """DROP INDEX CONCURRENTLY has no view of its own, and still says for whom it waits."""
    pg.sql("CREATE INDEX i ON users (name)")
    with pg.engine.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM users")
        expected = pid(reader)
        what = building("DROP INDEX CONCURRENTLY i", holds="SELECT to_regclass('i') IS NULL")
        events = shown(pg, what, lambda found: bool(found.waits_for), reader.rollback)
    last = events[-1].progress
    assert last is not None
    assert {one.session for event in events if event.progress for one in event.progress.waits_for} == {
        expected
    }


def test_a_build_counts_blocks(pg: Course, held: Connection) -> None:
    """While a build reads the table its blocks are counted, by the server's own view."""
    pg.sql("INSERT INTO users SELECT n, repeat('x', 90) FROM generate_series(10, 900) AS n")
    # Not at the first block: while it reads that one, the server (15) says that all are done.
    expression = "(CASE WHEN id > 500 THEN waits(id) END)"
    what = building(f"CREATE INDEX CONCURRENTLY i ON users ({expression})", holds=index("i"))
    events = shown(
        pg,
        what,
        lambda found: "scanning table" in found.doing,
        lambda: held.exec_driver_sql(LET_GO),
    )
    found = next(e.progress for e in events if e.progress and "scanning table" in e.progress.doing)
    assert found.unit == "blocks"
    assert found.total > 5
    assert found.done is not None
    assert found.done < found.total


def test_a_validation_says_how_many_rows_there_are(pg: Course, held: Connection) -> None:
    """The server does not count what VALIDATE CONSTRAINT has done; that it runs, and over how much, is told."""
    pg.sql("INSERT INTO users SELECT n, 'x' FROM generate_series(10, 107) AS n")
    pg.sql("ALTER TABLE users ADD CONSTRAINT c CHECK (waits(id)) NOT VALID")
    with pg.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.exec_driver_sql("ANALYZE users")
    validated = "SELECT convalidated FROM pg_constraint WHERE conname = 'c'"
    what = building("ALTER TABLE users VALIDATE CONSTRAINT c", holds=validated)
    events = shown(pg, what, lambda found: found.doing == VALIDATING, lambda: held.exec_driver_sql(LET_GO))
    first = events[0].progress
    assert first is not None
    assert (first.done, first.total, first.unit) == (None, 100, "rows")


class _Heard(logging.Handler):
    """Does something when the watch gives up."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__(logging.INFO)
        self.then = then
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Do it once."""
        if not self.messages:
            self.messages.append(record.getMessage())
            self.then()


@contextlib.contextmanager
def when_the_watch_gives_up(then: Callable[[], object]) -> Iterator[list[str]]:
    """Do *then* when no progress can be shown; answers what was logged."""
    log = logging.getLogger("emc.execute.watching")
    before, heard = log.level, _Heard(then)
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    try:
        yield heard.messages
    finally:
        log.removeHandler(heard)
        log.setLevel(before)


def test_no_connection_is_left_for_the_watch(pg: Course) -> None:
    """Where the role may have one connection only, nothing is shown of a build, and the build comes off."""
    role = "emc_test_one_connection"
    url = make_role(pg.engine.url.render_as_string(hide_password=False), role, "owner")
    for statement in (
        f"ALTER ROLE {role} CONNECTION LIMIT 1",
        f"GRANT ALL ON SCHEMA public TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"ALTER TABLE users OWNER TO {role}",
    ):
        pg.sql(statement)
    engine = create_engine(url, pool_size=1, max_overflow=0)
    course = Course(engine, pg.dialect, pg.lease)
    heard: list[StepEvent] = []
    with pg.engine.connect() as writer:
        writer.exec_driver_sql("INSERT INTO users VALUES (9, 'x')")
        with when_the_watch_gives_up(writer.rollback) as said:
            what = building("CREATE INDEX CONCURRENTLY i ON users (name)", holds=index("i"))
            run(course, what, heard.append)
    assert [event.state for event in heard] == [StepState.STARTED, StepState.DONE]
    assert "too many connections" in said[0]
    engine.dispose()


def test_the_pool_keeps_its_connections(pg: Course) -> None:
    """The watch takes none of the engine's pool, which may hold just as many as emc needs."""
    small = create_engine(pg.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    course = Course(small, pg.dialect, pg.lease)
    with pg.engine.connect() as writer:
        writer.exec_driver_sql("INSERT INTO users VALUES (9, 'x')")
        what = building("CREATE INDEX CONCURRENTLY i ON users (name)", holds=index("i"))
        assert shown(course, what, lambda found: bool(found.waits_for), writer.rollback)
    small.dispose()


def test_whoever_listens_may_fail(pg: Course) -> None:
    """What is wrong with showing progress is no reason to end a build."""

    def hear(event: StepEvent) -> None:
        if event.state is StepState.RUNNING:
            raise ZeroDivisionError

    with pg.engine.connect() as writer:
        writer.exec_driver_sql("INSERT INTO users VALUES (9, 'x')")
        with when_the_watch_gives_up(writer.rollback) as said:
            run(pg, building("CREATE INDEX CONCURRENTLY i ON users (name)", holds=index("i")), hear)
    assert said


def test_a_statement_that_fails_ends_its_watch(pg: Course) -> None:
    """What the server says of the statement is what is raised, and nobody looks any more."""
    heard: list[StepEvent] = []
    with pytest.raises(StatementFailedError):
        run(pg, building("CREATE INDEX CONCURRENTLY i ON users (nobody)", holds=index("i")), heard.append)
    assert heard[-1].state is StepState.FAILED


def test_nobody_looks_where_nobody_wants_to(pg: Course) -> None:
    """``progress_every=0`` asks nothing and makes no connection."""
    what = building("CREATE TABLE a (id int)", holds=has_table("a", pg.engine))
    pg.dialect.session = None  # type: ignore[assignment]  # Not even this is asked for.
    run(pg, what, lambda _: None, every=0)
