"""For how long does contract lock everybody out on PostgreSQL, and does that depend on the number of rows?

The same contract phase on tables of three sizes, and on one that is just small enough to be looked at under the lock: a
column becomes NOT NULL, another one unique, a third gets a CHECK, a fourth a foreign key; an index and a unique
constraint are replaced; columns and a table are dropped whose data is elsewhere.

What is measured is exact, but for the way to the server and back: nobody else uses the tables, so that no lock is
waited for, and a statement that takes ACCESS EXCLUSIVE has it from its beginning at most until its answer. In a
transaction the lock ends before COMMIT answers, which unlinks files afterwards: there another session, which asks for
the table as soon as it is locked, tells when it gets it. Which statements take the lock the server says: an event
trigger looks into ``pg_locks`` at the end of every command that changes the schema.

    python -m benchmarks.postgresql_contract [--rows 10000 1000000 5000000]

It starts a PostgreSQL server of its own.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Engine, MetaData, Table, event

import emc
from benchmarks.postgresql_server import described, server
from emc import Upgrade
from emc.dialects.postgresql.ground import SMALL
from emc.execute import StepEvent

GOAL = 2
"""The time on the largest table is at most so many times that on the smallest."""
NOTICE = "benchmark: somebody is locked out of "
EVENT_TRIGGER = f"""
CREATE FUNCTION benchmark_locks() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE is_locked boolean; locked text;
BEGIN
    SELECT count(*) > 0, coalesce(min(CAST(c.relname AS text)) FILTER (WHERE c.relkind = 'r'), '')
      INTO is_locked, locked
      FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
     WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock' AND l.granted
       AND c.relnamespace = CAST('public' AS regnamespace);
    IF is_locked THEN RAISE NOTICE '{NOTICE}%%', locked; END IF;
END $$;
CREATE EVENT TRIGGER benchmark_locks ON ddl_command_end EXECUTE FUNCTION benchmark_locks();
"""


def old_models() -> MetaData:
    """The tables of the old release."""
    metadata = MetaData()
    Table("users", metadata, Column("id", sa.Integer, primary_key=True))
    Table(
        "orders",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("note", sa.String(40)),
        Column("email", sa.String(40), nullable=False),
        Column("amount", sa.Integer, nullable=False),
        Column("user_id", sa.Integer, nullable=False),
        Column("state", sa.String(20), nullable=False, server_default="new"),
        Column("number", sa.Integer, nullable=False),
        Column("cached", sa.String(40)),
        Column("tax", sa.Integer),
        Column("tax_cents", sa.Integer),
        sa.UniqueConstraint("number", name="uq_orders_number"),
        sa.Index("ix_orders_user", "user_id"),
        sa.Index("ix_orders_tax", "tax"),
    )
    Table(
        "old_orders",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("user_id", sa.ForeignKey("users.id"), nullable=False),
        sa.Index("ix_old_orders_user", "user_id"),
    )
    return metadata


def new_models() -> MetaData:
    """The tables of the new release."""
    metadata = MetaData()
    Table("users", metadata, Column("id", sa.Integer, primary_key=True))
    Table(
        "orders",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("note", sa.String(40), nullable=False),
        Column("email", sa.String(40), nullable=False),
        Column("amount", sa.Integer, nullable=False),
        Column("user_id", sa.ForeignKey("users.id", name="fk_orders_user"), nullable=False),
        Column("state", sa.String(20), nullable=False),
        Column("number", sa.Integer, nullable=False),
        Column("tax_cents", sa.Integer),
        sa.UniqueConstraint("email", name="uq_orders_email"),
        sa.UniqueConstraint("number", "user_id", name="uq_orders_number"),
        sa.CheckConstraint("amount > 0", name="ck_orders_amount"),
        sa.Index("ix_orders_user", "user_id", "number"),
    )
    return metadata


def upgrade() -> Upgrade:
    """What becomes of the data of what goes."""
    models = new_models()
    declared = Upgrade(models, release="2")
    orders = models.tables["orders"]
    declared.retire("orders.cached")
    declared.retire("orders.tax", after=["cents"])
    declared.retire("old_orders", after=["cents"])

    @declared.data_migration(orders, name="cents", where=orders.c.tax_cents.is_(None))
    def cents(row: Any) -> dict[str, Any]:
        return {"tax_cents": row.tax * 100}

    return declared


def fill(engine: Engine, rows: int) -> None:
    """Make the old tables, with *rows* orders in each, all of their data elsewhere already."""
    old_models().create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users SELECT n FROM generate_series(1, 1000) n")
        connection.exec_driver_sql(
            "INSERT INTO orders SELECT n, 'note ' || n, n || '@example.org', 1 + mod(n, 100), 1 + mod(n, 1000), 'new',"
            f" n, NULL, mod(n, 20), mod(n, 20) * 100 FROM generate_series(1, {rows}) n"
        )
        connection.exec_driver_sql(
            f"INSERT INTO old_orders SELECT n, 1 + mod(n, 1000) FROM generate_series(1, {rows}) n"
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")
        connection.exec_driver_sql(
            EVENT_TRIGGER.replace("%%", "%"), execution_options={"no_parameters": True}
        )


@dataclass
class Locks:
    """For how long everybody was locked out."""

    rows: int
    bytes: int
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The length of each lock, by the step that took it."""
    whole: float = 0.0
    """Seconds that contract took."""

    @property
    def total(self) -> float:
        """Of all locks together, in seconds."""
        return sum(sum(several) for several in self.seconds.values())

    @property
    def longest(self) -> float:
        """The longest lock, in seconds."""
        return max(max(several) for several in self.seconds.values())


