"""Each kind of drift between models and database is seen, alone, and named by the operation that makes up for it.

Every drift has a table of its own in one database per kind; one comparison serves all tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Engine, Index, Integer, MetaData, String, Table, create_engine
from sqlalchemy.dialects import postgresql as pg

from emc.diff import Diff
from tests.diff.differences import differences, words
from tests.servers import PostgresServer

BOTH = ("postgresql", "sqlite")
POSTGRESQL = ("postgresql",)
SQLITE = ("sqlite",)

Items = Callable[[str], Sequence[Any]]


@dataclass(frozen=True)
class Drift:
    """What the database has, what the models have, and what is expected to be found.

    `{t}` in *expected* and *sql* is the name of the drift's table.
    """

    name: str
    old: Items
    new: Items
    expected: Sequence[str]
    on: Sequence[str] = BOTH
    sql: Sequence[str] = ()
    """What is done to the database after the table of the old models was made."""
    old_options: dict[str, Any] | None = None
    new_options: dict[str, Any] | None = None

    @property
    def table(self) -> str:
        """The name of its table."""
        return self.name.replace(" ", "_").replace(",", "") + "_t"


def key() -> Column[int]:
    """The key that most tables have."""
    return Column("id", Integer, primary_key=True)


def columns(*make: Callable[[], Any]) -> Items:
    """A key, and whatever *make* makes."""
    return lambda _: [key(), *(one() for one in make)]


def column(type_: Any = Integer, *args: Any, **options: Any) -> Items:
    """A key and a column `a`."""
    return lambda _: [key(), Column("a", type_, *args, **options)]


def with_index(*expressions: Any, **options: Any) -> Items:
    """A key, columns `a` (text) and `b`, and an index."""
    return lambda t: [
        key(),
        Column("a", String(50)),
        Column("b", Integer),
        Index(
            f"ix_{t}", *(sa.text(one) if "(" in one or " " in one else one for one in expressions), **options
        ),
    ]


def with_constraint(make: Callable[[str], Any] | None) -> Items:
    """A key, columns `a` and `b`, and a constraint."""
    return lambda t: [key(), Column("a", Integer), Column("b", Integer), *([make(t)] if make else [])]


def check(condition: str, name: str | None = "ck_{t}") -> Callable[[str], Any]:
    """A CHECK."""
    return lambda t: sa.CheckConstraint(condition, name=name and name.format(t=t))


def unique(*names: str, name: str | None = None, **options: Any) -> Callable[[str], Any]:
    """A unique constraint."""
    return lambda t: sa.UniqueConstraint(*names, name=name and name.format(t=t), **options)


def foreign_key(
    name: str | None = "fk_{t}", target: str = "parent.id", **options: Any
) -> Callable[[str], Any]:
    """A foreign key of column `a`."""
    return lambda t: sa.ForeignKeyConstraint(["a"], [target], name=name and name.format(t=t), **options)


def exclusion(condition: str | None, *, name: str | None = "ex_{t}") -> Items:
    """A table with an exclusion constraint."""
    return lambda t: [
        key(),
        Column("a", pg.INT4RANGE),
        *([pg.ExcludeConstraint(("a", condition), name=name and name.format(t=t))] if condition else []),
    ]


def letters(*labels: str) -> Items:
    """A column of an enumerated type of its own."""
    return lambda t: [key(), Column("a", sa.Enum(*labels, name=f"enum_{t}"))]


PLAIN = columns()
A = column()

DRIFTS = [
    # columns
    Drift("column added", PLAIN, A, ["add column {t}.a"]),
    Drift("column removed", A, PLAIN, ["drop column {t}.a"]),
    Drift(
        "column renamed", A, columns(lambda: Column("b", Integer)), ["add column {t}.b", "drop column {t}.a"]
    ),
    Drift(
        "column case",
        A,
        columns(lambda: Column("A", Integer)),
        ["add column {t}.A", "drop column {t}.a"],
        POSTGRESQL,
    ),
    Drift(
        "columns swapped",
        columns(lambda: Column("a", Integer), lambda: Column("b", Integer)),
        columns(lambda: Column("b", Integer), lambda: Column("a", Integer)),
        [],
    ),
    Drift("not null", A, column(nullable=False), ["alter column {t}.a not null"]),
    Drift("nullable", column(nullable=False), A, ["alter column {t}.a nullable"]),
    Drift("type", A, column(sa.Text), ["alter column {t}.a type"]),
    Drift("type wider", A, column(sa.BigInteger), ["alter column {t}.a type"]),
    Drift("length", column(String(20)), column(String(50)), ["alter column {t}.a type"]),
    Drift("length dropped", column(String(20)), column(String()), ["alter column {t}.a type"]),
    Drift("length added", column(String()), column(String(20)), ["alter column {t}.a type"]),
    Drift("varchar to text", column(String(20)), column(sa.Text), ["alter column {t}.a type"]),
    Drift("precision", column(sa.Numeric(8, 2)), column(sa.Numeric(10, 2)), ["alter column {t}.a type"]),
    Drift("precision dropped", column(sa.Numeric(8, 2)), column(sa.Numeric()), ["alter column {t}.a type"]),
    Drift("scale", column(sa.Numeric(8, 2)), column(sa.Numeric(8, 4)), ["alter column {t}.a type"]),
    Drift(
        "timestamp precision",
        column(pg.TIMESTAMP(precision=3)),
        column(pg.TIMESTAMP()),
        ["alter column {t}.a type"],
        POSTGRESQL,
    ),
    Drift(
        "time zone",
        column(sa.DateTime()),
        column(sa.DateTime(timezone=True)),
        ["alter column {t}.a type"],
        POSTGRESQL,
    ),
    Drift("array", A, column(pg.ARRAY(Integer)), ["alter column {t}.a type"], POSTGRESQL),
    Drift(
        "array item",
        column(pg.ARRAY(Integer)),
        column(pg.ARRAY(sa.Text)),
        ["alter column {t}.a type"],
        POSTGRESQL,
    ),
    Drift("json to jsonb", column(pg.JSON), column(pg.JSONB), ["alter column {t}.a type"], POSTGRESQL),
    Drift(
        "collation",
        column(String(9)),
        column(String(9, collation="C")),
        ["alter column {t}.a type"],
        POSTGRESQL,
    ),
    Drift(
        "collation dropped",
        column(String(9, collation="C")),
        column(String(9)),
        ["alter column {t}.a type"],
        POSTGRESQL,
    ),
    Drift(
        "collation nocase",
        column(String(9)),
        column(String(9, collation="NOCASE")),
        ["alter column {t}.a type"],
        SQLITE,
    ),
    Drift(
        "type and not null",
        A,
        column(sa.Text, nullable=False, server_default="x"),
        ["alter column {t}.a type", "alter column {t}.a not null", "alter column {t}.a default"],
    ),
    # defaults
    Drift("default added", A, column(server_default="5"), ["alter column {t}.a default"]),
    Drift("default dropped", column(server_default="5"), A, ["alter column {t}.a default"]),
    Drift(
        "default changed",
        column(server_default="5"),
        column(server_default="6"),
        ["alter column {t}.a default"],
    ),
    Drift(
        "default text",
        column(sa.Text, server_default="a"),
        column(sa.Text, server_default="b"),
        ["alter column {t}.a default"],
    ),
    Drift(
        "default case",
        column(sa.Text, server_default="a"),
        column(sa.Text, server_default="A"),
        ["alter column {t}.a default"],
    ),
    Drift(
        "default emptied",
        column(sa.Text, server_default="a"),
        column(sa.Text, server_default=""),
        ["alter column {t}.a default"],
    ),
    Drift(
        "default function",
        column(sa.DateTime, server_default=sa.func.now()),
        column(sa.DateTime, server_default=sa.text("'2020-01-01'")),
        ["alter column {t}.a default"],
    ),
    Drift(
        "default json",
        column(sa.JSON, server_default=sa.text("'{}'")),
        column(sa.JSON, server_default=sa.text("'[]'")),
        ["alter column {t}.a default"],
    ),
    Drift(
        "default volatile",
        column(sa.DateTime, server_default=sa.text("now()")),
        column(sa.DateTime, server_default=sa.text("clock_timestamp()")),
        ["alter column {t}.a default"],
        POSTGRESQL,
    ),
    # comments
    Drift("comment", A, column(comment="new"), ["alter column {t}.a comment"], POSTGRESQL),
    Drift("comment dropped", column(comment="old"), A, ["alter column {t}.a comment"], POSTGRESQL),
    Drift("table comment", PLAIN, PLAIN, ["comment table {t}"], POSTGRESQL, new_options={"comment": "new"}),
    Drift(
        "table comment dropped",
        PLAIN,
        PLAIN,
        ["comment table {t}"],
        POSTGRESQL,
        old_options={"comment": "old"},
    ),
    # generated values
    Drift(
        "identity added",
        column(nullable=False),
        column(Integer, sa.Identity()),
        ["unsupported identity {t}.a"],
        POSTGRESQL,
    ),
    Drift(
        "identity always",
        column(Integer, sa.Identity()),
        column(Integer, sa.Identity(always=True)),
        ["unsupported identity {t}.a"],
        POSTGRESQL,
    ),
    Drift(
        "identity start",
        column(Integer, sa.Identity(start=1)),
        column(Integer, sa.Identity(start=100)),
        ["unsupported identity {t}.a"],
        POSTGRESQL,
    ),
    Drift(
        "serial missing",
        lambda _: [Column("id", Integer, primary_key=True, autoincrement=False)],
        PLAIN,
        ["unsupported identity {t}.id"],
        POSTGRESQL,
    ),
    Drift(
        "serial to identity",
        PLAIN,
        lambda _: [Column("id", Integer, sa.Identity(), primary_key=True)],
        ["unsupported identity {t}.id"],
        POSTGRESQL,
    ),
    Drift(
        "serial dropped",
        PLAIN,
        lambda _: [Column("id", Integer, primary_key=True, autoincrement=False)],
        ["alter column {t}.id default"],
        POSTGRESQL,
    ),
    Drift(
        "computed added",
        A,
        column(Integer, sa.Computed("id + 1", persisted=True)),
        ["unsupported computed {t}.a"],
    ),
    Drift(
        "computed changed",
        column(Integer, sa.Computed("id + 1", persisted=True)),
        column(Integer, sa.Computed("id + 2", persisted=True)),
        ["unsupported computed {t}.a"],
    ),
    Drift(
        "computed dropped",
        column(Integer, sa.Computed("id + 1", persisted=True)),
        A,
        ["unsupported computed {t}.a"],
    ),
    # primary key
    Drift(
        "primary key wider",
        lambda _: [
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("a", Integer, nullable=False),
        ],
        lambda _: [Column("id", Integer, primary_key=True), Column("a", Integer, primary_key=True)],
        ["unsupported primary key {t}"],
    ),
    Drift(
        "primary key order",
        lambda _: [Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True)],
        lambda _: [Column("a", Integer), Column("b", Integer), sa.PrimaryKeyConstraint("b", "a")],
        ["unsupported primary key {t}"],
    ),
    Drift(
        "primary key missing",
        lambda _: [Column("id", Integer, nullable=False)],
        lambda _: [Column("id", Integer, primary_key=True, autoincrement=False)],
        ["unsupported primary key {t}"],
    ),
    # indexes
    Drift(
        "index added",
        with_constraint(None),
        lambda t: [*with_constraint(None)(t), Index(f"ix_{t}", "a")],
        ["create index ix_{t}"],
    ),
    Drift(
        "index removed",
        lambda t: [*with_constraint(None)(t), Index(f"ix_{t}", "a")],
        with_constraint(None),
        ["drop index ix_{t}"],
    ),
    Drift(
        "index columns", with_index("a"), with_index("a", "b"), ["drop index ix_{t}", "create index ix_{t}"]
    ),
    Drift(
        "index order",
        with_index("a", "b"),
        with_index("b", "a"),
        ["drop index ix_{t}", "create index ix_{t}"],
    ),
    Drift(
        "index unique",
        with_index("a"),
        with_index("a", unique=True),
        ["drop index ix_{t}", "create index ix_{t}"],
    ),
    Drift("index desc", with_index("a"), with_index("a DESC"), ["drop index ix_{t}", "create index ix_{t}"]),
    Drift(
        "index expression",
        with_index("lower(a)"),
        with_index("upper(a)"),
        ["drop index ix_{t}", "create index ix_{t}"],
    ),
    Drift(
        "index expression added",
        with_constraint(None),
        lambda t: [*with_constraint(None)(t), Index(f"ix_{t}", sa.text("abs(a)"))],
        ["create index ix_{t}"],
    ),
    Drift(
        "index expression removed",
        lambda t: [*with_constraint(None)(t), Index(f"ix_{t}", sa.text("abs(a)"))],
        with_constraint(None),
        ["drop index ix_{t}"],
    ),
    Drift(
        "index column to expression",
        with_index("a"),
        with_index("lower(a)"),
        ["drop index ix_{t}", "create index ix_{t}"],
    ),
    Drift(
        "index where",
        with_index("a"),
        with_index("a", postgresql_where=sa.text("b > 1"), sqlite_where=sa.text("b > 1")),
        ["drop index ix_{t}", "create index ix_{t}"],
    ),
    Drift(
        "index where changed",
        with_index("a", postgresql_where=sa.text("b > 1"), sqlite_where=sa.text("b > 1")),
        with_index("a", postgresql_where=sa.text("b > 2"), sqlite_where=sa.text("b > 2")),
        ["drop index ix_{t}", "create index ix_{t}"],
    ),
    Drift(
        "index include",
        with_index("a"),
        with_index("a", postgresql_include=["b"]),
        ["drop index ix_{t}", "create index ix_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "index opclass",
        with_index("a"),
        with_index("a", postgresql_ops={"a": "varchar_pattern_ops"}),
        ["drop index ix_{t}", "create index ix_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "index method",
        with_index("a"),
        with_index("a", postgresql_using="hash"),
        ["drop index ix_{t}", "create index ix_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "index storage",
        with_index("a"),
        with_index("a", postgresql_with={"fillfactor": 50}),
        ["drop index ix_{t}", "create index ix_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "index nulls",
        with_index("a", unique=True),
        with_index("a", unique=True, postgresql_nulls_not_distinct=True),
        ["drop index ix_{t}", "create index ix_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "index collation",
        with_index("a"),
        with_index('a COLLATE "C"'),
        ["drop index ix_{t}", "create index ix_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "index name",
        with_constraint(None),
        lambda t: [*with_constraint(None)(t), Index(f"new_{t}", "a")],
        ["create index new_{t}", "drop index old_{t}"],
        sql=["CREATE INDEX old_{t} ON {t} (a)"],
    ),
    # unique constraints
    Drift(
        "unique added",
        with_constraint(None),
        with_constraint(unique("a", name="uq_{t}")),
        ["add unique uq_{t}"],
    ),
    Drift(
        "unique added unnamed",
        with_constraint(None),
        with_constraint(unique("a")),
        ["add unique {t}_a_key"],
        POSTGRESQL,
    ),
    Drift(
        "unique added unnamed lite",
        with_constraint(None),
        with_constraint(unique("a")),
        ["add unique None"],
        SQLITE,
    ),
    Drift(
        "unique removed",
        with_constraint(unique("a", name="uq_{t}")),
        with_constraint(None),
        ["drop unique uq_{t}"],
    ),
    Drift(
        "unique columns",
        with_constraint(unique("a", name="uq_{t}")),
        with_constraint(unique("a", "b", name="uq_{t}")),
        ["drop unique uq_{t}", "add unique uq_{t}"],
    ),
    Drift(
        "unique order",
        with_constraint(unique("a", "b", name="uq_{t}")),
        with_constraint(unique("b", "a", name="uq_{t}")),
        ["drop unique uq_{t}", "add unique uq_{t}"],
    ),
    Drift(
        "unique order unnamed",
        with_constraint(unique("a", "b")),
        with_constraint(unique("b", "a")),
        ["drop unique {t}_a_b_key", "add unique {t}_a_b_key"],
        POSTGRESQL,
    ),
    Drift(
        "unique deferrable",
        with_constraint(unique("a", name="uq_{t}")),
        with_constraint(unique("a", name="uq_{t}", deferrable=True)),
        ["drop unique uq_{t}", "add unique uq_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "unique deferrable unnamed",
        with_constraint(unique("a")),
        with_constraint(unique("a", deferrable=True)),
        ["drop unique {t}_a_key", "add unique {t}_a_key"],
        POSTGRESQL,
    ),
    Drift(
        "unique nulls",
        with_constraint(unique("a", name="uq_{t}")),
        with_constraint(unique("a", name="uq_{t}", postgresql_nulls_not_distinct=True)),
        ["drop unique uq_{t}", "add unique uq_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "unique named otherwise",
        with_constraint(None),
        with_constraint(unique("a")),
        [],
        POSTGRESQL,
        sql=["ALTER TABLE {t} ADD CONSTRAINT own_name_{t} UNIQUE (a)"],
    ),
    Drift(
        "unique index for constraint",
        with_constraint(None),
        with_constraint(unique("a", name="uq_{t}")),
        ["add unique uq_{t}", "drop index uq_{t}"],
        sql=["CREATE UNIQUE INDEX uq_{t} ON {t} (a)"],
        on=POSTGRESQL,
    ),
    # checks
    Drift("check added", with_constraint(None), with_constraint(check("a > 0")), ["add check ck_{t}"]),
    Drift("check removed", with_constraint(check("a > 0")), with_constraint(None), ["drop check ck_{t}"]),
    Drift(
        "check changed",
        with_constraint(check("a > 0")),
        with_constraint(check("a > 1")),
        ["drop check ck_{t}", "add check ck_{t}"],
    ),
    Drift("check spelled otherwise", with_constraint(check("a>0")), with_constraint(check("a  >  0")), []),
    Drift(
        "check added unnamed",
        with_constraint(None),
        with_constraint(check("a > 0", None)),
        ["add check {t}_a_check"],
        POSTGRESQL,
    ),
    Drift(
        "check changed unnamed",
        with_constraint(check("a > 0", None)),
        with_constraint(check("a > 1", None)),
        ["drop check {t}_a_check", "add check {t}_a_check"],
        POSTGRESQL,
    ),
    Drift(
        "check unnamed lite",
        with_constraint(None),
        with_constraint(check("a > 0", None)),
        ["add check None"],
        SQLITE,
    ),
    Drift(
        "check of type",
        column(sa.Enum("x", "y", native_enum=False, create_constraint=True, name="ck")),
        column(sa.Enum("x", "y", "z", native_enum=False, create_constraint=True, name="ck")),
        ["drop check ck", "add check ck"],
    ),
    Drift(
        "check of column",
        A,
        column(Integer, sa.CheckConstraint("a > 0", name="ck_of_a")),
        ["add check ck_of_a"],
    ),
    Drift(
        "check not valid",
        with_constraint(None),
        with_constraint(check("a > 0")),
        ["add check ck_{t}"],
        POSTGRESQL,
        sql=["ALTER TABLE {t} ADD CONSTRAINT ck_{t} CHECK (a > 0) NOT VALID"],
    ),
    # foreign keys
    Drift(
        "foreign key added", with_constraint(None), with_constraint(foreign_key()), ["add foreignkey fk_{t}"]
    ),
    Drift(
        "foreign key removed",
        with_constraint(foreign_key()),
        with_constraint(None),
        ["drop foreignkey fk_{t}"],
    ),
    Drift(
        "foreign key target",
        with_constraint(foreign_key()),
        with_constraint(foreign_key(target="other.id")),
        ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"],
    ),
    Drift(
        "foreign key action",
        with_constraint(foreign_key()),
        with_constraint(foreign_key(ondelete="CASCADE")),
        ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"],
    ),
    Drift(
        "foreign key action unnamed",
        with_constraint(foreign_key(None)),
        with_constraint(foreign_key(None, ondelete="CASCADE")),
        ["drop foreignkey {t}_a_fkey", "add foreignkey {t}_a_fkey"],
        POSTGRESQL,
    ),
    Drift(
        "foreign key deferrable",
        with_constraint(foreign_key()),
        with_constraint(foreign_key(deferrable=True)),
        ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"],
    ),
    Drift(
        "foreign key deferred",
        with_constraint(foreign_key(deferrable=True)),
        with_constraint(foreign_key(deferrable=True, initially="DEFERRED")),
        ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"],
    ),
    Drift(
        "foreign key match",
        with_constraint(foreign_key()),
        with_constraint(foreign_key(match="FULL")),
        ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "foreign key match dropped",
        with_constraint(foreign_key(match="FULL")),
        with_constraint(foreign_key()),
        ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"],
        POSTGRESQL,
    ),
    Drift(
        "foreign key not valid",
        with_constraint(None),
        with_constraint(foreign_key()),
        ["add foreignkey fk_{t}"],
        POSTGRESQL,
        sql=["ALTER TABLE {t} ADD CONSTRAINT fk_{t} FOREIGN KEY (a) REFERENCES parent (id) NOT VALID"],
    ),
    # exclusion constraints
    Drift("exclusion added", exclusion(None), exclusion("&&"), ["add exclude ex_{t}"], POSTGRESQL),
    Drift("exclusion removed", exclusion("&&"), exclusion(None), ["drop exclude ex_{t}"], POSTGRESQL),
    Drift(
        "exclusion changed",
        exclusion("&&"),
        exclusion("-|-"),
        ["drop exclude ex_{t}", "add exclude ex_{t}"],
        POSTGRESQL,
    ),
    # enumerated types
    Drift(
        "enum appended",
        letters("x", "y"),
        letters("x", "y", "z"),
        ["alter enum enum_{t}: ('x', 'y') -> ('x', 'y', 'z')"],
        POSTGRESQL,
    ),
    Drift(
        "enum removed",
        letters("x", "y"),
        letters("x"),
        ["alter enum enum_{t}: ('x', 'y') -> ('x',)"],
        POSTGRESQL,
    ),
    Drift(
        "enum order",
        letters("x", "y"),
        letters("y", "x"),
        ["alter enum enum_{t}: ('x', 'y') -> ('y', 'x')"],
        POSTGRESQL,
    ),
    Drift(
        "enum missing",
        PLAIN,
        letters("x"),
        ["alter enum enum_{t}: () -> ('x',)", "add column {t}.a"],
        POSTGRESQL,
    ),
    Drift(
        "enum array",
        lambda t: [key(), Column("a", pg.ARRAY(sa.Enum("x", name=f"enum_{t}")))],
        lambda t: [key(), Column("a", pg.ARRAY(sa.Enum("x", "y", name=f"enum_{t}")))],
        ["alter enum enum_{t}: ('x',) -> ('x', 'y')"],
        POSTGRESQL,
    ),
    Drift(
        "enum from text",
        column(String(9)),
        letters("x"),
        ["alter enum enum_{t}: () -> ('x',)", "alter column {t}.a type"],
        POSTGRESQL,
    ),
    Drift("enum unused", letters("x"), column(String(9)), ["alter column {t}.a type"], POSTGRESQL),
    # tables
    Drift(
        "partitioned",
        lambda _: [Column("id", Integer)],
        lambda _: [Column("id", Integer)],
        ["unsupported partitioning {t}"],
        POSTGRESQL,
        new_options={"postgresql_partition_by": "RANGE (id)"},
    ),
    Drift(
        "partitioned otherwise",
        lambda _: [Column("id", Integer)],
        lambda _: [Column("id", Integer)],
        ["unsupported partitioning {t}"],
        POSTGRESQL,
        old_options={"postgresql_partition_by": "HASH (id)"},
        new_options={"postgresql_partition_by": "RANGE (id)"},
    ),
    Drift(
        "rowid",
        PLAIN,
        PLAIN,
        ["unsupported table options {t}"],
        SQLITE,
        new_options={"sqlite_with_rowid": False},
    ),
]


def metadata_of(drifts: Sequence[Drift], side: str) -> MetaData:
    """The models of one side."""
    metadata = MetaData()
    for parent in ("parent", "other"):
        Table(parent, metadata, Column("id", Integer, primary_key=True))
    for drift in drifts:
        items: Items = getattr(drift, side)
        options = getattr(drift, f"{side}_options") or {}
        Table(drift.table, metadata, *items(drift.table), **options)
    return metadata


def drifted(engine: Engine) -> Diff:
    """Make the old side of every drift that *engine* knows, and compare with the new one."""
    drifts = [drift for drift in DRIFTS if engine.dialect.name in drift.on]
    with engine.begin() as connection:
        metadata_of(drifts, "old").create_all(connection)
        for drift in drifts:
            for statement in drift.sql:
                connection.exec_driver_sql(statement.format(t=drift.table))
    return differences(engine, metadata_of(drifts, "new"))


@pytest.fixture(scope="module")
def postgresql_diff(pg_server: PostgresServer) -> Iterator[Diff]:
    """Every drift on PostgreSQL."""
    with pg_server.database() as url:
        engine = create_engine(url)
        yield drifted(engine)
        engine.dispose()


@pytest.fixture(scope="module")
def sqlite_diff(tmp_path_factory: pytest.TempPathFactory) -> Diff:
    """Every drift on SQLite."""
    path: Path = tmp_path_factory.mktemp("drift") / "emc.db"
    engine = create_engine(f"sqlite:///{path}")
    try:
        return drifted(engine)
    finally:
        engine.dispose()


def of_table(diff: Diff, drift: Drift) -> list[str]:
    """What was found about the drift's table, in the order in which it was found."""
    names = {drift.table}
    return [
        said
        for directive in diff.directives
        for said in [words(directive)]
        if any(_concerns(directive, name) for name in names)
    ]


