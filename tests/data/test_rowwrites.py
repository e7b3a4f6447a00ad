"""What functions answer is written to many rows at once, as it would be to one, and to no row that has changed."""

import dataclasses
import datetime as dt
import itertools
import threading
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Row,
    String,
    Table,
    Text,
    Uuid,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from emc.dialects.mysql.rowwrites import fingerprint
from emc.upgrade import Upgrade
from emc.work import Work
from tests.data.support import QUICK, column, execute, migrate, only_work, rows

ROWS = 30
"""More than are written one by one."""
_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


def of(kind: TypeEngine[Any]) -> Table:
    """A table with a column of *kind*."""
    return Table(
        "items",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("value", kind),
        Column("done", Integer),
    )


def filled(engine: Engine, table: Table, count: int = ROWS) -> None:
    """*count* rows to be migrated."""
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": number, "value": None} for number in range(count)])


def work_of(table: Table, engine: Engine, function: Callable[..., Any]) -> Work:
    """The work of a migration by *function* of rows that are not done."""
    upgrade = Upgrade(table.metadata)
    upgrade.data_migration(table, name="m", where=table.c.done.is_(None))(function)
    return only_work(upgrade, engine)


VALUES: dict[str, tuple[TypeEngine[Any], list[Any]]] = {
    "text": (
        Text(),
        ["a", "", " ", None, "ä", "'", '"', "\\", "{", "NULL", "a,b", "(1)", "\x1f", "\x1e", "%s", ":x"],
    ),
    "short text": (String(5), ["abcde", "", None]),
    "no separator": (Text(), ["a", "b", None]),
    "integer": (Integer(), [0, -1, 2**31 - 1, None]),
    "number": (Numeric(20, 4), [Decimal("0.0001"), Decimal("-99999999.5"), Decimal("1E+3"), None]),
    "mixed numbers": (Numeric(20, 4), [Decimal("0.5"), 7, None]),
    "double": (Double(), [0.1, -1e300, 1 / 3, None]),
    "mixed doubles": (Double(), [0.5, 7, None]),
    "bool": (Boolean(), [True, False, None]),
    "date": (Date(), [dt.date(2020, 2, 29), None]),
    "datetime": (
        DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
        [dt.datetime(2020, 1, 2, 3, 4, 5, 678901), None],  # noqa: DTZ001
    ),
    "uuid": (Uuid(), [_ID, None]),
    "bytes": (LargeBinary(), [b"", b"\x00\xff'\\", None]),
    "enum": (Enum("a", "b c", name="kinds"), ["a", "b c", None]),
    "json": (JSON(none_as_null=True), [{"a": [1, None]}, [1, "x"], "text", 5, True, None]),
}


@pytest.mark.parametrize("name", sorted(VALUES))
# As SQLAlchemy says of SQLite.
@pytest.mark.filterwarnings("ignore:Dialect sqlite.*does.*not.*support Decimal")
def test_values_arrive_as_they_are(engine: Engine, name: str) -> None:
    """Whatever the type, written to many rows at once a value is the same as written to one."""
    kind, values = VALUES[name]
    table = of(kind)
    filled(engine, table, len(values) * 4)
    result = migrate(
        engine, work_of(table, engine, lambda row: {"value": values[row.id % len(values)], "done": 1})
    )
    assert (result.outcome, result.rows_done) == ("complete", len(values) * 4)
    with engine.connect() as connection:
        found = list(connection.execute(select(table.c.value).order_by(table.c.id)).scalars())
    assert found == values * 4
    assert [type(one) for one in found] == [
        type(one)
        if name not in ("mixed numbers", "mixed doubles") or one is None
        else type(kind.python_type())
        for one in values * 4
    ]


