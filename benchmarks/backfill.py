"""How fast do rows move, compared with the shortest way, and what does an application notice of it?

On PostgreSQL, MariaDB and SQLite, each ratio measured side by side in one run, on tables that were filled afresh:

- a data migration in SQL without pauses, against one UPDATE of the whole table in one transaction;
- a data migration by a Python function without pauses, against a loop that loads objects by SQLAlchemy's ORM, sets the
  attribute and commits every 1,000 rows;
- the memory that this process needs for the function, for a tenth of the rows and for all;
- with the default pauses, how long statements of an application take meanwhile, against those while nobody migrates.

    python -m benchmarks.backfill [--rows 2000000] [--function-rows 200000] [--only postgresql] [--part sql]

It starts servers of its own.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, Row
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

import emc
from benchmarks.postgresql_server import described, server
from benchmarks.traffic import Waits, traffic
from emc import Upgrade
from emc.data import BatchPolicy
from tests.mariadb_server import MariaDBPool

ORM_BATCH = 1_000
"""Rows for which the plain loop commits."""
THINKING = 0.005
"""Seconds that a session of the application thinks between two statements."""
STATEMENTS = {
    "readers": "SELECT name, amount FROM users WHERE id = :id",
    "writers": "UPDATE users SET amount = amount + 1 WHERE id = :id",
}


class Base(DeclarativeBase):
    """The models of the new release."""


class User(Base):
    """A row of ordinary width."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(50))
    email: Mapped[str] = mapped_column(sa.String(80))
    created: Mapped[Any] = mapped_column(sa.DateTime)
    amount: Mapped[int]
    full_name: Mapped[str | None] = mapped_column(sa.String(100))


SINGLE = "UPDATE users SET full_name = upper(name) WHERE full_name IS NULL"
PENDING = "SELECT count(*) FROM users WHERE full_name IS NULL"


def in_sql() -> Upgrade:
    """The migration as one UPDATE for each batch."""
    upgrade = Upgrade(Base.metadata)
    values = {User.full_name: sa.func.upper(User.name)}
    upgrade.data_migration(User, name="names", where=User.full_name.is_(None), values=values)
    return upgrade


def in_python() -> Upgrade:
    """The same by a function of the row."""
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.full_name.is_(None))
    def names(row: Row[Any]) -> dict[str, Any]:
        return {"full_name": row.name.upper()}

    return upgrade


# -- databases ------------------------------------------------------------------------------------------------------


@dataclass
class Database:
    """One server to measure on."""

    name: str
    numbers: Callable[[int], str]
    """A query for the numbers from 1 on, as ``n``."""
    moment: str
    """The moment that lies ``n`` seconds behind the first one, in SQL."""
    ready: tuple[str, ...]
    """What is sent once a table is filled, so that the server has nothing else to do."""
    fresh: Callable[[], Any]
    """A context manager that answers the URL of an empty database."""

    @contextmanager
    def filled(self, rows: int) -> Iterator[str]:
        """The URL of a database with *rows* users."""
        with self.fresh() as url:
            engine = sa.create_engine(url)
            Base.metadata.create_all(engine)
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO users (id, name, email, created, amount) SELECT n, "
                    f"{self.text('user ')}, {self.text('someone-at-example-')}, {self.moment}, n"
                    f" FROM ({self.numbers(rows)}) AS numbers"
                )
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for statement in self.ready:
                    connection.exec_driver_sql(statement).close()
            engine.dispose()
            yield url

    def text(self, prefix: str) -> str:
        """*prefix* and the number."""
        return f"concat('{prefix}', n)" if self.name == "mariadb" else f"'{prefix}' || n"


@contextmanager
def _postgresql() -> Iterator[Database]:
    with server() as started:
        print(described(started))
        yield Database(
            name="postgresql",
            numbers=lambda rows: f"SELECT n FROM generate_series(1, {rows}) n",
            moment="timestamp '2020-01-01' + n * interval '1 second'",
            ready=("VACUUM ANALYZE", "CHECKPOINT"),
            fresh=started.database,
        )


