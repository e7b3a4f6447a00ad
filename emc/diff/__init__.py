"""How do the models and the database differ?

Alembic's autogenerate, on a snapshot that was read in bulk, behind a filter that answers *provably in step* for most
tables without asking it. Text (CHECK, WHERE, defaults) is compared in the server's own spelling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from alembic.operations.ops import MigrateOperation
from sqlalchemy import Connection, Table
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.schema import sort_tables_and_constraints

from emc.dialects.base import CannotSpellError, Dialect
from emc.diff import autogenerate, enumerations, facts
from emc.diff.aliases import as_models_say
from emc.diff.case import in_models_case
from emc.diff.directives import arranged
from emc.diff.instep import InStep
from emc.diff.keys import as_models_call
from emc.diff.pairs import Comparison, Note, Notes, Pair
from emc.diff.scope import Scope
from emc.names import TableKey
from emc.schema import LiveSchema, LiveTable
from emc.upgrade import Upgrade

__all__ = ["Diff", "Note", "compare", "look"]


@dataclass(frozen=True, eq=False)
class Diff:
    """The differences between the models and the database, live → models."""

    live: LiveSchema
    """What was read."""
    models: Mapping[TableKey, Table]
    """The tables of the models that survive the filters."""
    directives: tuple[MigrateOperation, ...]
    """Alembic's operations and emc's own, flat, each with one change; additions and removals alike. A redefinition
    is a drop and a create side by side. The order is the same whenever the inputs are."""
    notes: tuple[Note, ...]
    """What a person should know, and nobody acts on."""


def compare(connection: Connection, upgrade: Upgrade, dialect: Dialect) -> Diff:
    """Compare the models of *upgrade* with the database behind *connection*.

    :param connection: reads only, in a transaction that may be read-only; what the dialect creates to learn the
        server's spelling is gone when this returns.
    :raises DeclarationError: the MetaData of the upgrade do not go together.
    """
    scope = Scope(upgrade)
    models = {key: table for key, table in upgrade.tables.items() if scope.accepts_table(key)}
    live = look(connection, upgrade, dialect, models)
    instep = InStep(connection.dialect, dialect)

    standing = {key: live.tables[key] for key in models if key in live.tables}
    doubtful = [key for key, table in standing.items() if not instep.table(models[key], table)]
    spelled = _spelled(connection, dialect, [models[key] for key in doubtful], live)
    doubtful = [
        key
        for key in doubtful
        if key not in spelled
        or not facts.same_table(spelled[key], standing[key], connection.dialect)
        or not instep.foreign_keys(models[key], standing[key])
    ]
    notes = Notes()
    comparison = Comparison(
        pairs={
            key: Pair(key, models[key], standing[key], spelled.get(key), connection.dialect, dialect, notes)
            for key in doubtful
        },
        added=_in_order_of_creation({key: models[key] for key in models if key not in standing}),
        removed={
            key: table
            for key, table in sorted(live.tables.items(), key=lambda item: item[0].sort_key)
            if key not in models and scope.accepts_table(key)
        },
        database=dialect,
        accepts_name=scope.accepts_name,
        accepts_object=scope.accepts_object,
    )
    for key in standing:
        if key not in comparison.pairs:
            scope.accepts_in_step(models[key])
    found = autogenerate.run(connection, comparison, upgrade.metadata)
    models = {key: table for key, table in models.items() if key not in scope.rejected}
    looked_at = [models[key] for key in (*comparison.added, *comparison.pairs) if key in models]
    enums = (
        enumerations.compare(looked_at, models, live, connection.dialect) if dialect.separate_enums else []
    )
    return Diff(live, models, (*enums, *arranged(found, comparison)), notes.sorted())


def look(
    connection: Connection, upgrade: Upgrade, dialect: Dialect, models: Mapping[TableKey, Table]
) -> LiveSchema:
    """What the database has, in the words of *models*."""
    live = dialect.read(connection, upgrade.schema_names)
    live = in_models_case(live, models, connection.dialect)
    live = as_models_say(live, models, connection.dialect.default_schema_name)
    return dataclasses.replace(live, tables=_with_keys_as_called(live.tables, models, connection.dialect))


def _spelled(
    connection: Connection, dialect: Dialect, tables: list[Table], live: LiveSchema
) -> Mapping[TableKey, LiveTable]:
    if not tables:
        return {}
    try:
        spelled = dialect.spell(connection, tables, live)
    except CannotSpellError:
        return {}
    models = {TableKey(table.schema, table.name): table for table in tables}
    return _with_keys_as_called(spelled, models, connection.dialect)


def _with_keys_as_called(
    tables: Mapping[TableKey, LiveTable], models: Mapping[TableKey, Table], dialect: SQLAlchemyDialect
) -> dict[TableKey, LiveTable]:
    return {
        key: as_models_call(table, models[key], dialect) if key in models else table
        for key, table in tables.items()
    }


def _in_order_of_creation(tables: Mapping[TableKey, Table]) -> dict[TableKey, Table]:
    """*tables*, those that others refer to first; a cycle is cut somewhere, and always at the same place."""
    keys = {table: key for key, table in tables.items()}
    ordered: list[tuple[Table | None, object]] = sort_tables_and_constraints(tables.values())  # type: ignore[no-untyped-call]
    return {keys[table]: table for table, _ in ordered if table is not None}
