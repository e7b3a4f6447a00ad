"""Undo says no in time, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Column, Engine, Integer, MetaData, String, text

import emc
from emc.commands.jsonable import plan_json
from emc.errors import CannotUndoError, ExitCode
from tests.undo.releases import Service, table, users


def test_after_contract(engine: Engine) -> None:
    """Once contract has carried out a step there is no way back: it is named, with its time and what is left to do."""

    def declare(upgrade: emc.Upgrade, t: Any) -> None:
        upgrade.fill(t["users"].c.nick, "x")
        upgrade.retire("users.fax")

    new = users(lambda: Column("nick", String(5), nullable=False))
    service = Service(engine, users(lambda: Column("fax", String(5))), new, declare)
    service.send("INSERT INTO users (id, fax) VALUES (1, '1')")
    service.expand()
    emc.migrate(service.upgrade, engine)
    assert emc.contract(service.upgrade, engine).exit_code is ExitCode.GATE_SHUT
    assert service.undo(dry_run=True).blocked == ()  # That nothing was contracted is what counts.
    emc.contract(service.upgrade, engine, old_code_gone=True, only=["drop-default:users.nick"])
    [contracted] = [one for one in emc.history(engine) if one.operation == "drop-default:users.nick"][:1]
    before = len(emc.history(engine))
    with pytest.raises(CannotUndoError) as caught:
        service.undo()
    assert f"drop-default:users.nick at {contracted.at:%Y-%m-%d %H:%M:%S} UTC" in caught.value.message
    assert "Go forward" in (caught.value.remedy or "")
    assert len(emc.history(engine)) == before


def test_without_a_release(engine: Engine) -> None:
    """An upgrade without a label is told before expand that nobody could take it back."""
    service = Service(engine, users(), users(lambda: Column("nick", Integer)), release=None)
    plan = plan_json(emc.plan(service.upgrade, engine), engine.dialect)
    [step] = plan["phases"]["expand"]
    assert (step["reversible"], "names no release" in step["way_back"]) == (False, True)
    service.expand()
    with pytest.raises(CannotUndoError, match="names no release"):
        service.undo()


def test_a_later_release(engine: Engine) -> None:
    """What a later release may have built upon stays until that is taken back."""
    service = Service(engine, users(), users(lambda: Column("nick", Integer)))
    service.expand()
    metadata = MetaData()
    users(lambda: Column("nick", Integer), lambda: Column("more", Integer))(metadata)
    later = emc.Upgrade(metadata, release="3")
    emc.expand(later, engine)
    with pytest.raises(CannotUndoError, match=r"add-column:users\.more for release 3"):
        service.undo()
    assert emc.undo(later, engine, new_code_gone=True).done == ("drop-column:users.more",)
    assert service.undo().done == ("drop-column:users.nick",)
    assert service.is_as_before()


def test_what_an_older_emc_did(engine: Engine) -> None:
    """Where the ledger does not say how things were, undo names what it cannot take back, and how to leave it."""
    service = Service(
        engine, users(), users(lambda: Column("nick", Integer), lambda: Column("more", Integer))
    )
    service.expand()
    query = "SELECT id, details FROM emc_ledger WHERE operation = 'add-column:users.nick'"
    for place, details in service.rows(query):
        older = {name: value for name, value in json.loads(details).items() if name != "before"}
        with engine.begin() as connection:
            update = text("UPDATE emc_ledger SET details = :details WHERE id = :id")
            connection.execute(update, {"details": json.dumps(older), "id": place})
    with pytest.raises(CannotUndoError, match=r"- add-column:users\.nick: the ledger does not say") as caught:
        service.undo()
    assert "--keep add-column:users.nick" in (caught.value.remedy or "")


def test_a_definition_with_a_secret(engine: Engine) -> None:
    """The ledger keeps no passwords: a CHECK that seems to hold one has no way back, and plan says so before expand."""

    def old(metadata: MetaData) -> None:
        table(
            metadata,
            Column("dsn", String(90)),
            CheckConstraint("dsn <> 'db://ada:lovelace@host'", name="ck_dsn"),
        )

    service = Service(
        engine,
        old,
        lambda metadata: table(metadata, Column("dsn", String(90))),
        lambda upgrade, _: upgrade.retire("users.ck_dsn"),
    )
    plan = emc.plan(service.upgrade, engine).plan
    assert {name: way.is_there for name, way in plan.ways.items()} == {"drop-check:users.ck_dsn": False}
    service.expand()
    with pytest.raises(CannotUndoError, match="looks like a password"):
        service.undo()
    kept = service.undo(keep=["drop-check:users.ck_dsn"])
    assert (kept.done, kept.exit_code) == ((), ExitCode.DONE)
    assert "lovelace" not in str(service.rows("SELECT details FROM emc_ledger"))


def test_nothing_to_undo(engine: Engine) -> None:
    """Where expand has done nothing, undo does nothing and writes nothing."""
    service = Service(engine, users(), users(lambda: Column("nick", Integer)))
    report = service.undo()
    assert (report.steps, report.done, report.exit_code) == ((), (), ExitCode.DONE)
    assert emc.history(engine) == ()
