"""What tests of data work share: the live schema, and runs that do not wait."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, Table, inspect, text

from emc.data import BatchPolicy, Result, run
from emc.dialects import dialect_of
from emc.names import TableKey
from emc.schema import LiveSchema, LiveTable
from emc.state.lease import acquire
from emc.upgrade import Upgrade
from emc.work import NotReady, Work, all_work

QUICK = BatchPolicy(sleep=lambda _: None)
"""The defaults, without waiting."""


def live_of(engine: Engine) -> LiveSchema:
    """The tables of the default schema."""
    inspector = inspect(engine)
    tables = {}
    for name in inspector.get_table_names():
        key = TableKey(None, name)
        uniques = inspector.get_unique_constraints(name)
        tables[key] = LiveTable(
            key=key,
            columns={column["name"]: column for column in inspector.get_columns(name)},
            primary_key=inspector.get_pk_constraint(name),
            foreign_keys=inspector.get_foreign_keys(name),
            uniques=uniques,
            indexes=[
                index for index in inspector.get_indexes(name) if not index.get("duplicates_constraint")
            ],
        )
    return LiveSchema(tables)


def work_of(upgrade: Upgrade, engine: Engine, *contracted: str) -> tuple[Work | NotReady, ...]:
    """All data work of *upgrade* on the database of *engine*, from which contract has dropped *contracted*."""
    live = live_of(engine)
    return all_work(upgrade, live, dialect_of(engine).uniqueness, contracted=frozenset(contracted))


def only_work(upgrade: Upgrade, engine: Engine, *contracted: str) -> Work:
    """The one work of *upgrade*."""
    [work] = work_of(upgrade, engine, *contracted)
    assert isinstance(work, Work)
    return work


def migrate(engine: Engine, work: Work | NotReady, *, small: int | None = None, **options: Any) -> Result:
    """Run *work* as the one runner, without waiting.

    :param small: rows of a batch, however fast or slow the machine is.
    """
    dialect = options.pop("dialect", None) or dialect_of(engine)
    policy = options.pop("batch", QUICK)
    if small is not None:
        policy = dataclasses.replace(policy, start=small, smallest=1, largest=small, target=1e6)
    with acquire(engine, dialect, command="emc migrate") as lease:
        return run(engine, dialect, work, lease=lease, batch=policy, **options)


def execute(engine: Engine, *statements: str) -> None:
    """Run *statements* in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """What *query* answers."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def column(engine: Engine, query: str) -> Sequence[Any]:
    """The first column of what *query* answers."""
    return [row[0] for row in rows(engine, query)]


def has_addresses(engine: Engine) -> bool:
    """Whether rows can be walked without a key."""
    return dialect_of(engine).row_id(Table("t", MetaData(), Column("id", Integer))) is not None
