"""Indexes, unique constraints and foreign keys of partitioned tables: by partition, beside the traffic, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops

from emc.dialects.postgresql import PostgreSQL
from emc.names import Element, ElementKind, TableKey
from emc.operations import SPELLED_DEFINITION, Kind, Operation, ReplaceOp
from emc.phases import Phase
from emc.schema import LiveSchema
from emc.steps import Hazard, LockPolicy, Step
from tests.dialects.test_postgresql_recipes import holds, run, send

POSTGRESQL = PostgreSQL()
KEY = TableKey(None, "things")
SETUP = (
    "CREATE TABLE parents (id int PRIMARY KEY)",
    "INSERT INTO parents SELECT generate_series(1, 50)",
    'CREATE SCHEMA "Old"',
    "CREATE TABLE things (id int, kind int, code text, parent_id int) PARTITION BY RANGE (id)",
    "CREATE TABLE p1 PARTITION OF things FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE p2 PARTITION OF things FOR VALUES FROM (100) TO (200) PARTITION BY LIST (kind)",
    "CREATE TABLE p2a PARTITION OF p2 FOR VALUES IN (1)",
    'CREATE TABLE "P2 b" PARTITION OF p2 DEFAULT',
    'CREATE TABLE "Old".p3 PARTITION OF things DEFAULT',
    "INSERT INTO things SELECT n, n % 3, 'c' || n, n % 50 + 1 FROM generate_series(0, 299) n",
)
LEAVES = {"p1", "p2a", "P2 b", "p3"}


@pytest.fixture(params=["postgresql_url", "newest_postgresql_url"], ids=["default", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A partitioned table on the default server and on the newest."""
    engine = sa.create_engine(request.getfixturevalue(request.param))
    send(engine, *SETUP)
    yield engine
    engine.dispose()


@pytest.fixture
def database(postgresql_url: str) -> Iterator[sa.Engine]:
    """A partitioned table on the default server."""
    engine = sa.create_engine(postgresql_url)
    send(engine, *SETUP)
    yield engine
    engine.dispose()


def things(*items: Any) -> sa.Table:
    """The table of the models, with more."""
    metadata = sa.MetaData()
    sa.Table("parents", metadata, sa.Column("id", sa.Integer))
    columns = [sa.Column(name, sa.Integer) for name in ("id", "kind", "code", "parent_id")]
    return sa.Table("things", metadata, *columns, *items)


def index(*arguments: Any, shown: str | None = None, **options: Any) -> Any:
    """CREATE INDEX, as the difference of models and database has it."""
    one = sa.Index(*arguments, **options)
    things(one)
    directive = ops.CreateIndexOp.from_index(one)
    if shown is not None:
        directive.info[SPELLED_DEFINITION] = shown
    return directive


def constraint(one: Any, shown: str | None = None) -> Any:
    """ADD CONSTRAINT, likewise."""
    things(one)
    directive = ops.AddConstraintOp.from_constraint(one)
    if shown is not None:
        directive.info[SPELLED_DEFINITION] = shown
    return directive


def operation(kind: str, directive: Any, of: ElementKind, name: str) -> Operation:
    """What the dialect is given."""
    return Operation(directive, kind, Element(of, KEY, name), Phase.CONTRACT, name)


def ix(name: str = "Ix") -> Operation:
    """A plain index."""
    return operation(Kind.CREATE_INDEX, index(name, "code"), ElementKind.INDEX, name)


def partial() -> Operation:
    """One whose form only the server knows."""
    shown = "USING btree (lower(code) DESC) INCLUDE (parent_id) WHERE (kind > 0)"
    options = {"postgresql_where": sa.text("kind > 0"), "postgresql_include": ["parent_id"]}
    directive = index("Ix", sa.text("lower(code) DESC"), shown=shown, **options)
    return operation(Kind.CREATE_INDEX, directive, ElementKind.INDEX, "Ix")


def unique() -> Operation:
    """A unique constraint, which has the columns of the partitioning."""
    directive = constraint(
        sa.UniqueConstraint("id", "kind", "code", name="uq", deferrable=True),
        "UNIQUE (id, kind, code) DEFERRABLE",
    )
    return operation(Kind.ADD_UNIQUE, directive, ElementKind.UNIQUE, "uq")


