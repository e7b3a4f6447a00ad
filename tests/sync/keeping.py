"""Puts a sync in place as the dialect renders it, without declarations and plans, and looks at rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, MetaData, Table, func, not_, select

from emc.dialects import Dialect, dialect_of
from emc.names import Element, ElementKind, TableKey, dotted
from emc.operations import Kind, Operation
from emc.phases import Phase
from emc.schema import LiveSchema
from emc.steps import LockPolicy, Step, Transaction
from emc.sync import Sync, SyncOp

Converter = Callable[..., Any]


def table(*columns: Column[Any], name: str = "users") -> Table:
    """A table as both releases see it together: the old columns and the new ones."""
    return Table(name, MetaData(), Column("id", *_id(), primary_key=True, autoincrement=False), *columns)


def _id() -> tuple[Any, ...]:
    from sqlalchemy import Integer

    return (Integer,)


def same_value(*values: Any) -> Any:
    """Nothing is converted."""
    return values if len(values) > 1 else values[0]


def sync_of(
    row: Table,
    sources: Sequence[str],
    targets: Sequence[str],
    up: Converter = same_value,
    down: Converter | None = same_value,
) -> Sync:
    """What a declaration of *up* and *down* comes to."""

    def values(
        convert: Converter, given: Sequence[str], wanted: Sequence[str]
    ) -> dict[str, ColumnElement[Any]]:
        found = convert(*(row.c[name] for name in given))
        return dict(zip(wanted, found if isinstance(found, tuple) else (found,), strict=True))

    return Sync(
        name=dotted(row.schema, row.name, targets[0]),
        key=TableKey(row.schema, row.name),
        row=row,
        sources=tuple(sources),
        targets=tuple(targets),
        up=values(up, sources, targets),
        down={} if down is None else values(down, targets, sources),
        model=row,
    )


# -- doing --------------------------------------------------------------------------------------------------------


def live(engine: Engine) -> LiveSchema:
    """The snapshot."""
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        return dialect.read(connection, [None])


def operation(sync: Sync, *, install: bool, together: str | None = None) -> Operation:
    """The operation that puts *sync* in place, or takes it away."""
    element = Element(ElementKind.COLUMN, sync.target_key, sync.targets[0])
    kind, phase = (Kind.INSTALL_SYNC, Phase.EXPAND) if install else (Kind.DROP_SYNC, Phase.CONTRACT)
    return Operation(SyncOp(sync, install=install), kind, element, phase, "a sync", together=together)


def steps(engine: Engine, *operations: Operation) -> list[Step]:
    """What the dialect makes of *operations* now."""
    return list(dialect_of(engine).steps(operations, live(engine)))


def run(engine: Engine, *done: Step) -> None:
    """Send the statements of *done*, of one unit, as the executor does, and demand their results."""
    dialect = dialect_of(engine)
    with dialect.open(engine, done[0].transaction, LockPolicy.SHORT, 5) as connection:
        for step in done:
            for statement in step.statements:
                send(connection, statement)
    for step in done:
        assert holds(engine, step), step.postcondition.expects


def holds(engine: Engine, step: Step) -> bool:
    """Whether the catalog shows the result of *step*."""
    with engine.connect() as connection:
        return bool(send(connection, step.postcondition.sql).scalar())


def send(connection: Connection, statement: str) -> Any:
    """Send a statement as it stands."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def install(engine: Engine, sync: Sync) -> None:
    """Put *sync* in place."""
    for step in steps(engine, operation(sync, install=True)):
        run(engine, step)


def kept(engine: Engine, row: Table, sync: Sync, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Make the table, with *rows* that are there before anything keeps the two sides in step."""
    row.metadata.create_all(engine)
    if rows:
        with engine.begin() as connection:
            connection.execute(row.insert(), list(rows))
    install(engine, sync)


def stands(engine: Engine, sync: Sync) -> bool:
    """Whether the live schema shows *sync* in force, and nothing else by which emc keeps columns in step."""
    now = live(engine)
    wanted = {part.name: part.definition for part in dialect_of(engine).sync_parts(sync, now)}
    return dict(now.tables[sync.key].syncs) == wanted


# -- seeing -------------------------------------------------------------------------------------------------------


def rows(engine: Engine, row: Table) -> list[tuple[Any, ...]]:
    """The rows by their ids, without these."""
    with engine.connect() as connection:
        return [tuple(found)[1:] for found in connection.execute(select(row).order_by(row.c.id))]


def counted(engine: Engine, row: Table, condition: ColumnElement[bool]) -> int:
    """How many rows satisfy *condition*."""
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(row).where(condition)).scalar_one())


def out_of_step(engine: Engine, sync: Sync) -> int:
    """How many rows are not in step, by the predicate of the gate."""
    return counted(engine, sync.row, not_(sync.is_in_step(dialect_of(engine).same)))


def backfill(connection: Connection, sync: Sync, dialect: Dialect, rows: ColumnElement[bool]) -> int:
    """One batch of the copy, as the data work does it."""
    statement = sync.row.update().where(rows, sync.is_pending(dialect.same)).values(dict(sync.up))
    return connection.execute(statement).rowcount


@contextmanager
def writing(engine: Engine) -> Iterator[Callable[[str], Any]]:
    """Sends statements of an application, each committed by itself."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield lambda statement: send(connection, statement)


__all__ = [
    "Transaction",
    "backfill",
    "counted",
    "holds",
    "install",
    "kept",
    "live",
    "operation",
    "out_of_step",
    "rows",
    "run",
    "send",
    "stands",
    "steps",
    "sync_of",
    "table",
    "writing",
]
