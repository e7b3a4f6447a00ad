"""What a comparison on MariaDB looks at, what it costs, and what its directives carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, event
from sqlalchemy.dialects import mysql as my

from emc.dialects.mysql import MariaDB
from emc.names import TableKey
from emc.operations import SPELLED_TYPE
from tests.diff.differences import differences, found
from tests.diff.test_compare import execute, many, users
from tests.mariadb_server import SPELLINGS, make_account, spelled

OPTIONS: dict[str, Any] = {
    f"{name}_{option}": value
    for name in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("default_charset", "utf8mb4"), ("row_format", "DYNAMIC"))
}
"""What many projects say of all their tables."""


@pytest.fixture
def statements(mariadb: Engine) -> Iterator[list[str]]:
    """What is sent to the database of `mariadb`."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(mariadb, "before_cursor_execute", note)
    yield sent
    event.remove(mariadb, "before_cursor_execute", note)


def common(count: int) -> MetaData:
    """Models with many tables as projects on MariaDB have them."""
    metadata = many(count, (None,))
    for number in range(count):
        Table(
            f"m{number}",
            metadata,
            Column("id", my.BIGINT(unsigned=True), primary_key=True),
            Column(
                "made", my.DATETIME(fsp=6), server_default=sa.text("CURRENT_TIMESTAMP(6)"), nullable=False
            ),
            Column(
                "seen", my.TIMESTAMP, server_default=sa.text("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP")
            ),
            Column("doc", sa.JSON),
            Column("price", my.DECIMAL(10, 2, unsigned=True), server_default="1.5"),
            Column("ratio", sa.Float),
            Column("uid", sa.Uuid),
            Column("letter", my.ENUM("a", "b'c"), server_default="a"),
            Column("note", sa.Text),
            Column("raw", sa.LargeBinary),
            Column("key", sa.CHAR(1), unique=True),
            Column("up", sa.ForeignKey(f"m{number}.id", ondelete="RESTRICT")),
            Column("side", sa.ForeignKey(f"m{number}.id", name=f"fk_side_{number}", ondelete="SET NULL")),
            sa.Index(f"ix_{number}", "made", "seen", unique=True),
            comment="a table's comment",
            **OPTIONS,
        )
    return metadata


