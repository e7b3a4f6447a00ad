"""What emc reads from SQLite, and how SQLite would spell the models."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import (
    Column,
    Computed,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)

from emc.dialects.sqlite.catalog import SQLiteTable
from emc.dialects.sqlite.text import parse
from emc.dialects.sqlite.tokens import UnreadableTextError, normal
from emc.names import ElementKind, TableKey
from emc.operations import Kind
from emc.schema import LiveSchema
from tests.dialects.sqlite_ritual import (
    SQLITE,
    add_column,
    alter,
    assert_converged,
    create_index,
    create_table,
    drop_column,
    drop_index,
    live_of,
    picture,
    rows,
    run,
    script,
)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """An engine on a file."""
    engine = create_engine(sqlite_url)
    yield engine
    engine.dispose()


def everything() -> MetaData:
    """Models with all common types, defaults and constraints."""
    metadata = MetaData(naming_convention={"fk": "fk_%(column_0_name)s", "ix": "ix_%(column_0_label)s"})
    types: list[Any] = [
        sa.Integer,
        sa.BigInteger,
        sa.SmallInteger,
        sa.String(50),
        sa.String(50, collation="NOCASE"),
        sa.Text,
        sa.Unicode(20),
        sa.Boolean,
        sa.Date,
        sa.DateTime,
        sa.DateTime(timezone=True),
        sa.Time,
        sa.Interval,
        sa.Float,
        sa.Double,
        sa.Numeric(10, 2),
        sa.LargeBinary,
        sa.JSON,
        sa.Uuid,
        sa.Enum("a", "b", name="letters", create_constraint=True),
        sa.Boolean(name="yes", create_constraint=True),
    ]
    Table("parent", metadata, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
    Table(
        "all_types",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(f"t{number}", type_, index=number == 3) for number, type_ in enumerate(types)),
        Column("d1", String(9), nullable=False, server_default="it's"),
        Column("d2", sa.Integer, server_default=text("-1")),
        Column("d3", sa.DateTime, server_default=sa.func.now()),
        Column("d4", sa.Boolean, server_default=sa.true()),
        Column("d5", sa.String, server_default=text("(lower('X'))")),
        Column("g1", Integer, Computed("d2 + 1")),
        Column("g2", Integer, Computed("d2 * (2 + 1)", persisted=True)),
        Column("fk", ForeignKey("all_types.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED")),
        Column("pa", Integer),
        Column("pb", Integer),
        sa.ForeignKeyConstraint(["pa", "pb"], ["parent.a", "parent.b"], name="to_parent"),
        sa.UniqueConstraint("d1", "d2", name="uq"),
        sa.UniqueConstraint("d3", sqlite_on_conflict="REPLACE"),
        sa.CheckConstraint("d2 > -5 AND d1 <> ')'", name="sane"),
        sa.CheckConstraint("length(d1) < 20"),
        Index("partial", "d1", sqlite_where=text("d2 > 0")),
        Index("expression", text("lower(d1)"), text("d2 DESC"), unique=True),
        sqlite_autoincrement=True,
    )
    Table(
        "without",
        metadata,
        Column("k", String(5), primary_key=True),
        sqlite_with_rowid=False,
        sqlite_strict=False,
    )
    return metadata


def test_what_create_all_makes_is_what_spell_says(engine: Engine) -> None:
    """After create_all the live tables and the spelled models are equal, for every type, default and constraint."""
    metadata = everything()
    metadata.create_all(engine)
    assert_converged(engine, metadata)


def test_spelling_leaves_no_trace_and_changes_no_model(engine: Engine) -> None:
    """Spelled twice the models are the same, and the database is as empty as before."""
    metadata = everything()
    counted = {name: (len(t.constraints), len(t.indexes)) for name, t in metadata.tables.items()}
    with SQLITE.reading(engine) as connection:
        first, second = (
            {
                k: picture(t)
                for k, t in SQLITE.spell(connection, list(metadata.tables.values()), LiveSchema({})).items()
            }
            for _ in range(2)
        )
        assert first == second
    assert {name: (len(t.constraints), len(t.indexes)) for name, t in metadata.tables.items()} == counted
    assert not live_of(engine).tables


def test_create_table_is_create_all(engine: Engine) -> None:
    """CREATE TABLE and CREATE INDEX of all the models end where create_all ends, and the models stay as they are."""
    metadata = everything()
    counted = {name: (len(t.constraints), len(t.indexes)) for name, t in metadata.tables.items()}
    tables = metadata.sorted_tables
    run(engine, *(create_table(t) for t in tables), *(create_index(i) for t in tables for i in t.indexes))
    assert_converged(engine, metadata)
    assert {name: (len(t.constraints), len(t.indexes)) for name, t in metadata.tables.items()} == counted


def test_dictionaries_are_the_inspectors(engine: Engine) -> None:
    """Alembic is fed from the snapshot, so each dictionary is what the inspector itself answers."""
    everything().create_all(engine)
    live = live_of(engine)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for key, table in live.tables.items():
            with pytest.warns(sa.exc.SAWarning) if key.name == "all_types" else _nothing():
                asked = {
                    "columns": inspector.get_columns(key.name),
                    "primary_key": inspector.get_pk_constraint(key.name),
                    "foreign_keys": inspector.get_foreign_keys(key.name),
                    "indexes": inspector.get_indexes(key.name),
                    "uniques": inspector.get_unique_constraints(key.name),
                    "checks": inspector.get_check_constraints(key.name),
                }
            for part, answer in asked.items():
                seen = getattr(table, part)
                seen = list(seen.values()) if part == "columns" else seen
                assert repr(_plain(list(seen))) == repr(_plain(list(answer)))


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _plain(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_plain(value) for value in values]
    return str(values) if isinstance(values, sa.sql.elements.ClauseElement) else values


def test_what_is_no_ordinary_table_is_only_a_name(engine: Engine) -> None:
    """Views, virtual tables and their shadows are taken names; SQLite's own tables are not even that."""
    script(
        engine,
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
        "CREATE TABLE ft_not_a_shadow (id INTEGER)",
        "CREATE VIEW v AS SELECT x FROM t",
        "CREATE VIRTUAL TABLE ft USING fts5(body)",
        "ANALYZE",
    )
    live = live_of(engine)
    assert [str(key) for key in live.tables] == ["ft_not_a_shadow", "t"]
    taken = {str(key): what for key, what in live.names_taken.items()}
    assert taken.pop("v") == "view"
    assert taken.pop("ft") == "virtual table"
    assert set(taken.values()) == {"shadow table of a virtual table"}
    assert live.dependents == {
        (TableKey(None, "t"), None): ("view v",),
        (TableKey(None, "t"), "x"): ("view v",),
    }
    run(engine, alter(Kind.SET_NOT_NULL, "t", "x", modify_nullable=False))


