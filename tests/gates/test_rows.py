"""Gates that look at rows: open, shut with the number of rows, their keys and a remedy, or not there yet."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Engine,
    Enum,
    ForeignKeyConstraint,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects import postgresql as pg

import emc
from emc.errors import ExitCode
from emc.gates import Verdict
from emc.names import TableKey
from tests.gates.gating import gate, gates, make, run_sql, table, upgrade_to

C = partial(partial, Column)
MANY = [{"id": n} for n in range(1, 6)]


def assert_shut(verdict: Verdict, rows: int, keys: list[str], remedy: str) -> None:
    """The gate is shut by so many rows, the first of which it names, and says what to do."""
    assert not verdict.open
    assert not verdict.lets_pass
    assert verdict.rows == rows
    assert list(verdict.keys) == keys
    assert remedy in str(verdict.remedy)


# -- no-nulls -----------------------------------------------------------------------------------------------------


def test_no_nulls(engine: Engine) -> None:
    """NOT NULL waits for every row, names the first three, and opens when the last one has a value."""
    make(engine, table(C("a", Integer)), users=MANY)
    upgrade = upgrade_to(table(C("a", Integer, nullable=False)))
    assert_shut(gate("no-nulls:users.a", upgrade, engine), 5, ["id=1", "id=2", "id=3"], "upgrade.fill(User.a")
    run_sql(engine, "UPDATE users SET a = 0 WHERE id > 1")
    assert gate("no-nulls:users.a", upgrade, engine).rows == 1
    run_sql(engine, "UPDATE users SET a = 0")
    verdict = gate("no-nulls:users.a", upgrade, engine)
    assert verdict.open
    assert verdict.remedy is None
    assert verdict.evidence["rows"] == 0
    assert "a IS NULL" in verdict.evidence["predicate"]


def test_no_nulls_names_the_fill(engine: Engine) -> None:
    """Where a fill is declared, the remedy is to run it."""
    make(engine, table(C("a", Integer)), users=MANY)
    upgrade = upgrade_to(
        table(C("a", Integer, nullable=False)), lambda upgrade, t: upgrade.fill(t["users"].c.a, 7)
    )
    assert gate("no-nulls:users.a", upgrade, engine).remedy == "emc migrate --only fill:users.a"


def test_gates_of_what_is_not_there_yet(engine: Engine) -> None:
    """Before expand the gates of new columns are shut and say so, whatever the table holds."""
    make(engine, table(), users=MANY)
    upgrade = upgrade_to(
        table(
            C("a", Integer, nullable=False),
            C("b", Integer, server_default="1"),
            partial(CheckConstraint, "a > 0", name="ck"),
            partial(UniqueConstraint, "b", name="uq"),
        )
    )
    upgrade.fill(upgrade.tables[TableKey(None, "users")].c.a, 1)
    answers = gates(upgrade, engine, old_code_gone=True)
    for name in ("no-nulls:users.a", "no-violations:users.ck", "no-duplicates:users.uq"):
        assert not answers[name].open
        assert answers[name].rows is None
        assert answers[name].remedy == "emc expand"
    assert not any(answers[name].open for name in answers if name.startswith("expand-done:"))


# -- no-violations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition", ["a > 0", text("a > 0"), Column("a", Integer) > 0, "a > 0 AND a IS NOT NULL OR a IS NULL"]
)
def test_no_violations(engine: Engine, condition: Any) -> None:
    """A CHECK waits for the rows that it refuses; NULL is not refused."""
    make(
        engine,
        table(C("a", Integer)),
        users=[{"id": 1, "a": 1}, {"id": 2, "a": 0}, {"id": 3, "a": None}, {"id": 4, "a": -1}],
    )
    upgrade = upgrade_to(table(C("a", Integer), partial(CheckConstraint, condition, name="ck")))
    assert_shut(gate("no-violations:users.ck", upgrade, engine), 2, ["id=2", "id=4"], "data_migration")
    run_sql(engine, "DELETE FROM users WHERE a < 1")
    assert gate("no-violations:users.ck", upgrade, engine).open


def test_no_violations_of_a_column_that_is_renamed_in_python(engine: Engine) -> None:
    """The condition speaks of the column by its name in the database, whatever the models call it."""
    make(engine, table(C("a b", Integer)), users=[{"id": 1, "a b": -1}])

    def new(m: Any) -> None:
        column = Column("a b", Integer, key="ab")
        Table(
            "users",
            m,
            Column("id", Integer, primary_key=True),
            column,
            CheckConstraint(column > 0, name="ck"),
        )

    assert gate("no-violations:users.ck", upgrade_to(new), engine).rows == 1


# -- no-orphans -----------------------------------------------------------------------------------------------------


def test_no_orphans(engine: Engine) -> None:
    """A foreign key waits for rows without a parent; one that refers to nothing is none."""

    def build(*, tied: bool) -> Any:
        def build(m: Any) -> None:
            table(name="parents")(m)
            rule = partial(ForeignKeyConstraint, ["p"], ["parents.id"], name="fk")
            table(C("p", Integer), *([rule] if tied else []))(m)

        return build

    make(
        engine,
        build(tied=False),
        parents=[{"id": 1}],
        users=[{"id": 1, "p": 1}, {"id": 2, "p": None}, {"id": 3, "p": 9}],
    )
    upgrade = upgrade_to(build(tied=True))
    assert_shut(gate("no-orphans:users.fk", upgrade, engine), 1, ["id=3"], "upgrade.orphans(User.p")
    declared = upgrade_to(
        build(tied=True), lambda upgrade, t: upgrade.orphans(t["users"].c.p, action="set null")
    )
    assert gate("no-orphans:users.fk", declared, engine).remedy == "emc migrate --only orphans:users.p"
    run_sql(engine, "UPDATE users SET p = NULL WHERE id = 3")
    assert gate("no-orphans:users.fk", upgrade, engine).open


@pytest.mark.parametrize(("parents", "children"), [("NOCASE", "BINARY"), ("BINARY", "NOCASE")])
def test_no_orphans_by_the_collation_of_the_parent(tmp_path: Path, parents: str, children: str) -> None:
    """Gate, clean-up and foreign key mean the same rows where a child's column compares otherwise than its parent's."""
    engine = create_engine(f"sqlite:///{tmp_path / 'emc.db'}")
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))

    def build(*, tied: bool) -> Any:
        def build(m: Any) -> None:
            Table("parents", m, Column("code", String(9, collation=parents), primary_key=True))
            rule = partial(ForeignKeyConstraint, ["code"], ["parents.code"], name="fk")
            table(C("code", String(9, collation=children)), *([rule] if tied else []))(m)

        return build

    make(
        engine,
        build(tied=False),
        parents=[{"code": "A"}],
        users=[{"id": 1, "code": "A"}, {"id": 2, "code": "b"}, {"id": 3, "code": "a"}],
    )
    declared = upgrade_to(
        build(tied=True), lambda upgrade, t: upgrade.orphans(t["users"].c.code, action="delete")
    )
    lost = [2] if parents == "NOCASE" else [2, 3]
    assert_shut(
        gate("no-orphans:users.fk", declared, engine), len(lost), [f"id={n}" for n in lost], "orphans:"
    )
    emc.migrate(declared, engine)
    assert gate("no-orphans:users.fk", declared, engine).open
    emc.contract(declared, engine, old_code_gone=True)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_list(users)").all()
        assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    engine.dispose()


def test_no_orphans_of_a_pair(engine: Engine) -> None:
    """A foreign key of two columns is judged by both together, and passed by a NULL in one of them."""

    def build(*, tied: bool) -> Any:
        def build(m: Any) -> None:
            Table(
                "parents", m, Column("x", Integer, primary_key=True), Column("y", Integer, primary_key=True)
            )
            rule = partial(ForeignKeyConstraint, ["x", "y"], ["parents.x", "parents.y"], name="fk")
            table(C("x", Integer), C("y", Integer), *([rule] if tied else []))(m)

        return build

    make(
        engine,
        build(tied=False),
        parents=[{"x": 1, "y": 2}, {"x": 3, "y": 4}],
        users=[{"id": 1, "x": 1, "y": 2}, {"id": 2, "x": 1, "y": 4}, {"id": 3, "x": 9, "y": None}],
    )
    verdict = gate("no-orphans:users.fk", upgrade_to(build(tied=True)), engine)
    assert_shut(verdict, 1, ["id=2"], "orphans(User.x, User.y")


# -- no-duplicates --------------------------------------------------------------------------------------------------

TWINS = [{"id": n, "a": a, "b": n} for n, a in enumerate(["x", "x", "x", "y", None, None, "z", "z"], 1)]
TWO = (C("a", String(9)), C("b", Integer))


def test_no_duplicates(engine: Engine) -> None:
    """A unique rule waits for all but one row of each group; NULLs are no group."""
    make(engine, table(*TWO), users=TWINS)
    upgrade = upgrade_to(table(*TWO, partial(UniqueConstraint, "a", name="uq")))
    verdict = gate("no-duplicates:users.uq", upgrade, engine)
    assert_shut(verdict, 3, ["a='x' (3 rows)", "a='z' (2 rows)"], "upgrade.deduplicate(User.a")
    declared = upgrade_to(
        table(*TWO, partial(UniqueConstraint, "a", name="uq")),
        lambda upgrade, t: upgrade.deduplicate(t["users"].c.a, keep=t["users"].c.id),
    )
    assert gate("no-duplicates:users.uq", declared, engine).remedy == "emc migrate --only deduplicate:users.a"
    run_sql(engine, "DELETE FROM users WHERE id IN (2, 3, 8)")
    assert gate("no-duplicates:users.uq", upgrade, engine).open


@pytest.mark.parametrize(
    ("make_index", "rows"),
    [
        (lambda t: Index("ix", t.c.a, t.c.b, unique=True), 0),
        (lambda t: Index("ix", t.c.a.desc(), unique=True), 3),
        (lambda t: Index("ix", func.lower(t.c.a), unique=True), 3),
        (lambda t: Index("ix", text("lower(a)"), unique=True, _table=t), 3),
        (
            lambda t: Index("ix", t.c.a, unique=True, postgresql_where=t.c.b < 3, sqlite_where=t.c.b < 3),
            1,
        ),
        (
            lambda t: Index(
                "ix", t.c.a, unique=True, postgresql_where=text("b > 3"), sqlite_where=text("b > 3")
            ),
            1,
        ),
    ],
    ids=["pair", "descending", "expression", "text", "partial", "partial-text"],
)
def test_no_duplicates_of_an_index(engine: Engine, make_index: Any, rows: int) -> None:
    """A unique index is judged by its own expressions, on the rows that it concerns."""
    make(engine, table(*TWO), users=TWINS)

    def new(m: Any) -> None:
        make_index(table(*TWO)(m))

    if engine.dialect.name == "mariadb" and rows == 1:
        rows = 3  # It knows no partial index, so the rule concerns every row.
    verdict = gate("no-duplicates:users.ix", upgrade_to(new), engine)
    assert (verdict.rows or 0, verdict.open) == (rows, rows == 0)


def test_no_duplicates_of_a_prefix(mariadb_url: str) -> None:
    """Where an index goes by the start of a value, values that differ behind it are duplicates."""
    engine = create_engine(mariadb_url)
    make(engine, table(*TWO), users=[{"id": 1, "a": "xya"}, {"id": 2, "a": "xyb"}, {"id": 3, "a": "xz"}])

    def new(m: Any) -> None:
        Index("ix", table(*TWO)(m).c.a, unique=True, mysql_length=2, mariadb_length=2)  # type: ignore[attr-defined]

    verdict = gate("no-duplicates:users.ix", upgrade_to(new), engine)
    engine.dispose()
    assert_shut(verdict, 1, ["a='xy' (2 rows)"], "upgrade.deduplicate(User.a")


def test_no_duplicates_where_nulls_collide(postgresql: Engine) -> None:
    """Where NULLs count as equal, two of them are duplicates."""
    make(postgresql, table(*TWO), users=TWINS)
    rule = partial(UniqueConstraint, "a", name="uq", postgresql_nulls_not_distinct=True)
    assert gate("no-duplicates:users.uq", upgrade_to(table(*TWO, rule)), postgresql).rows == 4


def test_no_duplicates_under_the_column_s_collation(sqlite: Engine) -> None:
    """What counts as equal is the database's to say: values that differ by case only, here (gh-ost #1526)."""
    columns = (C("a", String(9, collation="NOCASE")),)
    make(sqlite, table(*columns), users=[{"id": 1, "a": "x"}, {"id": 2, "a": "X"}])
    upgrade = upgrade_to(table(*columns, partial(UniqueConstraint, "a", name="uq")))
    assert gate("no-duplicates:users.uq", upgrade, sqlite).rows == 1


