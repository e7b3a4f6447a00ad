"""Each kind of drift that MariaDB can have is seen, alone; Alembic sees the smaller part of them.

Every drift has a table of its own in one database; one comparison for each way to connect serves all tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Engine, Integer, String, create_engine
from sqlalchemy.dialects import mysql as my
from sqlalchemy.dialects.mysql import mariadb

from emc.diff import Diff
from tests.diff.differences import differences
from tests.diff.test_drift import (
    DRIFTS,
    PLAIN,
    A,
    Drift,
    check,
    column,
    columns,
    foreign_key,
    key,
    metadata_of,
    of_table,
    unique,
    with_constraint,
    with_index,
)
from tests.mariadb_server import MariaDBServer, make_account, spelled

SPELLINGS = ("mariadb+pymysql", "mysql+pymysql", "mariadb+mysqldb")

SHARED = {
    "column added",
    "column removed",
    "column renamed",
    "columns swapped",
    "not null",
    "nullable",
    "type",
    "type wider",
    "length",
    "varchar to text",
    "precision",
    "precision dropped",
    "scale",
    "default added",
    "default dropped",
    "default changed",
    "default text",
    "default case",
    "default emptied",
    "default function",
    "default json",
    "comment",
    "comment dropped",
    "table comment",
    "table comment dropped",
    "primary key wider",
    "primary key missing",
    "index added",
    "index removed",
    "index columns",
    "index order",
    "index unique",
    "index desc",
    "unique added",
    "unique removed",
    "unique columns",
    "unique order",
    "check added",
    "check removed",
    "check changed",
    "foreign key added",
    "foreign key removed",
    "foreign key target",
    "foreign key action",
}
"""Drifts of every database, as they are."""

REDEFINED = ("drop index ix_{t}", "create index ix_{t}")
TYPE = ["alter column {t}.a type"]
DEFAULT = ["alter column {t}.a default"]


def both(**options: Any) -> dict[str, Any]:
    """Options of SQLAlchemy's two dialects."""
    return {f"{name}_{option}": value for option, value in options.items() for name in ("mysql", "mariadb")}


def columns_with_key(*names: str) -> Callable[[str], Sequence[Any]]:
    """Columns `a` and `b`, and a primary key of *names*."""
    return lambda _: [
        *(Column(one, Integer, autoincrement=False) for one in "ab"),
        sa.PrimaryKeyConstraint(*names),
    ]


def text_index(**options: Any) -> Callable[[str], Sequence[Any]]:
    """A key, a text column `a`, and an index on it."""
    return lambda t: [key(), Column("a", sa.Text), sa.Index(f"ix_{t}", "a", **both(**options))]


def on_parent(*more: Callable[[str], Any], name: str | None = "fk_{t}") -> Callable[[str], Sequence[Any]]:
    """A column `a` with a foreign key, for which the server makes an index."""
    return lambda t: [key(), Column("a", Integer), foreign_key(name)(t), *(one(t) for one in more)]


def ix_a(t: str) -> sa.Index:
    """An index of column `a`."""
    return sa.Index(f"ix_{t}", "a")


