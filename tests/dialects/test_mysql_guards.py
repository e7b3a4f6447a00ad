"""What keeps rows away on MariaDB while a proof has to stay true?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Engine,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    bindparam,
    case,
    cast,
    create_engine,
    exists,
    func,
    insert,
    literal_column,
    make_url,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.exc import DBAPIError

from emc.claims import Claim, Guarding
from emc.dialects.mysql import MariaDB
from emc.dialects.mysql.conditions import row_condition, text_literal
from emc.dialects.mysql.flavour import MARIADB
from emc.dialects.mysql.live import ColumnText, MySQLSchema, MySQLTable
from emc.names import GUARD_PREFIX, Element, ElementKind, TableKey
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable
from emc.steps import Probe, Step, Transaction

Condition = Callable[[Any], Any]
"""Makes a condition on a table."""

KEY = TableKey(None, "held")
DIALECT = MariaDB()
SIGNALLED = 1644
"""The server's number for an error that SIGNAL raised."""
AWKWARD = "we`ird %s :x 'q' ü"
"""A name of a column that whatever puts names into SQL may stumble over."""


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a fresh database."""
    engine = create_engine(mariadb_url)
    yield engine
    engine.dispose()


def claim(where: ColumnElement[bool], table: Table, **more: Any) -> Claim:
    """That no row of *table* satisfies *where*."""
    return Claim(
        "data-elsewhere:held.old", KEY, table, where, "rows", "held.old is being dropped", ("id",), **more
    )


def guarding(where: ColumnElement[bool], table: Table, live: LiveSchema, **more: Any) -> Guarding:
    """How the claim is guarded until column ``old`` is dropped."""
    element = Element(ElementKind.COLUMN, KEY, "old")
    directive = ops.DropColumnOp("held", "old")
    drop = Operation(directive, Kind.DROP_COLUMN, element, Phase.CONTRACT, "drop column held.old")
    gone = Probe(
        "SELECT COUNT(*) = 0 FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'held' AND COLUMN_NAME = 'old'",
        "column held.old is gone",
    )
    step = Step(drop, ("ALTER TABLE held DROP COLUMN old, ALGORITHM=INSTANT",), gone, Transaction.AUTOCOMMIT)
    return DIALECT.guarding([step], [claim(where, table, **more)], live)


def moment(*parts: int) -> dt.datetime:
    """A moment without a time zone, as these servers keep it."""
    return dt.datetime(*parts, tzinfo=dt.UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


def read(engine: Engine) -> LiveSchema:
    """The live schema."""
    with DIALECT.reading(engine) as connection:
        return DIALECT.read(connection, [None])


def send(engine: Engine, statements: Sequence[str]) -> None:
    """Send *statements* in one session as the executor does."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def refusal(engine: Engine, statement: Any) -> str | None:
    """What a trigger says to *statement*; ``None`` when it is done."""
    refused: list[Any] = []
    try:
        with engine.begin() as connection:
            connection.execute(statement)
    except DBAPIError as error:
        refused += getattr(error.orig, "args", ())
    assert not refused or refused[0] == SIGNALLED
    return str(refused[1]) if refused else None


# -- conditions ------------------------------------------------------------------------------------------------------


def models(name: str) -> Table:
    """A table with a bit of everything."""
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("a", Integer),
        Column("s", String(40)),
        Column(AWKWARD, String(40)),
        Column("flag", Boolean),
        Column("kind", Enum("a", "it's", "b\\c")),
        Column("price", Numeric(8, 2)),
        Column("at", DateTime),
        Column("raw", LargeBinary(40)),
        Column("doc", JSON),
        Column("old", Integer),
    )


STRINGS = [None, "", "x", "X", "it's", "b\\c", "100%", "1\\0", 'say "no"', "ü", "🎉", "a_c", "%s", ":x", "x "]


def is_text(value: str) -> Condition:
    """That column s is *value*."""
    return lambda t: t.c.s == value


