"""Each kind of operation on SQLite, from old rows to a schema like a fresh one."""

# ruff: noqa: ARG005  # Each case gives its operations from the same two arguments.

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Engine,
    Enum,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.exc import DBAPIError

from emc.operations import Kind, Operation
from emc.steps import Hazard, Transaction
from tests.dialects.sqlite_ritual import (
    SQLITE,
    add_column,
    add_constraint,
    alter,
    assert_converged,
    create_index,
    create_table,
    drop_column,
    drop_constraint,
    drop_index,
    drop_table,
    live_of,
    operation,
    replace,
    rows,
    run,
    script,
)


@pytest.fixture(params=["foreign keys off", "foreign keys on"])
def engine(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Engine]:
    """A database in a file, with foreign keys enforced by the application or not."""
    engine = create_engine(sqlite_url)
    if request.param == "foreign keys on":

        @event.listens_for(engine, "connect")
        def enforce(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA foreign_keys=ON")

    yield engine
    engine.dispose()


def users(*more: Any, without: tuple[str, ...] = (), **changed: Any) -> MetaData:
    """Models of two tables: teams and their users."""
    metadata = MetaData()
    columns: dict[str, Any] = {
        "id": Column("id", Integer, primary_key=True),
        "name": Column("name", String(50), nullable=False),
        "email": Column("email", String(100)),
        "age": Column("age", Integer, server_default=text("18")),
        "team_id": Column("team_id", Integer),
    }
    columns |= changed
    Table("teams", metadata, Column("id", Integer, primary_key=True), Column("title", String(20)))
    Table("users", metadata, *(c for n, c in columns.items() if n not in without), *more)
    return metadata


def one(metadata: MetaData, kind: Any, table: str = "users") -> Any:
    """The only constraint or index of a kind in a table."""
    found = metadata.tables[table]
    parts: list[Any] = [*found.constraints, *found.indexes]
    return next(part for part in parts if isinstance(part, kind))


@dataclass
class Case:
    """Old models, new models, and the operations between them."""

    old: MetaData
    new: MetaData
    operations: Callable[[MetaData, MetaData], list[Operation]]
    rebuilds: bool = True


def to_team(name: str | None = "fk_team", **given: Any) -> ForeignKeyConstraint:
    """A foreign key from users to teams."""
    return ForeignKeyConstraint(["team_id"], ["teams.id"], name=name, **given)


def adult(name: str | None = "ck_adult", condition: str = "age >= 18") -> CheckConstraint:
    """A CHECK of users."""
    return CheckConstraint(condition, name=name)


def by_email(name: str | None = "uq_email") -> UniqueConstraint:
    """A unique constraint of users."""
    return UniqueConstraint("email", name=name)


def status() -> Enum:
    """A type that brings a CHECK along."""
    return Enum("on", "off", name="ck_status", create_constraint=True)


CASES: dict[str, Callable[[], Case]] = {
    "add a nullable column": lambda: Case(
        users(),
        users(Column("tz", String(40))),
        lambda old, new: [add_column(new.tables["users"].c.tz)],
        rebuilds=False,
    ),
    "add a NOT NULL column with a constant default": lambda: Case(
        users(),
        users(Column("tz", String(40), nullable=False, server_default="UTC, 'or' not")),
        lambda old, new: [add_column(new.tables["users"].c.tz)],
        rebuilds=False,
    ),
    "add a column with a default that is an expression": lambda: Case(
        users(),
        users(Column("seen", DateTime, nullable=False, server_default=func.now())),
        lambda old, new: [add_column(new.tables["users"].c.seen)],
    ),
    "add an enum column with its CHECK": lambda: Case(
        users(),
        users(Column("status", status(), nullable=False, server_default="on")),
        lambda old, new: [
            add_column(new.tables["users"].c.status),
            add_constraint(Kind.ADD_CHECK, one(new, CheckConstraint)),
        ],
        rebuilds=False,
    ),
    "add a column and its unnamed foreign key": lambda: Case(
        users(without=("team_id",)),
        users(to_team(None)),
        lambda old, new: [
            add_column(new.tables["users"].c.team_id),
            add_constraint(Kind.ADD_FOREIGN_KEY, one(new, ForeignKeyConstraint)),
        ],
        rebuilds=False,
    ),
    "add a column, its named foreign key and an index": lambda: Case(
        users(without=("team_id",)),
        users(to_team(), Index("ix_team", "team_id")),
        lambda old, new: [
            add_column(new.tables["users"].c.team_id),
            create_index(one(new, Index)),
            add_constraint(Kind.ADD_FOREIGN_KEY, one(new, ForeignKeyConstraint)),
        ],
    ),
    "drop a plain column": lambda: Case(
        users(), users(without=("email",)), lambda old, new: [drop_column("users", "email")], rebuilds=False
    ),
    "drop a column with an index, a unique, a CHECK and a foreign key": lambda: Case(
        users(to_team(), Index("ix_team", "team_id"), by_email(), adult()),
        users(without=("team_id", "email", "age")),
        lambda old, new: [drop_column("users", name) for name in ("team_id", "email", "age")],
    ),
    "set NOT NULL": lambda: Case(
        users(),
        users(email=Column("email", String(100), nullable=False)),
        lambda old, new: [alter(Kind.SET_NOT_NULL, "users", "email", modify_nullable=False)],
    ),
    "drop NOT NULL": lambda: Case(
        users(),
        users(name=Column("name", String(50))),
        lambda old, new: [alter(Kind.DROP_NOT_NULL, "users", "name", modify_nullable=True)],
    ),
    "change a type": lambda: Case(
        users(),
        users(name=Column("name", Text, nullable=False)),
        lambda old, new: [alter(Kind.ALTER_TYPE, "users", "name", modify_type=Text())],
    ),
    "change a collation": lambda: Case(
        users(),
        users(name=Column("name", String(50, collation="NOCASE"), nullable=False)),
        lambda old, new: [
            alter(Kind.ALTER_TYPE, "users", "name", modify_type=String(50, collation="NOCASE"))
        ],
    ),
    "set a default": lambda: Case(
        users(),
        users(email=Column("email", String(100), server_default="nobody@example.org")),
        lambda old, new: [
            alter(Kind.SET_DEFAULT, "users", "email", modify_server_default="nobody@example.org")
        ],
    ),
    "change a default": lambda: Case(
        users(),
        users(age=Column("age", Integer, server_default=text("21"))),
        lambda old, new: [alter(Kind.SET_DEFAULT, "users", "age", modify_server_default=text("21"))],
    ),
    "drop a default": lambda: Case(
        users(),
        users(age=Column("age", Integer)),
        lambda old, new: [alter(Kind.DROP_DEFAULT, "users", "age", modify_server_default=None)],
    ),
    "create an index": lambda: Case(
        users(),
        users(Index("ix_email", "email", unique=True)),
        lambda old, new: [create_index(one(new, Index))],
        rebuilds=False,
    ),
    "create a partial index on an expression": lambda: Case(
        users(),
        users(Index("ix_lower", text("lower(email) DESC"), sqlite_where=text("age > 20"))),
        lambda old, new: [create_index(one(new, Index))],
        rebuilds=False,
    ),
    "drop an index": lambda: Case(
        users(Index("ix_email", "email")),
        users(),
        lambda old, new: [drop_index("users", "ix_email")],
        rebuilds=False,
    ),
    "replace an index": lambda: Case(
        users(Index("ix_email", "email"), Index("ix_email_emc", "email", "name")),
        users(Index("ix_email", "email", "name")),
        lambda old, new: [
            replace(
                Kind.REPLACE_INDEX,
                drop_index("users", "ix_email"),
                create_index(one(new, Index)),
                beside="ix_email_emc",
            )
        ],
        rebuilds=False,
    ),
    "add a unique constraint": lambda: Case(
        users(),
        users(by_email()),
        lambda old, new: [add_constraint(Kind.ADD_UNIQUE, one(new, UniqueConstraint))],
    ),
    "add an unnamed unique constraint": lambda: Case(
        users(),
        users(by_email(None)),
        lambda old, new: [add_constraint(Kind.ADD_UNIQUE, one(new, UniqueConstraint))],
    ),
    "drop a unique constraint": lambda: Case(
        users(by_email()),
        users(),
        lambda old, new: [drop_constraint(Kind.DROP_UNIQUE, one(old, UniqueConstraint))],
    ),
    "drop an unnamed unique constraint": lambda: Case(
        users(by_email(None)),
        users(),
        lambda old, new: [drop_constraint(Kind.DROP_UNIQUE, one(old, UniqueConstraint))],
    ),
    "add a CHECK": lambda: Case(
        users(), users(adult()), lambda old, new: [add_constraint(Kind.ADD_CHECK, one(new, CheckConstraint))]
    ),
    "drop a CHECK": lambda: Case(
        users(adult()),
        users(),
        lambda old, new: [drop_constraint(Kind.DROP_CHECK, one(old, CheckConstraint))],
    ),
    "drop an unnamed CHECK": lambda: Case(
        users(adult(None)),
        users(),
        lambda old, new: [drop_constraint(Kind.DROP_CHECK, one(old, CheckConstraint))],
    ),
    "replace a CHECK": lambda: Case(
        users(adult()),
        users(adult(condition="age >= 16")),
        lambda old, new: [
            replace(
                Kind.REPLACE_CONSTRAINT,
                drop_constraint(Kind.DROP_CHECK, one(old, CheckConstraint)),
                add_constraint(Kind.ADD_CHECK, one(new, CheckConstraint)),
            )
        ],
    ),
    "replace a CHECK that expand built beside it": lambda: Case(
        users(adult(), adult("ck_adult_emc", "age >= 16")),
        users(adult(condition="age >= 16")),
        lambda old, new: [
            replace(
                Kind.REPLACE_CONSTRAINT,
                operation(
                    Kind.DROP_CHECK, "users", "ck_adult", ops.DropConstraintOp("ck_adult", "users", "check")
                ),
                add_constraint(Kind.ADD_CHECK, one(new, CheckConstraint)),
                beside="ck_adult_emc",
            )
        ],
    ),
    "add a foreign key": lambda: Case(
        users(),
        users(to_team(ondelete="CASCADE", deferrable=True, initially="DEFERRED")),
        lambda old, new: [add_constraint(Kind.ADD_FOREIGN_KEY, one(new, ForeignKeyConstraint))],
    ),
    "drop a foreign key": lambda: Case(
        users(to_team()),
        users(),
        lambda old, new: [drop_constraint(Kind.DROP_FOREIGN_KEY, one(old, ForeignKeyConstraint))],
    ),
    "drop an unnamed foreign key": lambda: Case(
        users(to_team(None)),
        users(),
        lambda old, new: [drop_constraint(Kind.DROP_FOREIGN_KEY, one(old, ForeignKeyConstraint))],
    ),
    "replace a foreign key that loses its cascade": lambda: Case(
        users(to_team(ondelete="CASCADE")),
        users(to_team()),
        lambda old, new: [
            replace(
                Kind.REPLACE_CONSTRAINT,
                drop_constraint(Kind.DROP_FOREIGN_KEY, one(old, ForeignKeyConstraint)),
                add_constraint(Kind.ADD_FOREIGN_KEY, one(new, ForeignKeyConstraint)),
            )
        ],
    ),
    "everything at once": lambda: Case(
        users(Index("ix_age", "age"), adult()),
        users(
            Column("tz", String(40), nullable=False, server_default="UTC"),
            Index("ix_tz", "tz"),
            by_email(),
            to_team(),
            without=("age",),
            email=Column("email", Text, nullable=False, server_default="-"),
        ),
        lambda old, new: [
            add_column(new.tables["users"].c.tz),
            alter(Kind.ALTER_TYPE, "users", "email", modify_type=Text()),
            alter(Kind.SET_DEFAULT, "users", "email", modify_server_default="-"),
            create_index(one(new, Index)),
            drop_index("users", "ix_age"),
            drop_constraint(Kind.DROP_CHECK, one(old, CheckConstraint)),
            alter(Kind.SET_NOT_NULL, "users", "email", modify_nullable=False),
            add_constraint(Kind.ADD_UNIQUE, one(new, UniqueConstraint)),
            drop_column("users", "age"),
            add_constraint(Kind.ADD_FOREIGN_KEY, one(new, ForeignKeyConstraint)),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_ends_in_what_create_all_makes(engine: Engine, name: str) -> None:
    """Every operation goes from false to true in its own probe, keeps every row, and ends like a fresh schema."""
    case = CASES[name]()
    case.old.create_all(engine)
    script(engine, "INSERT INTO teams VALUES (1, 'a'), (2, 'b')")
    columns = case.old.tables["users"].c.keys()
    filled = {"id": "{}", "name": "'n{}'", "email": "'e{}@x'", "age": "20 + {}", "team_id": "{}"}
    for row in (1, 2):
        values = ", ".join(filled[column].format(row) for column in columns)
        script(engine, f"INSERT INTO users ({', '.join(columns)}) VALUES ({values})")
    kept = ", ".join(column for column in columns if column in case.new.tables["users"].c)
    before = rows(engine, f"SELECT rowid, {kept} FROM users ORDER BY id")

    steps = run(engine, *case.operations(case.old, case.new))

    assert rows(engine, f"SELECT rowid, {kept} FROM users ORDER BY id") == before
    assert_converged(engine, case.new)
    assert all((step.transaction is Transaction.REBUILD) == case.rebuilds for step in steps)
    assert all((Hazard.REWRITES_TABLE in step.hazards) or not case.rebuilds for step in steps)
    if case.rebuilds:
        assert len({step.unit for step in steps}) == 1
        assert [bool(step.statements) for step in steps] == [True] + [False] * (len(steps) - 1)


def test_a_cycle_of_new_tables_is_created_whole(engine: Engine) -> None:
    """Foreign keys that were split off because of a cycle are part of CREATE TABLE again."""
    metadata = MetaData()
    Table(
        "a",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("b_id", Integer),
        ForeignKeyConstraint(["b_id"], ["b.id"], name="fk_a_b"),
    )
    Table(
        "b",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("a_id", Integer),
        ForeignKeyConstraint(["a_id"], ["a.id"], name="fk_b_a"),
    )
    key = one(metadata, ForeignKeyConstraint, "a")
    split = ops.CreateTableOp.from_table(metadata.tables["a"])
    split.columns = [part for part in split.columns if part is not key]
    steps = run(
        engine,
        operation(Kind.CREATE_TABLE, "a", None, split),
        create_table(metadata.tables["b"]),
        add_constraint(Kind.ADD_FOREIGN_KEY, key),
    )
    assert [bool(step.statements) for step in steps] == [True, False, True]
    assert steps[0].unit == steps[1].unit != steps[2].unit
    assert_converged(engine, metadata)


def test_dropping_tables_leaves_their_former_children_alone(engine: Engine) -> None:
    """Tables that refer to each other go together; nobody else's rows go with them."""
    script(
        engine,
        "CREATE TABLE a (id INTEGER PRIMARY KEY, b_id INTEGER REFERENCES b (id) ON DELETE CASCADE)",
        "CREATE TABLE b (id INTEGER PRIMARY KEY, a_id INTEGER REFERENCES a (id) ON DELETE CASCADE)",
        "CREATE TABLE c (id INTEGER PRIMARY KEY, a_id INTEGER REFERENCES a (id) ON DELETE CASCADE)",
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
        "INSERT INTO other VALUES (1)",
        "INSERT INTO a VALUES (1, NULL)",
        "INSERT INTO b VALUES (1, 1)",
        "UPDATE a SET b_id = 1",
        "INSERT INTO c VALUES (1, 1)",
    )
    steps = run(engine, drop_table("a"), drop_table("b"), drop_table("c"))
    assert str(steps[0].operation.element) == "c"
    assert len({step.unit for step in steps}) == 2
    assert all(Hazard.LOSES_DATA in step.hazards for step in steps)
    assert [str(key) for key in live_of(engine).tables] == ["other"]
    assert rows(engine, "SELECT * FROM other") == [(1,)]


def test_a_table_that_another_one_refers_to_is_not_dropped(engine: Engine) -> None:
    """A child that stays would fail on its next write: the drop is stopped, and the child keeps its rows."""
    script(
        engine,
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "CREATE TABLE b (id INTEGER PRIMARY KEY, a_id INTEGER REFERENCES a (id) ON DELETE CASCADE)",
        "INSERT INTO a VALUES (1)",
        "INSERT INTO b VALUES (1, 1)",
    )
    with pytest.raises(DBAPIError) as caught:
        run(engine, drop_table("a"))
    assert "no other table refers to a" in str(caught.value.statement)
    assert rows(engine, "SELECT count(*) FROM b") == [(1,)]
    assert rows(engine, "SELECT count(*) FROM a") == [(1,)]


def test_a_table_is_dropped_after_the_foreign_key_to_it(engine: Engine) -> None:
    """Operations of one list run so that each finds what it needs."""
    old, new = users(to_team()), users()
    new.remove(new.tables["teams"])
    old.create_all(engine)
    script(engine, "INSERT INTO teams VALUES (1, 'a')", "INSERT INTO users VALUES (1, 'n', NULL, 1, 1)")
    run(
        engine,
        drop_table("teams"),
        drop_constraint(Kind.DROP_FOREIGN_KEY, one(old, ForeignKeyConstraint)),
    )
    assert rows(engine, "SELECT team_id FROM users") == [(1,)]
    assert_converged(engine, new)


@pytest.mark.parametrize(
    ("old", "new", "stored", "kept"),
    [
        ("VARCHAR(10)", Integer(), "'abc'", "abc"),
        ("VARCHAR(10)", Integer(), "'12'", 12),
        ("VARCHAR(10)", LargeBinary(), "'abc'", b"abc"),
        ("BLOB", Text(), "x'616263'", "abc"),
        ("INTEGER", Text(), "12", "12"),
        ("REAL", Integer(), "1.5", 1.5),
        ("VARCHAR(10)", Numeric(10, 2), "'1.25'", 1.25),
        ("TEXT", String(3), "'longer'", "longer"),
    ],
)
def test_a_type_change_loses_no_value(engine: Engine, old: str, new: Any, stored: str, kept: Any) -> None:
    """A value is converted where nothing is lost and else kept as it is: CAST('abc' AS INTEGER) would be 0."""
    script(engine, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {old})", f"INSERT INTO t VALUES (1, {stored})")
    run(engine, alter(Kind.ALTER_TYPE, "t", "v", modify_type=new))
    assert rows(engine, "SELECT v FROM t") == [(kept,)]


def test_nothing_to_do_is_nothing_done(engine: Engine) -> None:
    """No operations, no steps."""
    assert list(SQLITE.steps([], live_of(engine))) == []


def test_an_operation_that_sqlite_has_no_use_for_is_an_error(engine: Engine) -> None:
    """Comments and enumerated types never get here; were they to, nobody would miss them silently."""
    script(engine, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    stray = operation(Kind.SET_COMMENT, "t", None, ops.CreateTableCommentOp("t", "said"))
    with pytest.raises(ValueError, match="set-comment"):
        SQLITE.steps([stray], live_of(engine))
