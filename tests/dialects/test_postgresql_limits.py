"""What PostgreSQL is not asked to do, what it is asked to do otherwise, and what a role has to be allowed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import postgresql as pg

from emc.dialects.postgresql import PostgreSQL
from emc.dialects.postgresql.limits import rewrites
from emc.dialects.postgresql.naming import balanced, shorten, squeezed, without_schema
from emc.dialects.postgresql.rendering import default_name
from emc.dialects.postgresql.types import fit, is_free
from emc.fit import Fit
from emc.names import Element, ElementKind, TableKey
from emc.operations import AlterEnumOp, Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable
from emc.steps import Hazard, Step, Transaction
from tests.dialects.test_postgresql_recipes import constraint, holds, run
from tests.servers import make_role

POSTGRESQL = PostgreSQL()
KEY = TableKey(None, "Users")

NAME = Element(ElementKind.COLUMN, KEY, "name")


@pytest.fixture
def database(postgresql_url: str) -> Iterator[sa.Engine]:
    """A fresh database."""
    engine = sa.create_engine(postgresql_url)
    yield engine
    engine.dispose()


def send(engine: sa.Engine, *statements: str) -> None:
    """Make a state of the database."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def read(engine: sa.Engine, *, big: bool = False) -> LiveSchema:
    """The live schema; with *big* every table is said to be too big to be rewritten."""
    with POSTGRESQL.reading(engine) as connection:
        live = POSTGRESQL.read(connection, [None])
    if not big:
        return live
    tables = {key: dataclasses.replace(one, size_bytes=1 << 30) for key, one in live.tables.items()}
    return dataclasses.replace(live, tables=tables)


def operation(kind: str, directive: Any, element: Element) -> Operation:
    """An operation on the table of users."""
    return Operation(directive, kind, element, Phase.CONTRACT, "test")


def add(column: sa.Column[Any]) -> Operation:
    """A new column."""
    element = Element(ElementKind.COLUMN, KEY, column.name)
    return operation(Kind.ADD_COLUMN, ops.AddColumnOp("Users", column), element)


def step(one: Operation, live: LiveSchema) -> Step:
    """The step of one operation."""
    (step,) = POSTGRESQL.steps([one], live)
    return step


FREE = [
    (sa.String(10), sa.String(20)),
    (sa.String(10), sa.Text()),
    (sa.Text(), sa.String()),
    (sa.Numeric(10, 2), sa.Numeric(12, 2)),
    (sa.Numeric(10, 2), sa.Numeric()),
    (pg.CIDR(), pg.INET()),
    (pg.TIMESTAMP(precision=3), pg.TIMESTAMP(precision=6)),
    (pg.TIMESTAMP(precision=3, timezone=True), pg.TIMESTAMP(timezone=True)),
    (pg.BIT(3, varying=True), pg.BIT(5, varying=True)),
    (pg.INTERVAL(precision=3), pg.INTERVAL(precision=6)),
    (pg.INTERVAL(precision=3), pg.INTERVAL()),
    (sa.Text(), pg.DOMAIN("plain", sa.Text())),
    (pg.DOMAIN("plain", sa.Text()), sa.String()),
    (sa.String(10), pg.DOMAIN("short", sa.String(10))),
    (pg.DOMAIN("narrow", sa.String(10)), sa.Text()),
    (sa.Integer(), sa.Integer()),
]
COSTLY = [
    (sa.String(20), sa.String(10)),
    (sa.Text(), sa.String(10)),
    (sa.String(10), sa.CHAR(10)),
    (sa.CHAR(10), sa.Text()),
    (sa.Numeric(10, 2), sa.Numeric(12, 4)),
    (sa.Numeric(10, 2), sa.Numeric(9, 2)),
    (sa.Numeric(), sa.Numeric(9, 2)),
    (pg.INET(), pg.CIDR()),
    (pg.TIMESTAMP(precision=6), pg.TIMESTAMP(precision=3)),
    (pg.TIMESTAMP(), pg.TIMESTAMP(timezone=True)),
    (sa.Integer(), sa.BigInteger()),
    (pg.BIT(3), pg.BIT(5)),
    (pg.INTERVAL(precision=6), pg.INTERVAL(precision=3)),
    (pg.ARRAY(sa.String(10)), pg.ARRAY(sa.Text())),
    (sa.Text(), pg.DOMAIN("checked", sa.Text(), check=sa.text("VALUE <> ''"))),
    (pg.DOMAIN("narrow", sa.String(10)), sa.String(10)),
    (pg.DOMAIN("narrow", sa.String(10)), sa.String(20)),
    (sa.String(10), pg.DOMAIN("wide", sa.String(20))),
    (sa.Text(), pg.CITEXT()),
]