def test_definitions_hold_what_the_inspector_leaves_out(engine: Engine) -> None:
    """Collation, generation, AUTOINCREMENT, unnamed CHECKs, WHERE, DESC: two spellings of the same are equal."""
    script(
        engine,
        "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT COLLATE NOCASE, g AS (id+1), CHECK(n<>'A'))",
        "CREATE INDEX ia ON a(n DESC) WHERE id>1",
        """CREATE TABLE "b" ("id" integer primary key autoincrement, -- the key
            "n" text collate NoCase, "g" generated always as ("id" + 1) virtual, check ((n <> 'A')))""",
        """CREATE INDEX "ib" ON "b" ("n" desc) where (id > 1)""",
    )
    live = live_of(engine)
    a, b = live.tables[TableKey(None, "a")].definitions, live.tables[TableKey(None, "b")].definitions
    assert a[ElementKind.COLUMN, "n"] == b[ElementKind.COLUMN, "n"] == "collate nocase"
    assert a[ElementKind.COLUMN, "id"] == b[ElementKind.COLUMN, "id"] == "primary key autoincrement"
    assert a[ElementKind.CHECK, "check (n <> 'A')"] == b[ElementKind.CHECK, "check (n <> 'A')"]
    assert a[ElementKind.COLUMN, "g"] == b[ElementKind.COLUMN, "g"]
    assert a[ElementKind.INDEX, "ia"] == b[ElementKind.INDEX, "ib"]


