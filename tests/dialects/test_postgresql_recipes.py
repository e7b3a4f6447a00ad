"""What PostgreSQL runs for each kind of operation: it ends in the target, proves it, and survives a crash."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import postgresql as pg

from emc.dialects.postgresql import PostgreSQL
from emc.names import Element, ElementKind, TableKey
from emc.operations import AlterEnumOp, Kind, Operation, ReplaceOp
from emc.phases import Phase
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Step, Transaction
from tests.dialects.test_postgresql_reading import facts, plain

POSTGRESQL = PostgreSQL()
USERS = TableKey(None, "Users")
ORDERS = TableKey("Shop", "orders")

_BASE = (
    'CREATE TABLE "Users" (id serial PRIMARY KEY, name varchar(20), "Age" integer DEFAULT 7, email text)',
    'CREATE SCHEMA "Shop"',
    'CREATE TABLE "Shop".orders (id serial PRIMARY KEY, user_id integer, amount numeric(10, 2) NOT NULL)',
)
_ROWS = (
    """INSERT INTO "Users" (name, "Age", email) SELECT 'name ' || n, n, 'mail ' || n FROM generate_series(1, 50) n""",
    """INSERT INTO "Shop".orders (user_id, amount) SELECT n, n FROM generate_series(1, 50) n""",
)


@dataclass(frozen=True)
class Case:
    """One operation: the statements that make the old state and the target from the base, and what it is to do."""

    name: str
    kind: str
    element: Element
    directive: Callable[[], Any]
    old: Sequence[str] = ()
    new: Sequence[str] = ()
    hazards: Sequence[Hazard] = ()
    transaction: Transaction = Transaction.TOGETHER
    locks: LockPolicy = LockPolicy.SHORT
    statements: int = 1

    def operation(self) -> Operation:
        """What the dialect is given."""
        return Operation(self.directive(), self.kind, self.element, Phase.CONTRACT, self.name)


def column(key: TableKey, name: str) -> Element:
    """A column by name."""
    return Element(ElementKind.COLUMN, key, name)


def alter(key: TableKey, name: str, **changes: Any) -> Callable[[], Any]:
    """One change of a column."""
    return lambda: ops.AlterColumnOp(key.name, name, schema=key.schema, **changes)


def table(key: TableKey, *items: Any) -> sa.Table:
    """A table of the models."""
    return sa.Table(key.name, sa.MetaData(), *items, schema=key.schema)


def users(*items: Any) -> sa.Table:
    """The table of users, with more in it."""
    return table(
        USERS,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20)),
        sa.Column("Age", sa.Integer),
        sa.Column("email", sa.Text),
        *items,
    )


def index(*arguments: Any, **options: Any) -> Callable[[], Any]:
    """An index of users, as the difference of models and database has it."""

    def directive() -> Any:
        one = sa.Index(*arguments, **options)
        users(one)
        return ops.CreateIndexOp.from_index(one)

    return directive


def constraint(one: Callable[[], sa.Constraint], key: TableKey = USERS) -> Callable[[], Any]:
    """A constraint, as the difference of models and database has it."""

    def directive() -> Any:
        wanted = one()
        columns = [
            sa.Column(name, sa.Integer) for name in ("id", "name", "Age", "email", "user_id", "amount")
        ]
        home = table(key, *columns, wanted)
        sa.Table("Users", home.metadata, sa.Column("id", sa.Integer), extend_existing=True)
        return ops.AddConstraintOp.from_constraint(wanted)

    return directive


def drop(name: str, kind: str | None, key: TableKey = USERS) -> Callable[[], Any]:
    """A constraint that goes."""
    return lambda: ops.DropConstraintOp(name, key.name, kind, schema=key.schema)


def replace(old: Callable[[], Any], new: Callable[[], Any], beside: str | None = None) -> Callable[[], Any]:
    """A new definition under the old name."""
    return lambda: ReplaceOp(old(), new(), beside)


def labels(before: Sequence[str], after: Sequence[str]) -> Callable[[], Any]:
    """Other labels for the enumerated type."""
    return lambda: AlterEnumOp("Mood", None, tuple(before), tuple(after), ())


MOOD = Element(ElementKind.ENUM, TableKey(None, "Mood"))
CONCURRENT: Mapping[str, Any] = {"transaction": Transaction.AUTOCOMMIT, "locks": LockPolicy.WEAK}
BUILDS = (Hazard.SCANS_TABLE, Hazard.LONG_RUNNING)
PROVES = (Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE)
SWAPS = (Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING)


def new_table() -> Any:
    """A table with a sequence, an enumerated type and literals that are easy to spoil."""
    metadata = sa.MetaData()
    return ops.CreateTableOp.from_table(
        sa.Table(
            "Log Entries",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("number", sa.Integer, sa.Sequence("log_seq")),
            sa.Column("mood", sa.Enum("a", "b", name="Mood"), server_default="a", comment="it's 100% :mood"),
            sa.Column("text", sa.String(10), server_default="tab\there %s"),
            sa.CheckConstraint("number > 0", name="ck_number"),
            comment="a\ttable",
        )
    )


CASES = [
    Case(
        "create table",
        Kind.CREATE_TABLE,
        Element(ElementKind.TABLE, TableKey(None, "Log Entries")),
        new_table,
        old=["CREATE TYPE \"Mood\" AS ENUM ('a', 'b')"],
        new=[
            "CREATE SEQUENCE log_seq",
            (
                'CREATE TABLE "Log Entries" (id serial PRIMARY KEY, number integer, '
                "mood \"Mood\" DEFAULT 'a', text varchar(10) DEFAULT E'tab\\there %%s',"
                " CONSTRAINT ck_number CHECK (number > 0))"
            ),
            "COMMENT ON TABLE \"Log Entries\" IS E'a\\ttable'",
            "COMMENT ON COLUMN \"Log Entries\".mood IS 'it''s 100%% :mood'",
        ],
        statements=4,
    ),
    Case(
        "drop table",
        Kind.DROP_TABLE,
        Element(ElementKind.TABLE, ORDERS),
        lambda: ops.DropTableOp("orders", schema="Shop"),
        old=['ALTER TABLE "Shop".orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES "Users"'],
        new=['DROP TABLE "Shop".orders'],
        hazards=(Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA),
        statements=2,
    ),
    Case(
        "add column",
        Kind.ADD_COLUMN,
        column(ORDERS, "Note"),
        lambda: ops.AddColumnOp(
            "orders",
            sa.Column("Note", sa.String(5), nullable=False, server_default="100%", unique=True, index=True),
            schema="Shop",
        ),
        new=['ALTER TABLE "Shop".orders ADD "Note" varchar(5) NOT NULL DEFAULT \'100%%\''],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "add column with a default per row",
        Kind.ADD_COLUMN,
        column(USERS, "uid"),
        lambda: ops.AddColumnOp(
            "Users", sa.Column("uid", sa.Uuid, server_default=sa.text("gen_random_uuid()"), comment="new")
        ),
        new=[
            'ALTER TABLE "Users" ADD uid uuid DEFAULT gen_random_uuid()',
            "COMMENT ON COLUMN \"Users\".uid IS 'new'",
        ],
        hazards=[Hazard.EXCLUSIVE_LOCK, Hazard.REWRITES_TABLE],
        statements=2,
    ),
    Case(
        "drop column",
        Kind.DROP_COLUMN,
        column(ORDERS, "user_id"),
        lambda: ops.DropColumnOp("orders", "user_id", schema="Shop"),
        old=[
            'ALTER TABLE "Shop".orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES "Users"',
            'CREATE INDEX ix ON "Shop".orders (user_id)',
        ],
        new=['ALTER TABLE "Shop".orders DROP user_id'],
        hazards=(Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA),
        statements=2,
    ),
    Case(
        "set not null",
        Kind.SET_NOT_NULL,
        column(USERS, "Age"),
        alter(USERS, "Age", modify_nullable=False, existing_type=sa.Integer()),
        new=['ALTER TABLE "Users" ALTER "Age" SET NOT NULL'],
        hazards=PROVES,
        transaction=Transaction.AUTOCOMMIT,
        statements=3,
    ),
    Case(
        "drop not null",
        Kind.DROP_NOT_NULL,
        column(ORDERS, "amount"),
        alter(ORDERS, "amount", modify_nullable=True, existing_type=sa.Numeric(10, 2)),
        new=['ALTER TABLE "Shop".orders ALTER amount DROP NOT NULL'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "widen a type",
        Kind.ALTER_TYPE,
        column(USERS, "name"),
        alter(USERS, "name", modify_type=sa.String(30), existing_type=sa.String(20)),
        new=['ALTER TABLE "Users" ALTER name TYPE varchar(30)'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "rewrite a type",
        Kind.ALTER_TYPE,
        column(USERS, "Age"),
        alter(USERS, "Age", modify_type=sa.BigInteger(), existing_type=sa.Integer()),
        new=['ALTER TABLE "Users" ALTER "Age" TYPE bigint'],
        hazards=[Hazard.EXCLUSIVE_LOCK, Hazard.REWRITES_TABLE],
    ),
    Case(
        "widen a numeric",
        Kind.ALTER_TYPE,
        column(ORDERS, "amount"),
        alter(ORDERS, "amount", modify_type=sa.Numeric(12, 2), existing_type=sa.Numeric(10, 2)),
        new=['ALTER TABLE "Shop".orders ALTER amount TYPE numeric(12, 2)'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "change a default",
        Kind.SET_DEFAULT,
        column(USERS, "Age"),
        alter(USERS, "Age", modify_server_default=sa.DefaultClause(sa.text("8")), existing_type=sa.Integer()),
        new=['ALTER TABLE "Users" ALTER "Age" SET DEFAULT 8'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "add a default",
        Kind.SET_DEFAULT,
        column(USERS, "name"),
        alter(USERS, "name", modify_server_default=sa.DefaultClause("it's 100%"), existing_type=sa.String()),
        new=["ALTER TABLE \"Users\" ALTER name SET DEFAULT 'it''s 100%%'"],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "drop a default",
        Kind.DROP_DEFAULT,
        column(USERS, "Age"),
        alter(USERS, "Age", modify_server_default=None, existing_type=sa.Integer()),
        new=['ALTER TABLE "Users" ALTER "Age" DROP DEFAULT'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "comment on a column",
        Kind.SET_COMMENT,
        column(USERS, "Age"),
        alter(USERS, "Age", modify_comment="it's\t100% :age", existing_type=sa.Integer()),
        new=["COMMENT ON COLUMN \"Users\".\"Age\" IS E'it''s\\t100%% :age'"],
    ),
    Case(
        "comment on a table",
        Kind.SET_COMMENT,
        Element(ElementKind.TABLE, ORDERS),
        lambda: ops.CreateTableCommentOp("orders", "new", schema="Shop"),
        new=["COMMENT ON TABLE \"Shop\".orders IS 'new'"],
    ),
    Case(
        "drop the comment of a table",
        Kind.SET_COMMENT,
        Element(ElementKind.TABLE, USERS),
        lambda: ops.DropTableCommentOp("Users"),
        old=["COMMENT ON TABLE \"Users\" IS 'old'"],
        new=['COMMENT ON TABLE "Users" IS NULL'],
    ),
    Case(
        "create index",
        Kind.CREATE_INDEX,
        Element(ElementKind.INDEX, USERS, "Ix Age"),
        index("Ix Age", "Age", sa.text("lower(name)"), postgresql_where=sa.text("email LIKE 'a%'")),
        new=['CREATE INDEX "Ix Age" ON "Users" ("Age", lower(name)) WHERE email LIKE \'a%%\''],
        hazards=BUILDS,
        **CONCURRENT,
    ),
    Case(
        "create unique index",
        Kind.CREATE_INDEX,
        Element(ElementKind.INDEX, USERS, "ix_email"),
        index("ix_email", "email", unique=True, postgresql_include=["name"]),
        new=['CREATE UNIQUE INDEX ix_email ON "Users" (email) INCLUDE (name)'],
        hazards=BUILDS,
        **CONCURRENT,
    ),
    Case(
        "drop index",
        Kind.DROP_INDEX,
        Element(ElementKind.INDEX, ORDERS, "Ix"),
        lambda: ops.DropIndexOp("Ix", "orders", schema="Shop"),
        old=['CREATE INDEX "Ix" ON "Shop".orders (user_id)'],
        new=['DROP INDEX "Shop"."Ix"'],
        **CONCURRENT,
    ),
    Case(
        "replace index",
        Kind.REPLACE_INDEX,
        Element(ElementKind.INDEX, USERS, "Ix"),
        replace(
            lambda: ops.DropIndexOp("Ix", "Users"),
            index("Ix", "Age", postgresql_where=sa.text('"Age" > 2')),
        ),
        old=['CREATE INDEX "Ix" ON "Users" ("Age") WHERE "Age" > 1'],
        new=['DROP INDEX "Ix"', 'CREATE INDEX "Ix" ON "Users" ("Age") WHERE "Age" > 2'],
        hazards=SWAPS,
        statements=2,
        **CONCURRENT,
    ),
    Case(
        "add unique",
        Kind.ADD_UNIQUE,
        Element(ElementKind.UNIQUE, USERS, "Uq"),
        constraint(
            lambda: sa.UniqueConstraint(
                "email", "Age", name="Uq", deferrable=True, initially="DEFERRED", postgresql_include=["name"]
            )
        ),
        new=[
            (
                'ALTER TABLE "Users" ADD CONSTRAINT "Uq" UNIQUE (email, "Age") INCLUDE (name)'
                " DEFERRABLE INITIALLY DEFERRED"
            )
        ],
        hazards=SWAPS,
        statements=2,
        **CONCURRENT,
    ),
    Case(
        "add unique without a name",
        Kind.ADD_UNIQUE,
        Element(ElementKind.UNIQUE, ORDERS, None),
        constraint(lambda: sa.UniqueConstraint("user_id", "amount"), ORDERS),
        new=['ALTER TABLE "Shop".orders ADD UNIQUE (user_id, amount)'],
        hazards=SWAPS,
        statements=2,
        **CONCURRENT,
    ),
    Case(
        "drop unique",
        Kind.DROP_UNIQUE,
        Element(ElementKind.UNIQUE, USERS, "Uq"),
        drop("Uq", "unique"),
        old=['ALTER TABLE "Users" ADD CONSTRAINT "Uq" UNIQUE (email)'],
        new=['ALTER TABLE "Users" DROP CONSTRAINT "Uq"'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "replace unique",
        Kind.REPLACE_CONSTRAINT,
        Element(ElementKind.UNIQUE, USERS, "Uq"),
        replace(drop("Uq", "unique"), constraint(lambda: sa.UniqueConstraint("email", "Age", name="Uq"))),
        old=['ALTER TABLE "Users" ADD CONSTRAINT "Uq" UNIQUE (email)'],
        new=[
            'ALTER TABLE "Users" DROP CONSTRAINT "Uq"',
            'ALTER TABLE "Users" ADD CONSTRAINT "Uq" UNIQUE (email, "Age")',
        ],
        hazards=SWAPS,
        statements=2,
        **CONCURRENT,
    ),
    Case(
        "add check",
        Kind.ADD_CHECK,
        Element(ElementKind.CHECK, USERS, "Ck"),
        constraint(lambda: sa.CheckConstraint("name <> '100%' OR \"Age\" > 0", name="Ck")),
        new=['ALTER TABLE "Users" ADD CONSTRAINT "Ck" CHECK (name <> \'100%%\' OR "Age" > 0)'],
        hazards=PROVES,
        transaction=Transaction.AUTOCOMMIT,
        statements=2,
    ),
    Case(
        "drop check",
        Kind.DROP_CHECK,
        Element(ElementKind.CHECK, ORDERS, "Ck"),
        drop("Ck", "check", ORDERS),
        old=['ALTER TABLE "Shop".orders ADD CONSTRAINT "Ck" CHECK (amount > 0)'],
        new=['ALTER TABLE "Shop".orders DROP CONSTRAINT "Ck"'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "replace check",
        Kind.REPLACE_CONSTRAINT,
        Element(ElementKind.CHECK, USERS, "Ck"),
        replace(drop("Ck", "check"), constraint(lambda: sa.CheckConstraint('"Age" >= 0', name="Ck"))),
        old=['ALTER TABLE "Users" ADD CONSTRAINT "Ck" CHECK ("Age" > 0)'],
        new=[
            'ALTER TABLE "Users" DROP CONSTRAINT "Ck"',
            'ALTER TABLE "Users" ADD CONSTRAINT "Ck" CHECK ("Age" >= 0)',
        ],
        hazards=PROVES,
        transaction=Transaction.AUTOCOMMIT,
        statements=4,
    ),
    Case(
        "add foreign key",
        Kind.ADD_FOREIGN_KEY,
        Element(ElementKind.FOREIGN_KEY, ORDERS, "Fk"),
        constraint(
            lambda: sa.ForeignKeyConstraint(
                ["user_id"],
                ["Users.id"],
                name="Fk",
                ondelete="CASCADE",
                deferrable=True,
                initially="DEFERRED",
            ),
            ORDERS,
        ),
        new=[
            (
                'ALTER TABLE "Shop".orders ADD CONSTRAINT "Fk" FOREIGN KEY (user_id) REFERENCES "Users" (id)'
                " ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"
            )
        ],
        hazards=PROVES,
        transaction=Transaction.AUTOCOMMIT,
        statements=2,
    ),
    Case(
        "add foreign key without a name",
        Kind.ADD_FOREIGN_KEY,
        Element(ElementKind.FOREIGN_KEY, ORDERS, None),
        constraint(lambda: sa.ForeignKeyConstraint(["user_id"], ["Users.id"]), ORDERS),
        new=['ALTER TABLE "Shop".orders ADD FOREIGN KEY (user_id) REFERENCES "Users" (id)'],
        hazards=PROVES,
        transaction=Transaction.AUTOCOMMIT,
        statements=2,
    ),
    Case(
        "drop foreign key",
        Kind.DROP_FOREIGN_KEY,
        Element(ElementKind.FOREIGN_KEY, ORDERS, "Fk"),
        drop("Fk", "foreignkey", ORDERS),
        old=['ALTER TABLE "Shop".orders ADD CONSTRAINT "Fk" FOREIGN KEY (user_id) REFERENCES "Users" (id)'],
        new=['ALTER TABLE "Shop".orders DROP CONSTRAINT "Fk"'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "replace foreign key",
        Kind.REPLACE_CONSTRAINT,
        Element(ElementKind.FOREIGN_KEY, ORDERS, "Fk"),
        replace(
            drop("Fk", "foreignkey", ORDERS),
            constraint(
                lambda: sa.ForeignKeyConstraint(["user_id"], ["Users.id"], name="Fk", ondelete="SET NULL"),
                ORDERS,
            ),
        ),
        old=['ALTER TABLE "Shop".orders ADD CONSTRAINT "Fk" FOREIGN KEY (user_id) REFERENCES "Users" (id)'],
        new=[
            'ALTER TABLE "Shop".orders DROP CONSTRAINT "Fk"',
            (
                'ALTER TABLE "Shop".orders ADD CONSTRAINT "Fk" FOREIGN KEY (user_id) REFERENCES "Users" (id)'
                " ON DELETE SET NULL"
            ),
        ],
        hazards=PROVES,
        transaction=Transaction.AUTOCOMMIT,
        statements=4,
    ),
    Case(
        "add exclusion",
        Kind.ADD_EXCLUSION,
        Element(ElementKind.EXCLUSION, USERS, "Ex"),
        constraint(
            lambda: pg.ExcludeConstraint(
                (sa.func.int4range(sa.column("id"), sa.column("id"), "[]"), "&&"), name="Ex", using="gist"
            )
        ),
        new=[
            'ALTER TABLE "Users" ADD CONSTRAINT "Ex" EXCLUDE USING gist (int4range(id, id, \'[]\') WITH &&)'
        ],
        hazards=(Hazard.BLOCKS_WRITES, Hazard.SCANS_TABLE),
        transaction=Transaction.AUTOCOMMIT,
    ),
    Case(
        "drop exclusion",
        Kind.DROP_EXCLUSION,
        Element(ElementKind.EXCLUSION, USERS, "Ex"),
        drop("Ex", None),
        old=[
            'ALTER TABLE "Users" ADD CONSTRAINT "Ex" EXCLUDE USING gist (int4range(id, id, \'[]\') WITH &&)'
        ],
        new=['ALTER TABLE "Users" DROP CONSTRAINT "Ex"'],
        hazards=[Hazard.EXCLUSIVE_LOCK],
    ),
    Case(
        "create enum",
        Kind.CREATE_ENUM,
        MOOD,
        labels([], ["sad", "it's 100%"]),
        new=["CREATE TYPE \"Mood\" AS ENUM ('sad', 'it''s 100%%')"],
    ),
    Case(
        "add enum values",
        Kind.ADD_ENUM_VALUE,
        MOOD,
        labels(["b", "d"], ["a", "b", "c", "d", "e:1%"]),
        old=["CREATE TYPE \"Mood\" AS ENUM ('b', 'd')"],
        new=['DROP TYPE "Mood"', "CREATE TYPE \"Mood\" AS ENUM ('a', 'b', 'c', 'd', 'e:1%%')"],
        transaction=Transaction.AUTOCOMMIT,
        statements=3,
    ),
    Case(
        "remove enum value",
        Kind.REMOVE_ENUM_VALUE,
        MOOD,
        labels(["a", "b", "c"], ["c", "a"]),
        old=[
            "CREATE TYPE \"Mood\" AS ENUM ('a', 'b', 'c')",
            'ALTER TABLE "Users" ADD mood "Mood" DEFAULT \'a\', ADD moods "Mood"[] DEFAULT \'{c}\'',
            'CREATE INDEX ix_mood ON "Users" (mood)',
        ],
        new=[
            'ALTER TABLE "Users" DROP mood, DROP moods',
            'DROP TYPE "Mood"',
            "CREATE TYPE \"Mood\" AS ENUM ('c', 'a')",
            'ALTER TABLE "Users" ADD mood "Mood" DEFAULT \'a\', ADD moods "Mood"[] DEFAULT \'{c}\'',
            'CREATE INDEX ix_mood ON "Users" (mood)',
        ],
        hazards=(Hazard.EXCLUSIVE_LOCK, Hazard.REWRITES_TABLE),
        statements=9,
    ),
    Case(
        "drop enum",
        Kind.DROP_ENUM,
        MOOD,
        labels(["a"], []),
        old=["CREATE TYPE \"Mood\" AS ENUM ('a')"],
        new=['DROP TYPE "Mood"'],
    ),
]
EVERY_KIND = {value for name, value in vars(Kind).items() if name.isupper()}
ELSEWHERE = {Kind.INSTALL_SYNC, Kind.DROP_SYNC}
"""Kinds whose recipes are tested by test_postgresql_syncs.py."""


@pytest.fixture(params=["postgresql_url", "newest_postgresql_url"], ids=["default", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A fresh database on the default server and on the newest."""
    engine = sa.create_engine(request.getfixturevalue(request.param))
    yield engine
    engine.dispose()


