"""How does a constraint of the database become an object that Alembic's operations can carry?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from alembic.operations import ops
from sqlalchemy import CheckConstraint, Constraint, literal_column
from sqlalchemy.ext.compiler import compiles

from emc.diff.pairs import Pair
from emc.names import TableKey
from emc.operations import bare_table

_C = TypeVar("_C", bound=Constraint)


class DefinedConstraint(Constraint):
    """A constraint that is known by its definition alone: an exclusion constraint of the database.

    :param name: its name.
    :param definition: the server's own text of it.
    """

    __visit_name__ = "emc_defined_constraint"

    def __init__(self, name: str, definition: str) -> None:
        super().__init__(name=name)
        self.definition = definition


@compiles(DefinedConstraint)
def _definition(constraint: DefinedConstraint, compiler: Any, **_: Any) -> str:
    return f"{compiler.define_constraint_preamble(constraint)}{constraint.definition}"


@ops.AddConstraintOp.register_add_constraint("emc_defined_constraint")
class AddDefinedConstraintOp(ops.AddConstraintOp):
    """Adds a :class:`DefinedConstraint`; what undoes the drop of one.

    :param constraint: the constraint, attached to a table.
    """

    constraint_type = "exclude"

    def __init__(self, constraint: DefinedConstraint) -> None:
        self.constraint = constraint
        self.constraint_name = str(constraint.name)
        table = constraint.table
        self.table_name = str(table.name)
        self.schema = table.schema

    @classmethod
    def from_constraint(cls, constraint: Constraint) -> AddDefinedConstraintOp:
        """The operation that adds *constraint*."""
        assert isinstance(constraint, DefinedConstraint)
        return cls(constraint)

    def to_constraint(self, migration_context: Any = None) -> DefinedConstraint:
        """A copy of the constraint on a table of the same name."""
        copy = DefinedConstraint(self.constraint_name, self.constraint.definition)
        return _attached(copy, TableKey(self.schema, self.table_name))

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` prints."""
        return ("add_constraint", self.constraint)


def check_of(pair: Pair, reflected: Mapping[str, Any]) -> CheckConstraint:
    """A CHECK as the server tells it."""
    # Not text(): that would take the colon of a literal for a parameter.
    check = CheckConstraint(literal_column(reflected["sqltext"]), name=reflected["name"])
    return _attached(check, pair.key)


def exclusion_of(pair: Pair, name: str, definition: str) -> DefinedConstraint:
    """An exclusion constraint as the server tells it."""
    return _attached(DefinedConstraint(name, definition), pair.key)


def is_exclusion(constraint: Constraint) -> bool:
    """Whether *constraint* of the models is an exclusion constraint, of whatever dialect."""
    return constraint.__visit_name__ == "exclude_constraint"


def drop_of(constraint: Any) -> ops.DropConstraintOp:
    """The drop of *constraint* of the database, which keeps its definition."""
    drop = ops.DropConstraintOp.from_constraint(constraint)
    drop.constraint_name = constraint.name
    return drop


def _attached(constraint: _C, key: TableKey) -> _C:
    bare_table(key).append_constraint(constraint)
    return constraint