def test_what_is_too_long_is_refused_and_not_cut(engine: Engine) -> None:
    """A cast to varchar(5) cuts where an assignment fails: the one row that does not fit is found, and is as it was."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no length")
    table = of(String(5))
    filled(engine, table)
    work = work_of(table, engine, lambda row: {"value": "x" * (6 if row.id == 7 else 5), "done": 1})
    result = migrate(engine, work)
    assert [row.key for row in result.failed] == [(7,)]
    assert rows(engine, "SELECT value, done FROM items WHERE id = 7") == [(None, None)]
    assert column(engine, "SELECT DISTINCT value FROM items WHERE id <> 7") == ["xxxxx"]


def test_an_array_is_one_value(postgresql_url: str) -> None:
    """Lists of one length for many rows are not taken for one list of many."""
    engine = create_engine(postgresql_url)
    execute(
        engine,
        "CREATE TABLE items (id integer PRIMARY KEY, value integer[], done integer)",
        f"INSERT INTO items SELECT n FROM generate_series(0, {ROWS - 1}) n",
    )
    metadata = MetaData()
    table = Table("items", metadata, autoload_with=engine)
    migrate(engine, work_of(table, engine, lambda row: {"value": [row.id, 2], "done": 1}))
    assert column(engine, "SELECT value FROM items ORDER BY id") == [[n, 2] for n in range(ROWS)]
    engine.dispose()


def test_types_of_the_server_are_its_own(postgresql_url: str) -> None:
    """A column that the models call text may be a domain, or padded with blanks, in the database."""
    engine = create_engine(postgresql_url)
    execute(
        engine,
        "CREATE DOMAIN short AS varchar(3) CHECK (value <> 'bad')",
        "CREATE TABLE items (id integer PRIMARY KEY, value short, code char(4), done integer)",
        f"INSERT INTO items SELECT n FROM generate_series(0, {ROWS - 1}) n",
    )
    table = of(Text())
    table.append_column(Column("code", Text))

    def function(row: Row[Any]) -> dict[str, Any]:
        return {"value": "bad" if row.id == 3 else "abc", "code": "x", "done": 1}

    sent = updates(engine)
    result = migrate(engine, work_of(table, engine, function))
    assert [row.key for row in result.failed] == [(3,)]
    counted = rows(engine, "SELECT value, code, count(*) FROM items WHERE id <> 3 GROUP BY 1, 2")
    assert counted == [("abc", "x   ", ROWS - 1)]
    assert any("unnest" in one for one in sent)
    engine.dispose()


def updates(engine: Engine) -> list[str]:
    """Collects the UPDATE statements of the table that are sent from now on."""
    sent: list[str] = []

    def note(*sending: Any) -> None:
        if sending[2].startswith("UPDATE items"):
            sent.append(sending[2])

    event.listen(engine, "before_cursor_execute", note)
    return sent


# -- what others write ------------------------------------------------------------------------------------------

SERVERS = pytest.mark.parametrize("which", ["postgresql_url", "mariadb_url"])


@SERVERS
@pytest.mark.parametrize("key", ["single", "composite", "none"])
def test_only_rows_as_they_were_read_are_written(
    request: pytest.FixtureRequest, which: str, key: str
) -> None:
    """Of many rows those are left alone that somebody changes, deletes or does while the function thinks.

    Another column than the one that is written counts, and so does a change of case; the next pass sees what is new.
    """
    engine = create_engine(request.getfixturevalue(which))
    if key == "none" and which == "mariadb_url":
        pytest.skip("a row without a key has no address here")
    keys = {"single": "PRIMARY KEY (id)", "composite": "PRIMARY KEY (kind, id)", "none": "CHECK (id >= 0)"}[
        key
    ]
    execute(
        engine,
        f"CREATE TABLE items (kind VARCHAR(5) NOT NULL, id INTEGER NOT NULL, value VARCHAR(20), done INTEGER, {keys})",
    )
    table = Table(
        "items", MetaData(), Column("kind", String(5)), Column("id", Integer), Column("value", String(20))
    )
    table.append_column(Column("done", Integer))
    with engine.begin() as connection:
        values = [{"kind": "ab"[n % 2], "id": n, "value": f"v{n}"} for n in range(ROWS)]
        connection.execute(insert(table), values)
    meddled: list[int] = []

    def meddle(row: Row[Any]) -> dict[str, Any]:
        if not meddled:
            meddled.append(row.id)
            execute(
                engine,
                "UPDATE items SET value = 'V5' WHERE id = 5",
                "UPDATE items SET value = 'other' WHERE id = 6",
                "UPDATE items SET done = 77 WHERE id = 7",
                "DELETE FROM items WHERE id = 8",
            )
        return {"done": 1, "value": f"{row.value}!"}

    result = migrate(engine, work_of(table, engine, meddle))
    assert (result.outcome, result.rows_done) == ("complete", ROWS - 2)
    found = {
        number: (value, done) for number, value, done in rows(engine, "SELECT id, value, done FROM items")
    }
    changed = {5: ("V5!", 1), 6: ("other!", 1), 7: ("v7", 77)}
    assert found == {n: changed.get(n, (f"v{n}!", 1)) for n in range(ROWS) if n != 8}
    engine.dispose()


@SERVERS
def test_a_write_that_is_under_way_is_waited_for(request: pytest.FixtureRequest, which: str) -> None:
    """A row that another session has written to and not committed yet keeps what that session wrote."""
    url = request.getfixturevalue(which)
    engine, others = create_engine(url), create_engine(url)
    table = of(Text())
    filled(engine, table)
    asked: list[int] = []
    with others.connect() as other:

        def function(row: Row[Any]) -> dict[str, Any]:
            asked.append(row.id)
            if len(asked) == 1:
                other.execute(text("UPDATE items SET value = 'theirs' WHERE id = 9"))
            return {"value": f"{row.value or ''}mine", "done": 1}

        def commit_when_waited_for() -> None:
            while not waits(others):
                # InnoDB shows again what it showed less than 0.1 s ago: who asks more often never sees anything else.
                time.sleep(0.15)
            other.commit()

        thread = threading.Thread(target=commit_when_waited_for)
        thread.start()
        policy = dataclasses.replace(QUICK, lock_timeout=20.0)
        result = migrate(engine, work_of(table, engine, function), batch=policy)
        thread.join()
    assert (result.outcome, result.rows_done) == ("complete", ROWS)
    assert column(engine, "SELECT value FROM items WHERE id = 9") == ["theirsmine"]
    assert asked.count(9) == 2
    engine.dispose()
    others.dispose()


def waits(engine: Engine) -> bool:
    """Whether a session waits for another one's row."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted"
        if engine.dialect.name == "postgresql"
        else "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    )
    return bool(column(engine, query)[0])


