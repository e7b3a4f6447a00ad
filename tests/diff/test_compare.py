"""What a comparison looks at, what it leaves alone, and what its directives carry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import ops
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, event
from sqlalchemy.dialects import postgresql as pg

from emc.dialects import dialect_of
from emc.diff import compare
from emc.names import TableKey
from emc.upgrade import Upgrade
from tests.diff.differences import differences, found


def users(*columns: sa.schema.SchemaItem, metadata: MetaData | None = None, **options: Any) -> MetaData:
    """Models with one table."""
    metadata = metadata if metadata is not None else MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True), *columns, **options)
    return metadata


def execute(engine: Engine, *statements: str) -> None:
    """Run *statements* and commit."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


# -- tables --------------------------------------------------------------------------------------------------


def test_tables_come_and_go(engine: Engine) -> None:
    """New tables come first, those that others refer to before them, with their indexes; missing ones go last."""
    old, new = MetaData(), MetaData()
    Table("old", old, Column("id", Integer, primary_key=True), Column("a", Integer, index=True))
    Table(
        "a_child",
        new,
        Column("id", Integer, primary_key=True),
        Column("p", sa.ForeignKey("z_parent.id"), index=True),
    )
    Table("z_parent", new, Column("id", Integer, primary_key=True), Column("a", Integer, unique=True))
    old.create_all(engine)
    diff = differences(engine, new)
    assert found(diff) == [
        "create table z_parent",
        "create table a_child",
        "create index ix_a_child_p",
        "drop table old",
    ]
    assert set(diff.models) == {TableKey(None, "a_child"), TableKey(None, "z_parent")}
    assert set(diff.live.tables) == {TableKey(None, "old")}


def test_cycles_of_foreign_keys_do_no_harm(engine: Engine) -> None:
    """Tables that refer to each other are created in some order, without a warning."""
    metadata = MetaData()
    Table(
        "a", metadata, Column("id", Integer, primary_key=True), Column("b", sa.ForeignKey("b.id", name="ab"))
    )
    Table(
        "b", metadata, Column("id", Integer, primary_key=True), Column("a", sa.ForeignKey("a.id", name="ba"))
    )
    assert sorted(found(differences(engine, metadata))) == ["create table a", "create table b"]


def test_several_metadata_are_one(engine: Engine) -> None:
    """Tables of all MetaData count, and none is taken for missing."""
    one, two = users(), MetaData()
    Table("orders", two, Column("id", Integer, primary_key=True))
    one.create_all(engine)
    assert found(differences(engine, [one, two])) == ["create table orders"]
    two.create_all(engine)
    assert found(differences(engine, [one, two])) == []


def test_what_is_emcs_own_and_alembics_is_not_seen(engine: Engine) -> None:
    """Neither tables, indexes and constraints of emc nor Alembic's version table are differences."""
    metadata = users(Column("name", String(9)))
    metadata.create_all(engine)
    execute(
        engine,
        "CREATE TABLE emc_ledger (id INTEGER)",
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "CREATE INDEX emc_new_ix ON users (name)",
    )
    assert found(differences(engine, metadata)) == []


def test_constraints_of_emc_are_not_seen(postgresql: Engine) -> None:
    """A guard that proves a contraction is no difference, whether it is valid or not."""
    metadata = users(Column("name", String(9)))
    metadata.create_all(postgresql)
    execute(
        postgresql,
        "ALTER TABLE users ADD CONSTRAINT emc_guard CHECK (name IS NOT NULL)",
        "ALTER TABLE users ADD CONSTRAINT emc_guard2 CHECK (name IS NOT NULL) NOT VALID",
        "ALTER TABLE users ADD CONSTRAINT emc_guard3 UNIQUE (name)",
    )
    assert found(differences(postgresql, metadata)) == []


def test_views_and_partitions_are_not_tables(postgresql: Engine) -> None:
    """Views and partitions of the database are no tables to drop; what Alembic gets wrong."""
    metadata = MetaData()
    Table("events", metadata, Column("at", sa.Date), postgresql_partition_by="RANGE (at)")
    metadata.create_all(postgresql)
    execute(
        postgresql,
        "CREATE TABLE events_2020 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
        "CREATE VIEW all_events AS SELECT * FROM events",
    )
    assert found(differences(postgresql, metadata)) == []