# -- fits-type ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "values", "rows"),
    [
        (String(9), String(3), ["abc", "abcd", None], 1),
        (String(9), String(3), ["äöü", "äöüß"], 1),
        (BigInteger(), Integer(), [2**31 - 1, 2**31, -(2**31), -(2**31) - 1], 2),
        (Integer(), SmallInteger(), [2**15 - 1, 2**15, None], 1),
        (Numeric(9, 2), Numeric(5, 2), [Decimal("999.99"), Decimal(1000)], 1),
        (Numeric(9, 2), Numeric(8, 1), [Decimal("1.5"), Decimal("1.25")], 1),
    ],
    ids=["text", "letters", "integer", "smallint", "digits", "scale"],
)
def test_fits_type(engine: Engine, old: Any, new: Any, values: list[Any], rows: int) -> None:
    """A narrower type waits for the values that it cannot hold; NULL fits anywhere."""
    make(engine, table(C("a", old)), users=[{"id": n, "a": value} for n, value in enumerate(values, 1)])
    verdict = gate("fits-type:users.a", upgrade_to(table(C("a", new))), engine)
    assert (verdict.rows, verdict.open) == (rows, False)
    assert "data_migration" in str(verdict.remedy)


# -- holds no data --------------------------------------------------------------------------------------------------