class Waiter:
    """A session that asks for tables as soon as they are locked, and tells when it got them."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._pool = ThreadPoolExecutor(1)
        self._asked: Future[float] | None = None

    def ask(self, table: str) -> None:
        """Ask for *table*, which is locked, unless it waits already."""
        if self._asked is None:
            self._asked = self._pool.submit(self._wait, table)

    def _wait(self, table: str) -> float:
        with suppress(sa.exc.ProgrammingError):  # It is gone.
            self._connection.exec_driver_sql(f"SELECT FROM {table} LIMIT 0").close()
        return time.perf_counter()

    def got(self) -> float | None:
        """When it got the table; ``None`` if it has not asked."""
        asked, self._asked = self._asked, None
        return asked.result() if asked is not None else None

    def close(self) -> None:
        """Leave."""
        self._pool.shutdown()
        self._connection.close()


class Watch:
    """Takes the time of every lock that a session of an engine takes."""

    def __init__(self, engine: Engine, waiter: Waiter, locks: Locks) -> None:
        self.waiter = waiter
        self.locks = locks
        self.step = ""
        self.told = False
        """The server has said that the present command locks everybody out."""
        self.since: float | None = None
        """When the lock was taken, at the earliest, that the transaction holds."""
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        commit, rollback = engine.dialect.do_commit, engine.dialect.do_rollback

        def do_commit(connection: Any) -> None:
            commit(connection)
            self._ended()

        def do_rollback(connection: Any) -> None:
            rollback(connection)
            self._ended()

        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        engine.dialect.do_rollback = do_rollback  # type: ignore[method-assign]

    def hear(self, heard: object) -> None:
        """Whose statements the next ones are."""
        if isinstance(heard, StepEvent):
            self.step = heard.step.id

    def _connected(self, connection: Any, _record: Any) -> None:
        connection.add_notice_handler(self._notice)

    def _notice(self, diagnostic: Any) -> None:
        if diagnostic.message_primary.startswith(NOTICE):
            self.told = True
            # The server says so while it is at it, and answers only when it has unlinked what it dropped.
            # Where only an index is locked, nobody can ask for it, and that answer has to do.
            if table := diagnostic.message_primary.removeprefix(NOTICE):
                self.waiter.ask(table)

    def _before(
        self, _connection: Any, _cursor: Any, _sql: str, _parameters: Any, context: Any, _: bool
    ) -> None:
        if self.since is None:
            self.waiter.got()  # Of a statement that failed once it had its lock.
        context.emc_begun, self.told = time.perf_counter(), False

    def _after(
        self, connection: Any, _cursor: Any, sql: str, _parameters: Any, context: Any, _: bool
    ) -> None:
        # The only such command for which event triggers do not fire.
        locked = re.match(r"LOCK TABLE (.+) IN ACCESS EXCLUSIVE MODE", sql)
        if (self.told or locked) and self.since is None:
            self.since = context.emc_begun
            if locked:
                self.waiter.ask(locked[1])
        if connection.connection.dbapi_connection.autocommit:
            self._ended()

    def _ended(self) -> None:
        if self.since is not None:
            ended = self.waiter.got() or time.perf_counter()
            self.locks.seconds[self.step].append(ended - self.since)
            self.since = None


def measure(url: str, rows: int) -> Locks:
    """Expand without anybody looking, then contract."""
    engine = sa.create_engine(url)
    fill(engine, rows)
    declared = upgrade()
    for report in (emc.expand(declared, engine), emc.migrate(declared, engine)):
        assert report.exit_code == 0, report
    with engine.connect() as connection:
        size = connection.exec_driver_sql("SELECT pg_relation_size('orders')").scalar_one()
    engine.dispose()
    engine = sa.create_engine(url)
    locks = Locks(rows, size)
    waiting = sa.create_engine(url)
    waiter = Waiter(waiting)
    watch = Watch(engine, waiter, locks)
    begun = time.perf_counter()
    report = emc.contract(declared, engine, old_code_gone=True, report=watch.hear)
    locks.whole = time.perf_counter() - begun
    assert report.exit_code == 0, report
    assert emc.plan(declared, engine).plan.is_empty
    waiter.close()
    for one in (engine, waiting):
        one.dispose()
    return locks


def border(url: str, sample: int = 20_000) -> int:
    """How many rows of orders are just small enough to be looked at under a lock."""
    engine = sa.create_engine(url)
    fill(engine, sample)
    with engine.connect() as connection:
        size = connection.exec_driver_sql("SELECT pg_relation_size('orders')").scalar_one()
    engine.dispose()
    return int(sample * SMALL / size * 0.99)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 5_000_000])
    parser.add_argument("--postgresql", type=int, metavar="VERSION", help="its major version")
    parser.add_argument("--no-fsync", action="store_true", help="let no commit wait for the disk")
    arguments = parser.parse_args()
    with server(arguments.postgresql, durable=not arguments.no_fsync) as started:
        print(described(started))
        with started.database() as url:
            just_small = border(url)
        with started.database() as url:  # What runs first pays for the caches.
            measure(url, 1000)
        sizes: list[Locks] = []
        for rows in (just_small, *arguments.rows):
            with started.database() as url:
                sizes.append(measure(url, rows))
    print("milliseconds under ACCESS EXCLUSIVE, all locks of a step together")
    print(f"{'rows':36}" + "".join(f"{one.rows:12,}" for one in sizes))
    print(f"{'MiB of orders':36}" + "".join(f"{one.bytes / 2**20:12.1f}" for one in sizes))
    for step in dict.fromkeys(step for one in sizes for step in one.seconds):
        cells = [
            f"{sum(one.seconds[step]) * 1000:12.1f}" if step in one.seconds else f"{'':12}" for one in sizes
        ]
        print(f"{step:36}" + "".join(cells))
    print(f"{'all together':36}" + "".join(f"{one.total * 1000:12.1f}" for one in sizes))
    print(f"{'the longest lock':36}" + "".join(f"{one.longest * 1000:12.1f}" for one in sizes))
    print(f"{'seconds that contract took':36}" + "".join(f"{one.whole:12.1f}" for one in sizes))
    _, first, *_, last = sizes
    print(
        f"{last.rows:,} rows, compared with {first.rows:,}: {last.total / first.total:.2f} times as long in all,"
        f" {last.longest / first.longest:.2f} times the longest lock (goal {GOAL})"
    )


if __name__ == "__main__":
    main()
