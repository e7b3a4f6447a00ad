"""Is a column added, taken away, or held to another rule?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import CheckConstraint, Column, DefaultClause, MetaData, Table, UniqueConstraint, literal
from sqlalchemy.exc import CompileError

from emc.changes.base import (
    Change,
    RefusedError,
    Situation,
    because_old_code,
    column_element,
    live_table,
    model_column,
    operation,
)
from emc.changes.companions import built_on, mentions
from emc.changes.enums import named_types, take_along, types_that_go
from emc.changes.syncs import goes_on, together
from emc.errors import Refusal
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation, table_key
from emc.phases import Phase
from emc.schema import LiveTable, inserts_must_name, set_by_updates
from emc.sync import Sync


@dataclass(frozen=True, eq=False)
class ColumnAdded(Change):
    """The models have a column that the database does not have."""

    directive: ops.AddColumnOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``add-column`` now; where rows need a value first, ``set-not-null`` later."""
        key = table_key(self.directive)
        column: Column[Any] = self.directive.column
        element = column_element(key, column.name)
        if column.primary_key:
            raise RefusedError(primary_key_refusal(key, f"column {column.name} joins it"))
        sync = situation.sync_to(key, column.name)
        if sync is not None:
            yield from _added_for(sync, key, column)
            return
        if column.nullable or column.server_default is not None or column.computed or column.identity:
            yield operation(self.directive, Kind.ADD_COLUMN, element, Phase.EXPAND, f"add column {element}")
            return
        relaxed = copy_of(column)
        relaxed.nullable = True
        relaxed.server_default = temporary_default(situation, key, column)
        addition = ops.AddColumnOp(key.name, relaxed, schema=key.schema)
        described = f"add column {element}, nullable for now"
        if relaxed.server_default is not None:
            described += ", with its fill as a temporary server default so that the old release fills it too"
        yield operation(addition, Kind.ADD_COLUMN, element, Phase.EXPAND, described)
        if relaxed.server_default is not None:
            yield drop_default(key, column)
        yield set_not_null(key, column)


def _added_for(sync: Sync, key: TableKey, column: Column[Any]) -> Iterable[Operation]:
    """A column that gets its values from old ones: empty at first, since whatever stands in it counts as written."""
    element = column_element(key, column.name)
    later = [
        what
        for what, is_so in (
            ("NOT NULL", not column.nullable),
            ("its default", column.server_default is not None),
        )
        if is_so
    ]
    waits = f", {' and '.join(later)} in contract" if later else ""
    yield operation(
        ops.AddColumnOp(key.name, bare_of(column), schema=key.schema),
        Kind.ADD_COLUMN,
        element,
        Phase.EXPAND,
        f"add column {element}{waits}",
    )
    yield from rules_of(sync, key, column)


def bare_of(column: Column[Any]) -> Column[Any]:
    """*column* with neither NOT NULL nor a default."""
    bare = copy_of(column)
    bare.nullable, bare.server_default = True, None
    return bare


def rules_of(sync: Sync, key: TableKey, column: Column[Any]) -> Iterable[Operation]:
    """In contract: what *column* of the models has and :func:`bare_of` it has not."""
    element = column_element(key, column.name)
    if column.server_default is not None:
        directive = ops.AlterColumnOp(
            key.name,
            column.name,
            schema=key.schema,
            existing_type=column.type,
            existing_nullable=True,
            modify_server_default=column.server_default,
        )
        yield _default_of(sync, element, directive)
    if not column.nullable:
        yield set_not_null(key, column)


def _default_of(sync: Sync, element: Element, directive: ops.AlterColumnOp) -> Operation:
    """The default of a column that gets its values from old ones: with them gone, it can be told from a value."""
    return operation(
        directive,
        Kind.SET_DEFAULT,
        element,
        Phase.CONTRACT,
        f"set the server default of {element}",
        because="in a row of the old release it would look like a value that the new one has written",
        together=together(sync),
    )