def test_application_functions_do_not_stop_a_plan(engine: Engine) -> None:
    """A CHECK or index that calls a function of the application is rehearsed with a stand-in."""

    def shout(value: Any) -> str:
        return str(value).upper()

    @sa.event.listens_for(engine, "connect")
    def register(connection: Any, record: Any) -> None:
        connection.create_function("shout", 1, shout, deterministic=True)
        connection.create_collation("backwards", lambda a, b: (a < b) - (a > b))

    script(
        engine,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT COLLATE backwards, CHECK (shout(x) <> 'NO'))",
        "CREATE INDEX i ON t (shout(x))",
        "INSERT INTO t VALUES (1, 'yes')",
    )
    run(engine, alter(Kind.SET_NOT_NULL, "t", "x", modify_nullable=False))
    assert rows(engine, "SELECT x FROM t WHERE shout(x) = 'YES'") == [("yes",)]


@pytest.mark.parametrize(
    "name", ["Mixed Case", "select", 'quo"te', "it's", "per%cent", "co:lon", "ünï", "a.b", "b]r`"]
)
def test_names_of_every_kind(engine: Engine, name: str) -> None:
    """Tables, columns and indexes of any name are created, altered, indexed, rebuilt and dropped from."""
    metadata = MetaData()
    table = Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        Column(name, String(5)),
        Column("x", Integer, server_default="0"),
        Index(name + " ix", name),
    )
    run(engine, create_table(table), create_index(next(iter(table.indexes))))
    assert_converged(engine, metadata)
    quote = engine.dialect.identifier_preparer.quote_identifier
    script(engine, f"INSERT INTO {quote(name)} (id) VALUES (4)")
    run(
        engine,
        drop_index(name, name + " ix"),
        alter(Kind.SET_DEFAULT, name, name, modify_server_default="a'b"),
        alter(Kind.DROP_DEFAULT, name, "x", modify_server_default=None),
    )
    extra = Table(name, MetaData(), Column(name + "2", Integer))
    run(engine, add_column(extra.c[name + "2"]))
    run(engine, drop_column(name, name + "2"))
    run(engine, drop_column(name, name))
    assert rows(engine, f"SELECT * FROM {quote(name)}") == [(4, 0)]


def test_a_text_that_emc_cannot_read_is_refused(engine: Engine) -> None:
    """A table that SQLite reads and emc does not can stay, be indexed and dropped, and is not rebuilt."""
    broken = SQLiteTable(
        key=TableKey(None, "t"), columns={}, sql="CREATE TABLE t (a INT UNKNOWN CLAUSE OF 3.99 ?)"
    )
    with pytest.raises(UnreadableTextError):
        parse(broken.sql)
    refusal = SQLITE.refuse(
        alter(Kind.SET_NOT_NULL, "t", "a", modify_nullable=False), LiveSchema({broken.key: broken})
    )
    assert refusal is not None
    assert refusal.target == "t.a"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a>1", "(( A > 1 ))", True),
        ('"a" > 1 -- c', "a /* c */ > 1", True),
        ("(a) OR (b)", "a OR b", False),
        ("a = 'X'", "a = 'x'", False),
        ('"a b" = 1', '"A b" = 1', False),
    ],
)
def test_equal_normal_texts_mean_the_same(one: str, other: str, *, same: bool) -> None:
    """Spelling is taken out where it means nothing, and nowhere else."""
    assert (normal(one) == normal(other)) is same