@pytest.mark.parametrize(("old", "new"), FREE + COSTLY)
def test_free_types_are_free_on_the_server(
    database: sa.Engine, old: sa.types.TypeEngine[Any], new: sa.types.TypeEngine[Any]
) -> None:
    """A change of type is called free only where the server keeps the table's file; all else counts as a rewrite."""
    dialect = database.dialect
    file = "SELECT pg_relation_filenode('t')"
    with database.begin() as connection:
        connection.exec_driver_sql("SET LOCAL TimeZone = 'Europe/Zurich'")
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS citext")
        for domain in (one for one in (old, new) if isinstance(one, pg.DOMAIN)):
            connection.execute(pg.CreateDomainType(domain))
        connection.exec_driver_sql(f"CREATE TABLE t (a {old.compile(dialect)})")
        before = connection.exec_driver_sql(file).scalar()
        connection.exec_driver_sql(f"ALTER TABLE t ALTER a TYPE {new.compile(dialect)}")
        kept = connection.exec_driver_sql(file).scalar() == before
    assert is_free(old, new) is ((old, new) in FREE)
    assert kept or not is_free(old, new)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (sa.Column("a", sa.Integer), False),
        (sa.Column("a", sa.Text, server_default="f()"), False),
        (sa.Column("a", sa.DateTime, server_default=sa.func.now()), False),
        (sa.Column("a", sa.Date, server_default=sa.text("CURRENT_DATE")), False),
        (sa.Column("a", pg.JSONB, server_default=sa.text("'{}'::jsonb")), False),
        (sa.Column("a", sa.Text, server_default=sa.text("CAST('x' AS VARCHAR(10))")), False),
        (sa.Column("a", sa.DateTime, server_default=sa.func.clock_timestamp()), True),
        (sa.Column("a", sa.Uuid, server_default=sa.text("gen_random_uuid()")), True),
        (sa.Column("a", sa.Integer, server_default=sa.Sequence("s").next_value()), True),
        (sa.Column("a", sa.Integer, sa.Identity()), True),
        (sa.Column("a", pg.DOMAIN("plain", sa.Integer())), False),
        (sa.Column("a", pg.DOMAIN("positive", sa.Integer(), check=sa.text("VALUE > 0"))), True),
        (sa.Column("a", sa.Integer, sa.Computed("1 + 1", persisted=True)), True),
    ],
)
def test_which_new_columns_rewrite_is_so_on_the_server(
    database: sa.Engine, column: sa.Column[Any], expected: bool
) -> None:
    """What is said about a default is what the server does to the file of the table."""
    column = column._copy()
    sa.Table("Users", sa.MetaData(), column)
    send(database, 'CREATE TABLE "Users" (id int)', "CREATE SEQUENCE s")
    file = "SELECT pg_relation_filenode('\"Users\"')"
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        before = connection.exec_driver_sql(file).scalar()
        run(database, step(add(column), read(database)))
        rewritten = connection.exec_driver_sql(file).scalar() != before
    assert rewrites(column) is rewritten is expected


def test_a_default_per_row_does_not_rewrite_a_big_table(database: sa.Engine) -> None:
    """A big table gets a nullable column first and its default then: rows to come have it, no row is written."""
    send(database, 'CREATE TABLE "Users" (id int)', 'INSERT INTO "Users" VALUES (1)')
    one = add(sa.Column("uid", sa.Uuid, server_default=sa.text("gen_random_uuid()")))
    live = read(database, big=True)
    assert POSTGRESQL.refuse(one, live) is None
    its_step = step(one, live)
    assert its_step.hazards == (Hazard.EXCLUSIVE_LOCK,)
    run(database, its_step)
    assert holds(database, its_step)
    send(database, 'INSERT INTO "Users" VALUES (2)')
    with database.connect() as connection:
        found = connection.exec_driver_sql('SELECT id, uid IS NULL FROM "Users" ORDER BY id').all()
    assert [tuple(row) for row in found] == [(1, True), (2, False)]


