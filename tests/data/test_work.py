"""Which rows each declaration stands for, on real databases."""

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    and_,
    create_engine,
    event,
    exists,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy import column as named
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from emc.dialects import dialect_of
from emc.errors import DeclarationError
from emc.names import TableKey
from emc.upgrade import Upgrade
from emc.work import (
    DELETE,
    CallFunction,
    DeleteRow,
    NotReady,
    SetValues,
    Work,
    all_work,
    anything_left,
    anything_undecided,
    rows_left,
    sample_keys,
)
from tests.data.support import column, execute, has_addresses, live_of, migrate, only_work, rows, work_of


class Base(DeclarativeBase):
    """The models of these tests."""


class User(Base):
    """A table with an attribute that is not named like its column."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email", name="uq_email"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    zone: Mapped[str] = mapped_column("tz")
    manager_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50), tz VARCHAR(50), manager_id INTEGER)"


def test_a_fill_is_the_rows_that_are_null(engine: Engine) -> None:
    """A fill counts the NULLs of its column and names their keys."""
    execute(engine, USERS, "INSERT INTO users (id, tz) VALUES (1, NULL), (2, 'UTC'), (3, NULL)")
    upgrade = Upgrade(Base.metadata)
    upgrade.fill(User.zone, "UTC")
    work = only_work(upgrade, engine)
    assert work.name == "fill:users.tz"
    assert isinstance(work.action, SetValues)
    with engine.connect() as connection:
        assert rows_left(connection, work) == 2
        assert anything_left(connection, work)
        assert sample_keys(connection, work) == ["id=1", "id=3"]


def test_a_column_that_is_not_null_needs_no_scan(engine: Engine) -> None:
    """Where the live column is NOT NULL already, the answer is given without a query."""
    execute(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, tz VARCHAR(50) NOT NULL)")
    upgrade = Upgrade(Base.metadata)
    upgrade.fill(User.zone, "UTC")
    work = only_work(upgrade, engine)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *sending: asked.append(sending[2]))
    with engine.connect() as connection:
        assert not anything_left(connection, work)
        assert rows_left(connection, work) == 0
        assert sample_keys(connection, work) == []
    assert asked == []


def test_a_column_that_is_not_there_yet_is_not_ready(engine: Engine) -> None:
    """Before expand there is nothing to fill, and the remedy is to expand."""
    execute(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
    upgrade = Upgrade(Base.metadata)
    upgrade.fill(User.zone, "UTC")
    [work] = work_of(upgrade, engine)
    assert isinstance(work, NotReady)
    assert work.reason == "column users.tz is not there yet"
    assert work.remedy == "run emc expand"


def test_a_table_that_is_not_there_yet_is_not_ready(engine: Engine) -> None:
    """The same holds for a table that the models have and the database has not."""
    upgrade = Upgrade(Base.metadata)
    upgrade.fill(User.zone, "UTC")
    upgrade.orphans(User.manager_id, action="delete")
    upgrade.deduplicate(User.email, keep=User.id)
    upgrade.data_migration(User, name="m", where=User.email.is_(None), values={"email": "x"})
    assert {type(work) for work in work_of(upgrade, engine)} == {NotReady}
    assert {work.remedy for work in work_of(upgrade, engine) if isinstance(work, NotReady)} == {
        "run emc expand"
    }


def test_a_table_that_is_gone_is_complete(engine: Engine) -> None:
    """A migration of a table that neither models nor database have any more has nothing left."""
    upgrade = Upgrade(Base.metadata)
    upgrade.data_migration("old_sessions", name="m", values={"a": 1})
    execute(engine, "CREATE TABLE old_sessions (b INTEGER)")
    # Not so for a table that is there without the column: that is a mistake.
    with pytest.raises(DeclarationError):
        work_of(upgrade, engine)
    execute(engine, "DROP TABLE old_sessions")
    work = only_work(upgrade, engine)
    assert work.is_complete
    with engine.connect() as connection:
        assert not anything_left(connection, work)
    assert migrate(engine, work).outcome == "complete"


def test_a_condition_on_the_models_finds_the_rows_of_the_live_table(engine: Engine) -> None:
    """Mapped attributes become live columns by their names in the database; aliases and other tables stay."""
    execute(
        engine,
        USERS,
        "INSERT INTO users VALUES (1, 'a', NULL, NULL), (2, 'b', 'x', 1), (3, 'c', NULL, 1), (4, 'd', NULL, 3)",
    )
    other = aliased(User)
    expected = {
        "attribute": (User.zone.is_(None), [1, 3, 4]),
        "conjunction": (and_(User.zone.is_(None), User.id > 2), [3, 4]),
        "correlated": (exists().where(other.manager_id == User.id), [1, 3]),
        "subquery": (User.id.in_(select(func.max(other.id)).group_by(other.manager_id)), [1, 3, 4]),
        "column": (User.__table__.c.tz == "x", [2]),
    }
    for name, (where, ids) in expected.items():
        upgrade = Upgrade(Base.metadata)
        upgrade.data_migration(User, name=name, where=where, values={User.email: User.email + "!"})
        work = only_work(upgrade, engine)
        with engine.connect() as connection:
            found = connection.execute(select(work.table.c.id).where(work.pending).order_by("id")).scalars()
            assert (name, list(found)) == (name, ids)


def test_a_condition_may_be_a_function_of_the_live_table(engine: Engine) -> None:
    """Columns that the models no longer have are there, typed as the database has them."""
    execute(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, tz VARCHAR(50), flavor_id INTEGER)")
    execute(engine, "INSERT INTO users VALUES (1, NULL, 7), (2, NULL, NULL)")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=lambda table: table.c.flavor_id.is_not(None))
    def move(row: object) -> None: ...

    work = only_work(upgrade, engine)
    assert isinstance(work.action, CallFunction)
    assert set(work.table.c.keys()) == {"id", "tz", "flavor_id"}
    with engine.connect() as connection:
        assert rows_left(connection, work) == 1


def test_a_column_that_was_retired_and_is_gone_leaves_nothing(engine: Engine) -> None:
    """After contract the declaration may stay: its condition names a column that somebody said would go."""
    execute(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, tz VARCHAR(50))")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=lambda table: table.c.flavor_id.is_not(None))
    def move(row: object) -> None: ...

    with pytest.raises(DeclarationError) as caught:
        all_work(upgrade, live_of(engine), dialect_of(engine).uniqueness)
    assert "test_work.py" in caught.value.places[0]
    upgrade.retire("users.flavor_id", after=[move])
    assert only_work(upgrade, engine).is_complete


def test_a_migration_is_over_when_what_was_to_go_after_it_is_gone(engine: Engine) -> None:
    """Rows that the new release writes after contract are no work, however they look: their source is no more."""
    execute(engine, USERS, "INSERT INTO users VALUES (1, NULL, 'a', NULL)")
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.email.is_(None))
    def move(row: object) -> None: ...

    assert not only_work(upgrade, engine).is_complete
    upgrade.retire("users.address", after=[move])
    assert only_work(upgrade, engine, "users.address").is_complete
    execute(engine, "ALTER TABLE users ADD COLUMN address VARCHAR(50)")
    assert not only_work(upgrade, engine, "users.address").is_complete


@pytest.mark.parametrize(
    ("target", "contracted", "is_over"),
    [
        ("users.address", (), False),
        ("users.address", ("users.phone",), False),
        ("users.address", ("users.address",), True),
        # It went with its table.
        ("places.address", ("places",), True),
        ("places", ("places",), True),
    ],
)
def test_what_is_not_there_was_not_therefore_dropped(
    engine: Engine, target: str, contracted: tuple[str, ...], is_over: bool
) -> None:
    """A name that is missing may be misspelt, or that of a rule that held no data: then the migration still runs."""
    execute(engine, USERS)
    upgrade = Upgrade(Base.metadata)

    @upgrade.data_migration(User, where=User.email.is_(None))
    def move(row: object) -> None: ...

    upgrade.retire(target, after=[move])
    assert only_work(upgrade, engine, *contracted).is_complete is is_over


OLD = Table("old", MetaData(), Column("user_id", Integer), Column("email", String(50)))


@pytest.mark.parametrize(
    ("target", "value", "is_over"),
    [
        ("users.address", named("address"), True),
        ("users.address", func.lower(named("address")), True),
        ("users.address", text("lower(address)"), True),
        ("users.address", literal_column("users.address"), True),
        ("users.address", text("lower(home_address)"), False),
        ("users.address", named("tz"), False),
        ("old", select(OLD.c.email).where(OLD.c.user_id == User.id).scalar_subquery(), True),
        ("old.email", select(OLD.c.email).where(OLD.c.user_id == User.id).scalar_subquery(), True),
        ("users.email_", select(OLD.c.email).where(OLD.c.user_id == User.id).scalar_subquery(), False),
    ],
)
def test_a_migration_that_cannot_run_without_what_is_gone_is_over(
    engine: Engine, target: str, value: Any, is_over: bool
) -> None:
    """Its values name what was to go after it, so it has been there, and its data was moved."""
    execute(engine, USERS)
    upgrade = Upgrade(Base.metadata)
    upgrade.data_migration(User, name="move", where=User.email.is_(None), values={User.email: value})
    upgrade.retire(target, after=["move"])
    [work] = work_of(upgrade, engine)
    assert (isinstance(work, Work) and work.is_complete) is is_over


def test_a_condition_that_is_null_is_neither_pending_nor_done(engine: Engine) -> None:
    """NULL is no answer: such rows are not written to, and are reported as undecided so no proof rests on them."""
    execute(engine, USERS, "INSERT INTO users VALUES (1, 'a', 'a', 1), (2, NULL, 'b', 1), (3, 'c', 'd', 1)")
    upgrade = Upgrade(Base.metadata)
    upgrade.data_migration(User, name="same", where=User.email != User.zone, values={User.email: User.zone})
    work = only_work(upgrade, engine)
    with engine.connect() as connection:
        assert rows_left(connection, work) == 1
        assert anything_undecided(connection, work)
    assert migrate(engine, work).outcome == "complete"
    assert rows(engine, "SELECT id, email FROM users ORDER BY id") == [(1, "a"), (2, None), (3, "d")]
    execute(engine, "UPDATE users SET email = 'b' WHERE id = 2")
    with engine.connect() as connection:
        assert not anything_undecided(connection, work)


def test_work_comes_after_what_it_waits_for(engine: Engine) -> None:
    """The order is that of the declarations, but nothing comes before what it waits for, rings are refused."""
    execute(engine, USERS)
    upgrade = Upgrade(Base.metadata)
    upgrade.data_migration(User, name="b", where=User.id < 0, values={"email": "x"}, after=["a"])
    upgrade.data_migration(User, name="a", where=User.id < 0, values={"email": "x"})
    upgrade.fill(User.zone, "UTC")
    assert [work.name for work in work_of(upgrade, engine)] == ["a", "b", "fill:users.tz"]
    upgrade.data_migration(User, name="c", where=User.id < 0, values={"email": "x"}, after=["d"])
    with pytest.raises(DeclarationError, match="'d'"):
        work_of(upgrade, engine)
    upgrade.data_migration(User, name="d", where=User.id < 0, values={"email": "x"}, after=["c"])
    with pytest.raises(DeclarationError) as caught:
        work_of(upgrade, engine)
    assert len(caught.value.places) == 2


# -- duplicates -------------------------------------------------------------------------------------------------


def test_the_last_of_equal_rows_stays(engine: Engine) -> None:
    """Of rows that are alike the first in the declared order stays; NULLs are not alike."""
    execute(
        engine,
        USERS,
        "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'b'), (3, 'a'), (4, NULL), (5, NULL), (6, 'a')",
    )
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id.desc())
    work = only_work(upgrade, engine)
    assert isinstance(work.action, DeleteRow)
    with engine.connect() as connection:
        assert sample_keys(connection, work) == ["id=1", "id=3"]
    result = migrate(engine, work)
    assert (result.outcome, result.rows_done) == ("complete", 2)
    assert column(engine, "SELECT id FROM users ORDER BY id") == [2, 4, 5, 6]
    assert migrate(engine, work).rows_done == 0


def test_ties_are_broken_by_the_key(engine: Engine) -> None:
    """Exactly one row stays where the declared order does not tell two rows apart."""
    execute(
        engine, USERS, "INSERT INTO users (id, email, tz) VALUES (3, 'a', 'x'), (1, 'a', 'x'), (2, 'a', 'y')"
    )
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.zone)
    assert migrate(engine, only_work(upgrade, engine), small=1).outcome == "complete"
    assert column(engine, "SELECT id FROM users") == [1]


def test_rows_that_are_alike_but_for_case_are_not_alike(engine: Engine) -> None:
    """The database compares, under the collation of the column, which on MariaDB ignores case by default."""
    execute(engine, USERS, "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'A')")
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    with engine.connect() as connection:
        assert anything_left(connection, only_work(upgrade, engine)) is (engine.dialect.name == "mariadb")


@pytest.mark.parametrize(
    ("collation", "gone"),
    [("utf8mb4_general_ci", [2, 3, 4]), ("utf8mb4_bin", [3]), ("utf8mb4_nopad_bin", [])],
)
def test_what_a_collation_finds_equal_is_equal(mariadb_url: str, collation: str, gone: list[int]) -> None:
    """gh-ost #1526, #825: case, accents and trailing blanks are the collation's business; the unique key agrees."""
    engine = create_engine(mariadb_url)
    execute(
        engine,
        f"CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(50) COLLATE {collation}, tz VARCHAR(50))",
        "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'A'), (3, 'a '), (4, 'ä'), (5, NULL), (6, NULL)",
    )
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    assert migrate(engine, only_work(upgrade, engine)).outcome == "complete"
    left = [number for number in range(1, 7) if number not in gone]
    assert column(engine, "SELECT id FROM users ORDER BY id") == left
    execute(engine, "CREATE UNIQUE INDEX uq_email ON users (email)")
    engine.dispose()


