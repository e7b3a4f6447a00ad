"""What do triggers cost that keep columns in step?

Two tables with the same rows in one database: emc keeps a renamed column of one of them in step with the old one, and
nothing does so in the other. Both get the same updates in turn, a short round each, in an order that changes from round
to round. Prints the rate of the kept table as a share of that of the plain one, the median of all rounds: for updates
that concern no column of the sync, which is what the goal is about, and for such as do. On PostgreSQL also for triggers
as pgroll makes them.

    python -m benchmarks.sync_cost [--kinds sqlite,postgresql,mariadb] [--rows 20000] [--rounds 60] [--disk]

It starts servers of its own, which wait for no disk: that would only hide what triggers cost. What is measured is the
time that processors work for the session, at either end, so that other programs on the machine make little difference.
With --disk also, by the clock, what an application notices that commits one row at a time to disk; that takes a machine
with nothing else to do.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Engine, MetaData, Table

import emc
from benchmarks import postgresql_server
from emc.upgrade import Upgrade
from tests.mariadb_server import MariaDBPool

GOAL = 0.95
SINGLE = 40
"""Updates of one row in a round."""

PGROLL = """
CREATE FUNCTION pgroll_up() RETURNS trigger LANGUAGE plpgsql AS $$
  DECLARE latest_schema text;
          search_path text;
  BEGIN
    SELECT 'public' || '_' || 'old' INTO latest_schema;
    SELECT current_setting('search_path') INTO search_path;
    IF search_path != latest_schema THEN
      NEW.full_name = NEW.name;
    END IF;
    RETURN NEW;
  END $$;
CREATE FUNCTION pgroll_down() RETURNS trigger LANGUAGE plpgsql AS $$
  DECLARE latest_schema text;
          search_path text;
  BEGIN
    SELECT 'public' || '_' || 'old' INTO latest_schema;
    SELECT current_setting('search_path') INTO search_path;
    IF search_path = latest_schema THEN
      NEW.name = NEW.full_name;
    END IF;
    RETURN NEW;
  END $$;
CREATE TRIGGER pgroll_up BEFORE INSERT OR UPDATE ON pgroll FOR EACH ROW EXECUTE FUNCTION pgroll_up();
CREATE TRIGGER pgroll_down BEFORE INSERT OR UPDATE ON pgroll FOR EACH ROW EXECUTE FUNCTION pgroll_down();
"""
"""In the shape of pgroll's "pkg/backfill/templates/function.go": one function for each direction, for every row that is
written, whose first act is to find out who is writing."""


def table(metadata: MetaData, name: str, *, old: bool, new: bool) -> Table:
    """A table as the old release has it, the new one, or both."""
    columns: list[Column[Any]] = [Column("id", sa.Integer, primary_key=True), Column("visits", sa.Integer)]
    if old:
        columns.append(Column("name", sa.String(50)))
    columns += [Column("seen", sa.Integer), Column("note", sa.String(100))]
    if new:
        columns.append(Column("full_name", sa.String(50)))
    return Table(name, metadata, *columns)


def prepare(engine: Engine, rows: int) -> list[str]:
    """Make and fill the tables, and put triggers in place; answers their names, that without triggers first."""
    live = MetaData()
    names = ["plain", "kept", *(["pgroll"] if engine.dialect.name == "postgresql" else [])]
    for name in names:
        table(live, name, old=True, new=name != "kept")
    live.create_all(engine)
    models = MetaData()
    kept = table(models, "kept", old=False, new=True)
    upgrade = Upgrade(models, release="2")
    upgrade.rename("kept.name", to=kept.c.full_name)
    emc.expand(upgrade, engine)
    for name in names:
        one = table(MetaData(), name, old=True, new=True)
        row = {"visits": 0, "seen": 0, "note": "x" * 60}
        with engine.begin() as connection:
            connection.execute(
                one.insert(),
                [{"id": at, "name": f"n{at}", "full_name": f"n{at}", **row} for at in range(1, rows + 1)],
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in PGROLL.split(";\nCREATE") if "pgroll" in names else ():
            text = statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}"
            connection.exec_driver_sql(text, execution_options={"no_parameters": True})
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("VACUUM ANALYZE")
    return names


Work = Callable[[Any, str], None]
"""Does a round's updates of a table, with a cursor of the driver."""


def one_by_one(change: str, rows: int) -> Work:
    """Many short transactions, as applications have them."""
    chance = random.Random(1)

    def work(cursor: Any, name: str) -> None:
        for _ in range(SINGLE):
            new = change.format(chance.random())
            cursor.execute(f"UPDATE {name} SET {new} WHERE id = {chance.randint(1, rows)}")

    return work


