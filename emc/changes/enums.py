"""Do the labels of an enumerated type differ?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alembic.operations import ops
from sqlalchemy import Enum

from emc.changes.base import Change, Situation, because_old_code, operation
from emc.names import Element, ElementKind, TableKey
from emc.operations import DROPPED_TYPES, AlterEnumOp, Kind, Operation
from emc.phases import Phase


@dataclass(frozen=True, eq=False)
class EnumChanged(Change):
    """An enumerated type is missing, or has other labels than the models."""

    directive: AlterEnumOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``create-enum`` or ``add-enum-value`` now, ``remove-enum-value`` later.

        The order of labels that both sides have is left alone.
        """
        directive = self.directive
        element = Element(ElementKind.ENUM, TableKey(directive.schema, directive.type_name))
        if not directive.before:
            yield operation(
                directive, Kind.CREATE_ENUM, element, Phase.EXPAND, f"create enumerated type {element}"
            )
            return
        both = merged(directive.before, directive.after)
        if directive.added:
            yield operation(
                AlterEnumOp(directive.type_name, directive.schema, directive.before, both, directive.columns),
                Kind.ADD_ENUM_VALUE,
                element,
                Phase.EXPAND,
                f"add {_listed(directive.added)} to enumerated type {element}",
            )
        if directive.removed:
            yield operation(
                AlterEnumOp(
                    directive.type_name,
                    directive.schema,
                    both,
                    tuple(label for label in both if label in directive.after),
                    directive.columns,
                ),
                Kind.REMOVE_ENUM_VALUE,
                element,
                Phase.CONTRACT,
                f"remove {_listed(directive.removed)} from enumerated type {element}",
                because=because_old_code("write it"),
            )


def merged(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """*before*, with each label that only *after* has put behind its predecessor there."""
    labels = list(before)
    for position, label in enumerate(after):
        if label not in labels:
            labels.insert(labels.index(after[position - 1]) + 1 if position else 0, label)
    return tuple(labels)


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(repr(label) for label in labels)


def types_that_go(situation: Situation) -> Mapping[Element, tuple[TableKey, ...]]:
    """Enumerated types that exist apart from columns and that nothing uses but elements which a person has named.

    A type that one such element uses goes with it: it is a part of what it was made for, and nobody could name it
    before that is gone.
    """
    modelled = {
        TableKey(column.type.schema, str(column.type.name))
        for table in situation.models.values()
        for column in table.columns
        if isinstance(column.type, Enum) and column.type.name
    }
    users: dict[TableKey, list[Element | None]] = {}
    for key, table in situation.live.tables.items():
        for name, column in table.columns.items():
            type_ = getattr(column["type"], "item_type", column["type"])
            if not isinstance(type_, Enum) or not type_.name:
                continue
            by_column = Element(ElementKind.COLUMN, key, name)
            by_table = Element(ElementKind.TABLE, key)
            named = next((one for one in (by_column, by_table) if one in situation.removals), None)
            users.setdefault(TableKey(getattr(type_, "schema", None), str(type_.name)), []).append(named)
    going: dict[Element, tuple[TableKey, ...]] = {}
    for type_key in sorted(users, key=lambda one: one.sort_key):
        elements = [element for element in users[type_key] if element is not None]
        only_one = len(elements) == len(users[type_key]) and len(set(elements)) == 1
        if only_one and type_key not in modelled and type_key in situation.live.enums:
            going[elements[0]] = (*going.get(elements[0], ()), type_key)
    return going


def take_along(directive: ops.MigrateOperation, types: tuple[TableKey, ...]) -> None:
    """Let the dialect know which enumerated types go with the table or column that *directive* drops."""
    if types:
        directive.info[DROPPED_TYPES] = types


def named_types(types: tuple[TableKey, ...]) -> str:
    """The types that go along, for the description of the drop."""
    return f", and with it enumerated type {', '.join(map(str, types))}" if types else ""