@pytest.mark.parametrize(
    "column",
    [
        sa.Column("a", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("a", sa.Integer, sa.Identity()),
        sa.Column("a", sa.Integer, sa.Computed("1 + 1", persisted=True)),
        sa.Column("a", pg.DOMAIN("positive", sa.Integer(), check=sa.text("VALUE > 0"))),
    ],
)
def test_columns_that_would_rewrite_a_big_table_are_refused(
    database: sa.Engine, column: sa.Column[Any]
) -> None:
    """A column that cannot do without a value of its own in every row is refused on a big table, not on a small."""
    send(database, 'CREATE TABLE "Users" (id int)')
    one = add(column._copy())
    assert POSTGRESQL.refuse(one, read(database)) is None
    refusal = POSTGRESQL.refuse(one, read(database, big=True))
    assert refusal is not None
    assert refusal.target == "Users.a"


def test_types_that_would_rewrite_a_big_table_are_refused(database: sa.Engine) -> None:
    """A costly change of type passes on a small table, and on a big one only where it is free."""
    send(database, 'CREATE TABLE "Users" (id int, name varchar(10))')
    element = Element(ElementKind.COLUMN, KEY, "id")
    costly = ops.AlterColumnOp("Users", "id", modify_type=sa.BigInteger())
    wider = ops.AlterColumnOp("Users", "name", modify_type=sa.Text())
    assert POSTGRESQL.refuse(operation(Kind.ALTER_TYPE, costly, element), read(database)) is None
    refusal = POSTGRESQL.refuse(operation(Kind.ALTER_TYPE, costly, element), read(database, big=True))
    assert refusal is not None
    assert "INTEGER" in refusal.reason
    free = operation(Kind.ALTER_TYPE, wider, NAME)
    assert POSTGRESQL.refuse(free, read(database, big=True)) is None


@pytest.mark.parametrize(
    ("built", "named"),
    [
        ("ALTER TABLE \"Users\" ADD CONSTRAINT ck CHECK (name <> 'x')", "check ck"),
        ('CREATE INDEX ix ON "Users" (lower(name))', "index ix"),
        ("CREATE INDEX ix ON \"Users\" (id) WHERE name <> 'x'", "index ix"),
        ('CREATE INDEX ix ON "Users" (name) INCLUDE (id)', None),
        ('CREATE INDEX ix ON "Users" (name) WHERE id > 0', "index ix"),
        ('CREATE INDEX ix ON "Users" (id) WHERE id > 0', None),
        ("ALTER TABLE \"Users\" ADD CONSTRAINT ck CHECK (id > 0 OR full_name <> 'name')", None),
    ],
)
def test_a_free_type_is_not_free_of_what_is_built_on_it(
    database: sa.Engine, built: str, named: str | None
) -> None:
    """PostgreSQL checks a CHECK again, and builds some indexes again, for a type that copies no row: refused if big."""
    send(database, 'CREATE TABLE "Users" (id int, name varchar(10), full_name text)', built)
    send(database, "INSERT INTO \"Users\" VALUES (1, 'a', 'b')")
    wider = ops.AlterColumnOp("Users", "name", modify_type=sa.String(20), existing_type=sa.String(10))
    one = operation(Kind.ALTER_TYPE, wider, NAME)
    refusal = POSTGRESQL.refuse(one, read(database, big=True))
    assert (refusal is None) is (named is None)
    assert refusal is None or str(named) in refusal.reason
    assert POSTGRESQL.refuse(one, read(database)) is None
    file = "SELECT pg_relation_filenode('ix')"
    its_step = step(one, read(database))
    assert (Hazard.REWRITES_TABLE in its_step.hazards) is (named is not None)
    if "INDEX" in built:
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            before = connection.exec_driver_sql(file).scalar()
            run(database, its_step)
            assert (connection.exec_driver_sql(file).scalar() != before) is (named is not None)
    else:
        run(database, its_step)
    assert holds(database, its_step)


def test_another_collation_is_another_order(database: sa.Engine) -> None:
    """A type of the same form in another collation arrives, and costs the indexes on the column."""
    send(database, 'CREATE TABLE "Users" (id int, name varchar(10) UNIQUE)')
    other = ops.AlterColumnOp("Users", "name", modify_type=sa.String(10, collation="C"))
    one = operation(Kind.ALTER_TYPE, other, NAME)
    refusal = POSTGRESQL.refuse(one, read(database, big=True))
    assert refusal is not None
    assert "unique Users_name_key" in refusal.reason
    its_step = step(one, read(database))
    assert not holds(database, its_step)
    run(database, its_step)
    assert holds(database, its_step)
    back = operation(Kind.ALTER_TYPE, ops.AlterColumnOp("Users", "name", modify_type=sa.String(10)), NAME)
    its_step = step(back, read(database))
    assert not holds(database, its_step)
    run(database, its_step)
    assert holds(database, its_step)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (pg.TIMESTAMP(precision=3), pg.TIMESTAMP(precision=6), Fit.WIDER),
        (pg.TIMESTAMP(precision=6), pg.TIMESTAMP(precision=3), Fit.DIFFERENT),
        (pg.TIMESTAMP(), pg.TIMESTAMP(timezone=True), Fit.DIFFERENT),
        (pg.INTERVAL(precision=3), pg.INTERVAL(), Fit.WIDER),
        (pg.BIT(3, varying=True), pg.BIT(5, varying=True), Fit.WIDER),
        (pg.BIT(3), pg.BIT(5), Fit.DIFFERENT),
        (pg.CIDR(), pg.INET(), Fit.WIDER),
        (pg.INET(), pg.CIDR(), Fit.DIFFERENT),
        (pg.ARRAY(sa.String(10)), pg.ARRAY(sa.Text()), Fit.WIDER),
        (pg.ARRAY(sa.String(10)), sa.Text(), Fit.DIFFERENT),
        (sa.Text(), pg.CITEXT(), Fit.DIFFERENT),
        (sa.String(10), pg.DOMAIN("d", sa.Text()), Fit.WIDER),
        (pg.DOMAIN("d", sa.Text()), sa.Text(), Fit.WIDER),
        (sa.Text(), pg.DOMAIN("d", sa.Text(), check=sa.text("VALUE <> ''")), Fit.DIFFERENT),
        (pg.JSON(), pg.JSONB(), Fit.DIFFERENT),
        (sa.Integer(), sa.BigInteger(), Fit.WIDER),
    ],
)
def test_how_types_fit(old: sa.types.TypeEngine[Any], new: sa.types.TypeEngine[Any], expected: Fit) -> None:
    """A type that holds every value of the old one is wider; where that is not known, it is another type."""
    assert fit(old, new) is expected


