"""Through which moments does every pair of models go, and what holds at each?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    MetaData,
    Table,
    create_engine,
    event,
    inspect,
    select,
    text,
    type_coerce,
)
from sqlalchemy.pool import NullPool
from sqlalchemy.types import NullType

import emc
from emc.commands.jsonable import plan_json
from emc.commands.results import PlanReport
from emc.dialects import dialect_of
from emc.errors import ExitCode
from emc.names import is_own
from emc.schema import LiveSchema, LiveTable
from emc.upgrade import Upgrade
from tests.lifecycle.pairs import MARIADB, Pair, Tables

WRITING = (
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "TRUNCATE",
    "COMMENT",
    "VACUUM",
    "REINDEX",
)


SCRATCH = "emc_scratch_"
"""Part of every statement that builds something only to see how the server spells it, and takes it away again."""


def database_of(engine: Engine) -> str:
    """Which database this is, whatever its URL calls it."""
    asking = create_engine(
        engine.url, poolclass=NullPool
    )  # A pool would keep a connection without our listeners.
    with asking.connect():
        return dialect_of(asking).name


def enforce_foreign_keys(engine: Engine) -> None:
    """Let SQLite enforce foreign keys on every connection, as a service would."""
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def switch_on(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA foreign_keys=ON")


@contextmanager
def writes(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements sent through *engine* that write and are not rolled back."""
    commits_ddl = not dialect_of(engine).transactional_ddl
    kept: list[str] = []
    pending: dict[int, list[str]] = {}

    def sent(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        word = statement.split(None, 1)[0].upper() if statement.strip() else ""
        mine = pending.setdefault(id(connection.connection.dbapi_connection), [])
        if word in ("ROLLBACK", "COMMIT"):  # SQLite's sessions send them as statements
            if word == "COMMIT":
                kept.extend(mine)
            mine.clear()
        elif word in WRITING and SCRATCH not in statement:
            if commits_ddl and word not in ("INSERT", "UPDATE", "DELETE"):
                kept.extend(mine)
                mine.clear()
                kept.append(statement)
            else:
                (kept if commits_by_itself(connection) else mine).append(statement)

    def committed(connection: Connection) -> None:
        kept.extend(pending.pop(id(connection.connection.dbapi_connection), []))

    def rolled_back(connection: Connection) -> None:
        pending.pop(id(connection.connection.dbapi_connection), None)

    listeners: dict[str, Any] = {"before_cursor_execute": sent, "commit": committed, "rollback": rolled_back}
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield kept
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


def commits_by_itself(connection: Connection) -> bool:
    """Whether the next statement on *connection* is a transaction of its own."""
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        return not raw.in_transaction and raw.isolation_level is None
    if hasattr(raw, "get_autocommit"):  # PyMySQL, mysqlclient
        return bool(raw.get_autocommit())
    return getattr(raw, "autocommit", False) is True


@dataclass
class Release:
    """One release of the service: its own Table objects and what it sends."""

    tables: Tables
    work: Any
    blindly: bool = False
    """Reads without understanding: see `Pair.unreadable`."""

    def exercise(self, engine: Engine, n: int) -> None:
        """Send every statement of the release, and read every column that it maps, as it does in production."""
        with engine.begin() as connection:
            for statement in self.work(self.tables, n):
                connection.execute(statement)
        with engine.connect() as connection:
            for table in self.tables.metadata.tables.values():
                connection.execute(
                    select(*(map(bare, table.columns) if self.blindly else table.columns))
                ).all()


def bare(column: Column[Any]) -> ColumnElement[Any]:
    """*column* without its type, so that any value can be read."""
    return type_coerce(column, NullType())


def modelled(build: Any) -> Tables:
    """The tables that *build* makes."""
    metadata = MetaData()
    build(metadata)
    return Tables(metadata)


def upgrade_of(pair: Pair, declare: Any = None) -> Upgrade:
    """The upgrade of *pair*, from models made anew: nothing may depend on the order of their hashes."""
    tables = modelled(pair.new)
    upgrade = Upgrade(tables.metadata, release="2", **pair.options)
    (declare or pair.declare)(upgrade, tables)
    return upgrade


def build_old(pair: Pair, engine: Engine) -> None:
    """Make the database that the old release works on."""
    tables = modelled(pair.old)
    with engine.begin() as connection:
        for schema in pair.schemas:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        tables.metadata.create_all(connection)
    with engine.begin() as connection:
        for name, rows in pair.rows.items():
            for row in rows:
                connection.execute(tables[name].insert().values(dict(row)))
        for statement in pair.on(database_of(engine), pair.prepare):
            connection.exec_driver_sql(statement)


def build_new(pair: Pair, engine: Engine) -> None:
    """Make an empty database as the new release would."""
    with engine.begin() as connection:
        for schema in pair.schemas:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        modelled(pair.new).metadata.create_all(connection)


def drop_schemas(pair: Pair, engine: Engine) -> None:
    """Drop the schemas of *pair* where they are no part of the database, but databases beside it."""
    if database_of(engine) != MARIADB or not pair.schemas:
        return
    with engine.connect() as connection:
        connection.exec_driver_sql("SET SESSION foreign_key_checks = 0")
        for schema in pair.schemas:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema}")
        connection.exec_driver_sql("SET SESSION foreign_key_checks = 1")


