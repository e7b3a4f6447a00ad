"""Do the labels of enumerated types differ, where types exist apart from the columns that use them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Enum, Table
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from emc.names import TableKey
from emc.operations import AlterEnumOp
from emc.schema import LiveSchema


def compare(
    doubtful: Iterable[Table],
    models: Mapping[TableKey, Table],
    live: LiveSchema,
    dialect: SQLAlchemyDialect,
) -> list[AlterEnumOp]:
    """The enumerated types that tables *doubtful* use and whose labels differ; those that are missing have no labels.

    Types that nobody in the models uses are left alone: another service may.
    """
    wanted: dict[TableKey, tuple[str, ...]] = {}
    for table in doubtful:
        for _, key, labels in _used(table, dialect):
            wanted.setdefault(key, labels)
    found = []
    for key in sorted(wanted, key=lambda key: key.sort_key):
        before = tuple(_live_labels(key, live, dialect))
        if before != wanted[key]:
            columns = tuple(
                (table_key, column)
                for table_key, table in models.items()
                for column, used, _ in _used(table, dialect)
                if used == key
            )
            found.append(AlterEnumOp(key.name, key.schema, before, wanted[key], columns))
    return found


def _used(table: Table, dialect: SQLAlchemyDialect) -> Iterator[tuple[str, TableKey, tuple[str, ...]]]:
    """Column, type and labels of the enumerated types that *table* uses."""
    for column in table.columns:
        enum = _native_enum(column.type, dialect)
        if enum is not None and enum.name:
            yield column.name, TableKey(enum.schema, str(enum.name)), tuple(enum.enums)


def _live_labels(key: TableKey, live: LiveSchema, dialect: SQLAlchemyDialect) -> Sequence[str]:
    """The labels of a type; the default schema may be said on one side and not on the other."""
    aliases = {None: dialect.default_schema_name, dialect.default_schema_name: None}
    alias = TableKey(aliases.get(key.schema, key.schema), key.name)
    return live.enums.get(key) or live.enums.get(alias) or ()


def _native_enum(type_: TypeEngine[Any], dialect: SQLAlchemyDialect) -> Enum | None:
    """The enumerated type behind *type_*, if the server has one for it."""
    impl = type_.dialect_impl(dialect)
    if isinstance(impl, TypeDecorator):
        return _native_enum(impl.impl_instance, dialect)
    item = getattr(impl, "item_type", None)
    if item is not None:
        return _native_enum(item, dialect)
    if isinstance(impl, Enum) and impl.native_enum and impl.name:
        return impl
    return None
