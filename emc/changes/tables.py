"""Is a table added or taken away?"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Constraint
from sqlalchemy.engine.interfaces import ReflectedForeignKeyConstraint

from emc.changes.base import Change, RefusedError, Situation, because_old_code, operation
from emc.changes.columns import bare_of, rules_of
from emc.changes.enums import named_types, take_along, types_that_go
from emc.errors import Refusal
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation, UnsupportedDifferenceOp, table_key
from emc.phases import Phase
from emc.schema import LiveTable


@dataclass(frozen=True, eq=False)
class TableAdded(Change):
    """The models have a table that the database does not have."""

    directive: ops.CreateTableOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``create-table``."""
        key = table_key(self.directive)
        taken = situation.live.names_taken.get(key)
        if taken is not None:
            raise RefusedError(
                Refusal(
                    str(key),
                    f"the models have a table {key}, and the database has {taken} of that name",
                    f"Rename the table in the models, or remove {taken} by hand if nobody needs it.",
                )
            )
        # Alembic lists them as the set that a Table keeps them in; the same models have to give the same statement.
        self.directive.columns = [
            *(item for item in self.directive.columns if not isinstance(item, Constraint)),
            *sorted(
                (item for item in self.directive.columns if isinstance(item, Constraint)),
                # The order in which SQLAlchemy's own DDL compiler writes them.
                key=lambda constraint: constraint._creation_order,  # noqa: SLF001
            ),
        ]
        later = [
            (sync, column)
            for column in situation.models[key].columns
            if (sync := situation.sync_to(key, column.name)) is not None
            and (not column.nullable or column.server_default is not None)
        ]
        waits = f", {and_listed([column.name for _, column in later])} empty for now" if later else ""
        yield operation(
            _relaxed(self.directive, [column for _, column in later]),
            Kind.CREATE_TABLE,
            Element(ElementKind.TABLE, key),
            Phase.EXPAND,
            f"create table {key}{waits}",
        )
        for sync, column in later:
            yield from rules_of(sync, key, column)


def and_listed(names: Sequence[str]) -> str:
    """*names* as a person lists them."""
    return " and ".join(", ".join(part) for part in (names[:-1], names[-1:]) if part)


def _relaxed(directive: ops.CreateTableOp, later: Sequence[Column[Any]]) -> ops.CreateTableOp:
    """*directive*, in which the columns *later* have neither NOT NULL nor a default: what old ones say comes first."""
    if not later:
        return directive
    relaxed = copy.copy(directive)
    names = {column.name for column in later}
    relaxed.columns = [
        bare_of(item) if isinstance(item, Column) and item.name in names else item
        for item in directive.columns
    ]
    return relaxed


@dataclass(frozen=True, eq=False)
class TableRetired(Change):
    """A person has named a table that the models no longer have."""

    directive: ops.DropTableOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """Foreign keys that would trip the new release go now; ``drop-table`` later."""
        key = table_key(self.directive)
        element = Element(ElementKind.TABLE, key)
        retired = {one.table for one in situation.removals if one.kind is ElementKind.TABLE}
        for table in situation.live.tables.values():
            for foreign_key in table.foreign_keys:
                parent = type(key)(foreign_key["referred_schema"], foreign_key["referred_table"])
                leaves = table.key == key and parent not in retired and _blocks_deletes(foreign_key, table)
                enters = parent == key and table.key not in retired
                if (leaves or enters) and foreign_key.get("name"):
                    name = str(foreign_key["name"])
                    if enters and table.key not in situation.models:
                        raise RefusedError(_held_by(key, table.key, name))
                    yield operation(
                        ops.DropConstraintOp(name, table.key.name, "foreignkey", schema=table.key.schema),
                        Kind.DROP_FOREIGN_KEY,
                        Element(ElementKind.FOREIGN_KEY, table.key, name),
                        Phase.EXPAND,
                        f"drop foreign key {name} of {table.key}",
                        because=f"it would keep the new release from deleting rows of {parent}"
                        if leaves
                        else f"the new release no longer writes {key}, which it demands",
                    )
        types = types_that_go(situation)
        take_along(self.directive, types.get(element, ()))
        yield operation(
            self.directive,
            Kind.DROP_TABLE,
            element,
            Phase.CONTRACT,
            f"drop table {key}{named_types(types.get(element, ()))}",
            reversible=False,
            because=because_old_code("read and write it"),
        )


def _held_by(key: TableKey, child: TableKey, name: str) -> Refusal:
    return Refusal(
        str(key),
        f"foreign key {name} of table {child}, which the models do not have and nobody has named, refers to it",
        f'If {child} goes too: upgrade.retire("{child}"). If it stays, whoever owns it has to drop {name} first.',
    )


def _blocks_deletes(foreign_key: ReflectedForeignKeyConstraint, table: LiveTable) -> bool:
    """Whether rows of *table* would keep the new release, which knows nothing of them, from deleting their parents."""
    action = str(foreign_key.get("options", {}).get("ondelete") or "NO ACTION").upper()
    if action == "SET NULL":
        return not all(table.columns[name]["nullable"] for name in foreign_key["constrained_columns"])
    return action != "CASCADE"


@dataclass(frozen=True, eq=False)
class Unsupported(Change):
    """A difference that no phase can make up for."""

    directive: UnsupportedDifferenceOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """None: it is refused."""
        directive = self.directive
        raise RefusedError(
            Refusal(
                str(directive.element),
                f"the {directive.what} differs: the database has {directive.live or 'none'}, "
                f"the models have {directive.model or 'none'}",
                _RECIPES.get(directive.what, _RECIPES["other"]).format(target=directive.element),
            )
        )


_RECIPES = {
    "primary key": "A primary key does not change online. Keep the old key in the models, or make a new table with the "
    'new key, copy the rows with @upgrade.data_migration(...), then upgrade.retire("{target}").',
    "identity": "Say in the models what the database has (Identity(...), or autoincrement=False for an integer key "
    "that has no sequence); or add a new column with the new "
    "identity, move the data with @upgrade.data_migration(...), and retire the old one.",
    "computed": "A generated column does not change its expression online. Add a new column with the new expression, "
    'under a new name, and upgrade.discard("{target}", reason="computed anew").',
    "partitioning": "A table does not change its partitioning online. Make a new table, copy the rows with "
    '@upgrade.data_migration(...), then upgrade.retire("{target}").',
    "other": "Change the models to what the database has, or leave the element out with include_object=.",
}
