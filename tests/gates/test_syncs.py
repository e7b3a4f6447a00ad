"""Renamed and converted columns in contract: proved by their rows, and gone together with their triggers."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String

import emc
from emc.dialects import dialect_of
from emc.errors import ExitCode
from emc.names import TableKey
from emc.phases import Phase
from emc.sync import SyncOp, is_kept
from emc.upgrade import Upgrade
from tests.gates.gating import gate, make, run_sql, table, upgrade_to

C = partial(partial, Column)
OLD = table(C("name", String(20)), C("price", Integer))
NEW = table(C("title", String(20)), C("cents", Integer, server_default="7"))
ROWS = [{"id": 1, "name": "it's 5%", "price": 1}, {"id": 2, "name": "b", "price": 2}]
TOGETHER = ["drop-sync:users.cents", "drop-column:users.price", "set-default:users.cents"]


def declare(upgrade: Upgrade, t: Any) -> None:
    """users.name has become users.title, and price cents."""
    upgrade.rename("users.name", to=t["users"].c.title)
    upgrade.convert(
        "users.price", to=t["users"].c.cents, up=lambda old: old * 100, down=lambda new: new // 100
    )


@pytest.fixture
def upgrade(engine: Engine) -> Upgrade:
    """The upgrade, expanded."""
    make(engine, OLD, users=ROWS)
    upgrade = upgrade_to(NEW, declare)
    emc.expand(upgrade, engine)
    return upgrade


def rows(engine: Engine, columns: str) -> list[tuple[Any, ...]]:
    """What is in the table."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT {columns} FROM users ORDER BY id")]


def without_triggers(engine: Engine, upgrade: Upgrade, *statements: str) -> None:
    """Send statements that nothing follows, then put the triggers in place again."""
    live = emc.plan(upgrade, engine).plan.situation.live
    of_table = " ON users" if engine.dialect.name == "postgresql" else ""
    quote = engine.dialect.identifier_preparer.quote
    names = list(live.tables[TableKey(None, "users")].syncs)
    run_sql(engine, *(f"DROP TRIGGER {quote(name)}{of_table}" for name in names), *statements)
    assert sorted(emc.expand(upgrade, engine).done) == [
        "install-sync:users.cents",
        "install-sync:users.title",
    ]


def test_rows_that_are_not_copied_yet(engine: Engine, upgrade: Upgrade) -> None:
    """Rows that were there before keep the gate shut, which says how many, which, and the command that copies them."""
    verdict = gate("in-step:users.title", upgrade, engine)
    assert (verdict.open, verdict.rows, verdict.keys) == (False, 2, ("id=1", "id=2"))
    assert verdict.remedy == "emc migrate --only copy:users.title"
    emc.migrate(upgrade, engine, only=["copy:users.title"])
    assert gate("in-step:users.title", upgrade, engine).open
    assert not gate("in-step:users.cents", upgrade, engine).open


@pytest.mark.parametrize("winner", ["old", "new"])
def test_rows_with_two_meanings(engine: Engine, upgrade: Upgrade, winner: str) -> None:
    """Nobody overwrites a row whose sides disagree; the gate names it, and either statement that it gives opens it."""
    emc.migrate(upgrade, engine)
    without_triggers(engine, upgrade, "UPDATE users SET name = 'x' WHERE id = 2")
    assert emc.migrate(upgrade, engine).exit_code is ExitCode.DONE
    verdict = gate("in-step:users.title", upgrade, engine)
    assert (verdict.open, verdict.rows, verdict.keys) == (False, 1, ("id=2",))
    assert verdict.reason.startswith("1 row of users whose name says one thing and title another")
    report = emc.contract(upgrade, engine, old_code_gone=True)
    assert report.exit_code is ExitCode.GATE_SHUT
    assert rows(engine, "name, title")[1] == ("x", "b")
    lines = str(verdict.remedy).splitlines()
    (statement,) = [line.partition(";   --")[0] for line in lines if f"what the {winner}" in line]
    with engine.begin() as connection:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
    assert rows(engine, "title") == [("it's 5%",), ("x" if winner == "old" else "b",)]


