"""How is every operation on SQLite tried? Its probe is false, its statements run, its probe is true."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from alembic.operations import ops
from sqlalchemy import Connection, Engine, MetaData, Table

from emc.dialects.sqlite import SQLite
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation, ReplaceOp
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable
from emc.steps import LockPolicy, Probe, Step

SQLITE = SQLite()
_KINDS = {
    "table": ElementKind.TABLE,
    "column": ElementKind.COLUMN,
    "null": ElementKind.COLUMN,
    "type": ElementKind.COLUMN,
    "default": ElementKind.COLUMN,
    "index": ElementKind.INDEX,
    "unique": ElementKind.UNIQUE,
    "check": ElementKind.CHECK,
    "key": ElementKind.FOREIGN_KEY,
    "constraint": ElementKind.CHECK,
    "comment": ElementKind.TABLE,
}


def operation(kind: str, table: str, name: str | None, directive: ops.MigrateOperation) -> Operation:
    """An operation of the default schema, as changes make them."""
    element = Element(_KINDS[kind.rpartition("-")[2]], TableKey(None, table), name)
    return Operation(directive, kind, element, Phase.CONTRACT, f"{kind} {element}")


def create_table(table: Table) -> Operation:
    """CREATE TABLE."""
    return operation(Kind.CREATE_TABLE, table.name, None, ops.CreateTableOp.from_table(table))


def drop_table(name: str) -> Operation:
    """DROP TABLE."""
    return operation(Kind.DROP_TABLE, name, None, ops.DropTableOp(name))


def add_column(column: Any) -> Operation:
    """ADD COLUMN, of a column of the models."""
    directive = ops.AddColumnOp.from_column_and_tablename(None, column.table.name, column)
    return operation(Kind.ADD_COLUMN, column.table.name, column.name, directive)


def drop_column(table: str, name: str) -> Operation:
    """DROP COLUMN."""
    return operation(Kind.DROP_COLUMN, table, name, ops.DropColumnOp(table, name))


def alter(kind: str, table: str, name: str, **given: Any) -> Operation:
    """One change of one column."""
    return operation(kind, table, name, ops.AlterColumnOp(table, name, **given))


def add_constraint(kind: str, constraint: Any) -> Operation:
    """A constraint of the models."""
    directive = ops.AddConstraintOp.from_constraint(constraint)
    return operation(kind, constraint.table.name, constraint.name, directive)


def drop_constraint(kind: str, constraint: Any) -> Operation:
    """A constraint as reflection knows it."""
    directive = ops.DropConstraintOp.from_constraint(constraint)
    return operation(kind, constraint.table.name, constraint.name, directive)


def create_index(index: Any) -> Operation:
    """CREATE INDEX."""
    return operation(Kind.CREATE_INDEX, index.table.name, index.name, ops.CreateIndexOp.from_index(index))


def drop_index(table: str, name: str) -> Operation:
    """DROP INDEX."""
    return operation(Kind.DROP_INDEX, table, name, ops.DropIndexOp(name, table))


def replace(kind: str, drop: Operation, create: Operation, beside: str | None = None) -> Operation:
    """One index or constraint takes the place of another."""
    directive: Any = ReplaceOp(drop.directive, create.directive, beside)  # type: ignore[arg-type]
    element = create.element
    return Operation(directive, kind, element, Phase.CONTRACT, f"{kind} {element}")


def live_of(engine: Engine) -> LiveSchema:
    """What is there now."""
    with SQLITE.reading(engine) as connection:
        return SQLITE.read(connection, [None])


def holds(connection: Connection, probe: Probe) -> bool:
    """The answer of a probe."""
    return bool(connection.exec_driver_sql(probe.sql).scalar_one())


def units(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps that run together."""
    for _, group in groupby(steps, key=lambda step: step.unit):
        yield list(group)


def run_steps(engine: Engine, steps: Sequence[Step]) -> None:
    """Run steps as the executor does; each probe is false before its unit and true after it."""
    for unit in units(steps):
        with SQLITE.open(engine, unit[0].transaction, LockPolicy.SHORT, 5) as connection:
            for step in unit:
                assert not holds(connection, step.postcondition), f"{step.postcondition} holds too early"
            for step in unit:
                for statement in step.statements:
                    connection.exec_driver_sql(statement)
            for step in unit:
                assert holds(connection, step.postcondition), f"{step.postcondition} does not hold"


def run(engine: Engine, *operations: Operation) -> Sequence[Step]:
    """Plan operations from what is there, and run them."""
    live = live_of(engine)
    for one in operations:
        assert SQLITE.refuse(one, live) is None
    steps = SQLITE.steps(operations, live)
    assert sorted(step.id for step in steps) == sorted(one.id for one in operations)
    run_steps(engine, steps)
    return steps


def script(engine: Engine, *statements: str) -> None:
    """Run statements and commit."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """What a query answers."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def picture(table: LiveTable | None) -> Mapping[str, Any]:
    """A table as plain values, so that two of them can be compared."""
    assert table is not None
    return {
        "columns": [{**column, "type": repr(column["type"])} for column in table.columns.values()],
        "primary_key": table.primary_key,
        "foreign_keys": sorted(table.foreign_keys, key=repr),
        "indexes": [
            {**index, "dialect_options": {k: str(v) for k, v in index.get("dialect_options", {}).items()}}
            for index in table.indexes
        ],
        "uniques": sorted(table.uniques, key=repr),
        "checks": sorted(table.checks, key=repr),
        "definitions": dict(table.definitions),
    }


def pictures(live: LiveSchema) -> Mapping[TableKey, Mapping[str, Any]]:
    """Every table of a snapshot as plain values."""
    return {key: picture(table) for key, table in live.tables.items()}


def assert_converged(engine: Engine, metadata: MetaData) -> None:
    """The live schema is what a fresh ``create_all`` of the models would have made."""
    with engine.connect() as connection:
        spelled = SQLITE.spell(connection, list(metadata.tables.values()), LiveSchema({}))
    live = pictures(live_of(engine))
    assert live == {key: picture(table) for key, table in spelled.items()}
