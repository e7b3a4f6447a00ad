"""What a rebuild on SQLite leaves as it was: everything that nobody asked to change."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.operations import ops
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from emc.dialects.answers import Failure
from emc.dialects.sqlite.catalog import LEFTOVER, ONLY_COPY
from emc.errors import PlanRefusedError
from emc.names import TableKey
from emc.operations import Kind
from tests.dialects.sqlite_ritual import (
    SQLITE,
    add_constraint,
    alter,
    create_table,
    drop_column,
    live_of,
    operation,
    picture,
    rows,
    run,
    run_steps,
    script,
)

OLD = """CREATE TABLE "Order" ( -- what people buy
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    [Group] TEXT COLLATE NOCASE NOT NULL ON CONFLICT REPLACE DEFAULT 'a, (b', /* of goods */
    `select` VARCHAR(10) CONSTRAINT sel_uq UNIQUE ON CONFLICT IGNORE,
    qty integer CHECK (qty > 0) default -1.5e0 ,
    twice INT GENERATED ALWAYS AS (qty * 2) VIRTUAL,
    thrice INT AS (qty * 3) STORED,
    parent REFERENCES "Order" (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    note, extra BLOB DEFAULT x'00ff',
    CONSTRAINT "qty, small" CHECK (qty < 100 OR "Group" = 'CHECK (')
    CHECK (length(note) < 50),
    UNIQUE ([Group], qty) ON CONFLICT ROLLBACK,
    FOREIGN KEY (qty) REFERENCES sizes DEFERRABLE
)"""

AROUND = (
    "CREATE TABLE sizes (n INTEGER PRIMARY KEY)",
    'CREATE TABLE item (id INTEGER PRIMARY KEY, o INTEGER REFERENCES "Order" ON DELETE CASCADE)',
    "CREATE TABLE log (what TEXT)",
    """CREATE INDEX "part ial" ON "Order" ("Group" DESC) WHERE qty > 1 -- where""",
    """CREATE UNIQUE INDEX expr ON "Order" (lower(note), "select" COLLATE NOCASE)""",
    """CREATE TRIGGER told AFTER INSERT ON "Order" BEGIN INSERT INTO log VALUES ('new ' || new.id); END""",
    """CREATE TRIGGER heard AFTER INSERT ON item BEGIN UPDATE "Order" SET note = 'item' WHERE id = new.o; END""",
    """CREATE VIEW big AS SELECT id, qty FROM "Order" WHERE qty > 1""",
    "CREATE TRIGGER into_big INSTEAD OF DELETE ON big BEGIN DELETE FROM item; END",
    "INSERT INTO sizes VALUES (1), (2), (3)",
    """INSERT INTO "Order" (id, "Group", "select", qty, note) VALUES (7, 'x', 's', 2, 'n'), (9, 'y', NULL, 1, NULL)""",
    'DELETE FROM "Order" WHERE id = 9',
    """INSERT INTO "Order" (id, "Group", qty) VALUES (8, 'z', 3)""",
    "INSERT INTO item VALUES (1, 7), (2, 8)",
    "ANALYZE",
)


@pytest.fixture(params=["foreign keys off", "foreign keys on"])
def engine(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Engine]:
    """A database with everything in it that batch mode loses; foreign keys enforced by the application or not."""
    engine = create_engine(sqlite_url)
    if request.param == "foreign keys on":

        @event.listens_for(engine, "connect")
        def enforce(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA foreign_keys=ON")

    script(engine, OLD, *AROUND)
    yield engine
    engine.dispose()


def extra_not_null() -> Any:
    """An operation that takes a rebuild, and changes one word."""
    return alter(Kind.SET_NOT_NULL, "Order", "extra", modify_nullable=False)


CATALOG = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
EVERYTHING = (
    'SELECT rowid, * FROM "Order" ORDER BY rowid',
    "SELECT * FROM item",
    "SELECT * FROM log",
    "SELECT * FROM sqlite_sequence",
    "SELECT * FROM sqlite_stat1 ORDER BY tbl, idx",
    "SELECT * FROM big",
)


def test_a_rebuild_changes_one_word_of_the_catalog(engine: Engine) -> None:
    """Texts of tables, indexes, triggers and views stay to the letter; rows, rowids, sequences, statistics as well."""
    catalog = rows(engine, CATALOG)
    content = [rows(engine, query) for query in EVERYTHING]
    run(engine, extra_not_null())
    changed = "extra BLOB DEFAULT x'00ff' NOT NULL"
    expected = [tuple(str(v).replace("extra BLOB DEFAULT x'00ff'", changed) for v in row) for row in catalog]
    assert rows(engine, CATALOG) == expected
    assert [rows(engine, query) for query in EVERYTHING] == content


def test_triggers_views_and_sequences_work_after_a_rebuild(engine: Engine) -> None:
    """What was kept is alive: triggers fire once, the view answers, AUTOINCREMENT never gives 9 again."""
    run(engine, extra_not_null())
    script(
        engine, """INSERT INTO "Order" ("Group", qty) VALUES ('q', 2)""", "INSERT INTO item VALUES (3, 10)"
    )
    assert rows(engine, "SELECT what FROM log WHERE what = 'new 10'") == [("new 10",)]
    assert rows(engine, 'SELECT id, note, twice, thrice FROM "Order" WHERE id = 10') == [(10, "item", 4, 6)]
    assert rows(engine, "SELECT id FROM big ORDER BY id") == [(7,), (8,), (10,)]


def test_children_of_a_cascade_survive(engine: Engine) -> None:
    """Alembic's batch mode under foreign_keys=ON deleted the children of ON DELETE CASCADE: 2 rows became 0."""
    run(engine, extra_not_null())
    assert rows(engine, "SELECT count(*) FROM item") == [(2,)]
    with engine.connect() as connection:
        enforced = connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
        connection.exec_driver_sql('DELETE FROM "Order" WHERE id = 7')
        left = connection.exec_driver_sql("SELECT count(*) FROM item").scalar()
    assert left == (1 if enforced else 2)


def test_rows_are_not_lost_to_on_conflict_ignore(engine: Engine) -> None:
    """A new UNIQUE ON CONFLICT IGNORE would drop the second of two like rows while copying: the rebuild fails."""
    script(engine, "CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1), (1)")
    models = Table("t", MetaData(), Column("a", Integer), UniqueConstraint("a", sqlite_on_conflict="IGNORE"))
    unique = next(one for one in models.constraints if isinstance(one, UniqueConstraint))
    with pytest.raises(IntegrityError) as caught:
        run(engine, add_constraint(Kind.ADD_UNIQUE, unique))
    assert SQLITE.failure(caught.value) is Failure.INTEGRITY
    assert rows(engine, "SELECT a FROM t") == [(1,), (1,)]


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (a TEXT, b TEXT, PRIMARY KEY (a)) WITHOUT ROWID",
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT) STRICT",
        "CREATE TABLE t (a TEXT PRIMARY KEY, b TEXT) STRICT, WITHOUT ROWID",
        "CREATE TABLE t (rowid TEXT, a TEXT, b TEXT)",
        "CREATE TABLE t (a INTEGER PRIMARY KEY DESC, b TEXT)",
    ],
)
def test_kinds_of_tables_stay(engine: Engine, text: str) -> None:
    """WITHOUT ROWID, STRICT and a column called rowid survive a rebuild."""
    script(engine, text, "INSERT INTO t (a, b) VALUES ('5', 'x')")
    run(engine, alter(Kind.SET_NOT_NULL, "t", "b", modify_nullable=False))
    assert rows(engine, "SELECT sql FROM sqlite_master WHERE name = 't'") == [
        (text.replace("b TEXT", "b TEXT NOT NULL"),)
    ]
    assert rows(engine, "SELECT CAST(a AS TEXT), b FROM t") == [("5", "x")]