def _concerns(directive: Any, table: str) -> bool:
    if hasattr(directive, "element"):
        return bool(directive.element.table.name == table)
    if hasattr(directive, "type_name"):
        return bool(directive.type_name == f"enum_{table}")
    return bool(
        getattr(directive, "table_name", None) == table or getattr(directive, "source_table", None) == table
    )


@pytest.mark.parametrize(
    ("database", "drift"),
    [pytest.param(name, drift, id=f"{name}-{drift.name}") for drift in DRIFTS for name in drift.on],
)
def test_drift_is_seen(request: pytest.FixtureRequest, database: str, drift: Drift) -> None:
    """One drift leads to the operations that make up for it, and to no other."""
    diff: Diff = request.getfixturevalue(f"{database}_diff")
    assert of_table(diff, drift) == [one.format(t=drift.table) for one in drift.expected]


@pytest.mark.parametrize("database", BOTH)
def test_nothing_else_is_seen(request: pytest.FixtureRequest, database: str) -> None:
    """Every directive belongs to one of the drifts."""
    diff: Diff = request.getfixturevalue(f"{database}_diff")
    drifts = [drift for drift in DRIFTS if database in drift.on]
    assert len(diff.directives) == sum(len(drift.expected) for drift in drifts)
    assert diff.notes == ()
