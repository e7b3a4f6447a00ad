"""Does autovacuum, which may work on a big table for hours, keep emc from it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, event, make_url

import emc
from emc.errors import LockBudgetError
from emc.execute import RetryPolicy, StepEvent, StepState
from emc.upgrade import Upgrade

SLOWLY = (
    "ALTER TABLE users SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
    " autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0)"
)


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    """A database in which an autovacuum of table users has begun, and is far from its end."""
    url = make_url(postgresql_url)
    engine = create_engine(url)
    with psycopg.connect(
        host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True
    ) as connection:
        connection.execute("CREATE TABLE users (id integer PRIMARY KEY)")
        connection.execute("INSERT INTO users SELECT n FROM generate_series(1, 100000) n")
        connection.execute(SLOWLY)
        connection.execute("DELETE FROM users WHERE mod(id, 10) = 0")
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            under_way = "SELECT FROM pg_stat_progress_vacuum WHERE relid = CAST('users' AS regclass)"
            while not connection.execute(under_way).fetchall():
                pass
        finally:
            connection.execute("ALTER SYSTEM RESET autovacuum_naptime")
            connection.execute("SELECT pg_reload_conf()")
    yield engine
    engine.dispose()


def upgrade() -> Upgrade:
    """A column is added."""
    models = MetaData()
    Table("users", models, Column("id", Integer, primary_key=True, autoincrement=False), Column("b", Integer))
    return Upgrade(models)


def test_autovacuum_gives_way(engine: Engine) -> None:
    """The server ends an autovacuum for whoever waits for a second: once it is seen to be in the way, emc does."""
    waits: list[StepEvent] = []

    def hear(heard: StepEvent) -> None:
        if heard.state is StepState.WAITING:
            waits.append(heard)

    policy = RetryPolicy(blockers_after=1, attempts=3, random=lambda: 0.0)
    assert emc.expand(upgrade(), engine, report=hear, retry=policy).done == ("add-column:users.b",)
    [blocker] = waits[0].blockers
    assert blocker.gives_way == 1.0
    assert blocker.query.startswith("autovacuum: VACUUM")


def test_nobody_else_is_waited_for_longer(engine: Engine) -> None:
    """With a reader beside the autovacuum no attempt waits longer than it would without one."""
    timeouts: set[str] = set()

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, _sql: str, parameters: object, *_: object) -> None:
        if isinstance(parameters, Mapping) and parameters.get("statement_timeout", "0") != "0":
            timeouts.add(parameters["lock_timeout"])

    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT FROM users LIMIT 1")
        with pytest.raises(LockBudgetError) as caught:
            emc.expand(upgrade(), engine, retry=RetryPolicy(blockers_after=1, attempts=2, random=lambda: 0.0))
    assert {blocker.gives_way for blocker in caught.value.blockers} == {None, 1.0}
    assert {"100ms", "200ms"} <= timeouts
    assert "1200ms" not in timeouts
