"""Is there no pair of rows that a unique rule would not allow?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Index,
    Table,
    and_,
    func,
    literal_column,
    select,
)

from emc.gates.base import SAMPLE, Gate, Scope, Verdict, counted
from emc.gates.rows import CannotProveError, _added
from emc.names import Element, ElementKind, TableKey, attribute
from emc.operations import constraint_kind, table_key
from emc.work.uniqueness import as_sql


@dataclass(frozen=True, eq=False)
class NoDuplicates(Gate):
    """A unique constraint or index needs every value to be there once, as the database compares values."""

    kind = "no-duplicates"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Count the groups of more than one row."""
        directive: Any = _added(self.operation.directive)
        key = table_key(directive)
        table = scope.table(key)
        expressions = _expressions(directive, table) if table is not None else None
        if table is None or expressions is None:
            return self.not_there_yet(str(self.element))
        names = [getattr(expression, "name", str(expression)) for expression in expressions]
        columns = self._columns(scope)
        source: FromClause = table
        conditions: list[ColumnElement[bool]] = []
        nulls_alike = bool(directive.kw.get("postgresql_nulls_not_distinct"))
        model = scope.plan.situation.models.get(key)
        rule = _index(model, self.element)
        if model is not None and rule is not None:
            # Options of an index differ by database; and it speaks of the models' own Table, which has the same name.
            demanded = scope.dialect.uniqueness(rule)
            source, expressions = model, list(demanded.expressions)
            nulls_alike = demanded.nulls_alike
            if demanded.where is not None:
                conditions.append(as_sql(demanded.where))
        if not nulls_alike:
            conditions += [expression.is_not(None) for expression in expressions]
        groups = (
            select(*expressions, func.count().label("emc_rows"))
            .select_from(source)
            .where(and_(True, *conditions))
            .group_by(*expressions)
            .having(func.count() > 1)
        )
        grouped = groups.subquery()
        extra, number = connection.execute(
            select(func.coalesce(func.sum(grouped.c.emc_rows - 1), 0), func.count()).select_from(grouped)
        ).one()
        if not number:
            return self.opened(f"no duplicates in {key}", rows=0)
        samples = connection.execute(groups.order_by(*expressions).limit(SAMPLE)).all()
        return self.shut(
            f"{counted(int(extra), 'rows')} of {key} too many, in {counted(number, 'groups')} of equal "
            f"{', '.join(map(str, names))}",
            self._remedy(scope, key, columns or names),
            rows=int(extra),
            keys=[
                ", ".join(f"{name}={value!r}" for name, value in zip(names, row[:-1], strict=True))
                + f" ({row[-1]} rows)"
                for row in samples
            ],
        )

    def cleaned_by(self, scope: Scope) -> str | None:
        """The ``deduplicate`` of exactly these columns."""
        key, columns = table_key(_added(self.operation.directive)), set(self._columns(scope))
        for rule in scope.plan.situation.upgrade.deduplications:
            if {column.name for column in rule.columns} == columns and (
                TableKey(rule.table.schema, rule.table.name) == key
            ):
                return rule.name
        return None

    def _columns(self, scope: Scope) -> list[str]:
        """The columns that the rule speaks of; those in its expressions too, where the models tell."""
        directive: Any = _added(self.operation.directive)
        rule = _index(scope.plan.situation.models.get(table_key(directive)), self.element)
        if rule is not None:
            return [column.name for column in rule.columns]
        return [str(one if isinstance(one, str) else getattr(one, "name", one)) for one in directive.columns]

    def _remedy(self, scope: Scope, key: TableKey, names: Sequence[Any]) -> str:
        name = self.cleaned_by(scope)
        if name is not None:
            return f"emc migrate --only {name}"
        columns = ", ".join(attribute(key, str(name)) for name in names)
        return f"upgrade.deduplicate({columns}, keep=...)  # then: emc migrate"


def _index(model: Table | None, element: Element) -> Index | None:
    """The index of the models that *element* names."""
    if model is None or element.kind is not ElementKind.INDEX:
        return None
    return next((index for index in model.indexes if index.name == element.name), None)


def _expressions(directive: Any, table: FromClause) -> list[ColumnElement[Any]] | None:
    """What must be unique; ``None`` when a column is not there yet."""
    expressions: list[ColumnElement[Any]] = []
    for item in directive.columns:
        name = item if isinstance(item, str) else item.name if isinstance(item, Column) else None
        if name is None:
            inner = getattr(item, "element", item)
            if isinstance(inner, Column):  # users.c.name.desc()
                name = inner.name
        if name is not None:
            column = next((one for one in table.columns if one.name == name), None)
            if column is None:
                return None
            expressions.append(column)
        else:
            expressions.append(literal_column(str(item.compile(compile_kwargs={"literal_binds": True}))))
    return expressions


@dataclass(frozen=True, eq=False)
class NoConflicts(Gate):
    """An exclusion constraint needs every pair of rows to pass it."""

    kind = "no-conflicts"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Join the table with itself."""
        directive: Any = _added(self.operation.directive)
        assert constraint_kind(directive) is ElementKind.EXCLUSION
        table = scope.table(table_key(directive))
        if table is None:
            return self.not_there_yet(str(self.element))
        row_id = scope.dialect.row_id(table)
        try:
            if row_id is None or getattr(directive, "where", None) is not None:
                raise CannotProveError(
                    f"emc cannot prove exclusion constraint {self.element.name} from the data"
                )
            # The address of a row has to be read before the join: no alias has it.
            addressed = select(table, row_id.label("emc_row_id"))
            one, other = addressed.subquery("one"), addressed.subquery("other")
            pairs = []
            for item, operator in directive.elements:
                name = item if isinstance(item, str) else str(getattr(item, "name", ""))
                if name not in table.columns:
                    raise CannotProveError(f"emc cannot prove an exclusion over the expression {item}")
                pairs.append(one.columns[name].op(operator, is_comparison=True)(other.columns[name]))
        except CannotProveError as error:
            return self.shut(
                str(error), f'emc contract --override {self.name} --reason "how it was verified by hand"'
            )
        each_once = one.c.emc_row_id < other.c.emc_row_id
        rows = connection.execute(
            select(func.count()).select_from(one.join(other, and_(each_once, *pairs)))
        ).scalar_one()
        if rows:
            return self.shut(
                f"{counted(int(rows), 'pairs')} of rows in {self.element.table} that exclude each other",
                "@upgrade.data_migration(...)  # repair the rows, then: emc migrate",
                rows=int(rows),
            )
        return self.opened(f"no two rows in {self.element.table} exclude each other", rows=0)


__all__ = ["NoConflicts", "NoDuplicates"]
