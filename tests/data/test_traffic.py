"""Requests from elsewhere, as a run heeds them."""

import dataclasses
import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, update

from emc.data import BatchPolicy, Notice, Result, run
from emc.dialects import dialect_of
from emc.errors import LeaseLostError
from emc.state.control import Request, State, Wish, ask, asked, published
from emc.state.lease import acquire
from emc.state.tables import LEASE, utc_now
from tests.data.support import QUICK, column, execute, only_work
from tests.data.test_run import items, made, sized
from tests.servers import PostgresServer


def request(engine: Engine, wish: Wish, token: int) -> None:
    """Ask as another terminal does."""
    with engine.begin() as connection:
        ask(connection, Request(wish, token, "ann@elsewhere:7", utc_now()))


def renewed(engine: Engine) -> dt.datetime:
    """When the lease was renewed last."""
    with engine.connect() as connection:
        found: dt.datetime = connection.execute(
            select(LEASE.c.renewed_at).where(LEASE.c.name == "runner")
        ).scalar_one()
        return found


class Run:
    """A run of ten rows in batches of four, whose clock goes on by a second whenever somebody looks at it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.table = items()
        self.told: list[Notice] = []
        self.waits = 0
        self.token = 0
        self.meanwhile: Callable[[int], Any] = lambda _: None
        """Done at each wait, with its number."""
        made(engine, self.table, 10)

    def go(self, **options: Any) -> Result:
        """Run it, paused by somebody after its first batch."""
        seconds = itertools.count()
        policy: BatchPolicy = dataclasses.replace(
            QUICK,
            clock=lambda: float(next(seconds)),
            sleep=lambda _: self._wait(),
            start=4,
            largest=4,
            smallest=1,
            fast=True,
        )
        dialect = dialect_of(self.engine)
        with acquire(self.engine, dialect, command="emc migrate", renew_every=0.05) as lease:
            self.token = lease.token
            return run(
                self.engine,
                dialect,
                only_work(sized(self.table), self.engine),
                lease=lease,
                batch=policy,
                report=lambda event: (
                    request(self.engine, Wish.PAUSE, lease.token) if event.rows_done == 4 else None
                ),
                notice=self.told.append,
                **options,
            )

    def _wait(self) -> None:
        if self.told and self.told[-1].state is State.PAUSED:
            self.waits += 1
            assert self.waits < 1_000
            self.meanwhile(self.waits)

    def left(self) -> Any:
        """How many rows are left."""
        return column(self.engine, "SELECT count(*) FROM items WHERE size IS NULL")[0]


def test_a_paused_run_keeps_its_lease(engine: Engine) -> None:
    """It waits for as long as it takes, renews its lease, writes nothing, and goes on when it is told to."""
    paused = Run(engine)
    long_ago = utc_now() - dt.timedelta(days=1)

    def meanwhile(wait: int) -> None:
        if wait == 1:
            with engine.begin() as connection:
                connection.execute(update(LEASE).where(LEASE.c.name == "runner").values(renewed_at=long_ago))
        if wait == 30:
            assert renewed(engine) > long_ago + dt.timedelta(hours=1)
            assert paused.left() == 6
            with engine.connect() as connection:
                standing = published(connection, paused.token)
            assert standing is not None
            assert (standing.state, standing.reason, standing.rows_done, standing.rows_total) == (
                State.PAUSED,
                "ann@elsewhere:7 asked it to pause",
                4,
                10,
            )
            request(engine, Wish.RESUME, paused.token)

    paused.meanwhile = meanwhile
    result = paused.go()
    assert (result.outcome, result.rows_done) == ("complete", 10)
    assert [notice.text for notice in paused.told] == ["ann@elsewhere:7 asked it to pause", "goes on"]


def test_a_paused_run_can_be_stopped(engine: Engine) -> None:
    """A stop is heard in the middle of a pause, and says who asked."""
    paused = Run(engine)
    paused.meanwhile = lambda wait: request(engine, Wish.STOP, paused.token) if wait == 3 else None
    result = paused.go()
    assert (result.outcome, result.rows_done, result.rows_left) == ("paused", 4, 6)
    assert result.reason == "6 rows are left; ann@elsewhere:7 asked it to stop"


def test_time_goes_on_while_a_run_is_paused(engine: Engine) -> None:
    """--max-time is a promise to whoever needs the database afterwards."""
    paused = Run(engine)
    result = paused.go(max_time=200.0)
    assert (result.outcome, result.rows_done) == ("more", 4)
    assert paused.waits > 0


def test_a_paused_run_notices_that_its_lease_is_gone(engine: Engine) -> None:
    """Whoever takes over need not fear that a paused run wakes up."""
    paused = Run(engine)

    def take_over(wait: int) -> None:
        if wait == 2:
            with engine.begin() as connection:
                connection.execute(update(LEASE).values(token=LEASE.c.token + 1))

    paused.meanwhile = take_over
    with pytest.raises(LeaseLostError):
        paused.go()
    assert paused.left() == 6


def test_a_request_for_another_run_is_nothing_to_this_one(engine: Engine) -> None:
    """What was asked of a run that is no more does not reach the next by accident."""
    execute(engine, "CREATE TABLE other (id INTEGER)")
    with acquire(engine, dialect_of(engine), command="emc migrate") as lease:
        request(engine, Wish.STOP, lease.token)
    later = Run(engine)
    later.meanwhile = lambda _: request(engine, Wish.RESUME, later.token)
    assert later.go().outcome == "complete"
    with engine.connect() as connection:
        assert asked(connection, lease.token) is None


def test_a_server_that_restarts_during_a_pause(throwaway_pg_server: PostgresServer) -> None:
    """A paused run outlives a restart of the server, keeps its lease over it, and goes on."""
    engine = create_engine(throwaway_pg_server.url())
    # Its connections are those of a terminal that is opened after the restart.
    elsewhere = create_engine(throwaway_pg_server.url())
    paused = Run(engine)

    def meanwhile(wait: int) -> None:
        if wait == 2:
            throwaway_pg_server.restart(immediate=True)
        if wait == 6:
            request(elsewhere, Wish.RESUME, paused.token)

    paused.meanwhile = meanwhile
    result = paused.go()
    assert (result.outcome, result.rows_done) == ("complete", 10)
    engine.dispose()
    elsewhere.dispose()
