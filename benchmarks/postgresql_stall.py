"""How long does an application wait while a schema changes under it on PostgreSQL?

One upgrade of a table with two million rows: a column that is unique and filled from others, a column with a foreign
key, an index, NOT NULL, and a column that is dropped. Readers and writers, of the old release first and of the new one
then, go on all the while, and reports keep the table open when expand and contract begin. The same in one run on copies
of the same table: nobody upgrades; plain Alembic operations; emc. For emc the lock timeout that its session had at the
moment is put beside each wait: no statement of the application may wait longer than that, and a tenth of a second.

    python -m benchmarks.postgresql_stall [--rows 2000000] [--report-seconds 10] [--only emc]

It starts a PostgreSQL server of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, MetaData, Table, event

import emc
from benchmarks.postgresql_server import described, server
from benchmarks.traffic import Waits, long_transaction, traffic
from emc import Upgrade
from emc.errors import ExitCode
from emc.execute import StepEvent, StepState

SLACK = 0.1
"""Seconds that a statement may take beyond the lock timeout of emc."""
PAUSE = 0.002
"""Seconds that a session of the application thinks between two statements."""
REPORT = "SELECT count(*) FROM orders WHERE id < 10"
OLD = {
    "old readers": "SELECT o.amount, u.name FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = :id",
    "old writers": "UPDATE orders SET amount = amount + 1 WHERE id = :id",
    "old inserters": "INSERT INTO orders (user_id, amount, created) VALUES (1, :id, now())",
}
NEW = {
    "new readers": "SELECT o.amount, o.code FROM orders o WHERE o.id = :id",
    "new writers": "UPDATE orders SET amount = amount + 1 WHERE id = :id",
    "new inserters": "INSERT INTO orders (user_id, seller_id, amount, created, code)"
    " VALUES (1, 1, :id, now(), CAST(gen_random_uuid() AS text))",
}


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
        Column("created", sa.DateTime(timezone=True), nullable=False),
        Column("cached", sa.String(40)),
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
        Column("user_id", sa.Integer, nullable=False),
        Column("amount", sa.Integer, nullable=False),
        Column("created", sa.DateTime(timezone=True), nullable=False),
        Column("code", sa.String(40), nullable=False),
        Column("seller_id", sa.ForeignKey("users.id", name="fk_orders_seller")),
        sa.UniqueConstraint("code", name="uq_orders_code"),
        sa.Index("ix_orders_created", "created"),
    )
    return metadata


def fill(engine: Engine, rows: int) -> None:
    """Make the old tables, with *rows* orders."""
    old_models().create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, {max(1, rows // 10)}) n"
        )
        connection.exec_driver_sql(
            "INSERT INTO orders (id, user_id, amount, created)"
            f" SELECT n, 1 + mod(n, {max(1, rows // 10)}), n, timestamptz '2020-01-01' + n * interval '1 second'"
            f" FROM generate_series(1, {rows}) n"
        )
        connection.exec_driver_sql(f"SELECT setval('orders_id_seq', {rows})")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")


# -- what there is to be seen ---------------------------------------------------------------------------------------


@dataclass
class Course:
    """One way to upgrade, and what it was like."""

    name: str
    waits: dict[str, Waits] = field(default_factory=dict)
    phases: list[tuple[str, float, float]] = field(default_factory=list)
    """Name, beginning and end of each phase."""
    timeouts: list[tuple[float, float]] = field(default_factory=list)
    """Since when a session of emc has had which lock timeout, in seconds; 0: nothing that it holds or waits for then
    may keep anybody waiting."""
    sent: list[tuple[float, float, str]] = field(default_factory=list)
    """Beginning and end of each statement of the upgrade."""
    waited: int = 0
    """How often a lock was not to be had in time and was asked for again."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens in the block is part of phase *name*."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.phases.append((name, begun, time.perf_counter()))

    def allowed(self, begun: float, ended: float) -> float:
        """The longest lock timeout that was in force at some moment between *begun* and *ended*."""
        moments = [moment for moment, _ in self.timeouts]
        first = max(0, bisect_right(moments, begun) - 1)
        return max(
            (seconds for _, seconds in self.timeouts[first : bisect_right(moments, ended)]), default=0.0
        )

    def statements(self, begun: float, ended: float) -> list[tuple[float, float]]:
        """Moment and length of the statements that the application sent, or waited for, between *begun* and *ended*."""
        return [
            (moment, seconds)
            for waits in self.waits.values()
            for moment, seconds in waits
            if moment <= ended and moment + seconds >= begun
        ]

    def during(self, begun: float, ended: float) -> list[str]:
        """What the upgrade was doing between *begun* and *ended*."""
        return [sql for start, end, sql in self.sent if start <= ended and end >= begun]


