"""Three old writers, three new ones and a backfill over all rows: is a row out of step in the end?

``EMC_DRIFT_ROWS`` says how many rows there are; ``nox -s drift`` takes 200,000. Differences are counted by the gate's
own predicate, and by a comparison in Python that shares nothing with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Numeric, String, Table, text

import emc
from emc.commands import PhaseReport
from emc.data import BatchPolicy
from emc.dialects import dialect_of
from emc.errors import ExitCode
from emc.names import TableKey
from emc.upgrade import Upgrade
from tests.sync.keeping import live
from tests.sync.writers import KINDS, Told, engine_for, writing

ROWS = int(os.environ.get("EMC_DRIFT_ROWS", "2000"))
LEAST = min(ROWS // 20, 2_000)
"""Statements that each writer sends at least."""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh database, which waits for its turn."""
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


def old_release(engine: Engine) -> None:
    """The table as the old release made and filled it."""
    metadata = MetaData()
    items = Table(
        "items",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(50)),
        Column("price", Numeric(12, 2)),
        Column("visits", Integer, nullable=False, server_default="0"),
    )
    metadata.create_all(engine)
    with engine.begin() as connection:
        for first in range(1, ROWS + 1, 10_000):
            ids = range(first, min(first + 10_000, ROWS + 1))
            connection.execute(
                items.insert(),
                [{"id": at, "name": f"n{at}" if at % 10 else None, "price": at % 7 * 100} for at in ids],
            )


def new_release() -> Upgrade:
    """Name has become full_name, and price cents."""
    metadata = MetaData()
    items = Table(
        "items",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("full_name", String(50)),
        Column("cents", Integer),
        Column("visits", Integer, nullable=False, server_default="0"),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.rename("items.name", to=items.c.full_name)
    upgrade.convert(
        "items.price", to=items.c.cents, up=lambda price: price * 100, down=lambda cents: cents / 100
    )
    return upgrade


def differences(engine: Engine) -> list[tuple[Any, ...]]:
    """The rows that are not in step, seen without anything of emc."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT id, name, full_name, price, cents FROM items")).all()
    assert found
    return [tuple(row) for row in found if row[1] != row[2] or not _same_price(row[3], row[4])]


def _same_price(price: Any, cents: Any) -> bool:
    return cents is None if price is None else cents is not None and round(float(price) * 100) == cents


def shut(upgrade: Upgrade, engine: Engine) -> dict[str, str]:
    """The gates that are shut, and why."""
    return {
        verdict.gate: verdict.reason
        for blocked in contract(upgrade, engine, dry_run=True).blocked
        for verdict in blocked.verdicts
    }


def contract(upgrade: Upgrade, engine: Engine, **more: Any) -> PhaseReport:
    """Run contract, with the old release gone."""
    return emc.contract(upgrade, engine, old_code_gone=True, **more)


def migrate(upgrade: Upgrade, engine: Engine) -> None:
    """Run all data work to its end, with small batches, so that writers get in between."""
    batch = BatchPolicy(start=200, largest=2_000, fast=True)
    report = emc.migrate(upgrade, engine, batch=batch, throttle=None)
    assert report.exit_code is ExitCode.DONE, report.results


def assert_written(told: list[Told]) -> None:
    """Every writer did its work, of every kind, and met nothing that an application has to be ready for."""
    assert [error for one in told for error in one.errors] == []
    assert all(sum(one.statements.values()) + one.given_way >= LEAST for one in told)
    assert {kind for one in told for kind in one.statements} == set(KINDS)


def test_no_row_out_of_step(engine: Engine, database_url: str) -> None:
    """With six writers and a backfill going on no row is out of step in the end, and contract goes through."""
    old_release(engine)
    upgrade = new_release()
    emc.expand(upgrade, engine)
    with writing(database_url, rows=ROWS, least=LEAST) as writers:
        migrate(upgrade, engine)
        told = writers.stop()
    assert_written(told)
    assert differences(engine) == []
    assert shut(upgrade, engine) == {}
    assert contract(upgrade, engine).blocked == ()
    assert emc.plan(upgrade, engine).is_empty


def test_without_triggers_the_gate_refuses(engine: Engine, database_url: str) -> None:
    """The same without triggers drifts; the gates see it, and see it still once the triggers are back."""
    old_release(engine)
    upgrade = new_release()
    emc.expand(upgrade, engine)
    without_triggers(engine)
    with writing(database_url, rows=ROWS, least=LEAST) as writers:
        migrate_what_can_be(upgrade, engine)
        told = writers.stop()
    assert_written(told)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO items (id, name, price, full_name, cents) VALUES (0, 'a', 1, 'a', 100)")
        )
        connection.execute(text("UPDATE items SET name = 'A', price = 2 WHERE id = 0"))
    drifted = {row[0] for row in differences(engine)}
    assert kinds(shut(upgrade, engine)) >= {"in-step", "sync-live"}
    emc.expand(upgrade, engine)
    migrate_what_can_be(upgrade, engine)
    assert 0 in (left := {row[0] for row in differences(engine)}) <= drifted
    refusals = shut(upgrade, engine)
    assert "sync-live" not in kinds(refusals)
    assert {"in-step:items.full_name", "in-step:items.cents"} <= set(refusals)
    sync = {name: counted(refusals[f"in-step:items.{name}"]) for name in ("full_name", "cents")}
    assert max(sync.values()) <= len(left) <= sum(sync.values())
    assert contract(upgrade, engine).done == ()
    assert {"name", "price"} <= set(live(engine).tables[_ITEMS].columns)


def kinds(refusals: Mapping[str, str]) -> set[str]:
    """Of the gates that refuse."""
    return {gate.partition(":")[0] for gate in refusals}


def counted(reason: str) -> int:
    """The number with which a refusal begins."""
    return int(reason.split(" ", maxsplit=1)[0].replace(",", ""))


def migrate_what_can_be(upgrade: Upgrade, engine: Engine) -> None:
    """Copy what has not been copied; without triggers there may be no end to it."""
    emc.migrate(upgrade, engine, batch=BatchPolicy(start=200, largest=2_000, fast=True), throttle=None)


_ITEMS = TableKey(None, "items")


def without_triggers(engine: Engine) -> None:
    """Take away by hand what keeps the columns in step."""
    table = live(engine).table(_ITEMS)
    assert table is not None
    assert table.syncs
    suffix = " ON items" if dialect_of(engine).name == "postgresql" else ""
    with engine.begin() as connection:
        for name in table.syncs:
            quoted = engine.dialect.identifier_preparer.quote(name)
            connection.exec_driver_sql(f"DROP TRIGGER {quoted}{suffix}")