def test_a_table_in_the_place_of_a_view_is_told(engine: Engine) -> None:
    """Models with a table where the database has a view: the table is asked for, and whoever decides sees the view."""
    metadata = users()
    execute(engine, "CREATE VIEW users AS SELECT 1 AS id")
    diff = differences(engine, metadata)
    assert found(diff) == ["create table users"]
    assert diff.live.names_taken[TableKey(None, "users")] == "view"


def test_the_default_schema_by_name(postgresql: Engine) -> None:
    """Models that name the default schema are compared with the tables that are there, references included."""
    metadata = MetaData(schema="public")
    users(
        Column("boss", sa.ForeignKey("public.users.id")),
        Column("name", String(9), index=True),
        metadata=metadata,
    )
    metadata.create_all(postgresql)
    assert found(differences(postgresql, metadata)) == []
    execute(
        postgresql, "ALTER TABLE users ADD extra INTEGER", "ALTER TABLE users DROP CONSTRAINT users_boss_fkey"
    )
    diff = differences(postgresql, metadata)
    assert found(diff) == ["add foreignkey None", "drop column users.extra"]
    assert {getattr(one, "schema", None) or one.kw["source_schema"] for one in diff.directives} == {"public"}  # type: ignore[attr-defined]


def test_some_models_name_the_default_schema(postgresql: Engine) -> None:
    """Models of which some name the default schema, and some leave it unsaid, find all their tables."""
    metadata = MetaData()
    Table("said", metadata, Column("id", Integer, primary_key=True), schema="public")
    Table(
        "unsaid",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("said_id", sa.ForeignKey("public.said.id")),
        Column("own_id", sa.ForeignKey("unsaid.id")),
        Column("kind", sa.Enum("a", "b", name="kind")),
        Column("other_kind", sa.Enum("a", "b", name="other_kind", schema="public")),
    )
    metadata.create_all(postgresql)
    diff = differences(postgresql, metadata)
    assert found(diff) == []
    assert set(diff.models) == set(diff.live.tables)
    execute(postgresql, "ALTER TABLE unsaid ADD extra INTEGER", "CREATE TABLE stranger (id INTEGER)")
    assert found(differences(postgresql, metadata)) == [
        "drop column unsaid.extra",
        "drop table public.stranger",
    ]


# -- filters -------------------------------------------------------------------------------------------------


def test_the_users_object_filter(engine: Engine) -> None:
    """A table or column that include_object leaves out is out of the directives, and the table out of the models."""
    metadata = users(Column("new", Integer), Column("mine", Integer))
    Table("hidden", metadata, Column("id", Integer, primary_key=True))
    Table("absent", metadata, Column("id", Integer, primary_key=True))
    Table("hidden", MetaData(), Column("id", Integer, primary_key=True)).create(engine)
    execute(
        engine,
        "CREATE TABLE users (id INTEGER PRIMARY KEY, other INTEGER)",
        "CREATE TABLE theirs (id INTEGER)",
    )

    def include_object(object_: Any, name: str, type_: str, reflected: bool, compare_to: Any) -> bool:
        assert (compare_to is None) == (
            name not in ("hidden", "users", "id") or type_ not in ("table", "column")
        )
        return name not in ("hidden", "absent", "theirs", "mine", "other")

    diff = differences(engine, metadata, include_object=include_object)
    assert [one for one in found(diff) if "unsupported" not in one] == ["add column users.new"]
    assert set(diff.models) == {TableKey(None, "users")}


def test_the_users_name_filter(engine: Engine) -> None:
    """What include_name hides is hidden on both sides: Alembic alone would add it again."""
    metadata = users(Column("name", String(9), index=True), Column("kept", Integer))
    Table("hidden", metadata, Column("id", Integer, primary_key=True), Column("new", Integer))
    metadata.create_all(engine)
    execute(engine, "ALTER TABLE users ADD extra INTEGER", "CREATE TABLE hidden_too (id INTEGER)")
    asked: set[tuple[str, str | None]] = set()

    def include_name(name: str | None, type_: str, parents: dict[str, str | None]) -> bool:
        asked.add((type_, parents.get("schema_qualified_table_name")))
        return name not in ("hidden", "hidden_too", "ix_users_name", "kept", "extra")

    diff = differences(engine, metadata, include_name=include_name)
    assert found(diff) == []
    assert set(diff.models) == {TableKey(None, "users")}
    assert ("column", "users") in asked


