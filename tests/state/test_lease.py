import datetime as dt
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, select, text, update
from sqlalchemy.exc import OperationalError

from emc.dialects import dialect_of
from emc.dialects.base import Dialect
from emc.errors import ExitCode, LeaseHeldError, LeaseLostError
from emc.state import Lease, Runner, acquire, holder
from emc.state import lease as lease_module
from emc.state.tables import LEASE
from emc.steps import LockPolicy, Transaction

ELSEWHERE = Runner("web2", 4711, "ann", "another-boot pid:[1] 5")


class Clock:
    """A server's clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)

    def __call__(self, connection: Connection) -> dt.datetime:
        """What it shows."""
        return self.now

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.now += dt.timedelta(seconds=seconds)


@pytest.fixture
def dialect(engine: Engine) -> Dialect:
    """The dialect of the engine, which has connected: only then it is known to be MariaDB."""
    with engine.connect():
        return dialect_of(engine)


@pytest.fixture
def clock() -> Clock:
    """The server's clock."""
    return Clock()


def writing(engine: Engine, dialect: Dialect) -> AbstractContextManager[Connection]:
    """A transaction that can write."""
    return dialect.open(engine, Transaction.TOGETHER, LockPolicy.SHORT, 1.0)


def test_a_free_lease_is_had_and_given_back(engine: Engine, dialect: Dialect) -> None:
    """One runner holds the lease while its block runs, and nobody does afterwards."""
    with acquire(engine, dialect, command="emc expand") as lease:
        with engine.connect() as connection:
            held = holder(connection)
        assert held is not None
        assert (held.runner, held.command, held.token) == (Runner.current(), "emc expand", lease.token)
        assert held.expires_at - held.renewed_at == dt.timedelta(seconds=60)
    with engine.connect() as connection:
        assert holder(connection) is None


def test_the_token_grows_with_every_change_of_hands(engine: Engine, dialect: Dialect) -> None:
    """A token is never used twice, not even after the lease was given back."""
    tokens = []
    for _ in range(3):
        with acquire(engine, dialect, command="emc expand") as lease:
            tokens.append(lease.token)
    assert tokens == sorted(set(tokens))


def test_a_held_lease_says_who_has_it(engine: Engine, dialect: Dialect, clock: Clock) -> None:
    """Whoever is kept waiting learns host, pid, user, command, since when, and when it ends at the latest."""
    acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    since = clock.now
    clock.move(59)
    with pytest.raises(LeaseHeldError) as caught:
        acquire(engine, dialect, command="emc contract", now=clock)
    error = caught.value
    assert error.holder.runner == ELSEWHERE
    assert error.holder.command == "emc migrate"
    assert error.holder.acquired_at == since
    assert error.holder.expires_at == since + dt.timedelta(seconds=60)
    assert error.exit_code is ExitCode.LOCK_BUDGET
    for fact in ("web2", "4711", "ann", "emc migrate", "2026-05-01 12:00:00", "2026-05-01 12:01:00"):
        assert fact in str(error)


