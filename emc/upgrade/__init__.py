"""What does the service want its database to become?

:class:`Upgrade` holds the target metadata and the declarations that models cannot express.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import Column, ColumnElement, MetaData, Table

from emc.errors import DeclarationError
from emc.names import ElementKind, TableKey, is_own, split_dotted
from emc.upgrade.declarations import (
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
from emc.upgrade.targets import caller, column_of, table_of

__all__ = [
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
_SOAK = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Upgrade:
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
        self._declarations: list[Declaration] = []

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

    # -- what people say ----------------------------------------------------------------------------------------

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """Every declaration, in the order in which they were made."""
        return tuple(self._declarations)

    def _of(self, kind: type[_D]) -> Iterator[_D]:
        return (declaration for declaration in self._declarations if isinstance(declaration, kind))

    @property
    def removals(self) -> tuple[Removal, ...]:
        """Every ``retire`` and ``discard``."""
        return tuple(self._of(Removal))

    @property
    def data_migrations(self) -> tuple[DataMigration, ...]:
        """Every ``data_migration``."""
        return tuple(self._of(DataMigration))

    def fill_of(self, key: TableKey, column: str) -> Fill | None:
        """The ``fill`` of a column, if there is one."""
        for fill in self._of(Fill):
            if _key(fill.column.table) == key and fill.column.name == column:
                return fill
        return None

    @property
    def fills(self) -> tuple[Fill, ...]:
        """Every ``fill``."""
        return tuple(self._of(Fill))

    @property
    def deduplications(self) -> tuple[Deduplicate, ...]:
        """Every ``deduplicate``."""
        return tuple(self._of(Deduplicate))

    @property
    def orphan_rules(self) -> tuple[Orphans, ...]:
        """Every ``orphans``."""
        return tuple(self._of(Orphans))

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
                f"{_name(column)} may be NULL in the models, so rows without a value are complete as they are.",
                places=[place],
                remedy="Make the column NOT NULL, or move the data with @upgrade.data_migration(...).",
            )
        if value is None:
            raise DeclarationError(
                f"{_name(column)} is NOT NULL, so NULL cannot fill it.",
                places=[place],
                remedy="Give a constant, a SQL expression or a function of the row.",
            )
        existing = self.fill_of(_key(column.table), column.name)
        if existing is not None:
            raise DeclarationError(
                f"{_name(column)} is filled twice.",
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
                parts=_parts(target, place),
                kind=_element_kind(kind, place),
                after=tuple(self._migration_name(one, place) for one in after),
                since=since,
                soak=_soak(soak, place),
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
                parts=_parts(target, place),
                kind=_element_kind(kind, place),
                reason=reason,
            )
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
        declared = Deduplicate(place, resolved, tuple(_clause(one, place) for one in order))
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
                f"{_name(resolved[0])} is NOT NULL in the models, so its orphans cannot be set to NULL.",
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
            key = _key(table)
        else:
            parts = _parts(target, place)
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
        if self.tables.get(_key(table)) is not table:
            raise DeclarationError(
                f"Table {_key(table)} is not in the metadata of this upgrade.",
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

    def _migration_name(self, given: Any, place: str) -> str:
        if isinstance(given, str):
            return given
        for migration in self._of(DataMigration):
            if migration.function is given:
                return migration.name
        raise DeclarationError(
            f"after={given!r} is not a data migration of this upgrade.",
            places=[place],
            remedy="Declare it above with @upgrade.data_migration(...), or give its name.",
        )

    def _once(self, declared: Declaration, name: str, others: Mapping[str, Declaration]) -> None:
        if name in others:
            raise DeclarationError(
                f"{declared.verb} {name} is declared twice.",
                places=[others[name].place, declared.place],
                remedy="Keep one of the two, or give one another name.",
            )
        self._declarations.append(declared)

    def _remove(self, removal: Removal) -> None:
        for other in self.removals:
            if other.parts == removal.parts and (
                not other.kind or not removal.kind or other.kind is removal.kind
            ):
                raise DeclarationError(
                    f"{removal.target} is named by {other.verb} and by {removal.verb}.",
                    places=[other.place, removal.place],
                    remedy="Keep one of the two; kind= tells elements of the same name apart.",
                )
        self._declarations.append(removal)


_D = TypeVar("_D", bound=Declaration)


def _key(table: Any) -> TableKey:
    return TableKey(table.schema, table.name)


def _name(column: Column[Any]) -> str:
    return f"{_key(column.table)}.{column.name}"


def _parts(target: str, place: str) -> tuple[str, ...]:
    try:
        parts = split_dotted(target)
    except ValueError as error:
        raise DeclarationError(f"{error}.", places=[place], remedy='Write it like "users.name".') from None
    if len(parts) > 3:
        raise DeclarationError(
            f"{target!r} has more than three parts.",
            places=[place],
            remedy='Write it like "billing.users.name"; a part that holds a dot goes in double quotes.',
        )
    return parts


def _element_kind(kind: str | None, place: str) -> ElementKind | None:
    if kind is None:
        return None
    try:
        return ElementKind(kind)
    except ValueError:
        raise DeclarationError(
            f"kind={kind!r} is not a kind of element.",
            places=[place],
            remedy=f"Give one of {', '.join(repr(str(one)) for one in ElementKind)}.",
        ) from None


def _soak(soak: str | dt.timedelta, place: str) -> dt.timedelta:
    if isinstance(soak, dt.timedelta):
        return soak
    match = _SOAK.fullmatch(soak.strip())
    if match is None:
        raise DeclarationError(
            f"soak={soak!r} is not a length of time.",
            places=[place],
            remedy='Give a number and a unit (s, m, h, d, w), e.g. soak="24h".',
        )
    return dt.timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})


def _clause(given: Any, place: str) -> ColumnElement[Any]:
    element = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    if not isinstance(element, ColumnElement):
        raise DeclarationError(
            f"keep={given!r} is not an order.",
            places=[place],
            remedy="Give a column or an order such as User.id.desc().",
        )
    return element