def test_only_named_schemas_are_looked_at(postgresql: Engine) -> None:
    """Schemas that neither the models nor the upgrade name are somebody else's."""
    execute(postgresql, "CREATE SCHEMA theirs", "CREATE TABLE theirs.things (id INTEGER)")
    metadata = users()
    metadata.create_all(postgresql)
    assert found(differences(postgresql, metadata)) == []
    assert found(differences(postgresql, metadata, schemas=["theirs"])) == ["drop table theirs.things"]


# -- what directives carry ---------------------------------------------------------------------------------------


def test_each_change_of_a_column_is_its_own_directive(postgresql: Engine) -> None:
    """Type, nullability, default and comment come apart, and each says how the column is now."""
    users(Column("a", Integer, server_default="7", comment="old")).create_all(postgresql)
    diff = differences(postgresql, users(Column("a", sa.BigInteger, nullable=False, comment="new")))
    assert found(diff) == [
        f"alter column users.a {what}" for what in ("type", "not null", "default", "comment")
    ]
    for directive in diff.directives:
        assert isinstance(directive, ops.AlterColumnOp)
        assert isinstance(directive.existing_type, sa.INTEGER)
        assert directive.existing_nullable is True
        assert str(directive.existing_server_default.arg) == "7"  # type: ignore[union-attr]
        assert directive.existing_comment == "old"
    assert diff.directives[2].modify_server_default is None  # type: ignore[attr-defined]


def test_drops_keep_the_live_definition(postgresql: Engine) -> None:
    """What goes can be put back: a drop holds what the database has, not what the models say."""
    old = users(
        Column("a", Integer, server_default="7"),
        Column("span", pg.INT4RANGE),
        sa.CheckConstraint("a > 1", name="ck"),
        sa.UniqueConstraint("a", name="uq"),
        sa.Index("ix", "a", postgresql_where=sa.text("a > 5")),
        pg.ExcludeConstraint(("span", "&&"), name="ex"),
    )
    old.create_all(postgresql)
    diff = differences(postgresql, users(Column("span", pg.INT4RANGE)))
    back = {one: words.reverse() for one, words in zip(found(diff), diff.directives, strict=True)}
    assert back["drop column users.a"].column.server_default.arg.text == "7"  # type: ignore[attr-defined]
    assert "a > 1" in str(back["drop check ck"].to_constraint().sqltext)  # type: ignore[attr-defined]
    assert [one.name for one in back["drop unique uq"].to_constraint().columns] == ["a"]  # type: ignore[attr-defined]
    index = sa.schema.CreateIndex(back["drop index ix"].to_index())  # type: ignore[attr-defined]
    assert "a > 5" in str(index.compile(dialect=postgresql.dialect))
    exclusion = sa.schema.AddConstraint(back["drop exclude ex"].to_constraint())  # type: ignore[attr-defined]
    assert str(exclusion.compile(dialect=postgresql.dialect)) == (
        "ALTER TABLE users ADD CONSTRAINT ex EXCLUDE USING gist (span WITH &&)"
    )


def test_a_dropped_exclusion_can_be_put_back(postgresql: Engine) -> None:
    """What the drop of an exclusion constraint keeps is DDL that the server takes."""
    old = users(Column("span", pg.INT4RANGE), pg.ExcludeConstraint(("span", "&&"), name="ex"))
    old.create_all(postgresql)
    (drop,) = differences(postgresql, users(Column("span", pg.INT4RANGE))).directives
    execute(postgresql, "ALTER TABLE users DROP CONSTRAINT ex")
    with postgresql.begin() as connection:
        connection.execute(sa.schema.AddConstraint(drop.reverse().to_constraint()))  # type: ignore[attr-defined]
    assert found(differences(postgresql, old)) == []