@dataclass(frozen=True, eq=False)
class ColumnRetired(Change):
    """A person has named a column that the models no longer have."""

    directive: ops.DropColumnOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """Whatever would trip the new release now; ``drop-column`` later."""
        key, name = table_key(self.directive), str(self.directive.column_name)
        table = live_table(situation, key)
        element = column_element(key, name)
        if name in (table.primary_key["constrained_columns"] if table.primary_key else ()):
            raise RefusedError(primary_key_refusal(key, f"column {name} leaves it"))
        column = table.columns[name]
        if inserts_must_name(column):
            relax = ops.AlterColumnOp(
                key.name,
                name,
                schema=key.schema,
                existing_type=column["type"],
                existing_nullable=False,
                modify_nullable=True,
            )
            yield operation(
                relax,
                Kind.DROP_NOT_NULL,
                element,
                Phase.EXPAND,
                f"let {element} be NULL",
                because="the new release no longer writes the column, and its inserts would fail",
            )
        released = list(_released(table, name, situation))
        yield from released
        types = types_that_go(situation)
        take_along(self.directive, types.get(element, ()))
        gone = {one.element for one in released} | situation.removals.keys()
        along = [f"{one.kind} {one.name}" for one in built_on(table, name) if one not in gone]
        yield operation(
            self.directive,
            Kind.DROP_COLUMN,
            element,
            Phase.CONTRACT,
            f"drop column {element}{named_types(types.get(element, ()))}"
            + (f", and with it {', '.join(along)}" if along else ""),
            reversible=False,
            because=because_old_code("read and write it"),
            together=together(sync) if (sync := situation.sync_from(key, name)) is not None else None,
        )


def _released(table: LiveTable, column: str, situation: Situation) -> Iterable[Operation]:
    """Foreign keys and CHECKs of a retired column that could trip the new release, which leaves the column NULL."""
    key = table.key
    for foreign_key in table.foreign_keys:
        if column in foreign_key["constrained_columns"] and foreign_key.get("name"):
            if goes_on(situation, table, foreign_key):
                continue  # The new release asks for the same, and both columns hold the same.
            name = str(foreign_key["name"])
            yield operation(
                ops.DropConstraintOp(name, key.name, "foreignkey", schema=key.schema),
                Kind.DROP_FOREIGN_KEY,
                Element(ElementKind.FOREIGN_KEY, key, name),
                Phase.EXPAND,
                f"drop foreign key {name} of {key}",
                because=f"it would keep the new release from deleting what {column} refers to",
            )
    others = [name for name in table.columns if name != column]
    for check in table.checks:
        text = check["sqltext"]
        if not check.get("name") or not mentions(text, column):
            continue
        if key in situation.models and str(check["name"]) in _check_names(situation.models[key]):
            continue  # the new release asks for it too, so it cannot speak of what that does not have
        # A CHECK of this column alone is passed by NULL, unless it asks for NULL.
        if any(mentions(text, other) for other in others) or re.search(
            r"\bnull\b|\bcoalesce\b", text, re.IGNORECASE
        ):
            name = str(check["name"])
            yield operation(
                ops.DropConstraintOp(name, key.name, "check", schema=key.schema),
                Kind.DROP_CHECK,
                Element(ElementKind.CHECK, key, name),
                Phase.EXPAND,
                f"drop check {name} of {key}",
                because=f"it asks for {column}, which the new release no longer writes",
            )


def _check_names(model: Table) -> set[str]:
    return {str(one.name) for one in model.constraints if isinstance(one, CheckConstraint)}


@dataclass(frozen=True, eq=False)
class NotNullChanged(Change):
    """A column may no longer be NULL, or now may."""

    directive: ops.AlterColumnOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``drop-not-null`` now, or ``set-not-null`` later."""
        key, name = table_key(self.directive), str(self.directive.column_name)
        element = column_element(key, name)
        if self.directive.modify_nullable:
            yield operation(
                self.directive, Kind.DROP_NOT_NULL, element, Phase.EXPAND, f"let {element} be NULL"
            )
        else:
            yield set_not_null(key, model_column(situation, key, name))


@dataclass(frozen=True, eq=False)
class DefaultChanged(Change):
    """The server default of a column is added, changed or gone."""

    directive: ops.AlterColumnOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``set-default`` now, or ``drop-default`` later; also later where updates no longer set the column."""
        key, name = table_key(self.directive), str(self.directive.column_name)
        if self.directive.modify_server_default is None:
            yield drop_default(key, model_column(situation, key, name), self.directive)
        elif (sync := situation.sync_to(key, name)) is not None:
            yield _default_of(sync, column_element(key, name), self.directive)
        else:
            element = column_element(key, name)
            rule = _broken_by_default(live_table(situation, key), name, self.directive.modify_server_default)
            if rule is not None:
                raise RefusedError(
                    Refusal(
                        str(element),
                        f"the models give it a server default, which every insert of the old release that leaves the "
                        f"column out would get, and {rule} would refuse the row",
                        f"Let the new release write the value itself (default=... in place of server_default=... of "
                        f"{element}), and add the server default in the release after it.",
                    )
                )
            before = live_table(situation, key).columns[name].get("default")
            stops = set_by_updates(before) and not set_by_updates(self.directive.modify_server_default)
            yield operation(
                self.directive,
                Kind.SET_DEFAULT,
                element,
                Phase.CONTRACT if stops else Phase.EXPAND,
                f"set the server default of {element}",
                because=because_old_code("leave it to the database to set the column at every update")
                if stops
                else None,
            )


