"""How do tests of phases get from two releases to a sorted difference, without a server?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

from emc.changes import Classified, classify
from emc.dialects import dialect_of
from emc.diff import compare
from emc.names import TableKey
from emc.phases import Phase
from emc.schema import LiveSchema, LiveTable
from emc.upgrade import Upgrade

Build = Callable[[MetaData], object]


def modelled(build: Build) -> MetaData:
    """The models that *build* makes."""
    metadata = MetaData()
    build(metadata)
    return metadata


def sorted_out(
    old: Build, new: Build, declare: Callable[[Upgrade, Any], object] | None = None, **options: Any
) -> Classified:
    """What becomes of the differences between a database made by *old* and the models of *new*.

    Args:
        old: adds the tables of the old release to a MetaData.
        new: adds those of the new release.
        declare: what a person says, given the upgrade and its tables by name.
        options: for the upgrade.
    """
    engine = create_engine("sqlite://")
    modelled(old).create_all(engine)
    metadata = modelled(new)
    upgrade = Upgrade(metadata, **options)
    if declare is not None:
        declare(upgrade, metadata.tables)
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        diff = compare(connection, upgrade, dialect)
        return classify(diff.directives, upgrade, diff.live, diff.models)


def sort_directives(
    directives: Sequence[ops.MigrateOperation],
    metadata: MetaData,
    live: Sequence[LiveTable] = (),
    declare: Callable[[Upgrade], object] | None = None,
) -> Classified:
    """What becomes of *directives*, made by hand, for what SQLite does not have."""
    upgrade = Upgrade(metadata)
    if declare is not None:
        declare(upgrade)
    return classify(directives, upgrade, LiveSchema({table.key: table for table in live}), upgrade.tables)


def ids(classified: Classified, phase: Phase) -> list[str]:
    """The names of the operations of *phase*."""
    return sorted(operation.id for operation in classified.operations if operation.phase is phase)


def phases(classified: Classified) -> tuple[list[str], list[str]]:
    """The names of the operations of expand, and of contract."""
    return ids(classified, Phase.EXPAND), ids(classified, Phase.CONTRACT)


def users(*more: Any, name: str = "users") -> Build:
    """A table with a key and *more*; each call of the answer makes them anew."""

    def build(m: MetaData) -> Table:
        made = [one() if callable(one) else one for one in more]
        return Table(name, m, Column("id", Integer, primary_key=True), *made)

    return build


def live_table(table: Table, **facts: Any) -> LiveTable:
    """*table* as the catalog of a database would show it, as far as the phase rule looks."""
    columns: Any = {
        column.name: {
            "name": column.name,
            "type": column.type,
            "nullable": column.nullable,
            "default": None if column.server_default is None else "something",
            "autoincrement": column.primary_key,
        }
        for column in table.columns
    }
    primary: Any = {"name": None, "constrained_columns": [column.name for column in table.primary_key]}
    return LiveTable(TableKey(table.schema, table.name), columns, primary, **facts)