def send(engine: sa.Engine, *statements: str) -> None:
    """Make a state of the database."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(
                statement.replace("%%", "%"), execution_options={"no_parameters": True}
            )


def read(engine: sa.Engine) -> LiveSchema:
    """Both schemas as they are."""
    with POSTGRESQL.reading(engine) as connection:
        return POSTGRESQL.read(connection, [None, "Shop"])


def everything(engine: sa.Engine) -> Any:
    """Two equal schemas have an equal one of these."""
    live = read(engine)
    tables = {
        key: (facts(one), plain(one.foreign_keys), dict(one.definitions), one.unfinished)
        for key, one in live.tables.items()
    }
    return tables, live.enums, live.names_taken


def holds(engine: sa.Engine, step: Step) -> bool:
    """What the step's postcondition says."""
    with engine.connect() as connection:
        answer = connection.exec_driver_sql(
            step.postcondition.sql, execution_options={"no_parameters": True}
        ).scalar()
    assert answer in (True, False)
    return bool(answer)


def run(engine: sa.Engine, step: Step, count: int | None = None) -> None:
    """Run a step, or its first *count* statements, as it wants to be run."""
    statements = list(zip(step.statements, step.policies, strict=True))[:count]
    if step.transaction is Transaction.TOGETHER:
        with POSTGRESQL.open(engine, step.transaction, step.locks, 1.0) as connection:
            for statement, _ in statements:
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    else:
        for statement, policy in statements:
            with POSTGRESQL.open(engine, step.transaction, policy, 1.0) as connection:
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def step_of(engine: sa.Engine, case: Case) -> Step:
    """The step for the database as it is."""
    (step,) = POSTGRESQL.steps([case.operation()], read(engine))
    return step