def scratch_left(engine: Engine) -> list[str]:
    """What was built only to see how the server spells it, and is still there."""
    return [name for name in inspect(engine).get_schema_names() if name.startswith(SCRATCH)]


def live(engine: Engine, schemas: Sequence[str | None] = (None,)) -> LiveSchema:
    """What is in the database."""
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        return dialect.read(connection, schemas)


def shape(engine: Engine, schemas: Sequence[str] = ()) -> dict[str, Any]:
    """The schema behind *engine* as plain values, without emc's own tables, in an order of its own."""
    seen = live(engine, (None, *schemas))
    tables = {str(key): _table(table, engine) for key, table in seen.tables.items() if not is_own(key.name)}
    return {"tables": tables, "enums": {str(key): list(labels) for key, labels in seen.enums.items()}}


def _table(table: LiveTable, engine: Engine) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                str(key): plain(one) for key, one in value.items() if not str(key).startswith("duplicates")
            }
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if hasattr(value, "compile"):
            return str(value.compile(dialect=engine.dialect))
        return value if isinstance(value, str | int | bool | None) else repr(value)

    def named(elements: Any) -> list[Any]:
        return sorted(map(plain, elements), key=lambda one: json.dumps(one, sort_keys=True))

    return {
        "columns": plain(table.columns),
        "primary key": plain(table.primary_key),
        "foreign keys": named(table.foreign_keys),
        "indexes": named(table.indexes),
        "uniques": named(table.uniques),
        "checks": named(table.checks),
        "comment": table.comment,
        "definitions": {f"{kind}:{name}": one for (kind, name), one in sorted(table.definitions.items())},
        "unfinished": sorted(table.unfinished),
    }


Data = dict[str, dict[Any, dict[str, Any]]]


def kept_data(engine: Engine, old: Tables, new: Tables) -> Data:
    """The rows of every table that both releases have, in the columns that both have, by primary key."""
    data: Data = {}
    with engine.connect() as connection:
        for name, table in sorted(new.metadata.tables.items()):
            before = old.metadata.tables.get(name)
            if before is None:
                continue
            names = [column.name for column in table.columns if column.name in before.columns]
            rows = connection.execute(select(*(bare(table.columns[one]) for one in names)))
            primary = [names.index(column.name) for column in table.primary_key]
            data[name] = {
                tuple(row[one] for one in primary): dict(zip(names, row, strict=True)) for row in rows
            }
    return data


def without(data: Data, pair: Pair) -> Data:
    """*data* without what the declarations of *pair* change on purpose."""
    return {
        name: {
            key: {column: value for column, value in row.items() if f"{name}.{column}" not in pair.rewritten}
            for key, row in rows.items()
            if key not in {(one,) for one in pair.lost.get(name, ())}
        }
        for name, rows in data.items()
    }


def assert_kept(before: Data, after: Data) -> None:
    """No row of *before* is missing from *after*, or has other values there, in the columns that *before* has."""
    for name, rows in before.items():
        for key, row in rows.items():
            there = after[name].get(key)
            assert there is not None, f"{name} {key} is lost"
            assert {column: there[column] for column in row} == row, f"{name} {key}"


def planned(pair: Pair, engine: Engine, declare: Any = None) -> tuple[PlanReport, Any]:
    """The plan, and the same as JSON."""
    report = emc.plan(upgrade_of(pair, declare), engine)
    return report, plan_json(report, engine.dialect)