def test_text_does_not_become_an_enumerated_type(database: sa.Engine) -> None:
    """The old release compares the column with text, which the server then refuses; a CHECK of labels is no type."""
    send(database, 'CREATE TABLE "Users" (name varchar(10))')

    def refused(type_: sa.Enum) -> bool:
        change = ops.AlterColumnOp("Users", "name", modify_type=type_)
        return POSTGRESQL.refuse(operation(Kind.ALTER_TYPE, change, NAME), read(database)) is not None

    assert refused(sa.Enum("a", "b", name="letter"))
    assert not refused(sa.Enum("a", "b", name="letter", native_enum=False))


def test_an_unknown_size_is_a_big_one() -> None:
    """Where nobody knows how big a table is, a rewrite is refused."""
    live = LiveSchema({KEY: LiveTable(KEY, {"id": {"name": "id", "type": sa.Integer()}})})  # type: ignore[typeddict-item]
    element = Element(ElementKind.COLUMN, KEY, "id")
    costly = operation(
        Kind.ALTER_TYPE, ops.AlterColumnOp("Users", "id", modify_type=sa.BigInteger()), element
    )
    assert POSTGRESQL.refuse(costly, live) is not None


def test_labels_of_a_big_table_stay(database: sa.Engine) -> None:
    """Removing a label copies every table that uses the type: refused where one is big."""
    send(
        database,
        "CREATE TYPE mood AS ENUM ('a', 'b')",
        'CREATE TABLE "Users" (moods mood[])',
        "CREATE TABLE other (id int)",
    )
    element = Element(ElementKind.ENUM, TableKey(None, "mood"))
    one = operation(Kind.REMOVE_ENUM_VALUE, AlterEnumOp("mood", None, ("a", "b"), ("a",), ()), element)
    assert POSTGRESQL.refuse(one, read(database)) is None
    refusal = POSTGRESQL.refuse(one, read(database, big=True))
    assert refusal is not None
    assert "Users" in refusal.reason
    assert "other" not in refusal.reason


