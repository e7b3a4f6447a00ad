"""Does each check fail, with a message to act on, where an upgrade is not right?

That they pass where it is is shown by test_own_suite.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    event,
    false,
    func,
    select,
    text,
)

import emc
import emc.testing
from emc.commands import PhaseReport, UndoReport
from emc.errors import ConfigurationError
from emc.phases import Phase
from emc.testing import (
    CheckFailedError,
    UnprovedWarning,
    check_create_all_is_in_step,
    check_every_contract_has_a_gate,
    check_expand_is_additive,
    check_expand_twice,
    check_interruptions,
    check_models_match,
    check_old_release_works,
    check_undo,
    gating,
    release_of,
)
from emc.testing.failures import told
from emc.testing.releases import failed
from emc.testing.snapshots import differences, everything
from emc.testing.unfinished import OldRows, make_unfinished
from emc.upgrade import Upgrade
from tests.testing import shop
from tests.testing.shop import old_metadata, rows, strict_upgrade, upgrade


@pytest.fixture
def sqlite(sqlite_url: str) -> Any:
    """An empty database on SQLite: what is shown there does not depend on the database."""
    from sqlalchemy import create_engine

    engine = create_engine(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def old_sqlite(sqlite: Engine) -> Engine:
    """The same, as the old release has it."""
    release_of(old_metadata(), rows=rows).build(sqlite)
    return sqlite


def test_models_match_at_the_end(old_sqlite: Engine) -> None:
    """Models and database differ before the upgrade, by name, and agree after it."""
    with pytest.raises(CheckFailedError) as caught:
        check_models_match(old_sqlite, upgrade())
    assert "expand: add-column:users.full_name" in caught.value.facts
    assert "emc expand" in str(caught.value)
    emc.expand(upgrade(), old_sqlite)
    emc.migrate(upgrade(), old_sqlite)
    emc.contract(upgrade(), old_sqlite, old_code_gone=True)
    check_models_match(old_sqlite, upgrade())


def test_create_all(engine: Engine) -> None:
    """What create_all makes needs no upgrade; where something has changed it since, the check names that."""
    declared = upgrade()
    check_create_all_is_in_step(engine, declared)
    declared.metadata[0].drop_all(engine)
    drop: Any = DDL("ALTER TABLE users DROP COLUMN age")  # type: ignore[no-untyped-call]
    event.listen(declared.metadata[0], "after_create", drop, once=True)
    with pytest.raises(CheckFailedError) as caught:
        check_create_all_is_in_step(engine, declared)
    assert caught.value.facts == ("expand: add-column:users.age",)


def expanding(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    """Let expand be one that sends *statements*, whoever asks for it."""

    def expand(upgrade: Upgrade, engine: Engine, **_: Any) -> PhaseReport:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        return PhaseReport(Phase.EXPAND, ())

    monkeypatch.setattr(emc, "expand", expand)


def test_expand_that_writes_again(old_sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expand that writes whenever it runs is told, with its statements."""
    expanding(monkeypatch, "UPDATE users SET age = '43'")
    with pytest.raises(CheckFailedError) as caught:
        check_expand_twice(old_sqlite, upgrade())
    assert caught.value.facts == ("UPDATE users SET age = '43'",)