CONDITIONS: dict[str, tuple[Condition, str, Sequence[Any]]] = {
    "null": (lambda t: t.c.a.is_(None), "a", [None, 0, 1]),
    "not null": (lambda t: t.c.a.is_distinct_from(None), "a", [None, 0, 1]),
    "comparison": (lambda t: t.c.a > 3, "a", [None, 3, 4]),
    "undecided counts": (lambda t: or_(t.c.a > 3, (t.c.a > 3).is_(None)), "a", [None, 3, 4]),
    "remainder": (lambda t: t.c.a % 10 == 3, "a", [None, 3, 4, 13]),
    "list": (lambda t: t.c.a.in_([1, 2]), "a", [None, 1, 3]),
    "empty list": (lambda t: t.c.a.in_([]), "a", [None, 1]),
    "list of text": (lambda t: t.c.s.in_(["it's", "b\\c", "%s"]), "s", STRINGS),
    **{f"text {one!r}": (is_text(one), "s", STRINGS) for one in STRINGS if one is not None},
    "name": (lambda t: t.c[AWKWARD] == "it's", AWKWARD, STRINGS),
    "like": (lambda t: t.c.s.like("%'%"), "s", STRINGS),
    "contains": (lambda t: t.c.s.contains("%", autoescape=True), "s", STRINGS),
    "collation": (lambda t: t.c.s.collate("utf8mb4_bin") == "x", "s", STRINGS),
    "concatenation": (lambda t: t.c.s + "\\" == "b\\c\\", "s", STRINGS),
    "characters": (lambda t: func.char_length(t.c.s) > 1, "s", STRINGS),
    "coalesced": (lambda t: func.coalesce(t.c.s, "it's") == "it's", "s", STRINGS),
    "case": (lambda t: case((t.c.s == "x", "yes"), else_="no") == "yes", "s", STRINGS),
    "flag": (lambda t: t.c.flag, "flag", [None, True, False]),
    "no flag": (lambda t: ~t.c.flag, "flag", [None, True, False]),
    "flag is true": (lambda t: t.c.flag.is_(True), "flag", [None, True, False]),
    "label": (lambda t: t.c.kind == "it's", "kind", [None, "a", "it's", "b\\c"]),
    "label as text": (lambda t: cast(t.c.kind, Text).in_(["b\\c"]), "kind", [None, "a", "it's", "b\\c"]),
    "decimal": (
        lambda t: func.round(t.c.price, 1) != t.c.price,
        "price",
        [None, Decimal("1.10"), Decimal("1.11")],
    ),
    "moment": (
        lambda t: t.c.at < moment(2020, 1, 1, 3),
        "at",
        [None, moment(2020, 1, 1, 2), moment(2020, 1, 1, 3)],
    ),
    "bytes": (lambda t: t.c.raw == b"\x00'\\\xff", "raw", [None, b"", b"\x00'\\\xff", b"x"]),
    "document": (
        lambda t: t.c.doc["k"].as_string() == "it's",
        "doc",
        [{"k": "it's"}, {"k": "b\\c"}, {"k": None}, {}, []],
    ),
    "every row": (lambda _: true(), "a", [None, 1]),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_triggers_refuse_what_the_query_finds(engine: Engine, name: str) -> None:
    """A guard refuses exactly the rows that the same condition finds in a table: inserted, or written by an UPDATE."""
    condition, column, values = CONDITIONS[name]
    free, held = models("free"), models("held")
    free.create(engine)
    held.create(engine)
    with engine.begin() as connection:
        for at, value in enumerate(values):
            connection.execute(insert(free).values({"id": at, column: value}))
            connection.execute(insert(held).values({"id": 1000 + at}))
        found = set(connection.execute(select(free.c.id).where(condition(free))).scalars())
    send(engine, guarding(condition(held), held, read(engine)).put.statements)
    for at, value in enumerate(values):
        wanted = "emc: held.old is being dropped" if at in found else None
        assert refusal(engine, insert(held).values({"id": at, column: value})) == wanted, value
        changed = update(held).where(held.c.id == 1000 + at).values({column: value, "old": 1})
        assert refusal(engine, changed) == wanted, value


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,PIPES_AS_CONCAT"])
@pytest.mark.parametrize("charset", ["utf8mb4", "latin1"])
def test_literals_mean_the_same_in_every_session(mariadb_url: str, mode: str, charset: str) -> None:
    """Neither sql_mode nor the connection's character set, of whoever creates the guard, changes what it refuses."""
    url = make_url(mariadb_url).update_query_dict({"charset": charset})
    peculiar = create_engine(url, connect_args={"init_command": f"SET sql_mode = '{mode}'"})
    plain = create_engine(mariadb_url)
    held = models("held")
    held.create(plain)
    wanted = guarding(held.c.s.in_(["b\\c", "it's", "ü"]), held, read(plain))
    send(peculiar, wanted.put.statements)
    for at, value in enumerate(["b\\c", "it's", "ü"]):
        assert refusal(plain, insert(held).values(id=at, s=value)) is not None, value
    for at, value in enumerate(["b\\\\c", "bc", "it''s", "Ã¼"]):
        assert refusal(plain, insert(held).values(id=at, s=value)) is None, value
    standing = read(plain).tables[KEY].guards
    assert standing == {guard.name: guard.definition for guard in wanted.guards}
    peculiar.dispose()
    plain.dispose()


UNGUARDABLE: dict[str, tuple[Condition, str]] = {
    "clock": (lambda t: t.c.at < func.now(), "now()"),
    "current date": (lambda t: t.c.at < func.current_date(), "current_date()"),
    "chance": (lambda _: func.rand() < 1, "rand()"),
    "time zone": (lambda t: func.from_unixtime(t.c.a) < t.c.at, "from_unixtime()"),
    "function of a schema": (lambda t: func.app.done(t.c.a) == 1, "app.done()"),
    "unknown function": (lambda t: func.done(t.c.a) == 1, "done()"),
    "subquery": (lambda t: t.c.a == select(func.max(t.c.a)).scalar_subquery(), "subquery"),
    "other rows": (lambda t: ~exists(select(1).where(t.alias().c.a == t.c.a)), "subquery"),
    "other table": (lambda t: t.c.a == models("free").c.a, "free.a"),
    "text": (lambda _: text("a = 1"), "TextClause"),
    "column as text": (lambda _: literal_column("a") == 1, "ColumnClause"),
    "late value": (lambda t: t.c.a == bindparam("x"), "only known when it is asked"),
    "value from a function": (lambda t: t.c.a == bindparam(None, callable_=lambda: 1), "only known"),
    "no literal": (lambda t: t.c.a == bindparam(None, object()), "plain SQL"),
}


@pytest.mark.parametrize("name", UNGUARDABLE)
def test_what_may_change_without_the_row_is_not_guarded(name: str) -> None:
    """A condition that depends on anything but its row, or of which that is not known, has no guard, and says why."""
    condition, why = UNGUARDABLE[name]
    held = models("held")
    assert why in str(unguardable(condition(held), held))


def unguardable(
    where: ColumnElement[bool], table: Table, live: LiveTable | None = None, **more: Any
) -> str | None:
    """Why the claim cannot be guarded."""
    element = Element(ElementKind.COLUMN, KEY, "old")
    drop = Operation(ops.DropColumnOp("held", "old"), Kind.DROP_COLUMN, element, Phase.CONTRACT, "")
    schema = MySQLSchema({KEY: live or MySQLTable(KEY, {})})
    return DIALECT.cannot_guard(drop, claim(where, table, **more), schema)


def test_a_timestamp_is_only_asked_for_null() -> None:
    """A TIMESTAMP reads differently in each session's time zone, so a guard asks of it no more than if it is NULL."""
    held = Table("held", MetaData(), Column("t", DateTime), Column("u", DateTime), Column("d", DateTime))
    texts = {
        name: ColumnText(name, type_)
        for name, type_ in {"t": "timestamp", "u": "timestamp(6)", "d": "datetime"}.items()
    }
    live = MySQLTable(KEY, {}, texts=texts)
    t, u, d = held.c.t, held.c.u, held.c.d
    for harmless in (
        t.is_(None),
        t.is_distinct_from(None),
        t.is_distinct_from(u),
        d < moment(2020, 1, 1),
    ):
        assert unguardable(harmless, held, live) is None
    for harmful in (t < moment(2020, 1, 1), t.is_distinct_from(d), t == d, or_(t.is_(None), t > u)):
        assert "time zone" in str(unguardable(harmful, held, live))


@pytest.mark.parametrize(
    ("options", "columns", "harmless", "is_guarded"),
    [
        ({"ondelete": "SET NULL"}, ["a"], False, False),
        ({"ondelete": "SET NULL"}, ["a"], True, True),
        ({"onupdate": "CASCADE"}, ["a"], False, False),
        ({"onupdate": "CASCADE"}, ["s"], False, True),
        ({"ondelete": "CASCADE"}, ["a"], False, True),
        ({}, ["a"], False, True),
    ],
)
def test_what_a_foreign_key_writes_is_not_guarded(
    options: dict[str, str], columns: list[str], harmless: bool, is_guarded: bool
) -> None:
    """Foreign-key cascades bypass MySQL's triggers: a column that one writes is refused, unless it cannot hurt."""
    held = models("held")
    foreign_key: Any = {"name": "fk", "constrained_columns": columns, "options": options}
    live = MySQLTable(KEY, {}, foreign_keys=[foreign_key])
    why = unguardable(held.c.a > 1, held, live, overwriting_is_harmless=harmless)
    assert (why is None) is is_guarded


def test_a_cascade_does_bypass_the_guard(engine: Engine) -> None:
    """The reason for the rule: the parent's new key gets into the child, past the trigger that refuses it."""
    send(
        engine,
        [
            "CREATE TABLE parent (id INT PRIMARY KEY)",
            "CREATE TABLE held (id INT PRIMARY KEY, a INT REFERENCES parent (id) ON UPDATE CASCADE, old INT)",
            "INSERT INTO parent VALUES (1)",
            "INSERT INTO held VALUES (1, 1, 1)",
            "CREATE TRIGGER strict AFTER UPDATE ON held FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'",
        ],
    )
    assert refusal(engine, text("UPDATE held SET old = 2")) == "no"
    assert refusal(engine, text("UPDATE parent SET id = 2")) is None
    with engine.connect() as connection:
        assert connection.execute(text("SELECT a, old FROM held")).one() == (2, 1)
    held = models("held")
    assert "no trigger sees that" in str(unguardable(held.c.a == 2, held, read(engine).tables[KEY]))


# -- triggers --------------------------------------------------------------------------------------------------------


def test_only_innodb_is_guarded(engine: Engine) -> None:
    """A statement that fails in a trigger leaves its row behind in other engines, so that nothing is refused there."""
    send(engine, ["CREATE TABLE held (id INT PRIMARY KEY, a INT, old INT) ENGINE=MyISAM"])
    held = models("held")
    assert "MyISAM" in str(unguardable(held.c.a == 2, held, read(engine).tables[KEY]))


def test_the_row_as_it_is_stored_counts(engine: Engine) -> None:
    """What generated and automatic columns and users' own triggers make of a row is seen, whichever runs last."""
    send(
        engine,
        [
            "CREATE TABLE held (id INT PRIMARY KEY AUTO_INCREMENT, a INT, old INT, twice INT AS (a * 2) STORED)",
            "CREATE TRIGGER first BEFORE INSERT ON held FOR EACH ROW SET NEW.old = IF(NEW.a = 5, 50, NEW.old)",
        ],
    )
    held = Table("held", MetaData(), *(Column(name, Integer) for name in ("id", "a", "old", "twice")))
    condition = or_(held.c.id == 3, held.c.twice == 8, held.c.old == 50, held.c.old == 60)
    send(engine, guarding(condition, held, read(engine)).put.statements)
    send(
        engine,
        ["CREATE TRIGGER last BEFORE INSERT ON held FOR EACH ROW SET NEW.old = IF(NEW.a = 6, 60, NEW.old)"],
    )
    assert refusal(engine, text("INSERT INTO held (a) VALUES (1)")) is None
    assert refusal(engine, text("INSERT INTO held (a) VALUES (4)")) is not None  # twice = 8
    assert refusal(engine, text("INSERT INTO held (a) VALUES (5)")) is not None  # by the trigger before
    assert refusal(engine, text("INSERT INTO held (a) VALUES (6)")) is not None  # by the trigger after
    assert refusal(engine, text("INSERT INTO held (id, a) VALUES (3, 1)")) is not None
    assert refusal(engine, text("INSERT IGNORE INTO held (a) VALUES (1), (4)")) is not None
    with engine.connect() as connection:
        assert connection.execute(text("SELECT a FROM held")).scalars().all() == [1]


def test_an_upsert_is_judged_by_what_it_does(engine: Engine) -> None:
    """INSERT … ON DUPLICATE KEY UPDATE that leaves the values it names alone puts no such row into the table."""
    send(
        engine,
        ["CREATE TABLE held (id INT PRIMARY KEY, a INT, old INT)", "INSERT INTO held VALUES (1, 0, NULL)"],
    )
    held = models("held")
    send(engine, guarding(held.c.old.is_distinct_from(None), held, read(engine)).put.statements)
    upsert = "INSERT INTO held VALUES ({}, 0, 7) ON DUPLICATE KEY UPDATE a = 1"
    assert refusal(engine, text(upsert.format(1))) is None
    assert refusal(engine, text(upsert.format(2))) is not None


def test_guards_stand_beside_the_users_triggers(engine: Engine) -> None:
    """A user's trigger goes on working while a guard stands, and is there when it has gone."""
    send(
        engine,
        [
            "CREATE TABLE held (id INT PRIMARY KEY, old INT)",
            "CREATE TABLE log (id INT PRIMARY KEY)",
            "CREATE TRIGGER mine AFTER INSERT ON held FOR EACH ROW INSERT INTO log VALUES (NEW.id)",
        ],
    )
    held = models("held")
    wanted = guarding(held.c.old.is_distinct_from(None), held, read(engine))
    send(engine, wanted.put.statements)
    assert refusal(engine, text("INSERT INTO held VALUES (1, 1)")) is not None
    assert refusal(engine, text("INSERT INTO held VALUES (2, NULL)")) is None
    send(engine, wanted.drop[0].statements)
    assert refusal(engine, text("INSERT INTO held VALUES (3)")) is None
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM log")).scalars().all() == [2, 3]


def test_what_stands_already_is_used_again(engine: Engine) -> None:
    """A guard of the same definition is not made twice; one that somebody changed is made anew."""
    models("held").create(engine)
    held = models("held")
    first = guarding(held.c.a > 1, held, read(engine))
    assert len(first.put.statements) == 2
    send(engine, first.put.statements[:1])
    rest = guarding(held.c.a > 1, held, read(engine))
    assert rest.put.statements == first.put.statements[1:]
    send(engine, rest.put.statements)
    assert guarding(held.c.a > 1, held, read(engine)).put.statements == ()
    other = guarding(held.c.a > 2, held, read(engine))
    assert {guard.name for guard in other.guards}.isdisjoint(guard.name for guard in first.guards)
    name = first.guards[0].name
    send(
        engine,
        [f"DROP TRIGGER {name}", f"CREATE TRIGGER {name} AFTER INSERT ON held FOR EACH ROW SET @x = 1"],
    )
    again = guarding(held.c.a > 1, held, read(engine))
    assert [statement.split()[0] for statement in again.put.statements] == ["DROP", "CREATE"]
    send(engine, again.put.statements)
    assert guarding(held.c.a > 1, held, read(engine)).put.statements == ()


def test_the_drop_fails_where_the_guard_is_gone(engine: Engine) -> None:
    """DROP TRIGGER under the lock is the confirmation: without the guard the column stays."""
    models("held").create(engine)
    held = models("held")
    wanted = guarding(held.c.old.is_distinct_from(None), held, read(engine))
    send(engine, wanted.put.statements)
    send(engine, [f"DROP TRIGGER {wanted.guards[1].name}"])
    with pytest.raises(DBAPIError, match="Trigger does not exist"):
        send(engine, wanted.drop[0].statements)
    engine.dispose()  # The session that failed holds the lock.
    assert "old" in read(engine).tables[KEY].columns
    assert wanted.drop[0].transaction is Transaction.LOCKED
    lift = DIALECT.lift(KEY, [guard.name for guard in wanted.guards], read(engine))
    send(engine, lift.statements)
    assert read(engine).tables[KEY].guards == {}


def test_guards_are_no_part_of_the_schema(engine: Engine) -> None:
    """Guards are shown as such, by names that fit every database's limit."""
    models("held").create(engine)
    held = models("held")
    wanted = guarding(held.c.a > 1, held, read(engine))
    before = read(engine).tables[KEY]
    send(engine, wanted.put.statements)
    after = read(engine).tables[KEY]
    assert set(after.guards) == {guard.name for guard in wanted.guards}
    assert all(name.startswith(GUARD_PREFIX) and len(name) < 63 for name in after.guards)
    assert (after.columns.keys(), after.indexes, after.checks) == (
        before.columns.keys(),
        before.indexes,
        before.checks,
    )
    assert read(engine).dependents == {}


def test_messages_are_cut_to_what_the_server_takes(engine: Engine) -> None:
    """A message of more than 128 characters would be cut off by the server, with an error of its own."""
    models("held").create(engine)
    held = models("held")
    long = Claim("g", KEY, held, held.c.a == 1, "rows", "ü" * 200)
    element = Element(ElementKind.COLUMN, KEY, "old")
    drop = Operation(ops.DropColumnOp("held", "old"), Kind.DROP_COLUMN, element, Phase.CONTRACT, "")
    step = Step(drop, (), Probe("SELECT 1", ""), Transaction.AUTOCOMMIT)
    send(engine, DIALECT.guarding([step], [long], read(engine)).put.statements)
    assert refusal(engine, insert(held).values(id=1, a=1)) == "emc: " + "ü" * 123


def test_text_that_needs_care_is_written_in_hexadecimal_digits() -> None:
    """Whatever a sql_mode or a character set could read in another way is written as digits."""
    assert text_literal("it's 100%") == "'it''s 100%'"
    assert text_literal("b\\c") == "_utf8mb4 X'625c63'"
    assert text_literal("\n") == "_utf8mb4 X'0a'"
    held = models("held")
    assert "\\" not in row_condition(claim(held.c.s == "b\\'c", held), MySQLSchema({}), MARIADB)


def test_prepared_transactions_without_a_session_are_in_doubt(engine: Engine) -> None:
    """A prepared transaction that its session has left holds no lock of its table, and commits all the same."""
    held = models("held")
    held.create(engine)
    models("free").create(engine)
    leaver = engine.raw_connection()
    leaver.detach()
    for statement in (
        "XA START 'left'",
        "INSERT INTO held (id, old) VALUES (1, 1)",
        "XA END 'left'",
        "XA PREPARE 'left'",
    ):
        leaver.cursor().execute(statement)
    assert leaver.dbapi_connection is not None
    leaver.dbapi_connection.close()
    # The guard does not wait for it: this is why it has to be asked for.
    send(engine, guarding(held.c.old.is_distinct_from(None), held, read(engine)).put.statements)
    assert DIALECT.in_doubt(engine, [KEY, TableKey(None, "free")]) == {"held"}
    send(engine, ["XA COMMIT 'left'"])
    assert DIALECT.in_doubt(engine, [KEY]) == frozenset()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT old FROM held").scalars().all() == [1]
