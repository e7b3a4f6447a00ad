"""Do the labels of an enumerated type differ?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emc.changes.base import Change, Situation, because_old_code, operation
from emc.names import Element, ElementKind, TableKey
from emc.operations import AlterEnumOp, Kind, Operation
from emc.phases import Phase


@dataclass(frozen=True, eq=False)
class EnumChanged(Change):
    """An enumerated type is missing, or has other labels than the models."""

    directive: AlterEnumOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``create-enum`` or ``add-enum-value`` now, ``remove-enum-value`` later. The order of labels that both
        sides have is left alone."""
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