def test_override(engine: Engine, upgrade: Upgrade) -> None:
    """A person may let rows go that are not in step, with a reason that the ledger keeps."""
    emc.migrate(upgrade, engine)
    without_triggers(engine, upgrade, "UPDATE users SET name = 'x' WHERE id = 2")
    overrides = {"in-step:users.title": "the new release is right"}
    assert emc.contract(upgrade, engine, old_code_gone=True, overrides=overrides).exit_code is ExitCode.DONE
    assert rows(engine, "title")[1] == ("b",)


def test_contract_before_migrate(engine: Engine, upgrade: Upgrade) -> None:
    """As long as a gate of one is shut, none of what goes together runs, nor does the default."""
    report = emc.contract(upgrade, engine, old_code_gone=True)
    assert report.done == ()
    blocked = {one.step.id: {verdict.gate for verdict in one.verdicts} for one in report.blocked}
    assert set(TOGETHER) <= blocked.keys()
    assert "in-step:users.cents" in blocked["drop-sync:users.cents"]
    run_sql(engine, "INSERT INTO users (id, name, price) VALUES (3, 'c', 3)")
    assert rows(engine, "price, cents")[2] == (3, 300)


@pytest.mark.parametrize("asked", TOGETHER)
def test_only_one_of_what_goes_together(engine: Engine, upgrade: Upgrade, asked: str) -> None:
    """Whichever of them is asked for, all run, and nothing else does."""
    emc.migrate(upgrade, engine)
    report = emc.contract(upgrade, engine, old_code_gone=True, only=[asked])
    assert sorted(report.done) == sorted(TOGETHER)
    run_sql(engine, "INSERT INTO users (id, name) VALUES (3, 'c')")
    assert rows(engine, "name, title, cents")[2] == ("c", "c", 7)
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.DONE
    assert emc.plan(upgrade, engine).plan.is_empty


def test_soak(engine: Engine) -> None:
    """Triggers and old column stay for as long as the declaration asks after the gates have opened."""
    make(engine, OLD, users=ROWS)
    upgrade = upgrade_to(
        table(C("title", String(20)), C("price", Integer)),
        lambda upgrade, t: upgrade.rename("users.name", to=t["users"].c.title, soak="24h"),
    )
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    for _ in range(2):
        report = emc.contract(upgrade, engine, old_code_gone=True)
        assert {one.step.id for one in report.blocked} == {"drop-sync:users.title", "drop-column:users.name"}
        assert {verdict.gate for one in report.blocked for verdict in one.verdicts} == {"soaked:users.title"}
    report = emc.contract(upgrade, engine, old_code_gone=True, soak=dt.timedelta())
    assert report.exit_code is ExitCode.DONE


def test_migrate_waits_for_the_triggers(engine: Engine) -> None:
    """Nothing is copied before the triggers stand, since what is written meanwhile would get lost."""
    make(engine, OLD, users=ROWS)
    upgrade = upgrade_to(NEW, declare)
    emc.expand(upgrade, engine, only=["add-column:users.title", "add-column:users.cents"])
    report = emc.migrate(upgrade, engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    assert rows(engine, "title") == [(None,), (None,)]


def test_expand_is_idempotent(engine: Engine, upgrade: Upgrade) -> None:
    """What stands as it should is not put in place again, and another conversion takes its place."""
    assert emc.expand(upgrade, engine).done == ()

    def tenfold(upgrade: Upgrade, t: Any) -> None:
        cents = t["users"].c.cents
        upgrade.rename("users.name", to=t["users"].c.title)
        upgrade.convert("users.price", to=cents, up=lambda old: old * 10, down=lambda new: new // 10)

    other = upgrade_to(NEW, tenfold)
    assert emc.expand(other, engine).done == ("install-sync:users.cents",)
    plan = emc.plan(other, engine).plan
    for operation in [step.operation for step in plan.steps(Phase.CONTRACT)]:
        if isinstance(operation.directive, SyncOp):
            assert is_kept(operation.directive.sync, plan.situation.live, dialect_of(engine).sync_parts)
    run_sql(engine, "INSERT INTO users (id, price) VALUES (3, 3)")
    assert rows(engine, "cents")[2] == (30,)