@pytest.mark.parametrize(
    ("kind", "type_", "name", "columns", "gone"),
    [
        (Kind.DROP_UNIQUE, "unique", "sel_uq", [], " CONSTRAINT sel_uq UNIQUE ON CONFLICT IGNORE"),
        (Kind.DROP_UNIQUE, "unique", None, ["Group", "qty"], "UNIQUE ([Group], qty) ON CONFLICT ROLLBACK"),
        (Kind.DROP_CHECK, "check", "qty, small", [], """CONSTRAINT "qty, small" CHECK"""),
        (Kind.DROP_CHECK, "check", None, ["length(note)<50"], "CHECK (length(note) < 50)"),
        (Kind.DROP_CHECK, "check", None, ["(qty > 0)"], "CHECK (qty > 0)"),
        (Kind.DROP_FOREIGN_KEY, "foreignkey", None, ["qty"], "FOREIGN KEY (qty) REFERENCES sizes"),
        (
            Kind.DROP_FOREIGN_KEY,
            "foreignkey",
            None,
            ["parent"],
            """ REFERENCES "Order" (id) ON DELETE SET NULL""",
        ),
    ],
)
def test_a_hand_written_constraint_is_dropped(
    engine: Engine, kind: str, type_: str, name: str | None, columns: list[str], gone: str
) -> None:
    """Named or not, inline or not, with whatever clauses: the constraint goes, and nothing else."""
    before = picture(live_of(engine).tables[TableKey(None, "Order")])
    reverse: Any = {
        "unique": lambda: ops.CreateUniqueConstraintOp(name, "Order", columns),
        "check": lambda: ops.CreateCheckConstraintOp(name, "Order", columns[0]),
        "foreignkey": lambda: ops.CreateForeignKeyOp(
            name, "Order", "sizes" if columns == ["qty"] else "Order", columns, ["n"]
        ),
    }
    directive = ops.DropConstraintOp(name, "Order", type_, _reverse=reverse[type_]() if columns else None)
    run(engine, operation(kind, "Order", name, directive))
    text = rows(engine, "SELECT sql FROM sqlite_master WHERE name = 'Order' AND type = 'table'")[0][0]
    assert gone in OLD
    assert gone not in text
    after = picture(live_of(engine).tables[TableKey(None, "Order")])
    assert len(after["definitions"]) == len(before["definitions"]) - 1
    assert {**before["definitions"], **after["definitions"]} == before["definitions"]
    assert after["columns"] == before["columns"]
    assert after["indexes"] == before["indexes"]


