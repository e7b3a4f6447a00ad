"""What does an application notice of an upgrade on MariaDB?

One upgrade of a table with a million rows: a column and an index are added, a foreign key is added to a column that is
there, and a column is dropped. Readers and writers go on all the while, and one long transaction has read the table
when it begins. The same in one run on copies of the same table: nobody upgrades; plain Alembic operations; where it is
installed, pt-online-schema-change; emc.

    python -m benchmarks.mariadb_upgrade [--rows 1000000] [--report-seconds 10]

It starts a MariaDB server of its own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, MetaData, Table
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

import emc
from benchmarks.traffic import Waits, long_transaction, traffic
from emc import Upgrade
from tests.mariadb_server import MariaDBPool

STATEMENTS = {
    "readers": "SELECT amount FROM orders WHERE id = :id",
    "writers": "UPDATE orders SET amount = amount + 1 WHERE id = :id",
}
PT_OSC = "pt-online-schema-change"


def old_models() -> MetaData:
    """The tables of the old release."""
    metadata = MetaData()
    Table("users", metadata, Column("id", sa.Integer, primary_key=True), Column("name", sa.String(50)))
    Table(
        "orders",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("user_id", sa.Integer, nullable=False),
        Column("amount", sa.Integer, nullable=False),
        Column("created", sa.DateTime, nullable=False),
        Column("note", sa.String(100)),
        Column("cached", sa.String(40)),
        sa.Index("ix_orders_user_id", "user_id"),
    )
    return metadata


def new_models() -> MetaData:
    """The tables of the new release."""
    metadata = MetaData()
    Table("users", metadata, Column("id", sa.Integer, primary_key=True), Column("name", sa.String(50)))
    Table(
        "orders",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("user_id", sa.ForeignKey("users.id", name="fk_orders_user"), nullable=False),
        Column("amount", sa.Integer, nullable=False),
        Column("created", sa.DateTime, nullable=False),
        Column("note", sa.String(100)),
        Column("status", sa.String(20), nullable=False, server_default="new"),
        sa.Index("ix_orders_user_id", "user_id"),
        sa.Index("ix_orders_created", "created"),
    )
    return metadata


def fill(engine: Engine, rows: int) -> None:
    """Make the old tables, with *rows* orders."""
    old_models().create_all(engine)
    with engine.begin() as connection:
        numbers = f"seq_1_to_{rows}"  # MariaDB's SEQUENCE engine: a table that has the numbers
        connection.exec_driver_sql(
            f"INSERT INTO users SELECT seq, concat('user ', seq) FROM seq_1_to_{rows // 10}"
        )
        connection.exec_driver_sql(
            "INSERT INTO orders SELECT seq, 1 + mod(seq, (SELECT count(*) FROM users)), seq,"
            f" '2020-01-01' + INTERVAL seq SECOND, repeat('n', 60), repeat('c', 30) FROM {numbers}"
        )
        connection.exec_driver_sql("ANALYZE TABLE orders")


def with_emc(engine: Engine) -> None:
    """The upgrade, phase by phase."""
    upgrade = Upgrade(new_models(), release="2")
    upgrade.discard("orders.cached", reason="rebuilt nightly")
    for report in (
        emc.expand(upgrade, engine),
        emc.migrate(upgrade, engine),
        emc.contract(upgrade, engine, old_code_gone=True),
    ):
        assert report.exit_code == 0, report
    assert emc.plan(upgrade, engine).plan.is_empty


def with_alembic(engine: Engine) -> None:
    """The operations that autogenerate would write."""
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.add_column("orders", Column("status", sa.String(20), nullable=False, server_default="new"))
        op.create_index("ix_orders_created", "orders", ["created"])
        op.create_foreign_key("fk_orders_user", "orders", "users", ["user_id"], ["id"])
        op.drop_column("orders", "cached")


def with_pt_osc(engine: Engine) -> None:
    """One copy of the table that has all of it."""
    url = engine.url
    alter = (
        "ADD COLUMN status varchar(20) NOT NULL DEFAULT 'new', ADD INDEX ix_orders_created (created), "
        "ADD CONSTRAINT fk_orders_user FOREIGN KEY (user_id) REFERENCES users (id), DROP COLUMN cached"
    )
    dsn = f"h={url.host},P={url.port},u={url.username},D={url.database},t=orders"
    command = [PT_OSC, "--execute", "--no-version-check", "--alter", alter, dsn]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words


def nothing(engine: Engine) -> None:
    """Let the application alone for as long as a person looks at it."""
    time.sleep(10)


@dataclass
class Course:
    """One way to upgrade, and what it was like."""

    name: str
    seconds: float
    waits: dict[str, Waits]
    mebibytes: float

    @property
    def worst(self) -> float:
        """The longest that any statement of the application took, in seconds."""
        return max(one.worst for one in self.waits.values())


def written(engine: Engine) -> int:
    """Bytes that the server has written to tables and to its redo log."""
    names = "('INNODB_DATA_WRITTEN', 'INNODB_OS_LOG_WRITTEN')"
    sql = f"SELECT sum(variable_value) FROM information_schema.global_status WHERE variable_name IN {names}"
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(sql).scalar_one())


def course(
    url: str, name: str, upgrade: Callable[[Engine], None], rows: int, report_seconds: float
) -> Course:
    """Upgrade under traffic."""
    engine = sa.create_engine(url, poolclass=NullPool)
    before = written(engine)
    report = "SELECT count(*) FROM orders WHERE id < 10"
    with traffic(url, STATEMENTS, rows=rows) as waits, long_transaction(url, report, report_seconds):
        begun = time.perf_counter()
        upgrade(engine)
        seconds = time.perf_counter() - begun
    mebibytes = (written(engine) - before) / 2**20
    engine.dispose()
    return Course(name, seconds, waits, mebibytes)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--report-seconds", type=float, default=10, help="how long the long transaction lasts"
    )
    arguments = parser.parse_args()
    ways: dict[str, Callable[[Engine], None]] = {"idle": nothing, "alembic": with_alembic}
    if shutil.which(PT_OSC):
        ways[PT_OSC] = with_pt_osc
    ways["emc"] = with_emc
    courses = []
    pool = MariaDBPool()
    try:
        for name, upgrade in ways.items():
            with pool.get().database() as url:
                engine = sa.create_engine(make_url(url))
                fill(engine, arguments.rows)
                engine.dispose()
                courses.append(course(url, name, upgrade, arguments.rows, arguments.report_seconds))
    finally:
        pool.stop()
    print(
        f"{arguments.rows:,} rows, 2 readers, 2 writers, a transaction open for {arguments.report_seconds:g} s"
    )
    print(f"{'':24} {'seconds':>8} {'worst wait':>11} {'MiB written':>12} {'errors':>7}")
    for one in courses:
        errors = sum(len(waits.errors) for waits in one.waits.values())
        print(f"{one.name:24} {one.seconds:8.1f} {one.worst:10.3f}s {one.mebibytes:12.0f} {errors:7}")
        for error in sorted({error for waits in one.waits.values() for error in waits.errors})[:3]:
            print(f"{'':24} {error}")
    by_name = {one.name: one for one in courses}
    for other in ("alembic", PT_OSC):
        if other in by_name:
            ratio = by_name[other].worst / by_name["emc"].worst
            print(f"with {other} the application's worst wait is {ratio:.1f} times as long as with emc")


if __name__ == "__main__":
    main()
