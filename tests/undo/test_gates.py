"""Undo loses nothing that the new release has written, and nothing that somebody else has made."""

from __future__ import annotations

import pytest
from sqlalchemy import CheckConstraint, Column, Engine, Integer, MetaData, String, create_engine
from sqlalchemy.dialects.postgresql import ENUM

import emc
from emc.errors import ExitCode, UnknownOperationError
from emc.state.ledger import Event
from tests.undo.releases import Service, shut, table, users


def with_tz(metadata: MetaData) -> None:
    """The new release has a column with a fill, and one with a default."""
    table(
        metadata,
        Column("name", String(20)),
        Column("tz", String(20), nullable=False),
        Column("score", Integer, server_default="7"),
    )


def test_only_what_the_new_release_wrote_counts(engine: Engine) -> None:
    """Values of the fill and of the server default may go; others keep their column until somebody decides."""
    service = Service(engine, users(), with_tz, lambda upgrade, t: upgrade.fill(t["users"].c.tz, "UTC"))
    service.send("INSERT INTO users (id, name) VALUES (1, 'a'), (2, 'b')")
    service.expand()
    emc.migrate(service.upgrade, engine)
    service.send("INSERT INTO users (id, name) VALUES (3, 'c')")
    assert shut(service.undo(dry_run=True)) == {}
    service.send("UPDATE users SET tz = 'CET' WHERE id = 2", "UPDATE users SET tz = 'utc' WHERE id = 3")

    report = service.undo()
    assert report.exit_code is ExitCode.GATE_SHUT
    assert report.done == ("drop-column:users.score",)
    [verdict] = shut(report).values()
    assert (verdict.gate, verdict.rows) == ("nothing-lost:users.tz", 2)
    assert [key.partition("=")[2] for key in verdict.keys] == ["2", "3"]

    done = service.undo(overrides={"nothing-lost:users.tz": "Ada decided"})
    assert (done.done, done.exit_code) == (("drop-column:users.tz",), ExitCode.DONE)
    assert service.is_as_before()
    said = [entry for entry in emc.history(engine) if entry.event is Event.OVERRIDDEN]
    assert [dict(entry.details) for entry in said] == [
        {"gate": "nothing-lost:users.tz", "reason": "Ada decided"}
    ]
    assert emc.history(engine)[-1].event is Event.UNDONE


def test_rows_of_a_new_table(engine: Engine) -> None:
    """A table that the new release has written to stays; one that is empty goes."""

    def new(metadata: MetaData) -> None:
        users()(metadata)
        table(metadata, name="orders")
        table(metadata, name="carts")

    service = Service(engine, users(), new)
    service.expand()
    service.send("INSERT INTO orders (id) VALUES (5)")
    report = service.undo()
    assert report.done == ("drop-table:carts",)
    assert {gate: one.rows for gate, one in shut(report).items()} == {"nothing-lost:orders": 1}
    service.send("DELETE FROM orders")
    assert service.undo().done == ("drop-table:orders",)
    assert service.is_as_before()


def test_nobody_runs_without_a_word(engine: Engine) -> None:
    """Without the operator's word that the new release is gone, undo only looks."""
    service = Service(engine, users(), users(lambda: Column("nick", String(5))))
    service.expand()
    written = len(emc.history(engine))
    report = service.undo(new_code_gone=False)
    assert (report.exit_code, report.done) == (ExitCode.GATE_SHUT, ())
    assert list(shut(report)) == ["new-code-gone:users.nick"]
    assert len(emc.history(engine)) == written


def test_what_the_old_release_kept_to(engine: Engine) -> None:
    """NOT NULL and a CHECK come back when no row breaks them, or stay away where a person says so."""

    def old(metadata: MetaData) -> None:
        table(
            metadata,
            Column("legacy", Integer, nullable=False),
            Column("size", Integer),
            CheckConstraint("size > 0", name="ck_users_size"),
        )

    def declare(upgrade: emc.Upgrade, _: object) -> None:
        upgrade.discard("users.legacy", reason="counted elsewhere")
        upgrade.retire("users.ck_users_size")

    service = Service(engine, old, lambda metadata: table(metadata, Column("size", Integer)), declare)
    service.send("INSERT INTO users (id, legacy, size) VALUES (1, 1, 1)")
    service.expand()
    service.send("INSERT INTO users (id, size) VALUES (2, 0), (3, 4)")
    report = service.undo()
    assert {gate: one.rows for gate, one in shut(report).items()} == {
        "no-nulls:users.legacy": 2,
        "no-violations:users.ck_users_size": 1,
    }
    with pytest.raises(UnknownOperationError, match=r"nothing called 'drop-not-null:users\.size'"):
        service.undo(keep=["drop-not-null:users.size"])
    assert service.undo(keep=["drop-not-null:users.legacy", "drop-check:users.ck_users_size"]).blocked == ()
    service.send("DELETE FROM users WHERE id > 1")
    assert sorted(service.undo().done) == ["add-check:users.ck_users_size", "set-not-null:users.legacy"]
    assert service.is_as_before()


def test_what_somebody_else_built(engine: Engine) -> None:
    """An index that an operator has put on the new column keeps it, since it would go along unasked."""
    service = Service(engine, users(), users(lambda: Column("nick", String(5), index=True)))
    service.expand()
    service.send("CREATE INDEX by_nick ON users (nick, name)")
    report = service.undo()
    assert list(shut(report)) == ["only-ours:users.nick"]
    assert report.done == ("drop-index:users.ix_users_nick",)
    service.send(
        "DROP INDEX by_nick" + ("" if engine.dialect.name in ("postgresql", "sqlite") else " ON users")
    )
    assert service.undo().done == ("drop-column:users.nick",)
    assert service.is_as_before()


def test_what_was_there_before_stays(engine: Engine) -> None:
    """What a person has made by hand before expand is none of its business, and not of undo's."""
    service = Service(
        engine, users(), users(lambda: Column("nick", String(5)), lambda: Column("more", Integer))
    )
    service.send("ALTER TABLE users ADD COLUMN nick VARCHAR(5)")
    service.expand()
    assert service.undo().done == ("drop-column:users.more",)
    assert service.rows("SELECT nick FROM users") == []


def test_a_label_in_use(postgresql_url: str) -> None:
    """A label of an enumerated type goes once no row has it."""

    def moods(*labels: str) -> object:
        return lambda metadata: table(metadata, Column("mood", ENUM(*labels, name="mood")), name="days")

    engine = create_engine(postgresql_url)
    service = Service(engine, moods("calm"), moods("calm", "merry"))  # type: ignore[arg-type]
    service.expand()
    service.send("INSERT INTO days (id, mood) VALUES (1, 'merry')")
    [verdict] = shut(service.undo()).values()
    assert (verdict.gate, verdict.rows, verdict.keys) == ("value-unused:mood", 1, ("days id=1",))
    assert "UPDATE days SET mood = … WHERE mood IN ('merry');" in (verdict.remedy or "")
    service.send("UPDATE days SET mood = 'calm'")
    assert service.undo().done == ("remove-enum-value:mood",)
    assert service.is_as_before()
    engine.dispose()