def test_a_column_goes_with_what_is_only_about_it(engine: Engine) -> None:
    """Its index, unique and foreign key go along, and emc's own triggers that name it; others keep working."""
    script(
        engine,
        "DROP INDEX expr",
        """CREATE INDEX plain ON "Order" (qty, "select")""",
        """CREATE TRIGGER emc_sync AFTER UPDATE OF "select" ON "Order" BEGIN SELECT 1; END""",
        """CREATE TRIGGER emc_other AFTER UPDATE OF note ON "Order" BEGIN SELECT 1; END""",
    )
    run(engine, drop_column("Order", "parent"), drop_column("Order", "SELECT".lower()))
    live = live_of(engine).tables[TableKey(None, "Order")]
    assert list(live.columns) == ["id", "Group", "qty", "twice", "thrice", "note", "extra"]
    names = {
        name for (name,) in rows(engine, "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'index')")
    }
    assert {"told", "heard", "into_big", "emc_other", "part ial"} < names
    assert not {"emc_sync", "plain"} & names


@pytest.mark.parametrize("view", ['CREATE VIEW v AS SELECT note FROM "Order"', None])
def test_a_column_that_a_view_or_trigger_names_is_not_dropped(engine: Engine, view: str | None) -> None:
    """Refused before anything is touched, naming the view or trigger; the rehearsal refuses as well."""
    script(engine, "DROP INDEX expr", *(["DROP TRIGGER heard", view] if view else []))
    live = live_of(engine)
    drop = drop_column("Order", "note")
    refusal = SQLITE.refuse(drop, live)
    assert refusal is not None
    assert ("view v" if view else "trigger heard") in refusal.reason
    assert list(live.dependents[TableKey(None, "Order"), "note"]) == ["view v" if view else "trigger heard"]
    with pytest.raises(PlanRefusedError) as caught:
        SQLITE.steps([drop], live)
    assert caught.value.refusals[0].target == "Order.note"