def test_long_texts_are_compared_to_their_end(mariadb_url: str) -> None:
    """By default the server sorts by the first 1,024 bytes, and loses track of equal texts that are longer."""
    engine = create_engine(mariadb_url)
    execute(
        engine,
        "CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(700) COLLATE utf8mb4_bin, tz VARCHAR(50))",
        "INSERT INTO users (id, email) SELECT seq, CONCAT(REPEAT('ä', 690), seq % 2) FROM seq_1_to_6",
    )
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    result = migrate(engine, only_work(upgrade, engine))
    assert (result.outcome, result.rows_done) == ("complete", 4)
    assert column(engine, "SELECT id FROM users ORDER BY id") == [1, 2]
    execute(engine, "CREATE UNIQUE INDEX uq_email ON users (email)")
    engine.dispose()


@pytest.mark.parametrize("option", ["mysql_length", "mariadb_length"])
def test_an_index_over_beginnings_compares_beginnings(mariadb_url: str, option: str) -> None:
    """Two rows that begin alike are duplicates to a unique index with a prefix length."""
    engine = create_engine(mariadb_url)
    execute(
        engine,
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(10) COLLATE utf8mb4_bin, gone INT)",
        "INSERT INTO t VALUES (1, 'abc', NULL), (2, 'abd', NULL), (3, 'b', NULL), (4, NULL, NULL)",
    )
    t = table_t()
    options: dict[str, Any] = {option: {"a": 2}}
    index = Index("ix", t.c.a, unique=True, **options)
    assert migrate(engine, index_work(engine, index)).rows_done == 1
    assert column(engine, "SELECT id FROM t ORDER BY id") == [1, 3, 4]
    execute(engine, "CREATE UNIQUE INDEX ix ON t (a(2))")
    engine.dispose()