def _broken_by_default(table: LiveTable, name: str, default: Any) -> str | None:
    """The rule of the live table that rows with the new default of a column would break; ``None`` if there is none.

    A constant can be in a unique column once. A function such as a sequence or a UUID gives each row its own, which a
    foreign key knows as little as a constant.
    """
    for foreign_key in table.foreign_keys:
        if name in foreign_key["constrained_columns"]:
            return f"its foreign key to {foreign_key['referred_table']}"
    if "(" in str(getattr(default, "arg", default)):
        return None
    uniques: list[list[str | None]] = [[*one["column_names"]] for one in table.uniques]
    uniques += [[*one["column_names"]] for one in table.indexes if one["unique"]]
    return "its unique constraint" if [name] in uniques else None


@dataclass(frozen=True, eq=False)
class CommentChanged(Change):
    """The comment of a column or table differs."""

    directive: ops.AlterColumnOp | ops.CreateTableCommentOp | ops.DropTableCommentOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``set-comment``."""
        key = table_key(self.directive)
        if isinstance(self.directive, ops.AlterColumnOp):
            element = column_element(key, str(self.directive.column_name))
        else:
            element = Element(ElementKind.TABLE, key)
        yield operation(
            self.directive, Kind.SET_COMMENT, element, Phase.EXPAND, f"set the comment of {element}"
        )


def set_not_null(key: TableKey, column: Column[Any]) -> Operation:
    """NOT NULL, once no row has NULL."""
    element = column_element(key, column.name)
    directive = ops.AlterColumnOp(
        key.name,
        column.name,
        schema=key.schema,
        existing_type=column.type,
        existing_nullable=True,
        modify_nullable=False,
    )
    return operation(
        directive,
        Kind.SET_NOT_NULL,
        element,
        Phase.CONTRACT,
        f"make {element} NOT NULL",
        because=because_old_code("leave it NULL"),
    )


def drop_default(key: TableKey, column: Column[Any], directive: ops.AlterColumnOp | None = None) -> Operation:
    """No server default any more, once nobody leaves the column out."""
    element = column_element(key, column.name)
    directive = directive or ops.AlterColumnOp(
        key.name, column.name, schema=key.schema, existing_type=column.type, modify_server_default=None
    )
    return operation(
        directive,
        Kind.DROP_DEFAULT,
        element,
        Phase.CONTRACT,
        f"drop the server default of {element}",
        because=because_old_code("leave the column out of its inserts"),
    )


def copy_of(column: Column[Any]) -> Column[Any]:
    """A column that can be changed without changing the models, apart from its table's constraints."""
    copied = column.table.to_metadata(MetaData()).columns[column.key]
    return Column(
        copied.name,
        copied.type,
        nullable=copied.nullable,
        server_default=copied.server_default,
        comment=copied.comment,
    )


def temporary_default(situation: Situation, key: TableKey, column: Column[Any]) -> DefaultClause | None:
    """The constant fill of *column* as a server default, where it can be written as a literal."""
    fill = situation.upgrade.fill_of(key, column.name)
    if fill is None or not fill.is_constant:
        return None
    if column.foreign_keys or _is_in_unique(column):
        # As a default the constant would reach every insert of the old release: the second one would be a duplicate,
        # and the parent that a foreign key asks for may not be there yet.
        return None
    value = literal(fill.value, column.type)
    try:
        value.compile(compile_kwargs={"literal_binds": True})
    except (CompileError, NotImplementedError):
        return None  # bytes and the like: the fill alone has to do
    return DefaultClause(value)


def _is_in_unique(column: Column[Any]) -> bool:
    table = column.table
    uniques = [one.columns for one in table.constraints if isinstance(one, UniqueConstraint)]
    uniques += [index.columns for index in table.indexes if index.unique]
    return any(column is one for columns in uniques for one in columns)


def primary_key_refusal(key: TableKey, what: str) -> Refusal:
    """Primary keys do not change online."""
    return Refusal(
        str(key),
        f"the primary key changes ({what}); foreign keys, replication and the old release all rely on it",
        f"Make a new table with the new key, copy the rows with @upgrade.data_migration(...), "
        f'then upgrade.retire("{key}"); or keep the key in the models as the database has it.',
    )