def test_who_could_not_give_it_back_may_have_it_again(
    engine: Engine, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that outlived its server tries again at once; nobody else may, nor while it is at work."""
    lease = acquire(engine, dialect, command="emc expand")

    def refused() -> None:
        raise OperationalError("UPDATE", None, Exception("connection refused"))

    monkeypatch.setattr(lease, "_release", refused)
    with pytest.raises(LeaseHeldError):
        acquire(engine, dialect, command="emc expand")
    with lease:
        pass
    with pytest.raises(LeaseHeldError):
        acquire(engine, dialect, command="emc expand", runner=ELSEWHERE)
    with acquire(engine, dialect, command="emc expand") as again:
        assert again.token > lease.token
        with pytest.raises(LeaseHeldError):
            acquire(engine, dialect, command="emc expand")


def test_an_expired_lease_is_taken_over(engine: Engine, dialect: Dialect, clock: Clock) -> None:
    """A runner that does not renew for 60 seconds loses the lease, and notices before it writes again."""
    old = acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    clock.move(60)
    new = acquire(engine, dialect, command="emc contract", now=clock)
    assert new.token > old.token
    with pytest.raises(LeaseLostError) as caught, writing(engine, dialect) as connection:
        old.confirm(connection)
    assert caught.value.holder.command == "emc contract"
    with writing(engine, dialect) as connection:
        new.confirm(connection)


def test_a_late_release_leaves_the_successor_alone(engine: Engine, dialect: Dialect, clock: Clock) -> None:
    """A runner that was taken over does not give back what is no longer its own."""
    with acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock):
        clock.move(60)
        new = acquire(engine, dialect, command="emc contract", now=clock)
    with writing(engine, dialect) as connection:
        new.confirm(connection)


def test_a_lost_lease_rolls_the_batch_back(engine: Engine, dialect: Dialect, clock: Clock) -> None:
    """What a runner wrote in the transaction in which it finds the lease gone is not committed."""
    old = acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    clock.move(60)
    acquire(engine, dialect, command="emc contract", now=clock)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE half (id INTEGER)"))
    with pytest.raises(LeaseLostError), writing(engine, dialect) as connection:  # noqa: PT012
        connection.execute(text("INSERT INTO half VALUES (1)"))
        old.confirm(connection)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM half")).scalar() == 0


def test_renewed_in_line_when_due(sqlite_url: str, clock: Clock) -> None:
    """Where one session writes at a time, confirming renews the lease every 10 seconds, no more often."""
    engine = create_engine(sqlite_url)
    dialect = dialect_of(engine)
    passed = [0.0]
    lease = acquire(engine, dialect, command="emc migrate", now=clock, monotonic=lambda: passed[0])
    expires = []
    for _ in range(5):
        passed[0] += 6
        clock.move(6)
        with writing(engine, dialect) as connection:
            lease.confirm(connection)
            held = holder(connection)
        assert held is not None
        expires.append((held.expires_at - clock.now).total_seconds())
    # Renewed at 12 and 24 seconds.
    assert expires == [54, 60, 54, 60, 54]
    engine.dispose()


def test_renewed_from_a_second_session(postgresql_url: str) -> None:
    """While the runner's own transaction is open for long, a second session keeps the lease alive."""
    engine = create_engine(postgresql_url)
    dialect = dialect_of(engine)
    renewals: queue.Queue[str] = queue.Queue()

    @event.listens_for(engine, "after_cursor_execute")
    def _renewed(*arguments: object) -> None:
        statement = str(arguments[2])
        if statement.startswith("UPDATE emc_lease SET renewed_at"):
            renewals.put(threading.current_thread().name)

    with (
        acquire(engine, dialect, command="emc migrate", renew_every=0.02, monotonic=lambda: 0.0) as lease,
        writing(engine, dialect) as connection,
    ):
        # Confirmed first: the renewal must not wait for the lock that keeps takers away.
        lease.confirm(connection)
        assert [renewals.get(timeout=60) for _ in range(3)] == ["emc lease"] * 3
    engine.dispose()


def test_renewed_between_batches(mariadb_url: str, clock: Clock) -> None:
    """Where a confirmed row keeps the second session out as well, each batch renews the lease that is due."""
    engine = create_engine(mariadb_url)
    with engine.connect():
        dialect = dialect_of(engine)
    passed = [0.0]
    lease = acquire(engine, dialect, command="emc migrate", now=clock, monotonic=lambda: passed[0])
    with lease:
        for _ in range(3):
            passed[0] += 12
            clock.move(12)
            with writing(engine, dialect) as connection:
                lease.confirm(connection)
            with engine.connect() as connection:
                held = holder(connection)
            assert held is not None
            assert held.renewed_at == clock.now
    engine.dispose()


def test_a_batch_and_a_renewal_do_not_lock_each_other_out(mariadb_url: str) -> None:
    """A renewal that waits for a batch, and a batch that renews itself: both come to their end."""
    engine = create_engine(mariadb_url)
    with engine.connect():
        dialect = dialect_of(engine)
    # Not innodb_trx: InnoDB shows again what it showed less than 0.1 s ago.
    waiting = text("SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE emc_lease%'")
    passed = [0.0]
    lease = acquire(engine, dialect, command="emc migrate", renew_every=0.02, monotonic=lambda: passed[0])
    with lease, writing(engine, dialect) as connection:
        lease.confirm(connection)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            while not watcher.execute(waiting).scalar():
                watcher.execute(text("SELECT SLEEP(0.01)"))
        passed[0] += 60
        lease.confirm(connection)
    engine.dispose()


@pytest.mark.parametrize("which", ["postgresql_url", "mariadb_url"])
def test_a_taker_waits_for_a_confirmed_transaction(
    request: pytest.FixtureRequest, which: str, clock: Clock
) -> None:
    """Once confirmed, a transaction commits before anybody can take over, however late it is."""
    engine = create_engine(request.getfixturevalue(which))
    with engine.connect():
        dialect = dialect_of(engine)
    lease = acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    with writing(engine, dialect) as connection:
        lease.confirm(connection)
        clock.move(3600)
        with pytest.raises(LeaseHeldError) as caught:
            acquire(engine, dialect, command="emc contract", now=clock)
        assert caught.value.holder.runner == ELSEWHERE
    assert acquire(engine, dialect, command="emc contract", now=clock).token > lease.token
    engine.dispose()


@pytest.mark.parametrize("which", ["postgresql_url", "mariadb_url"])
def test_workers_share_the_lease(request: pytest.FixtureRequest, which: str, clock: Clock) -> None:
    """Two workers confirm it at once, and it is renewed meanwhile; a taker waits for both, who lose it then."""
    engine = create_engine(request.getfixturevalue(which))
    with engine.connect():
        dialect = dialect_of(engine)
    lease = acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    with writing(engine, dialect) as connection:
        lease.confirm(connection)
        first, second = lease.fence(connection, 1), lease.fence(connection, 2)
    with writing(engine, dialect) as late:
        with writing(engine, dialect) as connection:
            first.confirm(late)
            second.confirm(connection)
            with writing(engine, dialect) as beside:
                lease.confirm(beside)
        clock.move(3600)
        with pytest.raises(LeaseHeldError):
            acquire(engine, dialect, command="emc contract", now=clock)
    new = acquire(engine, dialect, command="emc contract", now=clock)
    for fence in (first, second):
        with pytest.raises(LeaseLostError) as caught, writing(engine, dialect) as connection:
            fence.confirm(connection)
        assert caught.value.holder.command == "emc contract"
    with writing(engine, dialect) as connection:
        new.confirm(connection)
        new.fence(connection, 1).confirm(connection)
    with pytest.raises(LeaseLostError), writing(engine, dialect) as connection:
        first.confirm(connection)
    engine.dispose()


def test_racing_runners(engine: Engine, dialect: Dialect, clock: Clock) -> None:
    """Of many that find an expired lease at once exactly one gets it, and so of many that find none."""
    for _ in range(3):
        barrier = threading.Barrier(6)

        def race(number: int, barrier: threading.Barrier = barrier) -> Lease | None:
            barrier.wait(60)
            try:
                return acquire(engine, dialect, command=f"emc {number}", runner=ELSEWHERE, now=clock)
            except LeaseHeldError:
                return None

        with ThreadPoolExecutor(6) as threads:
            won = [lease for lease in threads.map(race, range(6)) if lease is not None]
        assert len(won) == 1
        with writing(engine, dialect) as connection:
            won[0].confirm(connection)
        clock.move(60)


def test_a_row_that_changes_while_waiting_is_not_taken(
    engine: Engine, dialect: Dialect, clock: Clock
) -> None:
    """Whoever finds the row changed after waiting for it leaves the lease to whoever was faster."""
    acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    clock.move(60)

    def stolen(connection: Connection) -> dt.datetime:
        # Between the first look at the row and the lock on it.
        connection.execute(update(LEASE).values(token=LEASE.c.token + 1, command="emc check"))
        return clock.now

    with pytest.raises(LeaseHeldError) as caught:
        acquire(engine, dialect, command="emc contract", now=stolen)
    assert caught.value.holder.command == "emc check"


def test_the_take_over_is_decided_by_the_token(engine: Engine, dialect: Dialect, clock: Clock) -> None:
    """Where rows cannot be locked, the token in the UPDATE decides which of two gets the lease."""
    acquire(engine, dialect, command="emc migrate", runner=ELSEWHERE, now=clock)
    clock.move(60)

    @event.listens_for(engine, "before_cursor_execute")
    def _steal(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE emc_lease SET token"):
            cursor.execute("UPDATE emc_lease SET token = token + 1, command = 'emc check'")

    with pytest.raises(LeaseHeldError) as caught:
        acquire(engine, dialect, command="emc contract", now=clock)
    assert caught.value.holder.command == "emc check"


CHILD = """
import sys
from sqlalchemy import create_engine
from emc.state import acquire
from emc.steps import LockPolicy, Transaction
from emc.dialects import dialect_of
engine = create_engine(sys.argv[1])
lease = acquire(engine, dialect_of(engine), command="emc migrate").__enter__()
if len(sys.argv) > 2:
    transaction = dialect_of(engine).open(engine, Transaction.TOGETHER, LockPolicy.SHORT, 1.0)
    connection = transaction.__enter__()
    lease.confirm(connection)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(
    not Path("/proc/self/ns/pid").exists(), reason="only Linux tells whether a process is gone"
)
@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
@pytest.mark.parametrize("in_transaction", [True, False], ids=["in transaction", "between transactions"])
def test_a_killed_runner_is_succeeded_at_once(
    engine: Engine, dialect: Dialect, database_url: str, *, reaped: bool, in_transaction: bool
) -> None:
    """After `kill -9` the same command can be run again at once, also before the parent noticed the death."""
    extra = ["transaction"] if in_transaction else []
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, database_url, *extra],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError) as caught:
            acquire(engine, dialect, command="emc migrate")
        assert caught.value.holder is None or caught.value.holder.runner.pid == child.pid
    finally:
        child.send_signal(signal.SIGKILL)
        # Waits for the end, and reaps the child only if told to.
        os.waitid(os.P_PID, child.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
    with acquire(engine, dialect, command="emc migrate") as lease, writing(engine, dialect) as connection:
        lease.confirm(connection)
    child.stdin.close()
    child.stdout.close()
    child.wait()


def test_a_runner_of_another_machine_is_not_judged(engine: Engine, dialect: Dialect) -> None:
    """A pid says nothing about a process of another host or container, which may have the same host name."""
    here = Runner.current()
    stranger = Runner(here.host, 2**22 + 1, here.user, "another-boot pid:[4026531836] 77")
    assert not stranger.is_gone()
    acquire(engine, dialect, command="emc migrate", runner=stranger)
    with pytest.raises(LeaseHeldError):
        acquire(engine, dialect, command="emc migrate")


@pytest.mark.skipif(
    not Path("/proc/self/ns/pid").exists(), reason="only Linux tells whether a process is gone"
)
def test_a_pid_used_again_is_another_process() -> None:
    """A process that started at another time is not the one that held the lease, though it has its pid."""
    here = Runner.current()
    assert not here.is_gone()
    assert here.process is not None
    space = here.process.rpartition(" ")[0]
    assert Runner(here.host, here.pid, here.user, f"{space} 1").is_gone()
    assert not Runner(here.host, here.pid, here.user, None).is_gone()


def test_the_lease_of_a_broken_session_survives(engine: Engine, dialect: Dialect) -> None:
    """Losing a connection is no reason to lose the lease: the next one confirms it."""
    with acquire(engine, dialect, command="emc migrate") as lease:
        engine.dispose()
        with writing(engine, dialect) as connection:
            lease.confirm(connection)


def test_a_failing_renewal_is_tried_again(postgresql_url: str) -> None:
    """A renewal that fails is repeated soon; the lease lasts for several of them."""
    engine = create_engine(postgresql_url)
    dialect = dialect_of(engine)
    outcomes: queue.Queue[str] = queue.Queue()
    failing = [2]

    @event.listens_for(engine, "before_cursor_execute")
    def _fail(*arguments: object) -> None:
        if str(arguments[2]).startswith("UPDATE emc_lease SET renewed_at"):
            if failing[0]:
                failing[0] -= 1
                outcomes.put("failed")
                arguments[0].exec_driver_sql("SELECT 1/0")  # type: ignore[attr-defined]
            outcomes.put("renewed")

    with acquire(engine, dialect, command="emc migrate", renew_every=0.02) as lease:
        assert [outcomes.get(timeout=60) for _ in range(3)] == ["failed", "failed", "renewed"]
        with writing(engine, dialect) as connection:
            lease.confirm(connection)
    engine.dispose()


def test_a_release_that_fails_does_not_hide_the_error(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong with the work is what is reported; the lease runs out by itself."""
    engine = create_engine(sqlite_url)
    monkeypatch.setattr(lease_module, "LOCK_TIMEOUT", 0.0)
    with create_engine(sqlite_url).connect() as other:

        def work() -> None:
            with acquire(engine, dialect_of(engine), command="emc migrate"):
                other.execute(text("BEGIN IMMEDIATE"))
                raise ValueError("the work")

        with pytest.raises(ValueError, match="the work") as caught:
            work()
        assert "runs out by itself" in caught.value.__notes__[0]
        other.rollback()
        assert other.execute(select(LEASE.c.command)).scalar() == "emc migrate"
    engine.dispose()


def test_a_vanished_row_is_a_lost_lease(engine: Engine, dialect: Dialect) -> None:
    """Somebody who deletes the row stops the run: missing evidence is no permission."""
    lease = acquire(engine, dialect, command="emc migrate")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM emc_lease"))
    with pytest.raises(LeaseLostError), writing(engine, dialect) as connection:
        lease.confirm(connection)