@pytest.mark.parametrize("which", ["postgresql_url", "mariadb_url"])
def test_a_row_that_is_corrected_in_time_stays(request: pytest.FixtureRequest, which: str) -> None:
    """A duplicate that another session corrects before it is locked is none any more, and is not deleted."""
    engine = create_engine(request.getfixturevalue(which))
    execute(engine, USERS, "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'a'), (3, 'a')")
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    work = only_work(upgrade, engine)

    corrected: list[bool] = []

    def correct(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if not corrected and statement.startswith("SELECT users.id") and statement.endswith("FOR UPDATE"):
            corrected.append(True)
            execute(engine, "UPDATE users SET email = 'b' WHERE id = 3")

    event.listen(engine, "before_cursor_execute", correct)
    assert migrate(engine, work).rows_done == 1
    assert column(engine, "SELECT id FROM users ORDER BY id") == [1, 3]
    engine.dispose()


def test_a_collation_that_ignores_case_finds_duplicates(sqlite_url: str) -> None:
    """gh-ost #1526: rows that differ only by case are duplicates to a column that ignores case."""
    engine = create_engine(sqlite_url)
    execute(engine, "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50) COLLATE NOCASE, tz TEXT)")
    execute(engine, "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'A')")
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    assert migrate(engine, only_work(upgrade, engine)).rows_done == 1
    engine.dispose()


def test_a_unique_constraint_that_is_there_needs_no_scan(engine: Engine) -> None:
    """Once the constraint is there nothing is left, by the catalog alone; a partial index proves nothing."""
    execute(engine, USERS)
    if engine.dialect.name != "mariadb":  # It has none.
        execute(engine, "CREATE UNIQUE INDEX part ON users (email) WHERE id > 5")
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    assert not only_work(upgrade, engine).is_complete
    execute(engine, "CREATE UNIQUE INDEX uq_email ON users (email)")
    assert only_work(upgrade, engine).is_complete


def index_work(engine: Engine, index: Index) -> Work:
    """The deduplication for a unique index on t(a)."""
    table = index.table
    assert table is not None
    upgrade = Upgrade(table.metadata)
    upgrade.deduplicate(table.c.a, keep=table.c.id)
    return only_work(upgrade, engine)


def table_t() -> Table:
    """A model with an id and a column a."""
    return Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("a", String(10)),
        Column("gone", Integer),
    )