@contextmanager
def _mariadb() -> Iterator[Database]:
    pool = MariaDBPool()
    try:
        started = pool.get()
        settings = {
            "innodb_buffer_pool_size": 512 << 20,
            "innodb_log_file_size": 512 << 20,
            "innodb_flush_log_at_trx_commit": 1,
        }
        with started.database() as url:
            engine = sa.create_engine(url)
            with engine.begin() as connection:
                for name, value in settings.items():
                    connection.exec_driver_sql(f"SET GLOBAL {name} = {value}")
                version = connection.exec_driver_sql("SELECT VERSION()").scalar_one()
            engine.dispose()
        print(f"MariaDB {version}, " + ", ".join(f"{name} {value}" for name, value in settings.items()))
        yield Database(
            name="mariadb",
            numbers=lambda rows: f"SELECT seq AS n FROM seq_1_to_{rows}",
            moment="'2020-01-01' + INTERVAL n SECOND",
            ready=("ANALYZE TABLE users",),
            fresh=started.database,
        )
    finally:
        pool.stop()


@contextmanager
def _sqlite() -> Iterator[Database]:
    @contextmanager
    def fresh() -> Iterator[str]:
        with tempfile.TemporaryDirectory() as directory:
            yield f"sqlite:///{Path(directory) / 'benchmark.db'}"

    print(f"SQLite {sa.create_engine('sqlite://').dialect.dbapi.sqlite_version}")  # type: ignore[union-attr]
    yield Database(
        name="sqlite",
        numbers=lambda rows: (
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
            f"WHERE n < {rows}) SELECT n FROM numbers"
        ),
        moment="datetime('2020-01-01', n || ' seconds') || '.000000'",
        ready=("ANALYZE",),
        fresh=fresh,
    )


DATABASES: Mapping[str, Callable[[], Any]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "sqlite": _sqlite,
}


# -- ways to do it --------------------------------------------------------------------------------------------------


def by_one_update(engine: Engine) -> None:
    """What nobody should send to a table that is in use."""
    with engine.begin() as connection:
        connection.exec_driver_sql(SINGLE)


def by_orm(engine: Engine) -> None:
    """What one would write by hand."""
    last = 0
    with Session(engine) as session:
        while True:
            query = sa.select(User).where(User.id > last, User.full_name.is_(None)).order_by(User.id)
            users = session.scalars(query.limit(ORM_BATCH)).all()
            if not users:
                return
            for user in users:
                user.full_name = user.name.upper()
            last = users[-1].id
            session.commit()
            session.expunge_all()


def by_emc(upgrade: Upgrade) -> Callable[[Engine], None]:
    """The migrate phase, without pauses."""

    def migrate(engine: Engine) -> None:
        report = emc.migrate(upgrade, engine, batch=BatchPolicy(fast=True))
        assert report.exit_code == 0, report.results

    return migrate


def measured(database: Database, way: Callable[[Engine], None], rows: int) -> float:
    """Rows per second of *way*."""
    with database.filled(rows) as url:
        engine = sa.create_engine(url)
        gc.collect()
        begun = time.perf_counter()
        way(engine)
        seconds = time.perf_counter() - begun
        with engine.connect() as connection:
            assert connection.exec_driver_sql(PENDING).scalar_one() == 0
        engine.dispose()
    return rows / seconds