def foreign_key() -> Operation:
    """A foreign key."""
    one = sa.ForeignKeyConstraint(["parent_id"], ["parents.id"], name="fk", ondelete="CASCADE")
    return operation(Kind.ADD_FOREIGN_KEY, constraint(one), ElementKind.FOREIGN_KEY, "fk")


def read(engine: sa.Engine) -> LiveSchema:
    """The database as it is."""
    with POSTGRESQL.reading(engine) as connection:
        return POSTGRESQL.read(connection, [None])


def step(engine: sa.Engine, one: Operation) -> Step:
    """The step for the database as it is."""
    (its,) = POSTGRESQL.steps([one], read(engine))
    return its


def fetch(engine: sa.Engine, sql: str) -> list[Any]:
    """The first column of what *sql* answers."""
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(sql).scalars())


CASES = [ix, partial, unique, foreign_key]


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_by_partition(server: sa.Engine, make: Callable[[], Operation]) -> None:
    """Nothing that takes long locks anybody out, and in the end every partition is part of the whole."""
    assert POSTGRESQL.refuse(make(), read(server)) is None
    its = step(server, make())
    assert Hazard.BLOCKS_WRITES not in its.hazards
    for statement, policy in zip(its.statements, its.policies, strict=True):
        long = "CONCURRENTLY" in statement or "VALIDATE" in statement
        assert policy is (LockPolicy.WEAK if long else LockPolicy.SHORT), statement
        assert not statement.startswith("CREATE") or long or " ON ONLY " in statement
    assert not holds(server, its)
    run(server, its)
    assert holds(server, its)
    assert fetch(server, "SELECT indexrelid FROM pg_index WHERE NOT indisvalid") == []
    assert fetch(server, "SELECT conname FROM pg_constraint WHERE NOT convalidated") == []
    kind = make().element.kind
    table = read(server).tables[KEY]
    assert {one.key.name for one in table.partitions if one.is_leaf} == LEAVES
    its_kind = ElementKind.FOREIGN_KEY if kind is ElementKind.FOREIGN_KEY else ElementKind.INDEX
    assert all(any(of is its_kind for of, _ in one.part_of) for one in table.partitions)
    assert step(server, make()).statements in ((), its.statements[-1:])


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_crash_between_statements(database: sa.Engine, make: Callable[[], Operation]) -> None:
    """After a crash between any two statements, only what is left is done: no partition's index is built twice."""
    count = len(step(database, make()).statements)
    built = "CREATE UNIQUE INDEX CONC", "CREATE INDEX CONC", "VALIDATE"
    for survived in range(count):
        its = step(database, make())
        run(database, its, survived)
        assert not holds(database, its)
        again = step(database, make())
        assert len([one for one in again.statements if any(word in one for word in built)]) == len(
            [one for one in its.statements[survived:] if any(word in one for word in built)]
        )
        run(database, again)
        assert holds(database, again)
        send(database, "DROP TABLE things", "DROP TABLE parents", 'DROP SCHEMA "Old"', *SETUP)


def test_an_index_that_fits_is_taken_in(database: sa.Engine) -> None:
    """What an operator has built on a partition is not built again; what only has the name stays as it is."""
    send(
        database,
        "CREATE INDEX mine ON p1 (code)",
        "CREATE INDEX half ON ONLY p2 (code)",
        'CREATE INDEX "p2a_Ix" ON p2a (parent_id)',
    )
    its = step(database, ix())
    assert not [one for one in its.statements if " ON p1 " in one or "ON ONLY p2 " in one]
    run(database, its)
    assert holds(database, its)
    parts = {one.key.name: name for one in read(database).tables[KEY].partitions for _, name in one.part_of}
    assert (parts["p1"], parts["p2"]) == ("mine", "half")
    assert parts["p2a"] not in ("p2a_Ix", "mine")
    assert fetch(database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'p2a_Ix'") == [
        'CREATE INDEX "p2a_Ix" ON public.p2a USING btree (parent_id)'
    ]


def test_an_invalid_leftover_of_a_partition_is_built_again(database: sa.Engine) -> None:
    """A build that failed on one partition is begun again there, and nowhere else."""
    send(database, "INSERT INTO things VALUES (150, 1, 'twice', 1), (150, 1, 'twice', 1)")
    its = step(database, unique())
    with pytest.raises(sa.exc.IntegrityError):
        run(database, its)
    assert not holds(database, its)
    assert read(database).tables[KEY].unfinished == {"uq"}
    send(database, "DELETE FROM things WHERE code = 'twice'")
    again = step(database, unique())
    assert [one for one in again.statements if one.startswith("DROP INDEX CONCURRENTLY")] != []
    run(database, again)
    assert holds(database, again)