ROWS_T = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a VARCHAR(10), gone INTEGER)",
    "INSERT INTO t VALUES (1, 'x', NULL), (2, 'x', 1), (3, 'x', NULL), (4, 'X', NULL)",
    "INSERT INTO t VALUES (5, NULL, NULL), (6, NULL, NULL)",
)


def test_only_the_rows_of_a_partial_unique_index_are_compared(engine: Engine) -> None:
    """Rows outside the index's WHERE stay, however alike they are."""
    if engine.dialect.name == "mariadb":
        pytest.skip("MariaDB has no partial indexes")
    execute(engine, *ROWS_T)
    t = table_t()
    live = t.c.gone.is_(None)
    index = Index("ix", t.c.a, unique=True, postgresql_where=live, sqlite_where=text("gone IS NULL"))
    assert migrate(engine, index_work(engine, index)).outcome == "complete"
    assert column(engine, "SELECT id FROM t ORDER BY id") == [1, 2, 4, 5, 6]
    with engine.begin() as connection:
        index.create(connection)


def test_a_unique_index_on_an_expression_compares_the_expression(engine: Engine) -> None:
    """Rows are alike if what the index holds is alike."""
    if engine.dialect.name == "mariadb":
        pytest.skip("MariaDB has no indexes on expressions")
    execute(engine, *ROWS_T)
    t = table_t()
    index = Index("ix", func.lower(t.c.a).desc(), unique=True)
    assert migrate(engine, index_work(engine, index)).outcome == "complete"
    assert column(engine, "SELECT id FROM t ORDER BY id") == [1, 5, 6]
    with engine.begin() as connection:
        index.create(connection)


