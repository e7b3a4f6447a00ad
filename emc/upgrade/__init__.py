"""What does the service want its database to become?

:class:`Upgrade` holds the target metadata and the declarations that models cannot express.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from sqlalchemy import Column, MetaData, Table

from emc.errors import DeclarationError
from emc.names import TableKey, is_own
from emc.upgrade.cleaning import Cleaning
from emc.upgrade.declarations import (
    Allow,
    DataMigration,
    Declaration,
    Deduplicate,
    Discard,
    Fill,
    OnError,
    Orphans,
    Removal,
    Retire,
    RowFunction,
    Where,
)
from emc.upgrade.given import element_kind, key_of, name_of, parts_of, soak_of
from emc.upgrade.pairing import Pairing
from emc.upgrade.parallel import Convert, Parallel, Rename, Superseded
from emc.upgrade.targets import caller, column_of, table_of
from emc.upgrade.throttling import Throttle, Throttling
from emc.upgrade.undoing import way_back

__all__ = [
    "Allow",
    "Convert",
    "DataMigration",
    "Declaration",
    "Deduplicate",
    "Discard",
    "Fill",
    "OnError",
    "Orphans",
    "Parallel",
    "Removal",
    "Rename",
    "Retire",
    "Superseded",
    "Throttle",
    "Upgrade",
]

_F = TypeVar("_F", bound=RowFunction)


class Upgrade(Cleaning, Pairing, Throttling):
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
        for parallel in self.parallels:
            if any(column is one for one in parallel.targets):
                self._demand_unfilled(Fill(place, column, value), parallel)
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

    def data_migration(
        self,
        target: Any,
        *,
        where: Where = None,
        values: Mapping[Any, Any] | None = None,
        name: str | None = None,
        after: Sequence[Any] = (),
        on_error: OnError = "quarantine",
        undo: Any = None,
        undo_where: Where = None,
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
        :param on_error: what becomes of a run that finds a row which cannot be migrated. ``"quarantine"``: the row is
            noted with its key and error, and the run goes on without it; the next run tries it again. ``"stop"``: the
            run ends at the first such row, with its key. Either way the row keeps the gate shut.
        :param undo: the way back, for ``emc undo``: values by column, or a function of the row, that bring to where
            the old release reads it what the migration has moved and what the new release has written since.
        :param undo_where: the rows that are left to take back; a function needs it. By default those in which the
            values differ.
        :raises DeclarationError: the name is taken, the target is unknown, or *on_error* is something else.
        """
        place = caller()
        if on_error not in get_args(OnError):
            raise DeclarationError(
                f"data_migration(on_error={on_error!r}) is not a way to go on.",
                places=[place],
                remedy='Give on_error="quarantine" or on_error="stop".',
            )
        table = None if isinstance(target, str) else table_of(target, place)
        if table is not None:
            self._known_table(table, place)
            key = key_of(table)
        else:
            parts = parts_of(target, place)
            key = TableKey(parts[0] if len(parts) == 2 else None, parts[-1])
            table = self.tables.get(key)
        after_names = tuple(self._migration_name(one, place) for one in after)
        back = way_back(undo, undo_where, place)

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
                undo=back,
                undo_where=undo_where,
                on_error=on_error,
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