def test_column_that_holds_data(engine: Engine) -> None:
    """A column that nobody has moved may go when it is empty of values: an empty string is one."""
    make(engine, table(C("a", String(9))), users=[{"id": 1, "a": ""}, {"id": 2}, {"id": 3, "a": "x"}])
    upgrade = upgrade_to(table(), lambda upgrade, _: upgrade.retire("users.a"))
    verdict = gate("data-elsewhere:users.a", upgrade, engine)
    assert_shut(verdict, 2, ["id=1", "id=3"], 'upgrade.discard("users.a"')
    run_sql(engine, "UPDATE users SET a = NULL")
    assert gate("data-elsewhere:users.a", upgrade, engine).open


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_table_that_holds_data(engine: Engine, rows: int) -> None:
    """A table that nobody has moved may go when it is empty; one row is a row (GitLab's min = max)."""
    make(engine, table(), users=MANY[:rows])
    upgrade = upgrade_to(lambda _: None, lambda upgrade, _: upgrade.retire("users"))
    verdict = gate("data-elsewhere:users", upgrade, engine)
    assert verdict.open is (rows == 0)
    assert (verdict.rows or 0) == rows


# -- value-unused ---------------------------------------------------------------------------------------------------


def test_value_unused(postgresql: Engine) -> None:
    """A label may go when no row of any table has it, in an array neither."""

    def build(*labels: str) -> Any:
        def build(m: Any) -> None:
            kind = pg.ENUM(*labels, name="mood")
            table(partial(Column, "mood", kind))(m)
            table(partial(Column, "moods", pg.ARRAY(kind)), name="others")(m)

        return build

    make(postgresql, build("a", "b", "c"), users=[{"id": 1, "mood": "a"}, {"id": 2, "mood": "c"}])
    run_sql(postgresql, "INSERT INTO others VALUES (1, '{a,c}'), (2, '{a}')")
    upgrade = upgrade_to(build("a", "b"))
    verdict = gate("value-unused:mood", upgrade, postgresql)
    assert_shut(verdict, 2, ["others id=1", "users id=2"], "data_migration")
    run_sql(postgresql, "DELETE FROM others WHERE id = 1")
    assert gate("value-unused:mood", upgrade, postgresql).rows == 1
    run_sql(postgresql, "DELETE FROM users WHERE id = 2")
    assert gate("value-unused:mood", upgrade, postgresql).open