def test_nulls_are_alike_where_the_constraint_says_so(engine: Engine) -> None:
    """NULLS NOT DISTINCT is honoured on the database that has it, and deletes nothing on one that has not."""
    execute(engine, *ROWS_T)
    t = table_t()
    index = Index("ix", t.c.a, unique=True, postgresql_nulls_not_distinct=True)
    assert migrate(engine, index_work(engine, index)).outcome == "complete"
    kept = {"postgresql": [1, 4, 5], "sqlite": [1, 4, 5, 6], "mariadb": [1, 5, 6]}[engine.dialect.name]
    assert column(engine, "SELECT id FROM t ORDER BY id") == kept
    with engine.begin() as connection:
        index.create(connection)
    assert only_work_is_complete(engine, index)


def only_work_is_complete(engine: Engine, index: Index) -> bool:
    """Whether the catalog alone says that nothing is left."""
    return index_work(engine, index).is_complete


def test_duplicates_that_refer_to_each_other(engine: Engine) -> None:
    """A loser whose parent is a loser too goes in the end, although its parent cannot go before it."""
    execute(
        engine,
        "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50), tz VARCHAR(50), "
        "manager_id INTEGER REFERENCES users (id))",
        "INSERT INTO users (id, email, manager_id) VALUES (1, 'a', NULL), (2, 'a', 1), (3, 'a', 2), (4, 'b', 2)",
        "UPDATE users SET manager_id = NULL WHERE id = 4",
    )
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.email, keep=User.id)
    assert migrate(engine, only_work(upgrade, engine)).outcome == "complete"
    assert column(engine, "SELECT id FROM users ORDER BY id") == [1, 4]