OWN = [
    # types
    Drift("unsigned", A, column(my.INTEGER(unsigned=True)), TYPE),
    Drift("signed", column(my.BIGINT(unsigned=True)), column(my.BIGINT()), TYPE),
    Drift("zerofill", A, column(my.INTEGER(8, zerofill=True)), TYPE),
    Drift("tinyint", column(my.TINYINT()), column(my.SMALLINT()), TYPE),
    Drift("boolean to integer", column(sa.Boolean), A, TYPE),
    Drift("float to double", column(my.FLOAT()), column(my.DOUBLE()), TYPE),
    Drift("float digits", column(my.FLOAT()), column(my.FLOAT(7, 3)), TYPE),
    Drift("decimal unsigned", column(sa.Numeric(8, 2)), column(my.NUMERIC(8, 2, unsigned=True)), TYPE),
    Drift("fraction of seconds", column(my.DATETIME()), column(my.DATETIME(fsp=6)), TYPE),
    Drift("fraction of timestamp", column(my.TIMESTAMP(fsp=6)), column(my.TIMESTAMP()), TYPE),
    Drift("fraction of time", column(my.TIME()), column(my.TIME(fsp=3)), TYPE),
    Drift("datetime to timestamp", column(my.DATETIME()), column(my.TIMESTAMP()), TYPE),
    Drift("text sizes", column(sa.Text), column(my.LONGTEXT()), TYPE),
    Drift("blob sizes", column(sa.LargeBinary), column(my.MEDIUMBLOB()), TYPE),
    Drift("text to json", column(sa.Text), column(sa.JSON), TYPE),
    Drift("json to text", column(sa.JSON), column(sa.Text), TYPE),
    Drift("json to longtext", column(sa.JSON), column(my.LONGTEXT()), TYPE),
    Drift("char to varchar", column(sa.CHAR(3)), column(String(3)), TYPE),
    Drift("binary to varbinary", column(sa.BINARY(3)), column(sa.VARBINARY(3)), TYPE),
    Drift("bits", column(my.BIT(3)), column(my.BIT(4)), TYPE),
    Drift("uuid", column(sa.CHAR(36)), column(sa.UUID()), TYPE),
    Drift("enum appended", column(my.ENUM("x", "y")), column(my.ENUM("x", "y", "z")), TYPE),
    Drift("enum removed", column(sa.Enum("x", "y")), column(sa.Enum("x")), TYPE),
    Drift("enum order", column(sa.Enum("x", "y")), column(sa.Enum("y", "x")), TYPE),
    Drift("enum case", column(sa.Enum("x", "y")), column(sa.Enum("x", "Y")), TYPE),
    Drift("enum to text", column(sa.Enum("x", "y")), column(String(9)), TYPE),
    Drift("set appended", column(my.SET("x", "y")), column(my.SET("x", "y", "z")), TYPE),
    Drift("set order", column(my.SET("x", "y")), column(my.SET("y", "x")), TYPE),
    Drift("collation", column(String(9)), column(String(9, collation="utf8mb4_bin")), TYPE),
    Drift("collation of text", column(sa.Text), column(sa.Text(collation="utf8mb4_bin")), TYPE),
    Drift("character set", column(String(9)), column(my.VARCHAR(9, charset="latin1")), TYPE),
    Drift("collation of enum", column(my.ENUM("x")), column(my.ENUM("x", collation="utf8mb4_bin")), TYPE),
    # What the models leave unsaid is for the operator to choose.
    Drift("collation left unsaid", column(String(9, collation="utf8mb4_bin")), column(String(9)), []),
    Drift("character set left unsaid", column(my.VARCHAR(9, charset="latin1")), column(String(9)), []),
    Drift("character set without collation", column(my.VARCHAR(9, charset="latin1", collation="latin1_bin")),
          column(my.VARCHAR(9, charset="latin1")), []),
    Drift("collation and length", column(String(9, collation="utf8mb4_bin")), column(String(19)), TYPE),
    Drift("display width", column(my.INTEGER(5)), A, []),
    Drift("boolean made by hand", column(my.TINYINT()), column(sa.Boolean), []),
    Drift("json without its check", column(my.LONGTEXT()), column(sa.JSON), []),
    Drift("invisible", A, A, [], sql=["ALTER TABLE {t} MODIFY a INT INVISIBLE"]),
    # defaults
    Drift("default expression", column(sa.CHAR(36), server_default=sa.text("(uuid())")),
          column(sa.CHAR(36), server_default=sa.text("(upper(uuid()))")), DEFAULT),
    Drift("default on update", column(my.DATETIME, server_default=sa.func.now()),
          column(my.DATETIME, server_default=sa.text("now() ON UPDATE now()")), DEFAULT),
    Drift("default on update dropped", column(my.DATETIME, server_default=sa.text("now() ON UPDATE now()")),
          column(my.DATETIME, server_default=sa.func.now()), DEFAULT),
    Drift("on update alone", column(my.DATETIME), column(my.DATETIME), DEFAULT,
          sql=["ALTER TABLE {t} MODIFY a DATETIME ON UPDATE CURRENT_TIMESTAMP"]),
    Drift("default boolean", column(sa.Boolean, server_default=sa.true()),
          column(sa.Boolean, server_default=sa.false()), DEFAULT),
    Drift("default of enum", column(sa.Enum("x", "y"), server_default="x"),
          column(sa.Enum("x", "y"), server_default="y"), DEFAULT),
    Drift("default of decimal", column(sa.Numeric(8, 2), server_default="1"),
          column(sa.Numeric(8, 2), server_default="1.5"), DEFAULT),
    Drift("default precision", column(my.DATETIME(fsp=6), server_default=sa.text("now(6)")),
          column(my.DATETIME(fsp=6), server_default=sa.text("now(3)")), DEFAULT),
    # keys that count by themselves
    Drift("auto increment missing", lambda _: [Column("id", Integer, primary_key=True, autoincrement=False)],
          PLAIN, ["unsupported identity {t}.id"]),
    Drift("auto increment dropped", PLAIN,
          lambda _: [Column("id", Integer, primary_key=True, autoincrement=False)],
          ["unsupported identity {t}.id"]),
    # generated columns
    Drift("computed added", columns(lambda: Column("b", Integer), lambda: Column("a", Integer)),
          columns(lambda: Column("b", Integer), lambda: Column("a", Integer, sa.Computed("b + 1"))),
          ["unsupported computed {t}.a"]),
    Drift("computed changed",
          columns(lambda: Column("b", Integer), lambda: Column("a", Integer, sa.Computed("b + 1"))),
          columns(lambda: Column("b", Integer), lambda: Column("a", Integer, sa.Computed("b + 2"))),
          ["unsupported computed {t}.a"]),
    Drift("computed stored",
          columns(lambda: Column("b", Integer), lambda: Column("a", Integer, sa.Computed("b + 1"))),
          columns(lambda: Column("b", Integer), lambda: Column("a", Integer, sa.Computed("b + 1", persisted=True))),
          ["unsupported computed {t}.a"]),
    # primary key
    Drift("primary key order",
          columns_with_key("a", "b"), columns_with_key("b", "a"),
          ["unsupported primary key {t}"]),
    # indexes
    Drift("index prefix", text_index(length=10), text_index(length=20), REDEFINED),
    Drift("index prefix added", with_index("a"), with_index("a", **both(length=20)), REDEFINED),
    Drift("index prefix dropped", with_index("a", **both(length={"a": 20})), with_index("a"), REDEFINED),
    Drift("index fulltext", text_index(length=10), text_index(prefix="FULLTEXT"), REDEFINED),
    Drift("index ascending", with_index("a DESC"), with_index("a"), REDEFINED),
    Drift("index desc of two", with_index("a", "b DESC"), with_index("a", "b"), REDEFINED),
    Drift("index to unique constraint", with_index("b", unique=True),
          lambda t: [key(), Column("a", String(50)), Column("b", Integer), sa.UniqueConstraint("b", name=f"ix_{t}")],
          []),
    Drift("index no longer unique", with_index("b", unique=True), with_index("b"), REDEFINED),
    Drift("index made by hand", A, A, ["drop index more"], sql=["CREATE INDEX more ON {t} (a)"]),
    Drift("index called like its column", A, A, ["drop index a"], sql=["CREATE INDEX a ON {t} (a)"]),
    Drift("index called like its column redefined",
          lambda _: [key(), Column("a", Integer), Column("b", Integer), sa.Index("a", "a")],
          lambda _: [key(), Column("a", Integer), Column("b", Integer), sa.Index("a", "a", "b")],
          ["drop index a", "create index a"]),
    Drift("unique index made by hand", A, A, ["drop unique more"], sql=["CREATE UNIQUE INDEX more ON {t} (a)"]),
    Drift("unique prefix made by hand", column(String(50)), column(String(50)), ["drop index more"],
          sql=["CREATE UNIQUE INDEX more ON {t} (a(5))"]),
    # unique constraints
    Drift("unique unnamed added", with_constraint(None), with_constraint(unique("a")), ["add unique a"]),
    Drift("unique unnamed removed", with_constraint(unique("a")), with_constraint(None), ["drop unique a"]),
    Drift("unique to index", with_constraint(unique("a", name="uq_{t}")),
          with_constraint(lambda t: sa.Index(f"uq_{t}", "a", unique=True)), []),
    Drift("unique beside an index of its name", with_constraint(None), with_constraint(unique("a")),
          ["add unique a_2", "drop index a"], sql=["CREATE INDEX a ON {t} (b)"]),
    # foreign keys, and the indexes that the server makes for them
    Drift("implied index", on_parent(), on_parent(), []),
    Drift("implied index of no name", on_parent(name=None), on_parent(name=None), []),
    Drift("implied index becomes explicit", on_parent(), on_parent(ix_a), ["create index ix_{t}"]),
    Drift("explicit index goes", on_parent(ix_a), on_parent(), ["drop index ix_{t}"]),
    Drift("implied index stays", on_parent(), A, ["drop index fk_{t}"],
          sql=["ALTER TABLE {t} DROP FOREIGN KEY fk_{t}"]),
    Drift("foreign key restricts", with_constraint(foreign_key()),
          with_constraint(foreign_key(ondelete="RESTRICT", onupdate="NO ACTION")), []),
    Drift("foreign key on update", with_constraint(foreign_key(onupdate="CASCADE")),
          with_constraint(foreign_key()), ["drop foreignkey fk_{t}", "add foreignkey fk_{t}"]),
    Drift("foreign key action unnamed", with_constraint(foreign_key(None)),
          with_constraint(foreign_key(None, ondelete="CASCADE")),
          ["drop foreignkey {t}_ibfk_1", "add foreignkey {t}_ibfk_1"]),
    # checks
    Drift("check of column", A, column(Integer, sa.CheckConstraint("a > 0")), ["add check a"]),
    Drift("check of column dropped", column(Integer, sa.CheckConstraint("a > 0")), A, ["drop check a"]),
    Drift("check of column changed", column(Integer, sa.CheckConstraint("a > 0")),
          column(Integer, sa.CheckConstraint("a > 1")), ["drop check a", "add check a"]),
    Drift("check of column at the table", column(Integer, sa.CheckConstraint("a > 0")),
          lambda _: [key(), Column("a", Integer), sa.CheckConstraint("a > 0", name="a")], []),
    Drift("check parentheses", with_constraint(check("a > 0 OR (b > 0 AND a < 9)")),
          with_constraint(check("(a > 0 OR b > 0) AND a < 9")), ["drop check ck_{t}", "add check ck_{t}"]),
    Drift("check unnamed added", with_constraint(None), with_constraint(check("a > 0", None)),
          ["add check CONSTRAINT_1"]),
    Drift("check unnamed put before another",
          lambda t: [*with_constraint(None)(t), sa.CheckConstraint("a > 0")],
          lambda t: [*with_constraint(None)(t), sa.CheckConstraint("b > 0"), sa.CheckConstraint("a > 0")],
          ["add check CONSTRAINT_2"]),
    Drift("check unnamed of another number",
          lambda t: [*with_constraint(None)(t), sa.CheckConstraint("b > 0"), sa.CheckConstraint("a > 0")],
          lambda t: [*with_constraint(None)(t), sa.CheckConstraint("a > 0")],
          ["drop check CONSTRAINT_1"]),
    Drift("check unnamed in the place of another",
          lambda t: [*with_constraint(None)(t), sa.CheckConstraint("b > 0")],
          lambda t: [*with_constraint(None)(t), sa.CheckConstraint("a > 0")],
          ["drop check CONSTRAINT_1", "add check CONSTRAINT_2"]),
    Drift("check of json", column(sa.JSON), column(sa.JSON, sa.CheckConstraint("a <> '[]'")),
          ["alter column {t}.a type", "add check a"]),
    # how tables are stored
    Drift("engine", PLAIN, PLAIN, ["unsupported table options {t}"], old_options=both(engine="MyISAM"),
          new_options=both(engine="InnoDB")),
    Drift("engine left unsaid", PLAIN, PLAIN, [], old_options=both(engine="MyISAM")),
    Drift("table character set", column(String(9)), column(String(9)),
          ["unsupported table options {t}"], old_options=both(charset="latin1"),
          new_options=both(charset="utf8mb4")),
    Drift("table collation left unsaid", column(String(9)), column(String(9)), [],
          old_options=both(collate="utf8mb4_bin"), new_options=both(charset="utf8mb4")),
    Drift("partitioned", PLAIN, PLAIN, ["unsupported partitioning {t}"],
          new_options=both(partition_by="HASH(id)", partitions="2")),
    Drift("partitioned otherwise", PLAIN, PLAIN, ["unsupported partitioning {t}"],
          old_options=both(partition_by="KEY(id)"), new_options=both(partition_by="HASH(id)")),
    Drift("partitioned by the operator", PLAIN, PLAIN, [],
          sql=["ALTER TABLE {t} PARTITION BY HASH(id) PARTITIONS 2"]),
]  # fmt: skip