def test_an_index_over_several_columns_stops_the_drop_of_one(engine: Engine) -> None:
    """SQLite would take "select" for a string and keep a unique index of another meaning: nothing is changed."""
    before = rows(engine, CATALOG)
    steps = SQLITE.steps([drop_column("Order", "select")], live_of(engine))
    with pytest.raises(DBAPIError) as caught:
        run_steps(engine, steps)
    assert "index expr" in str(caught.value.statement)
    assert rows(engine, CATALOG) == before


def test_a_check_over_several_columns_stands_in_the_way(engine: Engine) -> None:
    """What else names a column is listed as its dependent: generated columns, CHECKs and indexes over several."""
    script(
        engine,
        "CREATE TABLE t (a, b, c AS (a + 1), CONSTRAINT two CHECK (a < b))",
        "CREATE INDEX i ON t (b) WHERE a",
    )
    live = live_of(engine)
    key = TableKey(None, "t")
    assert list(live.dependents[key, "a"]) == ["generated column c", "check two", "index i"]
    assert list(live.dependents[key, "b"]) == ["check two", "index i"]
    assert (key, "c") not in live.dependents


def test_a_trigger_that_came_after_the_plan_is_not_lost(engine: Engine) -> None:
    """A rebuild writes the table from texts read earlier: it stops when they are no longer what is there."""
    steps = SQLITE.steps([extra_not_null()], live_of(engine))
    script(engine, """CREATE TRIGGER late AFTER DELETE ON "Order" BEGIN SELECT 1; END""")
    with pytest.raises(DBAPIError) as caught:
        run_steps(engine, steps)
    assert "as it was when this was planned" in str(caught.value.statement)
    assert SQLITE.failure(caught.value) is Failure.OTHER
    assert ("late",) in rows(engine, "SELECT name FROM sqlite_master")
    run(engine, extra_not_null())
    assert ("late",) in rows(engine, "SELECT name FROM sqlite_master")


def test_a_new_foreign_key_with_orphans_is_rolled_back(engine: Engine) -> None:
    """Only violations that are new count: an old orphan of another table stops nobody."""
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("INSERT INTO item VALUES (5, 4711)")
        connection.commit()
        connection.invalidate()
    run(engine, extra_not_null())
    before = rows(engine, CATALOG)
    directive = ops.CreateForeignKeyOp("fk_new", "item", "sizes", ["id"], ["n"])
    with pytest.raises(IntegrityError) as caught:
        run(engine, operation(Kind.ADD_FOREIGN_KEY, "item", "fk_new", directive))
    assert SQLITE.failure(caught.value) is Failure.INTEGRITY
    assert rows(engine, CATALOG) == before


def test_leftovers_of_batch_mode_are_no_tables_and_go_with_the_next_rebuild(engine: Engine) -> None:
    """Alembic's batch mode, interrupted, leaves _alembic_tmp_…: half a copy, which nobody wants to keep."""
    script(engine, "CREATE TABLE _alembic_tmp_Order (id INTEGER)")
    live = live_of(engine)
    key = TableKey(None, "_alembic_tmp_Order")
    assert key not in live.tables
    assert live.names_taken[key] == LEFTOVER
    run(engine, extra_not_null())
    assert key not in live_of(engine).names_taken


