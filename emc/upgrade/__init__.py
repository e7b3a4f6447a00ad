"""What does the service want its database to become?

:class:`Upgrade` holds the target metadata and the declarations that models cannot express.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import Column, MetaData, Table

from emc.errors import DeclarationError
from emc.names import TableKey, is_own
from emc.upgrade.declarations import (
    Allow,
    DataMigration,
    Declaration,
    Deduplicate,
    Discard,
    Fill,
    Orphans,
    Removal,
    Retire,
    RowFunction,
    Where,
)
from emc.upgrade.declared import Declared
from emc.upgrade.given import clause_of, element_kind, key_of, name_of, parts_of, soak_of
from emc.upgrade.targets import caller, column_of, table_of

__all__ = [
    "Allow",
    "DataMigration",
    "Declaration",
    "Deduplicate",
    "Discard",
    "Fill",
    "Orphans",
    "Removal",
    "Retire",
    "Upgrade",
]

_F = TypeVar("_F", bound=RowFunction)


class Upgrade(Declared):
    """The target metadata of a release, plus what its models cannot express.

    :param metadata: the :class:`~sqlalchemy.MetaData` of the models, or several of them.
    :param release: the version label of the service, e.g. ``"2026.2"``; kept in the ledger.
    :param schemas: names of database schemas to look at besides the default one. ``None``: those that the models name.
    :param include_name: Alembic's ``include_name`` filter: ``(name, type, parent_names) -> bool``.
    :param include_object: Alembic's ``include_object`` filter: ``(object, name, type, reflected, compare_to) -> bool``.
    :raises DeclarationError: two of the MetaData hold a table of the same name, or a table bears emc's own prefix.
    """

    def __init__(
        self,
        metadata: MetaData | Sequence[MetaData],
        *,
        release: str | None = None,
        schemas: Sequence[str] | None = None,
        include_name: Callable[..., bool] | None = None,
        include_object: Callable[..., bool] | None = None,
    ) -> None:
        self.metadata: tuple[MetaData, ...] = (
            (metadata,) if isinstance(metadata, MetaData) else tuple(metadata)
        )
        self.release = release
        self.schemas = tuple(schemas) if schemas is not None else None
        self.include_name = include_name
        self.include_object = include_object
        self.place = caller()
        super().__init__()

    # -- what the models say ------------------------------------------------------------------------------------

    @property
    def tables(self) -> Mapping[TableKey, Table]:
        """The tables of the models, views left out, in the order of their names.

        :raises DeclarationError: two of the MetaData hold a table of the same name, or a table bears emc's prefix.
        """
        tables: dict[TableKey, Table] = {}
        for metadata in self.metadata:
            for table in metadata.tables.values():
                key = TableKey(table.schema, table.name)
                if getattr(table, "is_view", False):
                    continue
                if is_own(table.name):
                    raise DeclarationError(
                        f"Table {key} of the models bears the prefix emc_, which is kept for emc's own tables.",
                        places=[self.place],
                        remedy="Rename the table.",
                    )
                if key in tables:
                    raise DeclarationError(
                        f"Two of the MetaData given to Upgrade hold a table {key}.",
                        places=[self.place],
                        remedy="Give each table to one MetaData only.",
                    )
                tables[key] = table
        return dict(sorted(tables.items(), key=lambda item: item[0].sort_key))

    @property
    def schema_names(self) -> tuple[str | None, ...]:
        """The schemas to look at; ``None`` is the default schema of the connection."""
        named = self.schemas if self.schemas is not None else {k.schema for k in self.tables if k.schema}
        return (None, *sorted(named))

    # -- declarations -------------------------------------------------------------------------------------------

    def fill(self, column: Any, value: Any) -> None:
        """Give the existing rows of a new NOT NULL column a value.

        :param column: the mapped attribute or Column; NOT NULL in the models.
        :param value: a constant, a SQL expression, or a function of the row ``f(row)``. A constant also becomes a
            temporary server default, so that the old release's inserts fill the column too.
        :raises DeclarationError: the column may be NULL in the models, is unknown to them, or is filled already.
        """
        place = caller()
        column = self._known(column_of(column, place), place)
        if column.nullable:
            raise DeclarationError(
                f"{name_of(column)} may be NULL in the models, so rows without a value are complete as they are.",
                places=[place],
                remedy="Make the column NOT NULL, or move the data with @upgrade.data_migration(...).",
            )
        if value is None:
            raise DeclarationError(
                f"{name_of(column)} is NOT NULL, so NULL cannot fill it.",
                places=[place],
                remedy="Give a constant, a SQL expression or a function of the row.",
            )
        existing = self.fill_of(key_of(column.table), column.name)
        if existing is not None:
            raise DeclarationError(
                f"{name_of(column)} is filled twice.",
                places=[existing.place, place],
                remedy="Keep one of the two.",
            )
        self._declarations.append(Fill(place, column, value))

    def retire(
        self,
        target: str,
        *,
        after: Sequence[Any] = (),
        since: str | None = None,
        soak: str | dt.timedelta = "0s",
        kind: str | None = None,
    ) -> None:
        """Say that an element that used to be in the models may go once its data is elsewhere.

        :param target: dotted name of a table, column, index or constraint: ``"users.name"``.
        :param after: the data migrations (functions or names) that move its data elsewhere. Without any, the element
            may go once it holds no data.
        :param since: the release whose models no longer had the element.
        :param soak: how long its gates have to stay open first, e.g. ``"24h"`` (units: s, m, h, d, w).
        :param kind: ``"table"``, ``"column"``, ``"index"``, ``"unique"``, ``"check"``, ``"foreign-key"`` where the
            name alone is ambiguous.
        :raises DeclarationError: the element is in the models, or named by another ``retire`` or ``discard``.
        """
        place = caller()
        self._remove(
            Retire(
                place=place,
                target=target,
                parts=parts_of(target, place),
                kind=element_kind(kind, place),
                after=tuple(self._migration_name(one, place) for one in after),
                since=since,
                soak=soak_of(soak, place),
            )
        )

    def discard(self, target: str, *, reason: str, kind: str | None = None) -> None:
        """Say that an element may go with the data it holds.

        :param target: dotted name of a table, column, index or constraint: ``"users.cached_avatar"``.
        :param reason: why the data may be lost; kept in the ledger.
        :param kind: as for :meth:`retire`.
        :raises DeclarationError: no reason is given, the element is in the models, or it is named elsewhere too.
        """
        place = caller()
        if not reason.strip():
            raise DeclarationError(
                f"discard({target!r}) gives no reason.",
                places=[place],
                remedy=f'upgrade.discard("{target}", reason="who agreed that this data may be lost, and why")',
            )
        self._remove(
            Discard(
                place=place,
                target=target,
                parts=parts_of(target, place),
                kind=element_kind(kind, place),
                reason=reason,
            )
        )

    def allow(self, operation: str, *, reason: str) -> None:
        """Let an operation keep the application waiting that emc refuses to plan because of what it would cost.

        :param operation: the id of the step as the refusal gives it, e.g. ``"alter-type:orders.price"``.
        :param reason: who agreed to it, and when it is to run; kept in the ledger.
        :raises DeclarationError: no reason is given, or the operation is allowed already.
        """
        place = caller()
        if not reason.strip():
            raise DeclarationError(
                f"allow({operation!r}) gives no reason.",
                places=[place],
                remedy=f'upgrade.allow("{operation}", reason="who agreed to it, and when it is to run")',
            )
        self._once(
            Allow(place, operation, reason), operation, {one.operation: one for one in self.allowances}
        )

    def deduplicate(self, *columns: Any, keep: Any) -> None:
        """Say which row stays where a new unique constraint finds several alike; the others are deleted.

        :param columns: the mapped attributes or Columns of the constraint.
        :param keep: the order within a group of equal rows, as for ORDER BY; the first row stays.
        :raises DeclarationError: the columns are unknown to the models or of several tables, or declared already.
        """
        place = caller()
        resolved = self._columns(columns, place)
        order = tuple(keep) if isinstance(keep, (tuple, list)) else (keep,)
        declared = Deduplicate(place, resolved, tuple(clause_of(one, place) for one in order))
        self._once(declared, declared.name, {d.name: d for d in self._of(Deduplicate)})

    def orphans(self, *columns: Any, action: Literal["set null", "delete"]) -> None:
        """Say what happens to rows that a new foreign key finds without a parent.

        :param columns: the mapped attributes or Columns of the foreign key.
        :param action: ``"set null"`` or ``"delete"``.
        :raises DeclarationError: the columns are unknown to the models, cannot be NULL, or are declared already.
        """
        place = caller()
        resolved = self._columns(columns, place)
        if action not in ("set null", "delete"):
            raise DeclarationError(
                f"orphans(action={action!r}) is not an action.",
                places=[place],
                remedy='Give action="set null" or action="delete".',
            )
        if action == "set null" and not any(column.nullable for column in resolved):
            raise DeclarationError(
                f"{name_of(resolved[0])} is NOT NULL in the models, so its orphans cannot be set to NULL.",
                places=[place],
                remedy='Give action="delete", or make the column nullable.',
            )
        declared = Orphans(place, resolved, action)
        self._once(declared, declared.name, {d.name: d for d in self._of(Orphans)})

    def data_migration(
        self,
        target: Any,
        *,
        where: Where = None,
        values: Mapping[Any, Any] | None = None,
        name: str | None = None,
        after: Sequence[Any] = (),
    ) -> Callable[[_F], _F]:
        """Declare a data migration: rows that satisfy *where* are the work that remains.

        As a decorator of a function of the row; the function answers the values to write, by column name, and may
        take the connection as a second argument to write elsewhere in the same transaction. It answers
        :data:`emc.DELETE` to delete the row. Alternatively *values* says it in SQL, one UPDATE per batch; then the
        result of the call is not used.

        :param target: the mapped class or Table, or the dotted name of a table that the models no longer have.
        :param where: a condition on the table, or a function of the live Table that answers one; it must no longer
            hold for a row that is migrated. ``None``: every row (the migration deletes them).
        :param values: column to SQL expression or constant.
        :param name: the name to ask for on the command line; by default that of the function.
        :param after: data migrations (functions or names) that have to be complete before.
        :raises DeclarationError: the name is taken, or the target is unknown.
        """
        place = caller()
        table = None if isinstance(target, str) else table_of(target, place)
        if table is not None:
            self._known_table(table, place)
            key = key_of(table)
        else:
            parts = parts_of(target, place)
            key = TableKey(parts[0] if len(parts) == 2 else None, parts[-1])
            table = self.tables.get(key)
        after_names = tuple(self._migration_name(one, place) for one in after)

        def declare(function: RowFunction | None, its_name: str, by_column: Mapping[str, Any] | None) -> None:
            if ":" in its_name:
                raise DeclarationError(
                    f"{its_name!r} holds a colon, which emc keeps for the names it makes itself.",
                    places=[place],
                    remedy="Choose another name=.",
                )
            declared = DataMigration(
                place=place,
                name=its_name,
                key=key,
                table=table,
                where=where,
                function=function,
                values=by_column,
                after=after_names,
            )
            self._once(declared, its_name, {d.name: d for d in self._of(DataMigration)})

        if values is not None:
            if name is None:
                raise DeclarationError(
                    "A data migration in SQL has no function to take its name from.",
                    places=[place],
                    remedy='Give name="…".',
                )
            columns = {c if isinstance(c, str) else column_of(c, place).name: v for c, v in values.items()}
            declare(None, name, columns)

        def decorator(function: _F) -> _F:
            if values is not None:
                raise DeclarationError(
                    "A data migration is either a function or values=, not both.",
                    places=[place],
                    remedy="Leave one of them out.",
                )
            declare(function, name or function.__name__, None)
            return function

        return decorator

    # -- helpers of the declarations ----------------------------------------------------------------------------

    def _known_table(self, table: Table, place: str) -> None:
        if self.tables.get(key_of(table)) is not table:
            raise DeclarationError(
                f"Table {key_of(table)} is not in the metadata of this upgrade.",
                places=[place, self.place],
                remedy="Give its MetaData to Upgrade too, or name a table of this metadata.",
            )

    def _known(self, column: Column[Any], place: str) -> Column[Any]:
        self._known_table(column.table, place)
        return column

    def _columns(self, targets: Sequence[Any], place: str) -> tuple[Column[Any], ...]:
        columns = tuple(self._known(column_of(target, place), place) for target in targets)
        if not columns or len({column.table for column in columns}) != 1:
            raise DeclarationError(
                "The columns of one constraint belong to one table.",
                places=[place],
                remedy="Give one or more columns of the same table.",
            )
        return columns