def all_at_once(change: str, rows: int) -> Work:
    """One statement for many rows, where nothing else hides what a trigger costs."""
    some = max(rows // 10, 1)
    chance = random.Random(1)

    def work(cursor: Any, name: str) -> None:
        first = chance.randint(1, rows - some)
        new = change.format(chance.random())
        cursor.execute(f"UPDATE {name} SET {new} WHERE id BETWEEN {first} AND {first + some}")

    return work


def clock(connection: sa.Connection) -> Callable[[], float]:
    """Seconds that processors have worked for the session of *connection*, here and in the server."""
    kind = connection.dialect.name
    if kind == "sqlite":
        return time.thread_time
    if kind == "postgresql":
        path = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/schedstat")
    else:
        thread = connection.exec_driver_sql(
            "SELECT tid FROM information_schema.processlist WHERE id = CONNECTION_ID()"
        ).scalar_one()
        (path,) = Path("/proc").glob(f"[0-9]*/task/{thread}/schedstat")
    # https://docs.kernel.org/scheduler/sched-stats.html: "time spent on the cpu", in nanoseconds.
    return lambda: time.thread_time() + int(path.read_text().split()[0]) / 1e9


def settle(connection: sa.Connection, *, on_disk: bool) -> None:
    """Let commits wait for the disk, or not."""
    kind = connection.dialect.name
    if kind == "sqlite":
        connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if on_disk else 'OFF'}")
    elif kind == "postgresql":
        connection.exec_driver_sql(f"SET synchronous_commit = {'on' if on_disk else 'off'}")
    else:
        connection.exec_driver_sql(f"SET GLOBAL innodb_flush_log_at_trx_commit = {1 if on_disk else 2}")


def measure(
    engine: Engine, names: Sequence[str], work: Work, rounds: int, *, on_disk: bool
) -> dict[str, float]:
    """The rate of each table as a share of that of the first one."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        settle(connection, on_disk=on_disk)
        now = time.perf_counter if on_disk else clock(connection)
        cursor = connection.connection.cursor()
        chance = random.Random(1)
        for number in range(rounds + 2):
            for name in chance.sample(names, len(names)):
                begun = now()
                work(cursor, name)
                if number >= 2:  # The first ones warm up.
                    seconds[name].append(now() - begun)
            if engine.dialect.name == "postgresql" and number % 5 == 4:
                cursor.execute("VACUUM " + ", ".join(names))
    plain = seconds.pop(names[0])
    return {
        name: statistics.median(one / other for one, other in zip(plain, found, strict=True))
        for name, found in seconds.items()
    }


CHANGES = {
    "an unrelated column": ("visits = visits + 1", True),
    "several unrelated columns": ("visits = visits + 1, seen = seen + 1", True),
    "the old text": ("name = 'm{}'", False),
    "the new text": ("full_name = 'm{}'", False),
}
"""What is updated, and whether the goal is about it."""


@contextmanager
def database(kind: str) -> Iterator[Engine]:
    """A fresh database of a kind."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            engine = sa.create_engine(f"sqlite:///{Path(directory) / 'emc.db'}")
            yield engine
            engine.dispose()
        return
    if kind == "postgresql":
        with postgresql_server.server() as server, server.database() as url:
            engine = sa.create_engine(url)
            yield engine
            engine.dispose()
        return
    pool = MariaDBPool()
    try:
        with pool.get().database() as url:
            engine = sa.create_engine(url)
            yield engine
            engine.dispose()
    finally:
        pool.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", default="sqlite,postgresql,mariadb")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--disk", action="store_true")
    arguments = parser.parse_args()
    print(
        f"rates with triggers as a share of those without: median of {arguments.rounds} rounds,"
        f" {arguments.rows:,} rows"
    )
    for kind in arguments.kinds.split(","):
        with database(kind) as engine:
            names = prepare(engine, arguments.rows)
            with engine.connect() as connection:
                version = ".".join(map(str, connection.dialect.server_version_info or ()))
            print(f"\n{kind} {version}")
            print(f"  {'update of':26} {'rows':18} {'emc':>14} {'like pgroll':>14}")
            ways = {
                **({"committed to disk": (one_by_one, True)} if arguments.disk else {}),
                "one by one": (one_by_one, False),
                f"{arguments.rows // 10:,} at once": (all_at_once, False),
            }
            for what, (change, has_goal) in CHANGES.items():
                for how, (make, on_disk) in ways.items():
                    work = make(change, arguments.rows)
                    found = measure(engine, names, work, arguments.rounds, on_disk=on_disk)
                    told = " ".join(f"{share:14.2f}" for share in found.values())
                    print(
                        f"  {what:26} {how:18} {told}" + (f"   goal {GOAL}" if has_goal else ""), flush=True
                    )


if __name__ == "__main__":
    main()