def test_rows_without_a_key_cannot_be_told_apart(engine: Engine) -> None:
    """Without a key nothing is deleted, and the remedy is to add one."""
    execute(engine, "CREATE TABLE t (id INTEGER, a VARCHAR(10), gone INTEGER)")
    t = table_t()
    index = Index("ix", t.c.a, unique=True)
    assert index.table is t
    upgrade = Upgrade(t.metadata)
    upgrade.deduplicate(t.c.a, keep=t.c.id)
    [work] = work_of(upgrade, engine)
    assert isinstance(work, NotReady)
    assert "primary key" in work.remedy


def test_deduplication_without_a_constraint_is_a_mistake(engine: Engine) -> None:
    """No row goes where no constraint of the models demands it."""
    execute(engine, USERS)
    upgrade = Upgrade(Base.metadata)
    upgrade.deduplicate(User.zone, keep=User.id)
    with pytest.raises(DeclarationError) as caught:
        work_of(upgrade, engine)
    assert len(caught.value.places) == 1


# -- orphans ----------------------------------------------------------------------------------------------------


def orders(action: str, *, nullable: bool = True) -> Upgrade:
    """Orders with a composite foreign key."""
    metadata = MetaData()
    Table("parents", metadata, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
    child = Table(
        "orders",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("pa", Integer, nullable=nullable),
        Column("pb", Integer),
        ForeignKeyConstraint(["pa", "pb"], ["parents.a", "parents.b"]),
    )
    upgrade = Upgrade(metadata)
    upgrade.orphans(child.c.pa, child.c.pb, action=action)  # type: ignore[arg-type]  # One of the two.
    return upgrade


ORDERS = (
    "CREATE TABLE parents (a INTEGER, b INTEGER, PRIMARY KEY (a, b))",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, pa INTEGER, pb INTEGER)",
    "INSERT INTO parents VALUES (1, 1), (1, 2)",
    "INSERT INTO orders VALUES (1, 1, 1), (2, 2, 1), (3, 2, NULL), (4, NULL, NULL), (5, 1, 2), (6, 1, 3)",
)


def test_orphans_of_a_composite_key_are_deleted(engine: Engine) -> None:
    """Rows with a NULL in the key refer to nothing and stay."""
    execute(engine, *ORDERS)
    work = only_work(orders("delete"), engine)
    assert migrate(engine, work, small=1).rows_done == 2
    assert column(engine, "SELECT id FROM orders ORDER BY id") == [1, 3, 4, 5]


def test_orphans_lose_what_may_be_null(engine: Engine) -> None:
    """Of a composite key only the columns that may be NULL are set to NULL."""
    execute(engine, *ORDERS)
    assert migrate(engine, only_work(orders("set null", nullable=False), engine)).rows_done == 2
    assert rows(engine, "SELECT id, pa, pb FROM orders WHERE id IN (2, 6) ORDER BY id") == [
        (2, 2, None),
        (6, 1, None),
    ]


def test_half_of_a_key_is_an_orphan_where_all_or_nothing_is_asked_for(postgresql_url: str) -> None:
    """MATCH FULL allows no row with NULL in some columns only; what cleans up for it does not leave such a row."""
    engine = create_engine(postgresql_url)
    execute(engine, *ORDERS)
    upgrade = orders("set null")
    [constraint] = upgrade.tables[TableKey(None, "orders")].foreign_key_constraints
    constraint.match = "FULL"
    assert migrate(engine, only_work(upgrade, engine)).rows_done == 3
    execute(engine, "ALTER TABLE orders ADD FOREIGN KEY (pa, pb) REFERENCES parents (a, b) MATCH FULL")
    engine.dispose()