def test_queries_do_not_grow_with_the_tables(
    mariadb: Engine, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison in step asks as often for 100 tables as for 10, and has nothing spelled."""

    def spell(*_: object) -> None:
        raise AssertionError("the server was asked")

    monkeypatch.setattr(MariaDB, "spell", spell)
    counts = []
    for count in (5, 50):
        metadata = common(count)
        metadata.create_all(mariadb)
        statements.clear()
        assert found(differences(mariadb, metadata)) == []
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 20


def test_reading_does_not_grow_with_the_drift(mariadb: Engine, statements: list[str]) -> None:
    """Tables that differ cost their creation in the scratch database, and no question each."""
    asked = []
    for count in (5, 50):
        metadata = many(count, (None,))
        metadata.create_all(mariadb)
        execute(mariadb, *(f"ALTER TABLE t{number} ADD extra{count} INTEGER" for number in range(count)))
        statements.clear()
        assert len(found(differences(mariadb, metadata))) >= count
        asked.append([one for one in statements if "CREATE TABLE" not in one and "CREATE INDEX" not in one])
    assert len(asked[0]) == len(asked[1])


@pytest.mark.parametrize("drivername", SPELLINGS)
def test_every_way_to_connect_finds_the_same(mariadb_url: str, drivername: str) -> None:
    """What one kind of URL has made is in step for the other, as far as both name types alike."""
    made = create_engine(mariadb_url)
    metadata = common(1)
    metadata.remove(metadata.tables["m0"])
    users(
        Column("state", my.SET("a", "b"), server_default="a"),
        Column("name", String(50, collation="utf8mb4_bin")),
        sa.CheckConstraint("name <> 'x'"),
        sa.Index("ix_name", "name", mysql_length=10, mariadb_length=10),
        metadata=metadata,
        **OPTIONS,
    )
    metadata.create_all(made)
    engine = create_engine(spelled(mariadb_url, drivername))
    diff = differences(engine, metadata)
    assert (found(diff), diff.notes) == ([], ())
    execute(made, "ALTER TABLE users ADD extra INTEGER, DROP INDEX ix_name")
    assert found(differences(engine, metadata)) == ["create index ix_name", "drop column users.extra"]
    engine.dispose()
    made.dispose()


def test_the_default_schema_by_name(mariadb: Engine) -> None:
    """Models that name the connection's database are compared with the tables that are there, references included."""
    own = mariadb.url.database
    metadata = MetaData(schema=own)
    users(
        Column("boss", sa.ForeignKey(f"{own}.users.id")),
        Column("name", String(9), index=True),
        metadata=metadata,
    )
    metadata.create_all(mariadb)
    assert found(differences(mariadb, metadata)) == []
    execute(mariadb, "ALTER TABLE users ADD extra INTEGER, DROP FOREIGN KEY users_ibfk_1, DROP INDEX boss")
    assert found(differences(mariadb, metadata)) == ["add foreignkey None", "drop column users.extra"]


def test_some_models_name_the_default_schema(mariadb: Engine) -> None:
    """Models of which some name the connection's database, and some leave it unsaid, find all their tables."""
    own = mariadb.url.database
    metadata = MetaData()
    Table("said", metadata, Column("id", Integer, primary_key=True), schema=own)
    Table(
        "unsaid",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("said_id", sa.ForeignKey(f"{own}.said.id")),
        Column("own_id", sa.ForeignKey("unsaid.id")),
    )
    metadata.create_all(mariadb)
    diff = differences(mariadb, metadata)
    assert found(diff) == []
    assert set(diff.models) == set(diff.live.tables)


def test_a_parent_that_ddl_cannot_name(mariadb: Engine) -> None:
    """A parent without a schema is the sibling of its child there, whatever models mean; that is noted, and left."""
    metadata = users()
    Table("users", metadata, Column("id", Integer, primary_key=True), schema="billing")
    Table(
        "orders",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE")),
        schema="billing",
    )
    execute(mariadb, "CREATE DATABASE billing")
    metadata.create_all(mariadb)
    diff = differences(mariadb, metadata)
    assert found(diff) == []
    assert [(note.target, note.kind) for note in diff.notes] == [
        ("billing.orders.orders_ibfk_1", "not-convergent")
    ]
    execute(mariadb, "ALTER TABLE billing.orders DROP FOREIGN KEY orders_ibfk_1, DROP INDEX user_id")
    assert found(differences(mariadb, metadata)) == ["add foreignkey None"]


def test_only_named_schemas_are_looked_at(mariadb: Engine) -> None:
    """Databases that neither the models nor the upgrade name are somebody else's."""
    execute(mariadb, "CREATE DATABASE theirs", "CREATE TABLE theirs.things (id INTEGER)")
    metadata = users()
    metadata.create_all(mariadb)
    assert found(differences(mariadb, metadata)) == []
    assert found(differences(mariadb, metadata, schemas=["theirs"])) == ["drop table theirs.things"]


def test_views_sequences_and_guards_are_not_seen(mariadb: Engine) -> None:
    """Views and sequences are no tables to drop, and what emc puts on a table is no difference."""
    metadata = users(Column("name", String(9)))
    metadata.create_all(mariadb)
    execute(
        mariadb,
        "CREATE VIEW v AS SELECT * FROM users",
        "CREATE SEQUENCE s",
        "CREATE TRIGGER emc_guard_x BEFORE INSERT ON users FOR EACH ROW SET NEW.name = 'x'",
        "ALTER TABLE users ADD CONSTRAINT emc_guard CHECK (name <> 'y'), ADD UNIQUE emc_guard2 (name)",
        "CREATE TABLE emc_ledger (id INTEGER)",
    )
    diff = differences(mariadb, metadata)
    assert found(diff) == []
    assert diff.live.names_taken == {TableKey(None, "v"): "view", TableKey(None, "s"): "sequence"}


def test_each_change_of_a_column_is_its_own_directive(mariadb: Engine) -> None:
    """Type, nullability, default and comment come apart; each says how the column is now, the type how it will be."""
    users(Column("a", Integer, server_default="7", comment="old")).create_all(mariadb)
    diff = differences(mariadb, users(Column("a", my.BIGINT(unsigned=True), nullable=False, comment="new")))
    assert found(diff) == [
        f"alter column users.a {what}" for what in ("type", "not null", "default", "comment")
    ]
    for directive in diff.directives:
        assert isinstance(directive, ops.AlterColumnOp)
        assert isinstance(directive.existing_type, my.INTEGER)
        assert directive.existing_nullable is True
        assert str(directive.existing_server_default.arg) == "7"  # type: ignore[union-attr]
        assert directive.existing_comment == "old"
    shown = diff.directives[0].info[SPELLED_TYPE]
    assert isinstance(shown, my.BIGINT)
    assert shown.unsigned
    assert SPELLED_TYPE not in diff.directives[1].info


def test_drops_keep_the_live_definition(mariadb: Engine) -> None:
    """What goes can be put back: a drop holds what the database has, not what the models say."""
    old = users(
        Column("a", Integer, server_default="7"),
        Column("text", sa.Text),
        sa.CheckConstraint("a > 1", name="ck"),
        sa.UniqueConstraint("a", name="uq"),
        sa.Index("ix", "text", mariadb_length=12),
        sa.ForeignKeyConstraint(["a"], ["users.id"], name="fk", ondelete="CASCADE"),
    )
    old.create_all(mariadb)
    diff = differences(mariadb, users(Column("text", sa.Text)))
    back: dict[str, Any] = {
        one: directive.reverse() for one, directive in zip(found(diff), diff.directives, strict=True)
    }
    assert back["drop column users.a"].column.server_default.arg.text == "7"
    assert "`a` > 1" in str(back["drop check ck"].to_constraint().sqltext)
    assert [one.name for one in back["drop unique uq"].to_constraint().columns] == ["a"]
    assert back["drop index ix"].kw["mariadb_length"] == {"text": 12}
    assert back["drop foreignkey fk"].kw["ondelete"] == "CASCADE"


def test_a_reader_is_told_what_was_not_compared(mariadb: Engine, mariadb_reader: Engine) -> None:
    """Without the right to create a database, expressions that may be the same are noted and left alone."""
    users(
        Column("a", Integer, server_default=sa.text("(1 + 1)")), sa.CheckConstraint("a > 1", name="ck")
    ).create_all(mariadb)
    metadata = users(
        Column("a", Integer, server_default=sa.text("(1 + 2)")),
        Column("b", Integer),
        sa.CheckConstraint("a > 2", name="ck"),
    )
    diff = differences(mariadb_reader, metadata)
    assert found(diff) == ["add column users.b"]
    assert [(note.target, note.kind) for note in diff.notes] == [
        ("users.a", "not-compared"),
        ("users.ck", "not-compared"),
    ]


PLAIN_DRIFTS: dict[str, tuple[Any, Any]] = {
    "unsigned": (Column("a", Integer), Column("a", my.INTEGER(unsigned=True))),
    "length": (Column("a", String(20)), Column("a", String(30))),
    "enum": (Column("a", my.ENUM("x", "y")), Column("a", my.ENUM("y", "x"))),
    "fraction": (Column("a", my.DATETIME()), Column("a", my.DATETIME(fsp=3))),
    "decimal": (Column("a", sa.Numeric(8, 2)), Column("a", sa.Numeric(8, 3))),
    "text": (Column("a", sa.Text), Column("a", my.LONGTEXT())),
    "boolean": (Column("a", sa.Boolean), Column("a", Integer)),
    "collation": (
        Column("a", String(20, collation="utf8mb4_bin")),
        Column("a", String(20, collation="utf8mb4_unicode_ci")),
    ),
}


@pytest.mark.parametrize("name", PLAIN_DRIFTS)
def test_a_reader_sees_other_types(mariadb: Engine, mariadb_url: str, name: str) -> None:
    """What is plain to see needs no server to spell it; the owner of nothing but its database sees it too."""
    old, new = PLAIN_DRIFTS[name]
    users(old).create_all(mariadb)
    owner = create_engine(make_account(mariadb_url, "emc_diff_owner", "owner"))
    diff = differences(owner, users(new))
    owner.dispose()
    assert (found(diff), diff.notes) == (["alter column users.a type"], ())