def test_the_only_copy_of_a_table_is_not_a_leftover(engine: Engine) -> None:
    """Batch mode died between DROP TABLE and RENAME: creating the table anew would bury its rows."""
    script(engine, "CREATE TABLE _alembic_tmp_gone (id INTEGER)", "INSERT INTO _alembic_tmp_gone VALUES (1)")
    live = live_of(engine)
    assert live.names_taken[TableKey(None, "_alembic_tmp_gone")] == ONLY_COPY
    refusal = SQLITE.refuse(create_table(Table("gone", MetaData(), Column("id", Integer))), live)
    assert refusal is not None
    script(engine, refusal.remedy.partition(";")[0])
    assert rows(engine, "SELECT id FROM gone") == [(1,)]


def test_a_self_qualified_check_is_refused_before_anything_is_touched(engine: Engine) -> None:
    """SQLite cannot rename a table whose CHECK names the table itself: the rehearsal finds that out."""
    script(engine, "CREATE TABLE t (a INTEGER CHECK (t.a > 0))")
    with pytest.raises(PlanRefusedError):
        SQLITE.steps([alter(Kind.SET_NOT_NULL, "t", "a", modify_nullable=False)], live_of(engine))


def test_a_plan_can_be_shown_before_an_earlier_phase_ran(engine: Engine) -> None:
    """Contract is planned along with expand: its column is not there yet, its steps are, and they refuse to run."""
    steps = SQLITE.steps(
        [
            alter(Kind.SET_NOT_NULL, "Order", "later", modify_nullable=False, existing_type=String(5)),
            alter(Kind.ALTER_TYPE, "Order", "note", modify_type=Text()),
        ],
        live_of(engine),
    )
    assert any("later VARCHAR(5) NOT NULL" in statement for statement in steps[0].statements)
    before = rows(engine, CATALOG)
    with pytest.raises(DBAPIError):
        run_steps(engine, steps)
    assert rows(engine, CATALOG) == before


KILLER = """
    import os, sys
    from sqlalchemy import create_engine
    from tests.dialects.sqlite_ritual import SQLITE, live_of, rows
    from tests.dialects.test_sqlite_keeps import CATALOG, extra_not_null
    from emc.steps import LockPolicy

    def rebuild(until):
        engine = create_engine(sys.argv[1])
        step, = SQLITE.steps([extra_not_null()], live_of(engine))
        with SQLITE.open(engine, step.transaction, LockPolicy.SHORT, 5) as connection:
            # So that half of the work is in the file already when the process dies.
            connection.exec_driver_sql("PRAGMA cache_size = 1")
            for statement in step.statements[:until]:
                connection.exec_driver_sql(statement)
            os._exit(9)

    for until in range(int(sys.argv[2]) + 1):
        pid = os.fork()
        if pid == 0:
            rebuild(until)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        engine = create_engine(sys.argv[1])
        print(rows(engine, "PRAGMA integrity_check"), rows(engine, CATALOG))
        engine.dispose()
"""


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_process_killed_between_any_two_statements_loses_nothing(tmp_path: Path, journal: str) -> None:
    """Killed anywhere in a rebuild, the database is as it was; the same command again converges."""
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    engine = create_engine(url)
    script(engine, OLD, *AROUND)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA journal_mode={journal}")
    catalog = rows(engine, CATALOG)
    content = [rows(engine, query) for query in EVERYTHING]
    (step,) = SQLITE.steps([extra_not_null()], live_of(engine))
    engine.dispose()
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLER), url, str(len(step.statements))],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    ).stdout
    assert told.splitlines() == [f"[('ok',)] {catalog}"] * (len(step.statements) + 1)
    assert [rows(engine, query) for query in EVERYTHING] == content
    run(engine, extra_not_null())
    assert [rows(engine, query) for query in EVERYTHING] == content
    engine.dispose()