def test_a_foreign_key_that_is_there_needs_no_scan(engine: Engine) -> None:
    """Once the foreign key is there nothing is left, by the catalog alone."""
    execute(
        engine,
        ORDERS[0],
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, pa INTEGER, pb INTEGER, "
        "FOREIGN KEY (pb, pa) REFERENCES parents (b, a))",
    ) if engine.dialect.name == "sqlite" else execute(
        engine,
        *ORDERS[:2],
        "ALTER TABLE orders ADD FOREIGN KEY (pa, pb) REFERENCES parents (a, b)",
    )
    assert only_work(orders("delete"), engine).is_complete


def test_orphans_of_the_table_itself(engine: Engine) -> None:
    """Deleting an orphan makes orphans of its own children, and those go too."""
    execute(
        engine,
        USERS,
        "INSERT INTO users (id, manager_id) VALUES (1, NULL), (2, 9), (3, 2), (4, 3), (5, 1), (6, 7), (7, 99)",
    )
    upgrade = Upgrade(Base.metadata)
    upgrade.orphans(User.manager_id, action="delete")
    assert migrate(engine, only_work(upgrade, engine), small=1).rows_done == 5
    assert column(engine, "SELECT id FROM users ORDER BY id") == [1, 5]


@pytest.mark.parametrize("how", ["rule", "function", "without a key"])
def test_each_row_that_goes_makes_the_next_one_an_orphan(engine: Engine, how: str) -> None:
    """A tree that has lost its root goes row by row, each behind its parent, and nothing else of the table does."""
    key, metadata = how != "without a key", MetaData()
    if not key and not has_addresses(engine):
        pytest.skip("a row without a key has no address here")
    tree = Table(
        "tree",
        metadata,
        Column("id", Integer, primary_key=key, autoincrement=False),
        Column("parent", Integer, ForeignKey("tree.id")),
    )
    execute(engine, f"CREATE TABLE tree (id INTEGER{' PRIMARY KEY' if key else ''}, parent INTEGER)")
    with engine.begin() as connection:
        # The parent lies ahead, so a pass that has come to it has left the child behind.
        lost = [{"id": n, "parent": n + 1} for n in range(12)]
        connection.execute(tree.insert(), [*lost, {"id": 20, "parent": 20}, {"id": 21, "parent": 20}])
    upgrade, above = Upgrade(metadata), tree.alias()
    if how == "function":
        is_lost = ~exists().where(above.c.id == tree.c.parent)
        upgrade.data_migration(tree, name="prune", where=is_lost)(lambda _: DELETE)
    else:
        upgrade.orphans(tree.c.parent, action="delete")
    result = migrate(engine, only_work(upgrade, engine), small=5)
    assert (result.outcome, result.rows_done) == ("complete", 12)
    assert column(engine, "SELECT id FROM tree ORDER BY id") == [20, 21]


def test_orphans_without_a_foreign_key_is_a_mistake(engine: Engine) -> None:
    """The declaration has to name exactly the columns of a foreign key of the models."""
    execute(engine, *ORDERS)
    metadata = MetaData()
    child = Table("orders", metadata, Column("id", Integer, primary_key=True), Column("pa", Integer))
    upgrade = Upgrade(metadata)
    upgrade.orphans(child.c.pa, action="delete")
    with pytest.raises(DeclarationError) as caught:
        work_of(upgrade, engine)
    assert len(caught.value.places) == 1


def test_a_key_that_is_still_not_null_is_not_ready(engine: Engine) -> None:
    """Orphans are set to NULL only when expand has allowed NULL."""
    execute(
        engine,
        ORDERS[0],
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, pa INTEGER NOT NULL, pb INTEGER NOT NULL)",
    )
    [work] = work_of(orders("set null"), engine)
    assert isinstance(work, NotReady)


def test_a_class_that_shares_its_table_is_no_target() -> None:
    """With single-table inheritance the rows of every class are in the table; none of them is meant by accident."""

    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class Guest(Person):
        __mapper_args__ = {"polymorphic_identity": "guest"}  # noqa: RUF012

    upgrade = Upgrade(Base.metadata)
    with pytest.raises(DeclarationError, match="shares its table") as raised:
        upgrade.data_migration(Guest)
    assert "(Person)" in str(raised.value.remedy)
    upgrade.data_migration(Person)
