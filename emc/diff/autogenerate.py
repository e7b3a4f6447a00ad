"""How is Alembic's own comparison run on a snapshot, so that it sends no query of its own?

Alembic makes the operations and runs the user's filters. It reads the snapshot through the cache of its inspector;
where it would guess or ask the server whether two texts mean the same, it asks the :class:`~emc.diff.pairs.Pair`
instead. The plugin that arranges this is registered in this process only, never through an entry point: those run in
the middle of ``import alembic``, and can break it for everyone.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.ddl._autogen import ComparisonResult
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Connection, Index, MetaData, Table, UniqueConstraint, inspect
from sqlalchemy.engine import Inspector

from emc.diff import facts
from emc.diff.comparators import TABLE_COMPARATORS
from emc.diff.pairs import Comparison, Pair
from emc.names import TableKey
from emc.schema import LiveTable

PLUGIN = "emc.diff"
_OPTION = "emc_comparison"


def run(
    connection: Connection, comparison: Comparison, metadata: Iterable[MetaData]
) -> list[ops.MigrateOperation]:
    """Compare what *comparison* holds, and nothing else.

    :return: the operations that lead from the database to the models, flat, in Alembic's order.
    """
    if not (comparison.pairs or comparison.added or comparison.removed):
        return []
    _register()
    context = MigrationContext.configure(
        connection=connection,
        opts={
            "target_metadata": list(metadata),
            "compare_type": True,
            "compare_server_default": True,
            "include_schemas": True,
            "include_name": comparison.accepts_name,
            "include_object": comparison.accepts_object,
            # Alembic's comparison of defaults costs a query each, aborts the transaction on json, and warns about
            # generated columns: ours takes its place.
            "autogenerate_plugins": ["alembic.autogenerate.*", "~alembic.autogenerate.defaults", PLUGIN],
            _OPTION: comparison,
        },
    )
    _answer_from_pairs(context, comparison.pairs)
    if comparison.database.tells_implied_indexes:
        # Alembic goes by names, and takes other indexes for such too.
        impl: Any = context.impl
        impl.correct_for_autogen_constraints = _nothing
    found = produce_migrations(context, context.opts["target_metadata"]).upgrade_ops
    assert found is not None
    return list(_flat(found.ops))


def _nothing(*_: object) -> None:
    pass


def _flat(operations: Iterable[ops.MigrateOperation]) -> Iterable[ops.MigrateOperation]:
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            yield from _flat(operation.ops)
        else:
            yield operation


# -- the snapshot in the place of reflection -----------------------------------------------------------------


@functools.cache
def _register() -> None:
    try:
        plugin = Plugin(PLUGIN)
    except ValueError:
        # This module was imported twice (importlib.reload): what the first import registered works the same.
        return
    plugin.add_autogenerate_comparator(_compare_snapshot, "autogenerate", priority=DispatchPriority.FIRST)
    plugin.add_autogenerate_comparator(_compare_default, "column", "server_default")
    for comparator in TABLE_COMPARATORS:
        plugin.add_autogenerate_comparator(
            _on_pairs(comparator), "table", f"{PLUGIN}.{comparator.__name__}", priority=DispatchPriority.LAST
        )


def _compare_snapshot(context: AutogenContext, upgrade_ops: ops.UpgradeOps) -> PriorityDispatchResult:
    """In the place of Alembic's own, which would ask the server for its schemas and tables."""
    comparison: Comparison = context.opts[_OPTION]
    live = {key: pair.live for key, pair in comparison.pairs.items()} | dict(comparison.removed)
    models = list(comparison.added.values()) + [pair.model for pair in comparison.pairs.values()]
    assert context.connection is not None
    assert context.dialect is not None
    # Both are computed on first use: what is set here is what Alembic goes by.
    vars(context)["inspector"] = _inspector(context.connection, live)
    vars(context)["sorted_tables"] = models
    vars(context)["table_key_to_table"] = {table.key: table for table in models}
    schemas = {key.schema for key in (*live, *comparison.added)} | {None}
    compare = context.comparators.dispatch("schema", qualifier=context.dialect.name)
    compare(context, upgrade_ops, schemas)
    return PriorityDispatchResult.STOP


