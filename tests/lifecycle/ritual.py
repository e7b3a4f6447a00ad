"""Through which moments does every pair of models go, and what holds at each?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Engine,
    Executable,
    MetaData,
    Table,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.pool import NullPool

import emc
from emc.commands.jsonable import plan_json
from emc.commands.results import PlanReport
from emc.dialects import dialect_of
from emc.errors import ExitCode
from emc.testing import check_expand_is_additive, check_models_match
from emc.testing.snapshots import bare, settled, shape
from emc.testing.wire import SCRATCH, writes
from emc.upgrade import Upgrade
from tests.lifecycle.pairs import MARIADB, Pair, Tables


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


@dataclass
class Release:
    """One release of the service: its own Table objects and what it sends."""

    tables: Tables
    work: Any
    blindly: bool = False
    """Reads without understanding: see `Pair.unreadable`."""

    def try_out(self, engine: Engine, n: int) -> None:
        """Send every statement of the release, and leave no trace."""
        with engine.connect() as connection:
            for statement in self.work(self.tables, n):
                connection.execute(statement)
            connection.rollback()

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

    # Undo: everything is as it was before expand, which can begin anew.
    there_and_back(pair, engine, old, phases["expand"])

    # Expand: nothing is taken away, both releases work, and there is nothing left to expand.
    check_expand_is_additive(engine, upgrade_of(pair))
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
    check_models_match(engine, upgrade_of(pair, pair.decide))
    new.exercise(engine, 6000)
    assert_same_as_fresh(pair, engine, fresh)


def there_and_back(pair: Pair, engine: Engine, old: Release, expand: Sequence[str]) -> None:
    """Undo takes back whatever expand did, and the old release notices neither."""
    before = settled(shape(engine, pair.schemas))
    assert emc.expand(upgrade_of(pair), engine).exit_code is ExitCode.DONE
    old.try_out(engine, 7000)
    rows = kept_data(engine, old.tables, old.tables)
    report = emc.undo(upgrade_of(pair), engine, new_code_gone=True)
    shut = {verdict.gate: verdict.reason for one in report.blocked for verdict in one.verdicts}
    assert sorted(shut) == list(pair.untold), shut
    if shut:
        agreed = dict.fromkeys(shut, "nobody has written there yet")
        assert emc.undo(upgrade_of(pair), engine, new_code_gone=True, overrides=agreed).blocked == ()
    assert settled(shape(engine, pair.schemas)) == before
    assert kept_data(engine, old.tables, old.tables) == rows
    old.try_out(engine, 8000)
    assert [step["id"] for step in planned(pair, engine)[1]["phases"]["expand"]] == list(expand)
    with writes(engine) as written:
        assert emc.undo(upgrade_of(pair), engine, new_code_gone=True).done == ()
    assert written == []


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