def test_enum_knows_its_columns(postgresql: Engine) -> None:
    """A changed type names every column that uses it, also in tables where nothing else differs."""

    def make(*labels: str) -> MetaData:
        kind = sa.Enum(*labels, name="kind")
        metadata = users(Column("kind", kind))
        Table("orders", metadata, Column("id", Integer, primary_key=True), Column("kinds", pg.ARRAY(kind)))
        return metadata

    make("a").create_all(postgresql)
    (alter,) = differences(postgresql, make("a", "b")).directives
    assert alter.added == ("b",)  # type: ignore[attr-defined]
    assert set(alter.columns) == {(TableKey(None, "users"), "kind"), (TableKey(None, "orders"), "kinds")}  # type: ignore[attr-defined]


def test_duplicates_in_the_models_are_noise(engine: Engine) -> None:
    """unique=True beside the same UniqueConstraint is one constraint, and no difference for ever."""
    metadata = users(Column("a", Integer, unique=True), sa.UniqueConstraint("a"), sa.UniqueConstraint("a"))
    metadata.create_all(engine)
    assert found(differences(engine, metadata)) == []


def test_what_the_server_does_not_keep_is_noted(postgresql: Engine) -> None:
    """What a database just made from the models does not have either is noted once, and never acted on."""
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True, nullable=True), Column("a", Integer))
    metadata.create_all(postgresql)
    diff = differences(postgresql, metadata)
    assert found(diff) == []
    execute(postgresql, "ALTER TABLE users ADD extra INTEGER")
    diff = differences(postgresql, metadata)
    assert found(diff) == ["drop column users.extra"]
    assert [(note.target, note.kind) for note in diff.notes] == [("users.id", "not-convergent")]


# -- cost and privileges -----------------------------------------------------------------------------------------


def many(count: int, schemas: tuple[str | None, ...]) -> MetaData:
    """Models with many ordinary tables, spread over *schemas*."""
    metadata = MetaData()
    for number in range(count):
        schema = schemas[number % len(schemas)]
        parent = f"{schema}.t{number}.id" if schema else f"t{number}.id"
        Table(
            f"t{number}",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("name", String(50), nullable=False, server_default="x"),
            Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
            Column("state", sa.Enum("a", "b", name="state"), server_default="a"),
            Column("flag", sa.Boolean, server_default=sa.false(), nullable=False),
            Column("size", sa.Numeric(10, 2), server_default="0"),
            Column("parent", sa.ForeignKey(parent, ondelete="CASCADE"), index=True),
            sa.UniqueConstraint("name", "state"),
            sa.Index(f"ix_t{number}_made", "made", "flag"),
            schema=schema,
        )
    return metadata