@pytest.mark.parametrize(
    ("statement", "fact"),
    [
        ("DROP TABLE teams", "table teams is gone"),
        ("ALTER TABLE users DROP COLUMN fax", "column users.fax is gone"),
        ("ALTER TABLE users ALTER COLUMN fax SET NOT NULL", "column users.fax does not take NULL any more"),
        (
            "ALTER TABLE teams ADD COLUMN plan integer NOT NULL",
            "column teams.plan is new, and every INSERT has to name it",
        ),
        ("DELETE FROM users", "DELETE FROM users"),
    ],
)
def test_expand_that_takes_away(
    postgresql_url: str, statement: str, fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an expand takes away, or asks for, is named, whether the schema shows it or the statement."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(postgresql_url, poolclass=NullPool)
    made = old_metadata()
    made.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE users DROP CONSTRAINT users_team_id_fkey"))
    expanding(monkeypatch, statement)
    with pytest.raises(CheckFailedError) as caught:
        check_expand_is_additive(engine, upgrade())
    assert caught.value.facts == (fact,)


def test_old_release_that_breaks(postgresql_url: str) -> None:
    """A conversion that cannot take what the old release writes breaks it; its statements are named."""
    from sqlalchemy import create_engine

    engine = create_engine(postgresql_url)
    with pytest.raises(CheckFailedError) as caught:
        check_old_release_works(engine, strict_upgrade(), old_metadata(), rows=rows)
    engine.dispose()
    assert caught.value.facts == (
        "INSERT INTO users with every column",
        "UPDATE users SET age",
        "UPDATE users SET age of a stored row",
    )
    assert "once emc expand has run" in str(caught.value)
    assert "let up and down of its declaration take every value" in str(caught.value)


def test_stored_rows_that_the_old_release_cannot_change(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the way of rows that were there before breaks the old release, though new rows are free of it."""
    from sqlalchemy import create_engine

    expanding(
        monkeypatch,
        "CREATE TABLE profiles (user_id integer NOT NULL REFERENCES users (id))",
        "INSERT INTO profiles SELECT id FROM users",
        "ALTER TABLE users ADD CHECK (id > 3 OR age = '42')",
    )
    engine = create_engine(postgresql_url)
    with pytest.raises(CheckFailedError) as caught:
        check_old_release_works(engine, upgrade(), old_metadata(), rows=rows)
    engine.dispose()
    assert caught.value.facts == (
        "UPDATE users SET age of a stored row",
        "DELETE FROM users of a stored row",
    )


def test_rows_that_share_no_parent(engine: Engine) -> None:
    """Where only one row may refer to another, by inheritance, one-to-one or as a link, every statement works."""
    metadata = MetaData()
    Table("people", metadata, Column("id", Integer, primary_key=True), Column("name", String(9)))
    Table(
        "workers",
        metadata,
        Column("id", ForeignKey("people.id"), primary_key=True),
        Column("task", String(9)),
    )
    Table(
        "bosses",
        metadata,
        Column("id", ForeignKey("workers.id"), primary_key=True, autoincrement=False),
        Column("car", String(9)),
        Column("desk_of", ForeignKey("people.id"), nullable=False, unique=True),
    )
    Table(
        "friends",
        metadata,
        Column("one_id", ForeignKey("people.id"), primary_key=True),
        Column("other_id", ForeignKey("people.id"), primary_key=True),
        Column("since", Integer),
    )
    release = release_of(metadata)
    release.build(engine)
    refused = failed(release.attempts(engine))
    assert {name for name in refused if not name.endswith("of a stored row")} == set()
    with engine.connect() as connection:
        counted = [
            connection.execute(select(func.count()).select_from(one)).scalar()
            for one in metadata.sorted_tables
        ]
    assert counted == [3, 3, 3, 3]


def lights(*states: str) -> MetaData:
    """A table with a state that only the models restrict."""
    metadata = MetaData()
    Table(
        "lights",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("state", Enum(*states, native_enum=False, create_constraint=False, length=9)),
    )
    return metadata


def test_value_that_the_old_release_cannot_read(sqlite: Engine) -> None:
    """What a type of the old release raises at a value that is new breaks it too, and its SELECT is named."""
    declared = emc.Upgrade(lights("red", "green", "amber"), release="2")
    table = declared.metadata[0].tables["lights"]
    declared.data_migration(table, name="dim", where=table.c.state == "green", values={"state": "amber"})
    with pytest.raises(CheckFailedError, match="'amber' is not among the defined enum values") as caught:
        check_old_release_works(sqlite, declared, lights("red", "green"))
    assert caught.value.facts == ("SELECT … FROM lights",)


def test_contract_without_gates(old_sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contract that runs before anybody has said that the old release is gone fails the check."""

    def contract(upgrade: Upgrade, engine: Engine, **_: Any) -> PhaseReport:
        steps = emc.plan(upgrade, engine).plan.contract
        return PhaseReport(Phase.CONTRACT, steps, done=tuple(step.id for step in steps))

    monkeypatch.setattr(emc, "contract", contract)
    with pytest.raises(CheckFailedError) as caught:
        check_every_contract_has_a_gate(old_sqlite, upgrade())
    assert "drop-column:users.fax" in caught.value.facts


def test_operation_without_a_gate(old_sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation for which no gate is known is named."""
    monkeypatch.setattr(gating, "gates_of", lambda _: ())
    with pytest.raises(CheckFailedError, match=r"set-not-null:users\.email has no gate"):
        check_every_contract_has_a_gate(old_sqlite, upgrade())


def test_gate_that_opens_too_early(old_sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the operator's word for everything fails it too, with every operation about data."""
    real = emc.contract

    def contract(upgrade: Upgrade, engine: Engine, **options: Any) -> PhaseReport:
        report = real(upgrade, engine, **{**options, "dry_run": True})
        return PhaseReport(Phase.CONTRACT, report.steps) if options.get("old_code_gone") else report

    monkeypatch.setattr(emc, "contract", contract)
    with pytest.raises(CheckFailedError, match="although the data behind them is unfinished") as caught:
        check_every_contract_has_a_gate(old_sqlite, upgrade())
    assert "drop-column:users.name" in caught.value.facts
    assert "drop-column:users.fax" not in caught.value.facts  # It may go with its data.


def stock(*, tight: bool) -> MetaData:
    """A table, before and after every kind of rule that rows may break has come."""
    metadata = MetaData()
    rules: list[Any] = (
        [UniqueConstraint("code"), CheckConstraint("price > 0", name="ck_price")] if tight else []
    )
    Table("shelves", metadata, Column("id", Integer, primary_key=True))
    Table(
        "goods",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("code", String(10 if tight else 40), nullable=not tight),
        Column("pieces", Integer if tight else BigInteger),
        Column("price", Integer),
        Column("state", Enum("new", "old", *([] if tight else ["lost"]), name="state")),
        Column("shelf_id", Integer, *([ForeignKey("shelves.id", name="fk_shelf")] if tight else [])),
        *rules,
    )
    return metadata


def test_every_gate_about_rows_is_seen_shut(engine: Engine) -> None:
    """For each kind of operation that rows may be in the way of one is made that is; nothing is left unproved."""
    release_of(stock(tight=False)).build(engine)
    declared = emc.Upgrade(stock(tight=True), release="2")
    old = OldRows(engine, declared)
    planned = emc.plan(declared, engine).plan.contract
    assert {one.id: make_unfinished(engine, declared, one, old) for one in planned} == {
        one.id: True for one in planned
    }
    assert {one.operation.kind for one in planned} >= {
        *("set-not-null", "alter-type", "add-unique", "add-foreign-key", "add-check")
    }
    check_every_contract_has_a_gate(engine, declared)


def test_migration_that_sees_no_row(old_sqlite: Engine) -> None:
    """Where the condition of a data migration holds for no row of the old release, that is said and not passed over."""
    declared = upgrade()
    metadata = declared.metadata[0]
    declared = emc.Upgrade(metadata, release="2")
    users = metadata.tables["users"]
    for column in (users.c.tz, users.c.email, users.c.full_name):
        column.nullable = True
    declared.data_migration(users, name="copy", where=false(), values={"full_name": "x"})
    declared.retire("users.name", after=["copy"])
    declared.discard("users.fax", reason="nobody faxes")
    with pytest.warns(UnprovedWarning, match="drop-column:users.name"):
        check_every_contract_has_a_gate(old_sqlite, declared)


def test_undo_that_leaves_something(old_sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What undo leaves behind is named."""
    monkeypatch.setattr(emc, "undo", lambda *_, **__: UndoReport(Phase.UNDO, ()))
    with pytest.raises(CheckFailedError) as caught:
        check_undo(old_sqlite, upgrade())
    assert "tables.users.columns.full_name was not there before" in caught.value.facts


def books(*columns: str) -> MetaData:
    """A table in a schema of its own."""
    metadata = MetaData(schema="shop")
    Table(
        "books",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(one, String(9), nullable=False) for one in columns),
    )
    return metadata


def test_schemas_that_the_models_name(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables in a schema of their own are made with it, and compared like others: columns, rows and triggers."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(postgresql_url, poolclass=NullPool)
    declared = emc.Upgrade(books("title"), release="2")
    declared.rename("shop.books.name", to=declared.metadata[0].tables["shop.books"].c.title)
    release_of(books("name")).build(engine)
    check_undo(engine, declared)
    before = everything(engine, declared.schema_names)
    monkeypatch.setattr(emc, "undo", lambda *_, **__: UndoReport(Phase.UNDO, ()))
    with pytest.raises(CheckFailedError) as caught:
        check_undo(engine, declared)
    assert "tables.shop.books.columns.title was not there before" in caught.value.facts
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM shop.books WHERE id = 1"))
        connection.execute(text("CREATE VIEW shop.titles AS SELECT title FROM shop.books"))
    changed = differences(before, everything(engine, declared.schema_names))
    assert {line.partition(":")[0] for line in changed} >= {"rows.shop.books", "shop.views", "shop.triggers"}
    check_interruptions(engine, declared, commands=["migrate"], most=1)


def test_schemas_that_are_databases(database_url: str) -> None:
    """Where a schema is a database, which others would see, none is made, and the check says what to do."""
    from sqlalchemy import create_engine

    engine = create_engine(database_url)
    declared = emc.Upgrade(books("title"), release="2")
    if engine.dialect.name == "postgresql":
        check_create_all_is_in_step(engine, declared)
    else:
        for check in (check_create_all_is_in_step, check_interruptions):
            with pytest.raises(CheckFailedError, match="on PostgreSQL") as caught:
                check(engine, declared)
            assert caught.value.facts == ("shop",)
        with pytest.raises(CheckFailedError, match="emc_databases = postgresql"):
            release_of(books("name")).build(engine)
    engine.dispose()


def test_migration_that_differs_each_time(old_sqlite: Engine) -> None:
    """Where a function answers otherwise in every run, interrupted or not, its column is named and not compared."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        *(
            Column(one.name, one.type, primary_key=one.primary_key)
            for one in old_metadata().tables["users"].c
        ),
    )
    declared = emc.Upgrade(metadata, release="2")

    @declared.data_migration(users, where=users.c.fax.is_(None))
    def number(row: Row[Any]) -> dict[str, Any]:
        return {"fax": str(os.getpid())}

    with pytest.warns(UnprovedWarning, match=r"emc migrate gives users\.fax other values in every run"):
        check_interruptions(old_sqlite, declared, commands=["migrate"], most=1)


def test_errors_of_emc_fail_a_check() -> None:
    """A check tells what emc refuses as its own failure, with emc's remedy."""
    with pytest.raises(CheckFailedError) as caught, told("emc expand fails"):
        raise ConfigurationError("No database is configured.", remedy="Give --url.")
    assert str(caught.value) == "emc expand fails: No database is configured.\nGive --url."
    assert caught.value.facts == ("configuration-error",)


def test_tables_that_no_row_fits(engine: Engine) -> None:
    """A table whose rows cannot be made up is named, with what the database says, and rows of one's own are taken."""
    metadata = MetaData()
    table = Table(
        "limits",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("code", String(9), nullable=False),
        CheckConstraint("code LIKE 'c%'", name="ck_code"),
    )
    with pytest.raises(CheckFailedError, match="emc_rows") as caught:
        release_of(metadata).build(engine)
    assert [fact.partition(":")[0] for fact in caught.value.facts] == ["limits"]
    assert "ck_code" in caught.value.facts[0]
    release_of(metadata, rows=lambda connection: connection.execute(table.insert().values(code="c1"))).build(
        engine
    )
    with engine.connect() as connection:
        assert connection.execute(select(table.c.code)).all() == [("c1",)]


def test_names() -> None:
    """Every name that emc.testing promises is the function or class, whichever of its modules are loaded already."""
    assert [name for name in emc.testing.__all__ if not callable(getattr(emc.testing, name))] == []


UNITTEST = """
import sys
import unittest

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from emc.testing import check_models_match, check_undo, release_of
from emc.testing.failures import missing
from shop import old_metadata, upgrade


class UpgradeTest(unittest.TestCase):
    def setUp(self):
        self.engine = create_engine(f"sqlite:///{self.id()}.db", poolclass=NullPool)
        release_of(old_metadata()).build(self.engine)

    def test_undo(self):
        check_undo(self.engine, upgrade())
        self.assertEqual({"pytest", "_pytest", "emc.pytest_plugin"} & set(sys.modules), set())

    def test_not_upgraded(self):
        check_models_match(self.engine, upgrade())

    def test_nothing_to_test_on(self):
        missing("no server")
"""


def test_unittest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For unittest, which loads no pytest, checks pass, fail as assertions do, and are skipped where they have to."""
    (tmp_path / "shop.py").write_text(Path(shop.__file__).read_text())
    (tmp_path / "test_unit.py").write_text(UNITTEST)
    monkeypatch.delenv("CI", raising=False)
    ran = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", "test_unit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    ended = {
        line.split()[0]: line.rpartition(" ... ")[2] for line in ran.stderr.splitlines() if " ... " in line
    }
    assert ended == {
        "test_undo": "ok",
        "test_not_upgraded": "FAIL",
        "test_nothing_to_test_on": "skipped 'no server'",
    }
    assert "  expand: add-column:users.full_name" in ran.stderr