def test_a_partition_that_comes_meanwhile_has_it_too(database: sa.Engine) -> None:
    """The parent's is there first, so that a partition that somebody adds during the builds gets its own."""
    its = step(database, unique())
    run(database, its, 1)
    send(
        database,
        'ALTER TABLE things DETACH PARTITION "Old".p3',
        "CREATE TABLE p4 PARTITION OF things DEFAULT",
    )
    again = step(database, unique())
    run(database, again)
    assert holds(database, again)
    assert [one.key.name for one in read(database).tables[KEY].partitions] == [
        "p2",
        "p1",
        "p4",
        "P2 b",
        "p2a",
    ]


def test_the_parents_foreign_key_looks_at_no_row(server: sa.Engine) -> None:
    """Where every partition has proved its own, the parent's is a matter of a moment: it would not see an orphan."""
    its = step(server, foreign_key())
    run(server, its, len(its.statements) - 1)
    send(
        server,
        "SET session_replication_role = replica",
        "INSERT INTO things VALUES (5, 0, 'orphan', 999)",
        "SET session_replication_role = origin",
    )
    run(server, step(server, foreign_key()))
    assert holds(server, its)


@pytest.mark.parametrize("name", ["Ix", "é" * 31])
def test_an_index_takes_the_place_of_another(database: sa.Engine, name: str) -> None:
    """The new one is built beside the old one on every partition; in the end the names are as if it had been first."""
    run(database, step(database, ix(name)))
    before = {name for one in read(database).tables[KEY].partitions for _, name in one.part_of}
    directive = ReplaceOp(ops.DropIndexOp(name, "things"), index(name, "code", "kind"))
    its = step(database, operation(Kind.REPLACE_INDEX, directive, ElementKind.INDEX, name))
    assert not holds(database, its)
    run(database, its)
    assert holds(database, its)
    after = {name for one in read(database).tables[KEY].partitions for _, name in one.part_of}
    assert after == before
    assert max(len(one.encode()) for one in after) <= 63


def test_constraints_take_the_place_of_others(server: sa.Engine) -> None:
    """So it is with unique constraints and foreign keys."""
    run(server, step(server, unique()))
    run(server, step(server, foreign_key()))
    wider = constraint(
        sa.UniqueConstraint("id", "kind", "parent_id", name="uq"), "UNIQUE (id, kind, parent_id)"
    )
    looser = constraint(
        sa.ForeignKeyConstraint(["parent_id"], ["parents.id"], name="fk", ondelete="SET NULL")
    )
    for name, kind, of, directive in (
        ("uq", "unique", ElementKind.UNIQUE, wider),
        ("fk", "foreignkey", ElementKind.FOREIGN_KEY, looser),
    ):
        swap = ReplaceOp(ops.DropConstraintOp(name, "things", kind), directive)
        its = step(server, operation(Kind.REPLACE_CONSTRAINT, swap, of, name))
        assert not holds(server, its)
        run(server, its)
        assert holds(server, its)
    names = "SELECT DISTINCT conname FROM pg_constraint WHERE contype IN ('u', 'f') AND connamespace <> 11 ORDER BY 1"
    assert fetch(server, names) == ["P2 b_uq", "fk", "p1_uq", "p2_uq", "p2a_uq", "p3_uq", "uq"]


def test_scans_of_all_partitions_count(database: sa.Engine) -> None:
    """An index of a partitioned table is in use when that of one of its partitions is."""
    run(database, step(database, ix()))
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        element = Element(ElementKind.INDEX, KEY, "Ix")
        assert POSTGRESQL.index_scans(connection, element) == 0
        connection.exec_driver_sql("SET enable_seqscan = off")
        connection.exec_driver_sql("SELECT id FROM things WHERE code = 'c7' AND id < 100").all()
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        assert (POSTGRESQL.index_scans(connection, element) or 0) > 0
        assert POSTGRESQL.index_scans(connection, Element(ElementKind.INDEX, KEY, "none")) is None
