"""A database just made from the models has no differences from them, whatever the models hold."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Engine, MetaData, Table, text
from sqlalchemy.dialects import mysql as my
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects import sqlite as lite
from sqlalchemy.dialects.mysql import mariadb

from tests.diff.differences import differences, found

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Colour(enum.Enum):
    """An enumeration as people write them."""

    RED = "red"
    BLUE = "blue"


class Shouting(sa.TypeDecorator[str]):
    """A type that converts in Python."""

    impl = sa.String(30)
    cache_ok = True


GENERIC: dict[str, Any] = {
    "integer": sa.Integer(),
    "small": sa.SmallInteger(),
    "big": sa.BigInteger(),
    "string": sa.String(),
    "string 50": sa.String(50),
    "text": sa.Text(),
    "unicode": sa.Unicode(20),
    "unicode text": sa.UnicodeText(),
    "boolean": sa.Boolean(),
    "boolean check": sa.Boolean(create_constraint=True, name="flag"),
    "boolean check unnamed": sa.Boolean(create_constraint=True),
    "date": sa.Date(),
    "time": sa.Time(),
    "datetime": sa.DateTime(),
    "datetime tz": sa.DateTime(timezone=True),
    "interval": sa.Interval(),
    "float": sa.Float(),
    "float 53": sa.Float(53),
    "double": sa.Double(),
    "numeric": sa.Numeric(),
    "numeric 10 2": sa.Numeric(10, 2),
    "binary": sa.LargeBinary(),
    "json": sa.JSON(),
    "uuid": sa.Uuid(),
    "uuid text": sa.Uuid(native_uuid=False),
    "pickle": sa.PickleType(),
    "enum": sa.Enum("a", "b", name="letters"),
    "enum class": sa.Enum(Colour),
    "enum text": sa.Enum("a", "b", native_enum=False),
    "enum check": sa.Enum("a", "b", native_enum=False, create_constraint=True, name="letter"),
    "enum check unnamed": sa.Enum("a", "b", native_enum=False, create_constraint=True),
    "enum long": sa.Enum("a", "b", native_enum=False, length=40),
    "decorated": Shouting(),
    "variant": sa.String(10).with_variant(pg.TEXT(), "postgresql"),
    "char": sa.CHAR(3),
    "varchar": sa.VARCHAR(3),
    "decimal": sa.DECIMAL(8, 3),
    "real": sa.REAL(),
    "timestamp": sa.TIMESTAMP(),
}

POSTGRESQL: dict[str, Any] = {
    "jsonb": pg.JSONB(),
    "json": pg.JSON(),
    "array": pg.ARRAY(sa.Integer()),
    "array of strings": sa.ARRAY(sa.String(5)),
    "array 2d": pg.ARRAY(sa.Text(), dimensions=2),
    "array of enum": pg.ARRAY(sa.Enum("a", "b", name="letters")),
    "uuid": pg.UUID(as_uuid=False),
    "bytea": pg.BYTEA(),
    "inet": pg.INET(),
    "cidr": pg.CIDR(),
    "macaddr": pg.MACADDR(),
    "macaddr8": pg.MACADDR8(),
    "money": pg.MONEY(),
    "oid": pg.OID(),
    "regclass": pg.REGCLASS(),
    "bit": pg.BIT(4),
    "varbit": pg.BIT(4, varying=True),
    "tsvector": pg.TSVECTOR(),
    "timestamp 3": pg.TIMESTAMP(precision=3),
    "timestamptz 0": pg.TIMESTAMP(timezone=True, precision=0),
    "time 3": pg.TIME(precision=3),
    "interval fields": pg.INTERVAL(fields="YEAR TO MONTH"),
    "interval precision": pg.INTERVAL(precision=2),
    "double": pg.DOUBLE_PRECISION(),
    "numeric scale 0": sa.Numeric(10),
    "int4range": pg.INT4RANGE(),
    "tstzrange": pg.TSTZRANGE(),
    "int4multirange": pg.INT4MULTIRANGE(),
    "enum": pg.ENUM("x", "y", name="xs"),
    "domain": pg.DOMAIN("positive", sa.Integer(), check=text("VALUE > 0")),
    "collated": sa.String(20, collation="C"),
    "collated text": sa.Text(collation="POSIX"),
    "null type array": pg.ARRAY(pg.UUID()),
    "bpchar": pg.CHAR(2),
}

SQLITE: dict[str, Any] = {
    "json": lite.JSON(),
    "datetime": lite.DATETIME,
    "date": lite.DATE,
    "time": lite.TIME,
    "nocase": sa.String(20, collation="NOCASE"),
}

MARIADB: dict[str, Any] = {
    "tinyint": my.TINYINT(),
    "tinyint 1": my.TINYINT(1),
    "tinyint unsigned": my.TINYINT(unsigned=True),
    "smallint unsigned": my.SMALLINT(unsigned=True),
    "mediumint": my.MEDIUMINT(),
    "integer 5": my.INTEGER(5),
    "integer unsigned": my.INTEGER(unsigned=True),
    "integer zerofill": my.INTEGER(8, zerofill=True),
    "bigint unsigned": my.BIGINT(unsigned=True),
    "decimal unsigned": my.DECIMAL(10, 2, unsigned=True),
    "numeric": my.NUMERIC(12, 4),
    "float": my.FLOAT(),
    "float unsigned": my.FLOAT(unsigned=True),
    "float 7 3": my.FLOAT(7, 3),
    "double": my.DOUBLE(asdecimal=False),
    "double 10 2": my.DOUBLE(10, 2),
    "real": my.REAL(),
    "bit": my.BIT(),
    "bit 3": my.BIT(3),
    "year": my.YEAR(),
    "time": my.TIME(),
    "time 3": my.TIME(fsp=3),
    "datetime 6": my.DATETIME(fsp=6),
    "timestamp": my.TIMESTAMP(),
    "timestamp 6": my.TIMESTAMP(fsp=6),
    "varchar collated": my.VARCHAR(20, collation="utf8mb4_bin"),
    "varchar charset": my.VARCHAR(20, charset="latin1"),
    "varchar both": my.VARCHAR(20, charset="latin1", collation="latin1_bin"),
    "varchar binary": my.VARCHAR(20, binary=True),
    "varchar ascii": my.VARCHAR(20, ascii=True),
    "varchar national": my.VARCHAR(20, national=True),
    "nvarchar": my.NVARCHAR(20),
    "nchar": my.NCHAR(5),
    "generic nvarchar": sa.NVARCHAR(7),
    "char": my.CHAR(4),
    "char one": sa.CHAR(),
    "collated text": sa.Text(collation="utf8mb4_unicode_ci"),
    "string collated": sa.String(30, collation="latin1_general_cs"),
    "text 100": sa.Text(100),
    "text 70000": sa.Text(70000),
    "tinytext": my.TINYTEXT(),
    "mediumtext": my.MEDIUMTEXT(),
    "longtext": my.LONGTEXT(),
    "longtext binary": my.LONGTEXT(collation="utf8mb4_bin"),
    "tinyblob": my.TINYBLOB(),
    "mediumblob": my.MEDIUMBLOB(),
    "longblob": my.LONGBLOB(),
    "binary": sa.BINARY(16),
    "binary one": sa.BINARY(),
    "varbinary": sa.VARBINARY(16),
    "binary 5000": sa.LargeBinary(5000),
    "json": my.JSON(),
    "enum": my.ENUM("a", "b", "it's", "100%", "x,y", "A b"),
    "enum collated": my.ENUM("a", "b", collation="utf8mb4_bin"),
    "enum empty": my.ENUM("", "a"),
    "set": my.SET("x", "y"),
    "set bitwise": my.SET("", "y", retrieve_as_bitwise=True),
    "inet4": mariadb.INET4(),
    "inet6": mariadb.INET6(),
    "uuid": sa.UUID(),
}

DEFAULTS: dict[str, tuple[Any, Any]] = {
    "now": (sa.DateTime(), sa.func.now()),
    "current timestamp": (sa.DateTime(timezone=True), text("CURRENT_TIMESTAMP")),
    "true": (sa.Boolean(), sa.true()),
    "false": (sa.Boolean(), sa.false()),
    "text number": (sa.Integer(), "0"),
    "negative": (sa.Integer(), text("-1")),
    "quoted negative": (sa.Integer(), "-1"),
    "number": (sa.Integer(), text("17")),
    "big": (sa.BigInteger(), text("1234567890123")),
    "numeric": (sa.Numeric(10, 2), text("1.50")),
    "numeric quoted": (sa.Numeric(10, 2), "0.00"),
    "float": (sa.Float(), "0.5"),
    "float exponent": (sa.Float(), text("1e3")),
    "string": (sa.String(20), "active"),
    "empty": (sa.String(20), ""),
    "empty text": (sa.Text(), text("''")),
    "quote": (sa.String(20), "it's"),
    "backslash": (sa.String(20), "a\\b"),
    "percent": (sa.String(20), "100%"),
    "colon": (sa.String(20), "a:b c"),
    "padded": (sa.CHAR(5), "ab"),
    "json": (sa.JSON(), text("'{}'")),
    "json string": (sa.JSON(), "[]"),
    "enum": (sa.Enum("a", "b", name="letters"), "a"),
    "enum text": (sa.Enum("a", "b", native_enum=False), "a"),
    "date": (sa.Date(), text("'2020-01-01'")),
    "datetime": (sa.DateTime(), text("'2020-01-01 00:00:00'")),
    "sum": (sa.Integer(), text("(1 + 1)")),
    "lower": (sa.String(20), sa.func.lower("ABC")),
    "literal": (sa.String(20), sa.literal("x")),
    "literal number": (sa.Integer(), sa.literal(5)),
    "null": (sa.String(20), text("NULL")),
    "cast": (sa.Integer(), sa.cast("5", sa.Integer)),
}

POSTGRESQL_DEFAULTS: dict[str, tuple[Any, Any]] = {
    "jsonb": (pg.JSONB(), text("'{}'")),
    "jsonb cast": (pg.JSONB(), text("'{}'::jsonb")),
    "json cast": (pg.JSON(), text("'[]'::json")),
    "array": (pg.ARRAY(sa.Text()), text("'{}'")),
    "array constructor": (pg.ARRAY(sa.Integer()), text("ARRAY[1, 2]")),
    "array cast": (pg.ARRAY(sa.Text()), text("'{}'::text[]")),
    "uuid": (sa.Uuid(), text("gen_random_uuid()")),
    "uuid function": (sa.Uuid(), sa.func.gen_random_uuid()),
    "interval": (sa.Interval(), text("'1 day'")),
    "timezone": (sa.DateTime(), text("timezone('utc', now())")),
    "at time zone": (sa.DateTime(), text("(now() at time zone 'utc')")),
    "clock": (sa.DateTime(timezone=True), text("clock_timestamp()")),
    "random": (sa.Float(), text("random()")),
    "boolean t": (sa.Boolean(), text("'t'")),
    "boolean quoted": (sa.Boolean(), "false"),
    "current user": (sa.Text(), text("CURRENT_USER")),
    "inet": (pg.INET(), "127.0.0.1"),
    "enum cast": (sa.Enum("a", "b", name="letters"), text("'a'::letters")),
    "array of enum": (pg.ARRAY(sa.Enum("a", "b", name="letters")), text("'{a}'")),
    "timestamp 3": (pg.TIMESTAMP(precision=3), text("'2020-01-01 00:00:00.123'")),
    "now type": (sa.Date(), text("now()")),
}


MARIADB_DEFAULTS: dict[str, tuple[Any, Any]] = {
    "current timestamp 6": (my.DATETIME(fsp=6), text("CURRENT_TIMESTAMP(6)")),
    "now 3": (my.DATETIME(fsp=3), sa.func.now(3)),
    "timestamp": (my.TIMESTAMP(), text("CURRENT_TIMESTAMP")),
    "timestamp now": (my.TIMESTAMP(), sa.func.current_timestamp()),
    "on update": (my.TIMESTAMP(), text("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP")),
    "on update now": (my.DATETIME(), text("now() on update now()")),
    "on update 6": (my.DATETIME(fsp=6), text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)")),
    "only on update": (my.DATETIME(fsp=6), text("'2020-01-01' ON UPDATE CURRENT_TIMESTAMP(6)")),
    "localtime": (my.DATETIME(), text("LOCALTIME")),
    "boolean text": (sa.Boolean(), "1"),
    "boolean number": (sa.Boolean(), text("0")),
    "boolean word": (sa.Boolean(), text("TRUE")),
    "tinyint quoted": (my.TINYINT(1), "0"),
    "uuid": (sa.CHAR(36), text("uuid()")),
    "uuid parentheses": (sa.CHAR(36), text("(uuid())")),
    "uuid native": (sa.UUID(), text("uuid()")),
    "uuid literal": (sa.UUID(), "123e4567-e89b-12d3-a456-426655440000"),
    "inet": (mariadb.INET6(), "::1"),
    "json object": (sa.JSON(), text("(json_object())")),
    "json array": (sa.JSON(), text("(JSON_ARRAY(1, 'a'))")),
    "text expression": (sa.Text(), text("('a')")),
    "blob": (sa.LargeBinary(), "x"),
    "bit": (my.BIT(3), text("b'101'")),
    "hexadecimal": (sa.BINARY(2), text("0x4142")),
    "enum": (my.ENUM("it's", "b"), "it's"),
    "set": (my.SET("x", "y"), "x,y"),
    "year": (my.YEAR(), text("2020")),
    "unix": (my.BIGINT(unsigned=True), text("(unix_timestamp())")),
    "concatenation": (sa.String(30), text("(concat('a', \"b\", 'it''s: 100%'))")),
    "comparison": (sa.Boolean(), text("(1 < 2 AND NOT (3 > 4))")),
    "decimal short": (sa.Numeric(10, 2), text("0")),
    "decimal quoted": (sa.Numeric(10, 4), "1.5"),
    "zero": (sa.Numeric(10, 2), "0"),
    "exponent": (sa.Double(), text("1e-7")),
    "float short": (sa.Float(), text(".5")),
    "time": (my.TIME(fsp=3), "10:00:00.5"),
    "unicode": (sa.String(30), "größer — ☃ 😀"),
    "newline": (sa.String(30), "a\nb\tc\0d"),
    "semicolon": (sa.String(30), "a;b -- c /* d */ # e"),
    "double quotes": (sa.String(30), 'a"b`c'),
    "number of text": (sa.String(30), text("5")),
    "zero date": (sa.Date(), text("'1970-01-01'")),
}


def generated_columns() -> dict[str, Column[Any]]:
    """Columns whose values somebody makes up."""
    numbers = sa.Sequence("numbers")
    return {
        "identity": Column("value", sa.Integer, sa.Identity()),
        "identity always": Column("value", sa.BigInteger, sa.Identity(always=True, start=7, increment=3)),
        "computed": Column("value", sa.Integer, sa.Computed("id * 2", persisted=True)),
        "sequence": Column("value", sa.Integer, sa.Sequence("others")),
        "sequence default": Column("value", sa.Integer, numbers),
        "comment": Column("value", sa.Integer, comment="it's a comment"),
        "onupdate": Column(
            "value", sa.DateTime, server_default=sa.func.now(), server_onupdate=sa.FetchedValue()
        ),
        "python default": Column("value", sa.Integer, default=3),
    }


def tables_of(types: Mapping[str, Any], naming: dict[str, str] | None = None) -> MetaData:
    """Models with a table for each type, each with a column that may be NULL and one that may not."""
    metadata = MetaData(naming_convention=naming)
    for name, given in types.items():
        type_, default = given if isinstance(given, tuple) else (given, None)
        Table(
            f"of {name}",
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("value", type_, server_default=default),
        )
        if getattr(type_, "create_constraint", False) and type_.name:
            continue  # the constraint's name would be there twice
        metadata.tables[f"of {name}"].append_column(
            Column("must", type_, server_default=default, nullable=False)
        )
    return metadata


def constraints(naming: dict[str, str] | None) -> MetaData:
    """Models with constraints and indexes of every form that both databases know, named and unnamed."""
    metadata = MetaData(naming_convention=naming)
    Table(
        "parent",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("code", sa.String(9), unique=True),
    )
    Table(
        "child",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("parent_id", sa.ForeignKey("parent.id", ondelete="CASCADE", onupdate="CASCADE"), index=True),
        Column("other_id", sa.Integer, sa.ForeignKey("parent.id", deferrable=True, initially="DEFERRED")),
        Column("code", sa.String(9)),
        Column("email", sa.String(50), unique=True, index=True),
        Column("qty", sa.Integer, sa.CheckConstraint("qty > 0", name="qty_positive")),
        Column("state", sa.String(9), nullable=False, server_default="new"),
        sa.ForeignKeyConstraint(["code"], ["parent.code"], name="fk_named"),
        sa.UniqueConstraint("qty", "state"),
        sa.UniqueConstraint("state", "code", name="uq_named"),
        sa.CheckConstraint("qty < 1000 OR state IN ('a', 'b')", name="few"),
        sa.CheckConstraint(sa.column("state") != "it's: 100%", name="literal"),
        sa.Index("ix_two", "state", "qty"),
        sa.Index("ix_desc", sa.text("qty DESC")),
        sa.Index("ix_lower", sa.text("lower(email)"), unique=True),
        sa.Index("ix_mixed Case", "email", "state", unique=True),
        sa.Index(
            "ix_partial",
            "qty",
            postgresql_where=sa.text("state = 'new'"),
            sqlite_where=sa.text("state = 'new'"),
        ),
    )
    Table(
        "selfish",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("boss", sa.ForeignKey("selfish.id", ondelete="SET NULL")),
        comment="one's own boss",
    )
    if naming is None:
        Table(
            "unnamed",
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("a", sa.Integer, sa.CheckConstraint("a > 0"), unique=True),
            Column("b", sa.Integer, sa.CheckConstraint("b > 0 AND b < 5")),
            sa.UniqueConstraint("a"),
            sa.UniqueConstraint("b", "a"),
            sa.CheckConstraint("a <> b"),
            sa.CheckConstraint("a + b < 100"),
        )
    return metadata


def keys() -> MetaData:
    """Models with primary keys of every form."""
    metadata = MetaData()
    Table("key none", metadata, Column("a", sa.Integer))
    Table("key text", metadata, Column("a", sa.String(20), primary_key=True))
    Table("key two", metadata, *(Column(name, sa.Integer, primary_key=True) for name in "ba"))
    Table("key plain", metadata, Column("a", sa.Integer, primary_key=True, autoincrement=False))
    Table("key big", metadata, Column("a", sa.BigInteger, primary_key=True))
    Table("key small", metadata, Column("a", sa.SmallInteger, primary_key=True))
    Table("key uuid", metadata, Column("a", sa.Uuid, primary_key=True))
    Table("key named", metadata, Column("a", sa.Integer), sa.PrimaryKeyConstraint("a", name="the_key"))
    Table("key default", metadata, Column("a", sa.Integer, primary_key=True, server_default="1"))
    Table("key foreign", metadata, Column("a", sa.ForeignKey("key big.a"), primary_key=True))
    Table(
        "Key Quoted", metadata, Column("Weird Name", sa.Integer, primary_key=True), Column("select", sa.Text)
    )
    return metadata


def generated(leave_out: Collection[str] = ()) -> MetaData:
    """Models with columns whose values the database makes up."""
    metadata = MetaData()
    for name, column in without(generated_columns(), leave_out).items():
        Table(f"of {name}", metadata, Column("id", sa.Integer, primary_key=True), column)
    return metadata


def postgresql_constraints() -> MetaData:
    """Models with what PostgreSQL alone has."""
    metadata = MetaData()
    Table("parent", metadata, *(Column(name, sa.Integer, primary_key=True) for name in "ab"))
    Table(
        "child",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("a", sa.Integer),
        Column("b", sa.Integer),
        Column("span", pg.TSTZRANGE),
        Column("words", pg.TSVECTOR),
        Column("doc", pg.JSONB),
        Column("name", sa.String(50)),
        sa.ForeignKeyConstraint(["a", "b"], ["parent.a", "parent.b"], match="FULL"),
        sa.UniqueConstraint("a", "name", deferrable=True, initially="DEFERRED"),
        sa.UniqueConstraint("b", postgresql_nulls_not_distinct=True, name="uq_b"),
        sa.UniqueConstraint("name", postgresql_include=["a"]),
        pg.ExcludeConstraint(("span", "&&"), name="no_overlap"),
        pg.ExcludeConstraint(("span", "-|-"), where=sa.text("a > 0")),
        sa.Index("ix_gin", "doc", postgresql_using="gin"),
        sa.Index("ix_path", "doc", postgresql_using="gin", postgresql_ops={"doc": "jsonb_path_ops"}),
        sa.Index("ix_like", "name", postgresql_ops={"name": "varchar_pattern_ops"}),
        sa.Index("ix_include", "a", postgresql_include=["b"]),
        sa.Index("ix_with", "a", postgresql_with={"fillfactor": 50}),
        sa.Index("ix_nulls", sa.text("a DESC NULLS LAST")),
        sa.Index("ix_column", sa.column("b").desc()),
        sa.Index("ix_same_nulls", "b", unique=True, postgresql_nulls_not_distinct=True),
        sa.Index("ix_expression", sa.text("(doc ->> 'key')"), sa.text("lower(name)")),
        sa.Index("ix_hash", "name", postgresql_using="hash"),
        sa.Index("ix_concurrently", "name", postgresql_concurrently=False),
    )
    numbers = sa.Sequence("numbers", metadata=metadata)
    Table(
        "numbered",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("number", sa.Integer, numbers, server_default=numbers.next_value()),
        Column("text", sa.Text, server_default=sa.text("nextval('numbers')")),
    )
    Table(
        "events",
        metadata,
        Column("at", sa.Date, primary_key=True),
        Column("what", sa.Text),
        postgresql_partition_by="RANGE (at)",
    )
    if not sa.__version__.startswith("2.0."):  # 2.0 knows this option for indexes only
        Table(
            "filled", metadata, Column("id", sa.Integer, primary_key=True), postgresql_with={"fillfactor": 50}
        )
    return metadata


def schemas(root: str = "users") -> MetaData:
    """Models in three schemas, with references between them, types of their own, and the same names."""
    metadata = MetaData()
    for schema in (None, "billing", "Audit Log"):
        Table(
            "users",
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("kind", sa.Enum("a", "b", name="kind", schema=schema), server_default="a"),
            Column("name", sa.String(20), sa.CheckConstraint("name <> ''"), index=True),
            Column("parent", sa.ForeignKey(f"{schema}.users.id" if schema else "users.id")),
            Column("root", sa.ForeignKey(f"{root}.id")),
            schema=schema,
        )
    return metadata


def mariadb_constraints(naming: dict[str, str] | None) -> MetaData:
    """Models with keys and constraints as MariaDB has them, named and unnamed."""
    metadata = MetaData(naming_convention=naming)
    Table(
        "parent",
        metadata,
        Column("id", my.INTEGER(unsigned=True), primary_key=True),
        Column("code", sa.String(9), unique=True),
        Column("region", sa.String(9)),
        sa.UniqueConstraint("region", "code"),
    )
    Table(
        "child",
        metadata,
        Column("id", my.BIGINT(unsigned=True), primary_key=True),
        # The server makes an index for each of these, called like the column or like the constraint.
        Column("parent_id", sa.ForeignKey("parent.id")),
        Column("other_id", my.INTEGER(unsigned=True), sa.ForeignKey("parent.id", name="fk_other")),
        Column("third_id", sa.ForeignKey("parent.id", ondelete="RESTRICT", onupdate="NO ACTION"), index=True),
        Column("fourth_id", sa.ForeignKey("parent.id", ondelete="SET NULL"), unique=True),
        Column("fifth_id", sa.ForeignKey("parent.id", onupdate="CASCADE"), unique=True, index=True),
        Column("sixth_id", sa.ForeignKey("parent.id")),
        Column("region", sa.String(9)),
        Column("code", sa.String(9)),
        Column("name", sa.String(200)),
        Column("body", sa.Text),
        Column("raw", sa.LargeBinary),
        Column("qty", sa.Integer),
        sa.ForeignKeyConstraint(["region", "code"], ["parent.region", "parent.code"]),
        sa.Index("sixth_id", "sixth_id"),
        sa.Index("ix_prefix", "body", mysql_length=10, mariadb_length=10),
        sa.Index("ix_prefixes", "name", "raw", mysql_length={"raw": 5}, mariadb_length={"raw": 5}),
        sa.Index("uq_prefix", "name", unique=True, mysql_length=20, mariadb_length=20),
        sa.Index("ix_fulltext", "body", mysql_prefix="FULLTEXT", mariadb_prefix="FULLTEXT"),
        sa.Index("ix_using", "qty", mysql_using="btree", mariadb_using="btree"),
        sa.Index("ix_desc", sa.text("qty DESC"), "code"),
        sa.Index("ix_column_desc", sa.column("qty").desc()),
        sa.Index("ix mixed Case", "name", "qty", unique=True),
        *(
            ()
            if naming
            else (
                sa.CheckConstraint("qty > 0"),
                sa.CheckConstraint("qty < 1000 OR (code IS NULL AND region IN ('a', 'it''s'))"),
            )
        ),
        sa.CheckConstraint("name <> '' AND name NOT LIKE '%x'", name="ck_named"),
        sa.CheckConstraint(sa.func.length(sa.column("name")) < 100, name="ck_function"),
    )
    Table(
        "long",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("text", sa.Text),
        sa.UniqueConstraint("text"),
    )
    Table(
        "select",
        metadata,
        Column("order", sa.Integer, primary_key=True),
        Column("group", sa.Integer, *([] if naming else [sa.CheckConstraint("`group` > 0")]), index=True),
        Column("a`b", sa.Integer, unique=True),
        Column("n" * 64, sa.Integer, index=True),
    )
    return metadata


def mariadb_options() -> MetaData:
    """Models that say how their tables are stored."""
    metadata = MetaData()
    stored: tuple[dict[str, Any], ...] = (
        {"engine": "InnoDB"},
        {"engine": "MyISAM"},
        {"engine": "Aria", "row_format": "PAGE"},
        {"charset": "latin1"},
        {"default_charset": "utf8mb4", "collate": "utf8mb4_bin"},
        {"character_set": "utf8"},
        {"row_format": "COMPRESSED", "key_block_size": "8"},
        {"comment": None},
        {"auto_increment": "1000"},
        {"partition_by": "HASH(id)", "partitions": "4"},
        {"partition_by": "KEY()", "partitions": "2"},
    )
    for number, options in enumerate(stored):
        Table(
            f"stored {number}",
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("name", sa.String(20), index=True),
            Column("letter", sa.Enum("a", "b", name="letters")),
            Column("binary", sa.String(20, collation="utf8mb4_bin")),
            comment="one's comment: 100%",
            **{f"{name}_{key}": value for key, value in options.items() for name in ("mysql", "mariadb")},
        )
    return metadata


def mariadb_generated() -> MetaData:
    """Models with columns whose values MariaDB makes up."""
    metadata = MetaData()
    numbers = sa.Sequence("numbers", metadata=metadata)
    columns: dict[str, Column[Any]] = {
        "virtual": Column("value", sa.Integer, sa.Computed("number * 2")),
        "virtual said": Column("value", sa.Integer, sa.Computed("number * 2", persisted=False)),
        "stored": Column("value", sa.String(40), sa.Computed("concat('n', number)", persisted=True)),
        "sequence default": Column("value", sa.Integer, numbers, server_default=numbers.next_value()),
        "comment": Column("value", my.ENUM("a"), comment="it's a \\ comment: 100%", nullable=False),
        "onupdate": Column(
            "value",
            my.TIMESTAMP,
            server_default=sa.text("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"),
            server_onupdate=sa.FetchedValue(),
            nullable=False,
        ),
    }
    for name, column in columns.items():
        number = Column("number", sa.Integer)
        Table(f"of {name}", metadata, Column("id", sa.Integer, primary_key=True), number, column)
    Table("counting unsigned", metadata, Column("id", my.BIGINT(unsigned=True), primary_key=True))
    Table(
        "counting second",
        metadata,
        Column("a", sa.Integer, primary_key=True, autoincrement=False),
        Column("b", sa.Integer, primary_key=True, autoincrement=True),
        sa.Index("ix_b", "b"),
        mysql_engine="MyISAM",
        mariadb_engine="MyISAM",
    )
    return metadata


def sqlite_keys() -> MetaData:
    """Models with what SQLite alone has."""
    metadata = MetaData()
    Table("counting", metadata, Column("id", sa.Integer, primary_key=True), sqlite_autoincrement=True)
    Table("rowless", metadata, Column("id", sa.Integer, primary_key=True), sqlite_with_rowid=False)
    Table("strict", metadata, Column("id", sa.Integer, primary_key=True), sqlite_strict=True)
    Table(
        "conflict",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("a", sa.Integer, unique=True, sqlite_on_conflict_unique="IGNORE"),
    )
    return metadata


UNNAMED_TYPES = ("boolean check unnamed", "enum check unnamed")
"""SQLAlchemy itself refuses these where the naming convention of checks wants a name."""

MODELS: dict[str, Callable[[], MetaData]] = {
    "types": lambda: tables_of(GENERIC),
    "types, naming convention": lambda: tables_of(
        {name: type_ for name, type_ in GENERIC.items() if name not in UNNAMED_TYPES}, NAMING
    ),
    "defaults": lambda: tables_of(DEFAULTS),
    "constraints": lambda: constraints(None),
    "constraints, naming convention": lambda: constraints(NAMING),
    "keys": keys,
    "generated": generated,
}
POSTGRESQL_MODELS: dict[str, Callable[[], MetaData]] = {
    "types": lambda: tables_of(POSTGRESQL),
    "defaults": lambda: tables_of(POSTGRESQL_DEFAULTS),
    "constraints": postgresql_constraints,
    "schemas": schemas,
}
NOT_MARIADB = {"string", "null", "computed"}
"""VARCHAR without a length, NULL as the default of what must not be NULL, an expression of what counts by itself."""

MARIADB_MODELS: dict[str, Callable[[], MetaData]] = {
    "generic types": lambda: tables_of(without(GENERIC, NOT_MARIADB)),
    "generic types, naming convention": lambda: tables_of(
        without(GENERIC, {*NOT_MARIADB, *UNNAMED_TYPES}), NAMING
    ),
    "generic defaults": lambda: tables_of(without(DEFAULTS, NOT_MARIADB)),
    "generic keys": keys,
    "generic generated": lambda: generated(NOT_MARIADB),
    "types": lambda: tables_of(MARIADB),
    "defaults": lambda: tables_of(MARIADB_DEFAULTS),
    "constraints": lambda: mariadb_constraints(None),
    "constraints, naming convention": lambda: mariadb_constraints(NAMING),
    "options": mariadb_options,
    "generated": mariadb_generated,
    # A parent without a schema is one of the child's own schema there, whatever SQLAlchemy means by it.
    "schemas": lambda: schemas(root="billing.users"),
}
SQLITE_MODELS: dict[str, Callable[[], MetaData]] = {
    "types": lambda: tables_of(SQLITE),
    "keys": sqlite_keys,
}


def without(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """*given* but for *names*."""
    return {name: value for name, value in given.items() if name not in names}


def everything(own: Mapping[str, Callable[[], MetaData]]) -> list[Any]:
    """The models for one kind of database, as parameters."""
    return [
        *(pytest.param(make, id=name) for name, make in MODELS.items()),
        *(pytest.param(make, id=f"own {name}") for name, make in own.items()),
    ]


@pytest.mark.parametrize("make", everything(POSTGRESQL_MODELS))
def test_postgresql_converges(postgresql: Engine, make: Callable[[], MetaData]) -> None:
    """PostgreSQL: whatever create_all() makes is no difference."""
    assert_converges(postgresql, make())


@pytest.mark.parametrize("make", MARIADB_MODELS.values(), ids=MARIADB_MODELS)
def test_mariadb_converges(mariadb: Engine, make: Callable[[], MetaData]) -> None:
    """MariaDB: whatever create_all() makes is no difference."""
    assert_converges(mariadb, make())


@pytest.mark.parametrize("make", everything(SQLITE_MODELS))
def test_sqlite_converges(sqlite: Engine, make: Callable[[], MetaData]) -> None:
    """SQLite: whatever create_all() makes is no difference."""
    assert_converges(sqlite, make())


def assert_converges(engine: Engine, metadata: MetaData) -> None:
    """Create *metadata*, compare, and find nothing; then find nothing but what was added to each table."""
    create(engine, metadata)
    diff = differences(engine, metadata)
    assert (found(diff), diff.notes) == ([], ())

    # A table that differs takes the long way, on which the rest of it has to be the same too.
    preparer = engine.dialect.identifier_preparer
    with engine.begin() as connection:
        for table in metadata.tables.values():
            connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN extra INTEGER")
    diff = differences(engine, metadata)
    extra = sorted(f"drop column {table.name}.extra" for table in metadata.tables.values())
    assert (sorted(found(diff)), diff.notes) == (extra, ())


def create(engine: Engine, metadata: MetaData) -> None:
    """Create *metadata* with its schemas."""
    with engine.begin() as connection:
        for schema in {table.schema for table in metadata.tables.values() if table.schema}:
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        metadata.create_all(connection)


@pytest.mark.parametrize("make", everything(POSTGRESQL_MODELS))
def test_a_read_only_role_finds_nothing_either(
    postgresql: Engine, reader: Engine, make: Callable[[], MetaData]
) -> None:
    """Without the right to create a table, text that cannot be compared is noted and never taken for a difference."""
    metadata = make()
    create(postgresql, metadata)
    diff = differences(reader, metadata)
    assert found(diff) == []
    assert {note.kind for note in diff.notes} <= {"not-compared"}


@pytest.mark.parametrize("make", MARIADB_MODELS.values(), ids=MARIADB_MODELS)
def test_a_read_only_account_finds_nothing_either(
    mariadb: Engine, mariadb_reader: Engine, make: Callable[[], MetaData]
) -> None:
    """What MariaDB is not asked for, because nothing may be created there, is noted and never a difference."""
    metadata = make()
    create(mariadb, metadata)
    with mariadb.connect() as connection:
        for schema in {table.schema for table in metadata.tables.values() if table.schema}:
            connection.exec_driver_sql(f"GRANT SELECT ON `{schema}`.* TO emc_diff_reader")
    diff = differences(mariadb_reader, metadata)
    assert found(diff) == []
    assert {note.kind for note in diff.notes} <= {"not-compared"}