def test_new_tables_need_no_detours(database: sa.Engine) -> None:
    """Indexes and constraints of a table that the same operations create are added plainly, without a hazard."""
    send(database, "CREATE TABLE parent (id int PRIMARY KEY)")
    table = sa.Table("Users", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("user_id", sa.Integer))
    create = ops.CreateTableOp.from_table(table)
    index = ops.CreateIndexOp.from_index(sa.Index("ix", table.c.user_id))
    key = constraint(lambda: sa.ForeignKeyConstraint(["user_id"], ["Users.id"], name="fk"))()
    unique = constraint(lambda: sa.UniqueConstraint("id", name="uq"))()
    made = [
        operation(Kind.CREATE_TABLE, create, Element(ElementKind.TABLE, KEY)),
        operation(Kind.CREATE_INDEX, index, Element(ElementKind.INDEX, KEY, "ix")),
        operation(Kind.ADD_UNIQUE, unique, Element(ElementKind.UNIQUE, KEY, "uq")),
        operation(Kind.ADD_FOREIGN_KEY, key, Element(ElementKind.FOREIGN_KEY, KEY, "fk")),
    ]
    for one in POSTGRESQL.steps(made, read(database)):
        assert one.transaction is Transaction.TOGETHER
        assert one.hazards == ()
        assert not holds(database, one)
        run(database, one)
        assert holds(database, one)


def test_tables_that_go_together_let_go_of_each_other(database: sa.Engine) -> None:
    """Two tables that refer to each other can both be dropped, one step each."""
    send(
        database,
        "CREATE TABLE a (id int PRIMARY KEY, b_id int)",
        "CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a)",
        "ALTER TABLE a ADD FOREIGN KEY (b_id) REFERENCES b",
    )
    going = [
        operation(Kind.DROP_TABLE, ops.DropTableOp(name), Element(ElementKind.TABLE, TableKey(None, name)))
        for name in ("a", "b")
    ]
    for one in POSTGRESQL.steps(going, read(database)):
        run(database, one)
        assert holds(database, one)
    assert read(database).tables == {}


def test_a_leftover_of_another_definition_is_made_anew(database: sa.Engine) -> None:
    """Name-only idempotence: a NOT VALID constraint of the same name is validated only if it says the same."""
    send(
        database,
        'CREATE TABLE "Users" ("Age" int)',
        'ALTER TABLE "Users" ADD CONSTRAINT same CHECK ("Age" > 0) NOT VALID',
        'ALTER TABLE "Users" ADD CONSTRAINT other CHECK ("Age" > 1) NOT VALID',
    )
    for name, count in (("same", 1), ("other", 3)):
        directive = constraint(lambda name=name: sa.CheckConstraint('"Age" > 0', name=name))()  # type: ignore[misc]
        one = operation(Kind.ADD_CHECK, directive, Element(ElementKind.CHECK, KEY, name))
        its_step = step(one, read(database))
        assert len(its_step.statements) == count
        run(database, its_step)
        assert holds(database, its_step)
    table = read(database).tables[KEY]
    assert {check["sqltext"] for check in table.checks} == {'"Age" > 0'}


def test_a_replacement_whose_predecessor_is_gone_only_changes_its_name(database: sa.Engine) -> None:
    """A crash between drop and rename leaves the new constraint under emc's name: no row is looked at again."""
    send(database, 'CREATE TABLE "Users" ("Age" int, CONSTRAINT emc_new_ck CHECK ("Age" > 0))')
    directive = constraint(lambda: sa.CheckConstraint('"Age" > 0', name="ck"))()
    its_step = step(
        operation(Kind.ADD_CHECK, directive, Element(ElementKind.CHECK, KEY, "ck")), read(database)
    )
    assert len(its_step.statements) == 1
    run(database, its_step)
    assert holds(database, its_step)
    assert [check["name"] for check in read(database).tables[KEY].checks] == ["ck"]