def run_lifecycle(pair: Pair, engine: Engine, fresh: Engine) -> None:
    """Take *pair* from one end to the other.

    Args:
        pair: what is upgraded.
        engine: an empty database.
        fresh: another empty database, of the same kind.
    """
    for one in (engine, fresh):
        enforce_foreign_keys(one)
    database = database_of(engine)
    build_old(pair, engine)
    old = Release(modelled(pair.old), pair.old_work)
    new = Release(modelled(pair.new), pair.new_work, blindly=pair.unreadable)
    stored = kept_data(engine, old.tables, new.tables)
    old.exercise(engine, 1000)

    # The plan is what was expected, and the same again.
    with writes(engine) as written:
        report, plan = planned(pair, engine)
        assert json.dumps(plan) == json.dumps(planned(pair, engine)[1])
    assert written == []
    assert scratch_left(engine) == []
    phases = {phase: [step["id"] for step in steps] for phase, steps in plan["phases"].items()}
    expected = {"expand": pair.expand, "migrate": pair.migrate, "contract": pair.contract}
    assert phases == {phase: list(pair.on(database, ids)) for phase, ids in expected.items()}
    assert [one["declare"] for one in plan["unmanaged"]] == list(pair.on(database, pair.unmanaged))
    assert [note["kind"] for note in plan["notes"]] == list(pair.notes)
    for step in (*report.plan.expand, *report.plan.contract):
        if step.id in pair.hazards:
            assert list(step.hazards) == list(pair.on(database, pair.hazards[step.id])), step.id

    # Expand: both releases work, and there is nothing left to expand.
    assert emc.expand(upgrade_of(pair), engine).exit_code is ExitCode.DONE
    old.exercise(engine, 2000)
    new.exercise(engine, 3000)
    with writes(engine) as written:
        assert emc.expand(upgrade_of(pair), engine).done == ()
    assert written == []

    # Contract: not before the old release is gone; not while data is unfinished.
    unfinished_contract(pair, engine)

    # Migrate: while both go on working, until nothing is left.
    assert emc.migrate(upgrade_of(pair), engine).exit_code is ExitCode.DONE
    old.exercise(engine, 4000)
    new.exercise(engine, 5000)
    assert emc.migrate(upgrade_of(pair), engine).exit_code is ExitCode.DONE
    with writes(engine) as written:
        assert emc.migrate(upgrade_of(pair), engine).results == ()
    assert written == []
    status = emc.status(upgrade_of(pair), engine)
    assert [work.name for work in status.work if not work.complete] == []
    assert_kept(without(stored, pair), kept_data(engine, old.tables, new.tables))

    # Contract: the old release is gone.
    before = kept_data(engine, old.tables, new.tables)
    done = emc.contract(upgrade_of(pair, pair.decide), engine, old_code_gone=True)
    assert [(one.step.id, [v.reason for v in one.verdicts]) for one in done.blocked] == []
    assert sorted(done.done) == sorted(phases["contract"])
    assert_kept(before, kept_data(engine, old.tables, new.tables))
    assert emc.plan(upgrade_of(pair, pair.decide), engine).is_empty
    new.exercise(engine, 6000)
    assert_same_as_fresh(pair, engine, fresh)


def unfinished_contract(pair: Pair, engine: Engine) -> None:
    """Contract drops nothing before the old release is gone, or while data is unfinished."""
    ids = list(pair.on(database_of(engine), pair.contract))
    before = shape(engine, pair.schemas)
    with writes(engine) as written:
        report = emc.contract(upgrade_of(pair), engine)
        assert [one.step.id for one in report.blocked] == ids
        assert report.exit_code is (ExitCode.GATE_SHUT if ids else ExitCode.DONE)
    assert written == []
    assert all(any(v.gate.startswith("old-code-gone:") for v in one.verdicts) for one in report.blocked)
    if pair.shut:
        # Only what the gates are about: the other operations would end the old release.
        mine = [one.step.id for one in report.blocked if any(v.gate in pair.shut for v in one.verdicts)]
        report = emc.contract(upgrade_of(pair), engine, old_code_gone=True, only=mine)
        assert report.done == ()
        assert report.exit_code is ExitCode.GATE_SHUT
        shut = {verdict.gate: verdict for one in report.blocked for verdict in one.verdicts}
        assert {gate: verdict.rows for gate, verdict in shut.items()} == dict(pair.shut)
        for verdict in shut.values():
            assert verdict.remedy
            assert (verdict.rows is None) or 0 < len(verdict.keys) <= 3
    assert shape(engine, pair.schemas) == before


def assert_same_as_fresh(pair: Pair, engine: Engine, fresh: Engine) -> None:
    """The live schema is what `create_all` makes of the new models, unmanaged elements aside."""
    upgraded = shape(engine, pair.schemas)
    drop_schemas(pair, engine)
    build_new(pair, fresh)
    wanted = shape(fresh, pair.schemas)
    if pair.on(database_of(engine), pair.unmanaged) or pair.options:
        # What is left alone is what a release of its own would have to take away.
        return
    assert upgraded == wanted


def send(engine: Engine, statements: Sequence[Executable]) -> None:
    """Run *statements* in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def table_rows(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    """Every row of *table*, in the order of its key."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
