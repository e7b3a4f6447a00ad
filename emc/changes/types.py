"""Does a column's type change, and can the old release notice?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Enum
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import constructor_copy

from emc.changes.base import Change, RefusedError, Situation, because_old_code, column_element, operation
from emc.changes.enums import merged
from emc.errors import Refusal
from emc.fit import Fit
from emc.names import Element
from emc.operations import SPELLED_TYPE, Kind, Operation, table_key
from emc.phases import Phase


@dataclass(frozen=True, eq=False)
class TypeChanged(Change):
    """A column has another type: a wider one goes at once, a narrower one when every row fits, any other is refused."""

    directive: ops.AlterColumnOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``alter-type``; twice where labels of an enumeration that is part of its column come and go."""
        key, name = table_key(self.directive), str(self.directive.column_name)
        element = column_element(key, name)
        old, new = self._types()
        verdict = situation.fit(old, new)
        if verdict is Fit.WIDER:
            yield _altered(self.directive, element, Phase.EXPAND)
        elif verdict is Fit.NARROWER:
            yield _altered(self.directive, element, Phase.CONTRACT)
        elif (both := _both_labels(old, new)) is not None:
            wide, narrow = _apart(self.directive, both)
            yield _altered(wide, element, Phase.EXPAND)
            yield _altered(narrow, element, Phase.CONTRACT)
        else:
            raise RefusedError(
                Refusal(
                    str(element),
                    f"the type changes from {old!r} to {new!r}, and values of the one are not values of the other, "
                    "so old and new release cannot share the column",
                    conversion_recipe(situation, key.name, name, str(element)),
                )
            )

    def _types(self) -> tuple[TypeEngine[Any], TypeEngine[Any]]:
        old, new = self.directive.existing_type, self.directive.modify_type
        if old is None or new is None:
            raise LookupError(f"the diff changes a type without saying from what to what: {self.directive!r}")
        return old, self.directive.info.get(SPELLED_TYPE, new)


def _altered(directive: ops.AlterColumnOp, element: Element, phase: Phase) -> Operation:
    return operation(
        directive,
        Kind.ALTER_TYPE,
        element,
        phase,
        f"change the type of {element} from {directive.existing_type!r} to {directive.modify_type!r}",
        because=because_old_code("write values that do not fit") if phase is Phase.CONTRACT else None,
    )


def _both_labels(old: TypeEngine[Any], new: TypeEngine[Any]) -> tuple[str, ...] | None:
    """The labels of two enumerations that are part of their column; ``None`` for any other types."""
    if not isinstance(old, Enum) or not isinstance(new, Enum) or old.name is not None or not new.native_enum:
        return None
    return merged(tuple(old.enums), tuple(new.enums))


def _apart(
    directive: ops.AlterColumnOp, labels: Sequence[str]
) -> tuple[ops.AlterColumnOp, ops.AlterColumnOp]:
    """*directive* as the addition of labels, and the removal of others."""
    model: Any = directive.modify_type
    wide = constructor_copy(model, type(model), *labels)
    options: dict[str, Any] = {
        "schema": directive.schema,
        "existing_server_default": directive.existing_server_default,
        "existing_nullable": directive.existing_nullable,
        "existing_comment": directive.existing_comment,
        **directive.kw,
    }
    table, column = directive.table_name, directive.column_name
    return (
        ops.AlterColumnOp(table, column, existing_type=directive.existing_type, modify_type=wide, **options),
        ops.AlterColumnOp(table, column, existing_type=wide, modify_type=model, **options),
    )


def conversion_recipe(situation: Situation, table: str, column: str, target: str) -> str:
    """The lines that make a new column out of the old one."""
    return (
        f"Give the new meaning a new column, e.g. {column}_new, next to which the old one stays until contract:\n"
        f"  upgrade.fill({table.title().replace('_', '')}.{column}_new, lambda row: ...row.{column}...)\n"
        f'  upgrade.discard("{target}", reason="moved to {column}_new")   # once the models no longer have it'
    )