def test_partitions_and_children_keep_their_rows_apart(postgresql_url: str) -> None:
    """Rows of two partitions, or of a table and its child, have the same address, and are not taken for each other."""
    engine = create_engine(postgresql_url)
    execute(
        engine,
        "CREATE TABLE items (id integer, value text, done integer, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (15)",
        "CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (15) TO (100)",
        f"INSERT INTO items SELECT n, 'v' || n FROM generate_series(0, {ROWS - 1}) n",
    )
    table = of(Text())
    meddled: list[int] = []

    def meddle(row: Row[Any]) -> dict[str, Any]:
        if not meddled:
            meddled.append(row.id)
            execute(engine, "UPDATE items SET value = 'new' WHERE id IN (3, 20)")
        return {"value": f"{row.value}!", "done": 1}

    sent = updates(engine)
    assert migrate(engine, work_of(table, engine, meddle)).outcome == "complete"
    expected = ["new!" if n in (3, 20) else f"v{n}!" for n in range(ROWS)]
    assert column(engine, "SELECT value FROM items ORDER BY id") == expected
    assert any("tableoid" in one for one in sent)
    engine.dispose()


def test_rows_that_are_no_heap_are_compared_as_they_are(postgresql_url: str) -> None:
    """A partition that is a foreign table has no versions to go by, so all its columns are compared."""
    engine = create_engine(postgresql_url)
    url = engine.url
    execute(
        engine,
        "CREATE EXTENSION postgres_fdw",
        f"CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{url.host}', port '{url.port}', "
        f"dbname '{url.database}')",
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user '{url.username}')",
        "CREATE TABLE away (id integer, value text, done integer)",
        "CREATE TABLE items (id integer NOT NULL, value text, done integer) PARTITION BY RANGE (id)",
        "CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (15)",
        "CREATE FOREIGN TABLE items_2 PARTITION OF items FOR VALUES FROM (15) TO (100) SERVER self "
        "OPTIONS (table_name 'away')",
    )
    execute(engine, f"INSERT INTO items SELECT n, 'v' || n FROM generate_series(0, {ROWS - 1}) n")
    table = of(Text())
    meddled: list[int] = []

    def meddle(row: Row[Any]) -> dict[str, Any]:
        if not meddled:
            meddled.append(row.id)
            execute(engine, "UPDATE items SET value = 'new' WHERE id IN (3, 20)")
        return {"value": f"{row.value}!", "done": 1}

    work = dataclasses.replace(work_of(table, engine, meddle), walk=("id",))
    assert migrate(engine, work).outcome == "complete"
    expected = ["new!" if n in (3, 20) else f"v{n}!" for n in range(ROWS)]
    assert column(engine, "SELECT value FROM items ORDER BY id") == expected
    engine.dispose()


def test_fingerprints_tell_rows_apart(mariadb_url: str) -> None:
    """Rows that differ in anything have different fingerprints: NULL is not '', and no value runs into the next."""
    engine = create_engine(mariadb_url)
    table = Table(
        "items",
        MetaData(),
        Column("id", Integer),
        Column("a", String(10)),
        Column("b", Text),
        Column("c", mysql.FLOAT),
        Column("d", JSON),
        Column("e", LargeBinary),
    )
    table.metadata.create_all(engine)
    texts = [None, "", "a", "A", "a ", "1:a", "-"]
    values = [
        {"id": 1, "a": a, "b": b, "c": c, "d": d, "e": e}
        for a, b, (c, d, e) in itertools.product(
            texts, texts, [(None, {}, None), (1.2345678, {}, b""), (1.2345679, {"a": 1}, b"\x00")]
        )
    ]
    with engine.begin() as connection:
        connection.execute(insert(table), values)
        found = list(connection.execute(select(fingerprint(table))).scalars())
    assert None not in found
    assert len(set(found)) == len(values)
    engine.dispose()


def test_a_long_value_has_a_fingerprint_too(mariadb_url: str) -> None:
    """Values that together are longer than a packet are no NULL, which would be the same as any other."""
    engine = create_engine(mariadb_url)
    table = Table("items", MetaData(), Column("id", Integer), *(Column(n, mysql.LONGTEXT) for n in "abc"))
    table.metadata.create_all(engine)
    execute(
        engine,
        *(f"INSERT INTO items VALUES (1, REPEAT('x', 7000000), REPEAT('{c}', 7000000), '')" for c in "xy"),
    )
    with engine.connect() as connection:
        found = list(connection.execute(select(fingerprint(table))).scalars())
    assert None not in found
    assert len(set(found)) == 2
    engine.dispose()