def _inspector(connection: Connection, live: Mapping[TableKey, LiveTable]) -> Inspector:
    """An inspector that knows the tables *live*, and asks the server nothing."""
    inspector: Inspector = inspect(connection)
    inspector.bind = _WithoutDefaultSchema(connection)  # type: ignore[assignment]
    by_key = {(key.schema, key.name): table for key, table in live.items()}
    inspector.get_table_names = (  # type: ignore[method-assign]
        lambda schema=None, **_: [name for of, name in by_key if of == schema]
    )
    inspector.has_table = lambda name, schema=None, **_: (schema, name) in by_key  # type: ignore[method-assign]
    # Copies, because Alembic and SQLAlchemy write into these dictionaries.
    tables = by_key.items()
    inspector.info_cache.update(
        alembic_columns={key: [dict(column) for column in table.columns.values()] for key, table in tables},
        alembic_pk_constraint={
            key: dict(table.primary_key or {"constrained_columns": [], "name": None}) for key, table in tables
        },
        alembic_foreign_keys={key: [dict(one) for one in table.foreign_keys] for key, table in tables},
        alembic_indexes={
            key: [one for one in facts.reflected_indexes(table) if not one.get("duplicates_constraint")]
            for key, table in tables
        },
        alembic_unique_constraints={
            # Which index it duplicates is settled: Alembic would look for that one.
            key: [{k: v for k, v in one.items() if k != "duplicates_index"} for one in table.uniques]
            for key, table in tables
        },
        alembic_check_constraints={key: [dict(one) for one in table.checks] for key, table in tables},
        alembic_table_comment={key: {"text": table.comment} for key, table in tables},
        alembic_table_options={key: {} for key in by_key},
    )
    return inspector


class _WithoutDefaultSchema:
    """A connection whose dialect knows no default schema.

    Alembic takes a table of the models that names the default schema for one without a schema, and then finds all its
    foreign keys changed. The snapshot has it under the name that the models use.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect = copy.copy(connection.dialect)
        self.dialect.default_schema_name = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


# -- the pairs in the place of guesses -----------------------------------------------------------------------


def _answer_from_pairs(context: MigrationContext, pairs: Mapping[TableKey, Pair]) -> None:
    """Let Alembic ask *pairs* what differs; on this context alone, whose implementation object is its own."""
    impl: Any = context.impl
    its_type, its_index, its_unique = impl.compare_type, impl.compare_indexes, impl.compare_unique_constraint
    its_column = impl.autogen_column_reflect

    def of(table: Any) -> Pair:
        return pairs[TableKey(table.schema, str(table.name))]

    def compare_type(live: Column[Any], model: Column[Any]) -> bool:
        return of(live.table).type_differs(model, lambda: bool(its_type(live, model)))

    def compare_indexes(model: Index, live: Index) -> ComparisonResult:
        return _result(of(live.table).index_differs(model, lambda: its_index(model, live).is_different))

    def compare_unique_constraint(model: UniqueConstraint, live: UniqueConstraint) -> ComparisonResult:
        pair = of(live.table)
        return _result(
            pair.unique_differs(model, str(live.name), lambda: its_unique(model, live).is_different)
        )

    def autogen_column_reflect(inspector: Inspector, table: Table, column: Any) -> None:
        # PostgreSQL's would ask, once per column, who owns the sequence.
        if "nextval(" not in (column.get("default") or ""):
            its_column(inspector, table, column)

    impl.compare_type = compare_type
    impl.compare_indexes = compare_indexes
    impl.compare_unique_constraint = compare_unique_constraint
    impl.autogen_column_reflect = autogen_column_reflect
    # Would take expression indexes out of the comparison, with a warning.
    impl.correct_for_autogen_constraints = lambda *_: None


def _result(differs: bool) -> ComparisonResult:
    return ComparisonResult.Different("definition") if differs else ComparisonResult.Equal()


def _compare_default(
    context: AutogenContext,
    alter: ops.AlterColumnOp,
    schema: str | None,
    table_name: str,
    column_name: str,
    live: Column[Any],
    model: Column[Any],
) -> PriorityDispatchResult:
    pair = context.opts[_OPTION].pairs[TableKey(schema, str(table_name))]
    alter.existing_server_default = live.server_default if live.server_default is not None else None
    if not pair.generates(model) and pair.default_differs(model):
        alter.modify_server_default = model.server_default
    return PriorityDispatchResult.CONTINUE


def _on_pairs(comparator: Any) -> Any:
    """*comparator* of a pair, as Alembic calls comparators of a table."""

    def compare(
        context: AutogenContext,
        modify: ops.ModifyTableOps,
        schema: str | None,
        table_name: str,
        live: Table | None,
        model: Table | None,
    ) -> PriorityDispatchResult:
        if live is not None and model is not None:
            comparison: Comparison = context.opts[_OPTION]
            pair = comparison.pairs[TableKey(schema, str(table_name))]
            modify.ops.extend(comparator(pair, live, comparison))
        return PriorityDispatchResult.CONTINUE

    return compare