def watch(engine: Engine, course: Course) -> None:
    """Note down what is sent through *engine*, and which lock timeouts are set."""

    @event.listens_for(engine, "before_cursor_execute")
    def before(connection: Any, _cursor: Any, sql: str, parameters: Any, context: Any, _many: bool) -> None:
        context.emc_begun = time.perf_counter()
        if isinstance(parameters, Mapping) and "lock_timeout" in parameters:
            seconds = float(str(parameters["lock_timeout"]).removesuffix("ms")) / 1000
            # What only reads keeps nobody waiting, however long it waits itself.
            reads = connection.get_execution_options().get("isolation_level") == "REPEATABLE READ"
            course.timeouts.append((context.emc_begun, 0.0 if reads else seconds))

    @event.listens_for(engine, "after_cursor_execute")
    def after(_connection: Any, _cursor: Any, sql: str, _parameters: Any, context: Any, _many: bool) -> None:
        course.sent.append((context.emc_begun, time.perf_counter(), sql))


# -- the ways -------------------------------------------------------------------------------------------------------


def nothing(course: Course, url: str, rows: int, report_seconds: float) -> None:
    """Let the application alone for as long as a person looks at it."""
    with traffic(url, OLD, rows=rows, pause=PAUSE) as course.waits, course.phase("all"):
        time.sleep(20)


def with_alembic(course: Course, url: str, rows: int, report_seconds: float) -> None:
    """The operations that autogenerate would write, and the UPDATE that its reader would add."""
    engine = sa.create_engine(url)
    watch(engine, course)
    with (
        traffic(url, OLD, rows=rows, pause=PAUSE) as course.waits,
        long_transaction(url, REPORT, report_seconds),
        course.phase("all"),
        engine.begin() as connection,
    ):
        op = Operations(MigrationContext.configure(connection))
        op.add_column("orders", Column("code", sa.String(40)))
        op.add_column("orders", Column("seller_id", sa.Integer))
        op.execute("UPDATE orders SET code = 'o' || id")
        op.alter_column("orders", "code", nullable=False)
        op.create_index("ix_orders_created", "orders", ["created"])
        op.create_unique_constraint("uq_orders_code", "orders", ["code"])
        op.create_foreign_key("fk_orders_seller", "orders", "users", ["seller_id"], ["id"])
        op.drop_column("orders", "cached")
    engine.dispose()


def with_emc(course: Course, url: str, rows: int, report_seconds: float) -> None:
    """The upgrade, phase by phase, with the releases that run then."""
    models = new_models()
    orders = models.tables["orders"]
    upgrade = Upgrade(models, release="2")
    upgrade.fill(orders.c.code, sa.literal("o") + sa.cast(orders.c.id, sa.String))
    upgrade.retire("orders.cached")
    engine = sa.create_engine(url)
    watch(engine, course)

    def hear(heard: object) -> None:
        course.waited += isinstance(heard, StepEvent) and heard.state is StepState.WAITING

    with traffic(url, OLD, rows=rows, sessions=1, pause=PAUSE) as old:
        with long_transaction(url, REPORT, report_seconds), course.phase("expand"):
            _done(emc.expand(upgrade, engine, report=hear))
        with traffic(url, NEW, rows=rows, sessions=1, pause=PAUSE) as new, course.phase("migrate"):
            # The old release goes on inserting rows that have to be filled: some may be left.
            assert emc.migrate(upgrade, engine, report=hear).exit_code in (
                ExitCode.DONE,
                ExitCode.WORK_REMAINS,
            )
        course.waits |= new
    course.waits |= old
    with traffic(url, NEW, rows=rows, pause=PAUSE) as new:
        with course.phase("migrate the rest"):
            _done(emc.migrate(upgrade, engine, report=hear))
        with long_transaction(url, REPORT, report_seconds), course.phase("contract"):
            _done(emc.contract(upgrade, engine, old_code_gone=True, report=hear))
    for kind, waits in new.items():
        course.waits[kind].add(waits)
    assert emc.plan(upgrade, engine).plan.is_empty
    engine.dispose()


def _done(report: Any) -> None:
    assert report.exit_code == 0, report