if not sa.__version__.startswith("2.0."):  # 2.0 knows these types for mariadb:// URLs only
    OWN.append(Drift("inet", column(String(20)), column(mariadb.INET6()), TYPE))

MARIADB_DRIFTS = [*(drift for drift in DRIFTS if drift.name in SHARED), *OWN]


def make(engine: Engine) -> None:
    """Make the old side of every drift."""
    with engine.begin() as connection:
        metadata_of(MARIADB_DRIFTS, "old").create_all(connection)
        for drift in MARIADB_DRIFTS:
            for statement in drift.sql:
                connection.exec_driver_sql(statement.format(t=drift.table))


@pytest.fixture(scope="module", params=SPELLINGS)
def diff(request: pytest.FixtureRequest, mariadb_server: MariaDBServer) -> Iterator[Diff]:
    """Every drift on MariaDB, as found by each way to connect."""
    with mariadb_server.database() as url:
        engine = create_engine(spelled(url, request.param))
        make(engine)
        yield differences(engine, metadata_of(MARIADB_DRIFTS, "new"))
        engine.dispose()


@pytest.fixture(scope="module")
def owners_diff(mariadb_server: MariaDBServer) -> Iterator[Diff]:
    """Every drift, as found by an account that owns the database and may create no other."""
    with mariadb_server.database() as url:
        engine = create_engine(url)
        make(engine)
        owner = create_engine(make_account(url, "emc_drift_owner", "owner"))
        yield differences(owner, metadata_of(MARIADB_DRIFTS, "new"))
        owner.dispose()
        engine.dispose()