# -- no-conflicts ---------------------------------------------------------------------------------------------------


def test_no_conflicts(postgresql: Engine) -> None:
    """An exclusion constraint waits for the pairs that exclude each other."""
    columns = (C("at", pg.INT4RANGE),)
    make(postgresql, table(*columns))
    run_sql(postgresql, "INSERT INTO users VALUES (1, '[1,5)'), (2, '[4,6)'), (3, '[7,8)'), (4, NULL)")
    rule = partial(pg.ExcludeConstraint, ("at", "&&"), name="ex", using="gist")
    upgrade = upgrade_to(table(*columns, rule))
    verdict = gate("no-conflicts:users.ex", upgrade, postgresql)
    assert (verdict.open, verdict.rows) == (False, 1)
    assert verdict.remedy
    run_sql(postgresql, "DELETE FROM users WHERE id = 1")
    assert gate("no-conflicts:users.ex", upgrade, postgresql).open


def test_no_conflicts_that_cannot_be_proved(postgresql: Engine) -> None:
    """What emc cannot express keeps the gate shut, even on an empty table, and only an override gets past it."""
    columns = (C("at", pg.INT4RANGE), C("on", Integer))
    make(postgresql, table(*columns))
    rule = partial(pg.ExcludeConstraint, ("at", "&&"), name="ex", using="gist", where=text('"on" > 0'))
    upgrade = upgrade_to(table(*columns, rule))
    verdict = gate("no-conflicts:users.ex", upgrade, postgresql)
    assert not verdict.open
    assert "--override no-conflicts:users.ex" in str(verdict.remedy)
    report = emc.contract(upgrade, postgresql, old_code_gone=True)
    assert report.exit_code is ExitCode.GATE_SHUT
    passed = emc.contract(
        upgrade, postgresql, old_code_gone=True, overrides={"no-conflicts:users.ex": "looked at it"}
    )
    assert passed.done == ("add-exclusion:users.ex",)