WAYS: Mapping[str, Callable[[Course, str, int, float], None]] = {
    "idle": nothing,
    "alembic": with_alembic,
    "emc": with_emc,
}


# -- the table ------------------------------------------------------------------------------------------------------


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that *share* of *ordered* do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def show(course: Course, outliers: int) -> None:
    """One line for each phase."""
    for name, begun, ended in course.phases:
        statements = course.statements(begun, ended)
        lengths = sorted(seconds for _, seconds in statements)
        worst = max(statements, key=lambda one: one[1], default=(begun, 0.0))
        line = (
            f"{course.name:8} {name:17} {ended - begun:7.1f} {len(lengths):9,} {percentile(lengths, 0.5) * 1000:8.1f}"
            f" {percentile(lengths, 0.99) * 1000:8.1f} {worst[1] * 1000:9.1f}"
        )
        if course.timeouts:
            over = max(
                (seconds - course.allowed(at, at + seconds) for at, seconds in statements), default=0.0
            )
            line += f" {course.allowed(worst[0], sum(worst)) * 1000:9.0f} {over * 1000:9.1f}"
        print(line)
        for at, seconds in sorted(statements, key=lambda one: -one[1])[:outliers]:
            print(
                f"    {seconds * 1000:8.1f} ms, {at - begun:.2f} s after the beginning, lock timeout"
                f" {course.allowed(at, at + seconds) * 1000:.0f} ms"
            )
            for sql in course.during(at, at + seconds)[-8:]:
                print(f"        {' '.join(sql.split())[:120]}")
    errors = [error for waits in course.waits.values() for error in waits.errors]
    lost = f", {len(errors)} statements of the application failed" if errors else ", no error"
    waited = f", {course.waited} times a lock was asked for again" if course.timeouts else ""
    print(
        f"{course.name:8} in all {sum(ended - begun for _, begun, ended in course.phases):.1f} s{lost}{waited}"
    )
    for error in sorted({error.splitlines()[0] for error in errors})[:3]:
        print(f"         {error}")
    sys.stdout.flush()


def worst(course: Course) -> float:
    """The longest that any statement of the application took, in seconds."""
    return max(waits.worst for waits in course.waits.values())


def over(course: Course) -> float:
    """By how many seconds a statement took longer than the lock timeout that emc had meanwhile, at most."""
    return max(
        seconds - course.allowed(at, at + seconds)
        for _, begun, ended in course.phases
        for at, seconds in course.statements(begun, ended)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument(
        "--report-seconds", type=float, default=10, help="how long each report keeps its transaction open"
    )
    parser.add_argument("--only", choices=WAYS, action="append", help="leave the other ways out")
    parser.add_argument(
        "--outliers", type=int, default=0, metavar="N", help="show N of the longest waits of each phase"
    )
    parser.add_argument("--postgresql", type=int, metavar="VERSION", help="its major version")
    parser.add_argument("--no-fsync", action="store_true", help="let no commit wait for the disk")
    arguments = parser.parse_args()
    print(
        f"{arguments.rows:,} rows, 2 readers, 2 writers, 2 inserters, reports open for {arguments.report_seconds:g} s"
    )
    courses = []
    with server(arguments.postgresql, durable=not arguments.no_fsync) as started:
        print(described(started))
        print(
            f"{'':8} {'':17} {'seconds':>7} {'sent':>9} {'p50 ms':>8} {'p99 ms':>8} {'worst ms':>9}"
            f" {'timeout':>9} {'beyond':>9}",
            flush=True,
        )
        for name in arguments.only or WAYS:
            course = Course(name)
            with started.database() as url:
                engine = sa.create_engine(url)
                fill(engine, arguments.rows)
                engine.dispose()
                WAYS[name](course, url, arguments.rows, arguments.report_seconds)
            courses.append(course)
            show(course, arguments.outliers)
    by_name = {one.name: one for one in courses}
    if "emc" in by_name:
        beyond = over(by_name["emc"])
        print(
            f"with emc no statement waited longer than the lock timeout of the moment and {beyond * 1000:.0f} ms"
            f" (goal {SLACK * 1000:.0f})"
        )
        for other in ("alembic", "idle"):
            if other in by_name:
                ratio = worst(by_name[other]) / worst(by_name["emc"])
                print(f"the application's worst wait with {other} is {ratio:.2f} times that with emc")


if __name__ == "__main__":
    main()
