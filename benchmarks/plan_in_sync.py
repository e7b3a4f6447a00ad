"""How long does it take to find out that nothing has to be done?

Makes tables that are what their models say, and compares in the same run: Alembic's autogenerate with server defaults,
and emc. Prints the better of several runs, the queries sent, and the ratio.

    python -m benchmarks.plan_in_sync [--tables 3000] [--runs 3] [--url postgresql+psycopg://…]

Without a URL it starts a PostgreSQL server of its own. The database has to be empty: tables are made and dropped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, MetaData, Table, event

from emc import plan
from emc.dialects import dialect_of
from emc.diff import compare
from emc.upgrade import Upgrade

GOAL_RATIO = 5
GOAL_QUERIES = 25


def models(count: int) -> MetaData:
    """*count* tables with 15 columns, most with a server default, two indexes and a foreign key each."""
    metadata = MetaData()
    for number in range(count):
        Table(
            f"table_{number:05}",
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("parent_id", sa.ForeignKey(f"table_{number // 2:05}.id", ondelete="CASCADE")),
            Column("name", sa.String(100), nullable=False, server_default=""),
            Column("state", sa.String(20), nullable=False, server_default="active"),
            Column("kind", sa.String(20), server_default=sa.text("'plain'")),
            Column("count", sa.Integer, nullable=False, server_default="0"),
            Column("limit", sa.BigInteger, nullable=False, server_default=sa.text("100")),
            Column("price", sa.Numeric(12, 2), nullable=False, server_default="0"),
            Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
            Column("hidden", sa.Boolean, nullable=False, server_default=sa.text("false")),
            Column("created", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
            Column("updated", sa.DateTime(timezone=True), server_default=sa.text("CURRENT_TIMESTAMP")),
            Column("token", sa.Uuid, server_default=sa.text("gen_random_uuid()")),
            Column("notes", sa.Text),
            Column("day", sa.Date, server_default=sa.text("'2020-01-01'")),
            sa.Index(f"ix_table_{number:05}_state", "state", "kind"),
            sa.Index(f"ix_table_{number:05}_created", "created"),
        )
    return metadata


@dataclass
class Measurement:
    """The best of several runs."""

    seconds: float
    queries: int
    differences: int


def measure(engine: Engine, runs: int, compare_once: Callable[[], int]) -> Measurement:
    """Run *compare_once*, which answers the number of differences, and keep the fastest run."""
    measured = []
    for _ in range(runs):
        sent: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *_: Any, to: list[str] = sent) -> None:
            to.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        start = time.perf_counter()
        differences = compare_once()
        seconds = time.perf_counter() - start
        event.remove(engine, "before_cursor_execute", note)
        measured.append(Measurement(seconds, len(sent), differences))
    return min(measured, key=lambda one: one.seconds)


def emc_once(engine: Engine, metadata: MetaData) -> int:
    """One comparison by emc."""
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        return len(compare(connection, Upgrade(metadata), dialect).directives)


def plan_once(engine: Engine, metadata: MetaData) -> int:
    """One plan by emc: the comparison, and whatever a plan asks besides."""
    derived = plan(Upgrade(metadata), engine).plan
    return len(derived.expand) + len(derived.contract) + len(derived.unmanaged)


def alembic_once(engine: Engine, metadata: MetaData) -> int:
    """One comparison by Alembic."""
    with engine.connect() as connection:
        options = {"compare_server_default": True, "target_metadata": metadata}
        return len(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """The database to measure on."""
    if url is not None:
        yield url
        return
    from tests.servers import ServerPool

    pool = ServerPool()
    try:
        with pool.get().database() as fresh:
            yield fresh
    finally:
        pool.stop()


def create(engine: Engine, metadata: MetaData) -> None:
    """Make the tables, a thousand per transaction: each holds a lock until its end."""
    tables = list(metadata.sorted_tables)
    for start in range(0, len(tables), 1000):
        metadata.create_all(engine, tables=tables[start : start + 1000], checkfirst=False)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    metadata = models(arguments.tables)
    with database(arguments.url) as url:
        engine = sa.create_engine(url)
        create(engine, metadata)
        alembic = measure(engine, arguments.runs, lambda: alembic_once(engine, metadata))
        emc = measure(engine, arguments.runs, lambda: emc_once(engine, metadata))
        planned = measure(engine, arguments.runs, lambda: plan_once(engine, metadata))
        if arguments.url is not None:
            metadata.drop_all(engine)
        engine.dispose()
    print(f"{arguments.tables} tables of 15 columns in step, best of {arguments.runs}")
    print(f"{'':8} {'seconds':>8} {'queries':>8} {'differences':>12}")
    for name, one in (("alembic", alembic), ("emc diff", emc), ("emc plan", planned)):
        print(f"{name:8} {one.seconds:8.2f} {one.queries:8} {one.differences:12}")
    ratio = alembic.seconds / planned.seconds
    print(f"a plan is {ratio:.1f} times as fast as Alembic's comparison (goal {GOAL_RATIO}),")
    print(f"with {planned.queries} queries (goal {GOAL_QUERIES})")


if __name__ == "__main__":
    main()