def test_keys_of_a_table_without_one(engine: Engine) -> None:
    """Rows of a table without a key are shown by their first columns."""

    def logs(*, nullable: bool) -> Any:
        return lambda m: Table("logs", m, Column("a", Integer), Column("b", Integer, nullable=nullable))

    make(engine, logs(nullable=True), logs=[{"a": 1}, {"a": 2, "b": 3}])
    verdict = gate("no-nulls:logs.b", upgrade_to(logs(nullable=False)), engine)
    assert verdict.keys == ("a=1, b=None",)


def test_enum_is_no_text(engine: Engine) -> None:
    """A narrower list of labels that is a CHECK is judged like any CHECK."""

    def build(*labels: str) -> Any:
        return table(
            C("mood", Enum(*labels, name="ck_mood", native_enum=False, create_constraint=True, length=9))
        )

    make(engine, build("a", "b"), users=[{"id": 1, "mood": "a"}, {"id": 2, "mood": "b"}])
    assert gate("no-violations:users.ck_mood", upgrade_to(build("a")), engine).rows == 1


def test_a_missing_fill_is_told_before_expand(engine: Engine) -> None:
    """Whoever plans a NOT NULL column without a fill hears of it at once, with the default of the models to paste."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE services (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(9))")
    metadata = sqlalchemy.MetaData()
    sqlalchemy.Table(
        "services",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(9)),
        Column("timeout", Integer, nullable=False, default=30),
    )
    [verdict] = [
        verdict
        for verdict in emc.plan(emc.Upgrade(metadata), engine).verdicts["set-not-null:services.timeout"]
        if verdict.gate == "no-nulls:services.timeout"
    ]
    assert not verdict.open
    assert verdict.remedy == "upgrade.fill(Service.timeout, 30)  # then: emc migrate"