@pytest.fixture
def statements(postgresql: Engine) -> Iterator[list[str]]:
    """What is sent to the database of `postgresql`."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(postgresql, "before_cursor_execute", note)
    yield sent
    event.remove(postgresql, "before_cursor_execute", note)


def test_queries_do_not_grow_with_the_tables(postgresql: Engine, statements: list[str]) -> None:
    """A comparison in step asks as often for 200 tables as for 10, in three schemas, and at most twenty times."""
    execute(postgresql, "CREATE SCHEMA one", "CREATE SCHEMA two")
    counts = []
    for count in (10, 200):
        metadata = many(count, (None, "one", "two"))
        metadata.create_all(postgresql)
        assert found(differences(postgresql, metadata)) == []
        statements.clear()
        assert found(differences(postgresql, metadata)) == []
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 20


def test_queries_do_not_grow_with_the_drift(postgresql: Engine, statements: list[str]) -> None:
    """Tables that differ cost no query each: Alembic reads the snapshot, and the server spells all models at once."""
    counts = []
    for count in (10, 100):
        metadata = many(count, (None,))
        metadata.create_all(postgresql)
        execute(postgresql, *(f"ALTER TABLE t{number} ADD extra{count} INTEGER" for number in range(count)))
        statements.clear()
        assert len(found(differences(postgresql, metadata))) >= count
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 40


def test_a_read_only_transaction_is_enough(postgresql: Engine) -> None:
    """In a read-only transaction, differences are found all the same, and the transaction can still be used."""
    users(Column("a", String(9)), sa.CheckConstraint("a <> 'x'", name="ck")).create_all(postgresql)
    metadata = users(
        Column("a", String(20)), Column("b", Integer), sa.CheckConstraint("a  <>  'x'", name="ck")
    )
    with postgresql.connect().execution_options(postgresql_readonly=True) as connection:
        diff = compare(connection, Upgrade(metadata), dialect_of(postgresql))
        assert found(diff) == ["add column users.b", "alter column users.a type"]
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_a_reader_is_told_what_was_not_compared(postgresql: Engine, reader: Engine) -> None:
    """Without the right to create a table, expressions that may be the same are noted and left alone."""
    users(
        Column("a", Integer, server_default=sa.text("1 + 1")), sa.CheckConstraint("a > 1", name="ck")
    ).create_all(postgresql)
    metadata = users(
        Column("a", Integer, server_default=sa.text("1 + 2")),
        Column("b", Integer),
        sa.CheckConstraint("a > 2", name="ck"),
    )
    diff = differences(reader, metadata)
    assert found(diff) == ["add column users.b"]
    assert [(note.target, note.kind) for note in diff.notes] == [
        ("users.a", "not-compared"),
        ("users.ck", "not-compared"),
    ]


def test_a_comparison_leaves_no_trace(postgresql: Engine) -> None:
    """Nothing that was made to learn the server's spelling is left, within the transaction or after it."""
    metadata = users(
        Column("a", Integer, sa.CheckConstraint("a > 1")), Column("k", sa.Enum("a", name="kind"))
    )
    metadata.create_all(postgresql)
    count = sa.text("SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_type)")
    with postgresql.connect() as connection:
        before = connection.execute(count).one()
        compare(connection, Upgrade(metadata), dialect_of(postgresql))
        assert connection.execute(count).one() == before


def test_json_defaults_do_not_abort_the_transaction(postgresql: Engine) -> None:
    """Alembic asks `json = unknown`, which is an error that aborts the transaction; emc does not ask."""
    users(Column("a", sa.JSON, server_default=sa.text("'{}'"))).create_all(postgresql)
    with postgresql.connect() as connection:
        metadata = users(Column("a", sa.JSON, server_default=sa.text("'[]'")))
        assert found(compare(connection, Upgrade(metadata), dialect_of(postgresql))) == [
            "alter column users.a default"
        ]
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_alembics_own_comparison_is_left_as_it_was(postgresql: Engine) -> None:
    """After emc has compared in this process, Alembic by itself still compares as it always does."""
    metadata = users(Column("a", Integer, sa.CheckConstraint("a > 1", name="ck")))
    users(Column("a", Integer)).create_all(postgresql)
    assert found(differences(postgresql, metadata)) == ["add check ck"]
    with postgresql.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


ORDER = """
import sys
import sqlalchemy as sa
from emc.dialects import dialect_of
from emc.diff import compare
from emc.upgrade import Upgrade
from tests.diff.differences import found
from tests.diff.test_drift import DRIFTS, metadata_of
from tests.diff.test_drift_mariadb import MARIADB_DRIFTS

engine = sa.create_engine(sys.argv[1])
drifts = [drift for drift in DRIFTS if engine.dialect.name in drift.on]
if engine.dialect.name == "mariadb":
    drifts = MARIADB_DRIFTS
if sys.argv[2] == "create":
    metadata_of(drifts, "old").create_all(engine)
metadata = metadata_of(drifts, "new")
for number in range(20):
    sa.Table(f"more{number}", metadata, sa.Column("id", sa.Integer), sa.Index(f"ix{number}", "id"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS gone{number} (a INTEGER UNIQUE, b INTEGER UNIQUE)")
with dialect_of(engine).reading(engine) as connection:
    print("\\n".join(found(compare(connection, Upgrade(metadata), dialect_of(engine)))))
"""


def test_the_order_does_not_depend_on_hashes(database_url: str) -> None:
    """The same inputs give the same directives in the same order, whatever the seed of Python's hashes."""
    answers = []
    for seed, verb in (("1", "create"), ("2", "compare"), ("3", "compare")):
        answer = subprocess.run(
            [sys.executable, "-c", ORDER, database_url, verb],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        answers.append(answer.stdout)
    assert answers[0].count("\n") > 100
    assert answers[0] == answers[1] == answers[2]