@pytest.mark.parametrize("drift", MARIADB_DRIFTS, ids=lambda drift: drift.name)
def test_an_owner_sees_no_other_drift(owners_diff: Diff, drift: Drift) -> None:
    """Where the server does not spell the models, less may be seen, and nothing that is not there."""
    assert set(map(verb, of_table(owners_diff, drift))) <= set(map(verb, drift.expected))


def verb(words: str) -> str:
    """What is done to what kind of element: ``drop index``."""
    return " ".join(words.split()[:2])


@pytest.mark.parametrize("drift", MARIADB_DRIFTS, ids=lambda drift: drift.name)
def test_drift_is_seen(diff: Diff, drift: Drift) -> None:
    """One drift leads to the operations that make up for it, and to no other."""
    assert of_table(diff, drift) == [one.format(t=drift.table) for one in drift.expected]


def test_nothing_else_is_seen(diff: Diff) -> None:
    """Every directive belongs to one of the drifts."""
    assert len(diff.directives) == sum(len(drift.expected) for drift in MARIADB_DRIFTS)
    assert diff.notes == ()


def test_shared_drifts_are_known() -> None:
    """The list of shared drifts names only drifts that there are."""
    assert {drift.name for drift in DRIFTS} >= SHARED
    assert len({drift.table for drift in MARIADB_DRIFTS}) == len(MARIADB_DRIFTS)