def test_missing_privileges_are_found_before_anything_is_sent(
    database: sa.Engine, postgresql_url: str
) -> None:
    """A role that may only read lacks ownership, CREATE and REFERENCES; the owner lacks nothing."""
    send(
        database,
        'CREATE TABLE "Users" (id int PRIMARY KEY)',
        "CREATE TYPE mood AS ENUM ('a')",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    orders = sa.Table("orders", sa.MetaData(), sa.Column("user_id", sa.ForeignKey("Users.id")))
    sa.Table("Users", orders.metadata, sa.Column("id", sa.Integer))
    steps = POSTGRESQL.steps(
        [
            add(sa.Column("a", sa.Integer)),
            operation(
                Kind.CREATE_TABLE,
                ops.CreateTableOp.from_table(orders),
                Element(ElementKind.TABLE, TableKey(None, "orders")),
            ),
            operation(
                Kind.ADD_ENUM_VALUE,
                AlterEnumOp("mood", None, ("a",), ("a", "b"), ()),
                Element(ElementKind.ENUM, TableKey(None, "mood")),
            ),
        ],
        read(database),
    )
    reader = sa.create_engine(make_role(postgresql_url, "emc_test_reader", "reader"))
    with reader.connect() as connection:
        assert set(POSTGRESQL.missing_privileges(connection, steps)) == {
            "CREATE on schema public",
            'REFERENCES on table "Users"',
            'ownership of table "Users"',
            "ownership of type mood",
        }
        assert POSTGRESQL.missing_privileges(connection, []) == {}
    with database.connect() as connection:
        assert POSTGRESQL.missing_privileges(connection, steps) == {}
    reader.dispose()


@pytest.mark.parametrize("columns", [("a",), ("a" * 40, "b" * 40), ("é" * 30, "b")])
@pytest.mark.parametrize("name", ["t", "long_table_name_" * 3])
def test_unnamed_constraints_are_called_as_the_server_calls_them(
    database: sa.Engine, name: str, columns: tuple[str, ...]
) -> None:
    """A unique constraint or foreign key without a name gets the one that create_all would have got."""
    table = sa.Table(
        name,
        sa.MetaData(),
        *[sa.Column(column, sa.Integer) for column in columns],
        sa.UniqueConstraint(*columns),
        sa.ForeignKeyConstraint(columns, [f"{name}.{column}" for column in columns]),
    )
    table.create(database)
    expected = {one["name"] for one in sa.inspect(database).get_unique_constraints(name)}
    expected |= {one["name"] for one in sa.inspect(database).get_foreign_keys(name)}
    wanted = [one for one in table.constraints if not isinstance(one, sa.PrimaryKeyConstraint)]
    assert {default_name(one, TableKey(None, name)) for one in wanted} == expected


def test_long_names_are_cut_to_what_the_server_keeps() -> None:
    """A name is cut by bytes, always the same way, and two long names stay two."""
    assert shorten("short") == "short"
    one, other = shorten("é" * 60 + "1"), shorten("é" * 60 + "2")
    assert one != other
    assert one == shorten("é" * 60 + "1")
    assert max(len(one.encode()), len(other.encode())) <= 63


def test_text_is_taken_apart_outside_literals_only() -> None:
    """A schema, a space or a parenthesis inside a string literal or a quoted name is left alone."""
    assert without_schema("billing.f('billing.x', \"billing\".y, a.billing.z)", "billing") == (
        "f('billing.x', y, a.billing.z)"
    )
    assert without_schema('"Odd ""S""".mood', 'Odd "S"') == "mood"
    assert squeezed("CHECK (a = 'x y'  OR \"b\" > 0)") == "CHECK(a='x y'ORb>0)"
    assert balanced("((a = ')') OR (b))") == "(a = ')') OR (b)"
    assert balanced("(a) OR (b)") == "(a) OR (b)"
