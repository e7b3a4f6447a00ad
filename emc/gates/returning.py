"""May a rule come back that the old release kept to, and that rows of the new one may break?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Connection, FromClause, literal_column

from emc.errors import Refusal
from emc.gates.base import Gate, Scope, Verdict
from emc.gates.rows import FitsType, NoNulls, NoOrphans, NoViolations, ValueUnused, as_written
from emc.operations import AlterEnumOp
from emc.work.values import UNDO


class _Returning(Gate):
    """A rule that the old release kept to, and that rows of the new one may break."""

    def remedy(self, scope: Scope) -> str:
        """By hand: nobody knows what the old release makes of such rows."""
        return (
            f"{self._repair()};   -- or DELETE; then: {UNDO}\n"
            f"{UNDO} --keep {self.operation.undoes}   # leaves it as it is: the old release lives with that"
        )

    def _repair(self) -> str:
        return f"UPDATE {self.element.table} SET … WHERE …"


@dataclass(frozen=True, eq=False)
class NoNullsBack(_Returning, NoNulls):
    """NOT NULL comes back once every row has a value."""

    def _repair(self) -> str:
        return f"UPDATE {self.element.table} SET {self.element.name} = … WHERE {self.element.name} IS NULL"


@dataclass(frozen=True, eq=False)
class NoViolationsBack(_Returning, NoViolations):
    """A CHECK comes back once every row passes it."""

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows that the CHECK refuses; it speaks of columns of the old release, which are there."""
        table = scope.table(self.element.table)
        directive: Any = self.operation.directive
        if table is None:
            return None
        condition = as_written(directive.condition, connection.dialect)
        return table, literal_column(f"NOT ({condition})", Boolean)


@dataclass(frozen=True, eq=False)
class NoOrphansBack(_Returning, NoOrphans):
    """A foreign key comes back once every row has a parent."""


@dataclass(frozen=True, eq=False)
class FitsTypeBack(_Returning, FitsType):
    """The narrower type comes back once every value fits."""


@dataclass(frozen=True, eq=False)
class ValueUnusedBack(ValueUnused):
    """A label goes again once no row has it."""

    def remedy(self) -> str:
        """By hand."""
        directive = self.operation.directive
        assert isinstance(directive, AlterEnumOp)
        labels = ", ".join(f"'{label}'" for label in directive.removed)
        updates = [
            f"UPDATE {key} SET {column} = … WHERE {column} IN ({labels});"
            for key, column in directive.columns
        ]
        return "\n".join(
            [
                *updates,
                f"then: {UNDO}   # or, which the old release lives with: --keep {self.operation.undoes}",
            ]
        )


@dataclass(frozen=True, eq=False)
class Feasible(Gate):
    """The database can do it without stalling whoever works on it."""

    kind = "feasible"

    def concerns(self, scope: Scope) -> bool:
        """Where it cannot."""
        return self._refusal(scope) is not None

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Ask the dialect."""
        refusal = self._refusal(scope)
        if refusal is None:
            return self.opened("nobody has to wait for it")
        return self.shut(
            refusal.reason,
            f"{refusal.remedy}\n{UNDO} --keep {self.operation.undoes}   # leaves it as it is: the old release lives "
            "with that",
        )

    def _refusal(self, scope: Scope) -> Refusal | None:
        plan = scope.plan
        return scope.dialect.refuse(
            self.operation, plan.situation.live, [step.operation for step in plan.undo]
        )