def compare(
    database: Database,
    ours: Upgrade,
    other: tuple[str, Callable[[Engine], None]],
    rows: int,
    runs: int,
    goal: float,
) -> None:
    """Measure both ways in turn, and print the best of each."""
    rates: dict[str, list[float]] = {"emc": [], other[0]: []}
    for _ in range(runs):
        rates[other[0]].append(measured(database, other[1], rows))
        rates["emc"].append(measured(database, by_emc(ours), rows))
    for name, found in rates.items():
        each = ", ".join(f"{rate:,.0f}" for rate in found)
        print(
            f"  {name:24} {max(found):10,.0f} rows/s of {rows:,}" + (f"  (runs: {each})" if runs > 1 else "")
        )
    print(f"  emc is {max(rates['emc']) / max(rates[other[0]]):.2f} times as fast (goal {goal:g})")


# -- memory ---------------------------------------------------------------------------------------------------------


def _peak(url: str, pipe: Pipe) -> None:
    engine = sa.create_engine(url)
    by_emc(in_python())(engine)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(database: Database, rows: int) -> float:
    """Mebibytes that a process of its own had at most while it migrated *rows*."""
    with database.filled(rows) as url:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_peak, args=(url, there))
        process.start()
        process.join()
        assert process.exitcode == 0
        return float(here.recv())


def compare_memory(database: Database, rows: int) -> None:
    """Print what a tenth of the rows takes, and what all take."""
    few, all_of_them = peak(database, rows // 10), peak(database, rows)
    print(f"  {'memory':24} {few:6.0f} MiB for {rows // 10:,} rows, {all_of_them:6.0f} MiB for {rows:,}")


# -- an application beside it ---------------------------------------------------------------------------------------


def _quantile(waits: Waits, share: float) -> float:
    return sorted(waits.seconds)[int(share * (len(waits.seconds) - 1))]


def compare_waits(database: Database, rows: int, seconds: float) -> None:
    """Print what statements of an application take, while nobody migrates and while emc does."""
    with database.filled(rows) as url:
        with traffic(url, STATEMENTS, rows=rows, pause=THINKING) as idle:
            time.sleep(seconds)
        engine = sa.create_engine(url, poolclass=NullPool)
        with traffic(url, STATEMENTS, rows=rows, pause=THINKING) as busy:
            [result] = emc.migrate(in_sql(), engine, max_time=seconds).results
        engine.dispose()
    print(f"  with pauses: {result.rows_done / seconds:,.0f} rows/s beside 2 readers and 2 writers")
    for kind, waits in idle.items():
        before, during = _quantile(waits, 0.99), _quantile(busy[kind], 0.99)
        print(
            f"  {kind:24} p99 {1000 * before:6.1f} ms idle, {1000 * during:6.1f} ms meanwhile, "
            f"{during / before:.2f} times as long (goal 1.5); worst {1000 * busy[kind].worst:.0f} ms, "
            f"{len(busy[kind].errors)} errors of {len(busy[kind].seconds):,}"
        )


PARTS = ("sql", "function", "memory", "waits")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the migration in SQL")
    parser.add_argument("--function-rows", type=int, default=200_000, help="of that by a function")
    parser.add_argument("--memory-rows", type=int, default=1_000_000)
    parser.add_argument(
        "--runs", type=int, default=1, help="how often both ways are measured; the best counts"
    )
    parser.add_argument("--seconds", type=float, default=30, help="how long the application is looked at")
    parser.add_argument("--only", choices=DATABASES, action="append", help="this database alone")
    parser.add_argument("--part", choices=PARTS, action="append", help="this part alone")
    given = parser.parse_args()
    parts = given.part or PARTS
    for name in given.only or DATABASES:
        with DATABASES[name]() as database:
            if "sql" in parts:
                single = ("one UPDATE", by_one_update)
                compare(
                    database, in_sql(), single, given.rows, given.runs, 0.6 if name == "mariadb" else 0.85
                )
            if "function" in parts:
                compare(database, in_python(), ("ORM loop", by_orm), given.function_rows, given.runs, 5)
            if "memory" in parts:
                compare_memory(database, given.memory_rows)
            if "waits" in parts and name != "sqlite":
                compare_waits(database, given.rows, given.seconds)


if __name__ == "__main__":
    main()