def target(engine: sa.Engine, case: Case) -> Any:
    """The schema of the target, made directly."""
    send(engine, *_BASE, *case.old, *case.new)
    expected = everything(engine)
    send(engine, "DROP SCHEMA public CASCADE", 'DROP SCHEMA "Shop" CASCADE', "CREATE SCHEMA public")
    return expected


def test_every_kind_has_a_case() -> None:
    """No kind of operation goes untested."""
    assert {case.kind for case in CASES} | ELSEWHERE == EVERY_KIND


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_recipe(server: sa.Engine, case: Case) -> None:
    """Each recipe tells its hazards, proves what it did and not before, and ends in the target."""
    expected = target(server, case)
    send(server, *_BASE, *case.old, *_ROWS)
    step = step_of(server, case)
    assert (step.id, step.unit) == (case.operation().id, step.id)
    assert set(step.hazards) == set(case.hazards)
    assert (step.transaction, step.locks) == (case.transaction, case.locks)
    assert len(step.statements) == case.statements
    assert not holds(server, step)
    run(server, step)
    assert holds(server, step)
    assert everything(server) == expected


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.transaction is Transaction.AUTOCOMMIT], ids=lambda case: case.name
)
def test_crash_between_statements(server: sa.Engine, case: Case) -> None:
    """After a crash between any two statements, rendering again gives what is left, which ends in the target."""
    expected = target(server, case)
    for survived in range(case.statements):
        send(server, *_BASE, *case.old, *_ROWS)
        step = step_of(server, case)
        run(server, step, survived)
        assert not holds(server, step)
        again = step_of(server, case)
        assert not holds(server, again)
        run(server, again)
        assert holds(server, again)
        assert everything(server) == expected
        send(server, "DROP SCHEMA public CASCADE", 'DROP SCHEMA "Shop" CASCADE', "CREATE SCHEMA public")
