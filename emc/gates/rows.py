"""Is there no row left that the operation would break, or break on?"""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Dialect,
    Enum,
    FromClause,
    Table,
    Text,
    cast,
    false,
    literal_column,
    or_,
    true,
)

from emc.claims import Claim
from emc.gates.base import SAMPLE, Gate, Scope, Verdict, count_rows, counted, first_keys
from emc.literally import literally
from emc.names import ElementKind, TableKey, attribute, mapped_class
from emc.operations import SPELLED_TYPE, AlterEnumOp, ReplaceOp, table_key
from emc.schema import column_named
from emc.upgrade import Orphans
from emc.work.orphanhood import parentless


@dataclass(frozen=True, eq=False)
class RowsGate(Gate):
    """Open when no row satisfies a condition."""

    @abc.abstractmethod
    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Table and condition; ``None`` while expand has not run.

        :raises CannotProveError: the condition cannot be written down.
        """

    def noun(self) -> str:
        """What the rows in the way are, in the plural."""
        return "rows"

    @abc.abstractmethod
    def remedy(self, scope: Scope) -> str:
        """What gets them out of the way."""

    def refusal(self) -> str:
        """What a session is told that writes such a row while the operation is about to run, as a clause."""
        return f"{self.element} is about to change, and this row would be in the way"

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That there are no such rows."""
        found = self.in_the_way(connection, scope)
        if found is None:
            return ()
        table, where = found
        assert isinstance(table, Table)
        key = TableKey(table.schema, table.name)
        return (Claim(self.name, key, table, where, self.noun(), self.refusal(), scope.walk(key)),)

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Count."""
        try:
            found = self.in_the_way(connection, scope)
        except CannotProveError as error:
            return self.shut(
                str(error),
                f'{scope.command} --override {self.name} --reason "how it was verified by hand"',
            )
        if found is None:
            return self.not_there_yet(str(self.element))
        table, where = found
        rows = count_rows(connection, table, where)
        predicate = str(where)
        if rows:
            return self.shut(
                counted(rows, self.noun()),
                self.remedy(scope),
                rows=rows,
                keys=first_keys(connection, table, where),
                predicate=predicate,
            )
        return self.opened(f"no {self.noun()}", predicate=predicate, rows=0)


class CannotProveError(Exception):
    """The condition of a gate cannot be expressed, so nothing proves it."""


@dataclass(frozen=True, eq=False)
class NoNulls(RowsGate):
    """``SET NOT NULL`` needs a value in every row."""

    kind = "no-nulls"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Count; and while the column is not there yet, say in time that nothing fills it."""
        situation = scope.plan.situation
        key, name = self.element.table, str(self.element.name)
        is_filled = (
            situation.upgrade.fill_of(key, name) is not None or situation.sync_to(key, name) is not None
        )
        if situation.live.column(key, name) is None and not is_filled:
            return self.shut(f"{self.element} is not there yet, and nothing fills it", self.remedy(scope))
        return super().evaluate(connection, scope)

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows with NULL."""
        table, name = scope.table(self.element.table), str(self.element.name)
        if table is None or name not in table.columns:
            return None
        return table, table.columns[name].is_(None)

    def noun(self) -> str:
        """What the rows in the way are."""
        return f"rows of {self.element.table} with NULL in {self.element.name}"

    def remedy(self, scope: Scope) -> str:
        """The fill."""
        fill = scope.plan.situation.upgrade.fill_of(self.element.table, str(self.element.name))
        if fill is not None:
            return f"emc migrate --only {fill.name}"
        sync = scope.plan.situation.sync_to(self.element.table, str(self.element.name))
        if sync is not None:
            return (
                f"emc migrate --only copy:{sync.name}   # what is NULL then is so in the old columns: let up= at "
                f"{sync.place} answer a value for it"
            )
        value = "value"
        model = scope.plan.situation.models.get(self.element.table)
        column = column_named(model, str(self.element.name)) if model is not None else None
        default: Any = column.default if column is not None else None
        if default is not None and default.is_scalar:
            value = repr(default.arg)  # what the new release writes where nothing is given
        return f"upgrade.fill({attribute(self.element.table, str(self.element.name))}, {value})  # then: emc migrate"


@dataclass(frozen=True, eq=False)
class NoViolations(RowsGate):
    """A CHECK needs every row to pass it; NULL passes."""

    kind = "no-violations"

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows that the CHECK refuses."""
        directive: Any = _added(self.operation.directive)
        key = table_key(directive)
        table, model = scope.table(key), scope.plan.situation.models.get(key)
        if table is None or model is None:
            return None
        condition = as_written(directive.condition, connection.dialect)
        missing = [column.name for column in model.columns if column.name not in table.columns]
        if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", condition) for name in missing):
            return None
        # A CHECK is passed by NULL, and NOT (NULL) is not true.
        return table, literal_column(f"NOT ({condition})", Boolean)

    def noun(self) -> str:
        """What the rows in the way are."""
        return f"rows of {self.element.table} that check {self.element.name} refuses"

    def remedy(self, scope: Scope) -> str:
        """A data migration."""
        return (
            f"@upgrade.data_migration({mapped_class(self.element.table)}, where=not_(...))  # repair the rows, "
            "then: emc migrate"
        )


@dataclass(frozen=True, eq=False)
class NoOrphans(RowsGate):
    """A foreign key needs a parent for every row."""

    kind = "no-orphans"

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows without a parent."""
        directive: Any = _added(self.operation.directive)
        child = scope.table(table_key(directive))
        parent_key = TableKey(directive.kw.get("referent_schema"), directive.referent_table)
        parent = scope.table(parent_key)
        if child is None or not set(directive.local_cols) <= set(child.columns.keys()):
            return None
        if parent is None or not set(directive.remote_cols) <= set(parent.columns.keys()):
            return None
        other = parent.alias()
        pairs = [
            (child.columns[local], other.columns[remote])
            for local, remote in zip(directive.local_cols, directive.remote_cols, strict=True)
        ]
        return child, parentless(pairs, other, directive.kw.get("match"))

    def noun(self) -> str:
        """What the rows in the way are."""
        return f"rows of {self.element.table} without a parent"

    def cleaned_by(self, scope: Scope) -> str | None:
        """The ``orphans`` of exactly these columns."""
        rule = self._rule(scope)
        return rule.name if rule is not None else None

    def _rule(self, scope: Scope) -> Orphans | None:
        directive: Any = _added(self.operation.directive)
        for rule in scope.plan.situation.upgrade.orphan_rules:
            if {column.name for column in rule.columns} == set(directive.local_cols) and TableKey(
                rule.table.schema, rule.table.name
            ) == table_key(directive):
                return rule
        return None

    def remedy(self, scope: Scope) -> str:
        """The clean-up."""
        directive: Any = _added(self.operation.directive)
        rule = self._rule(scope)
        if rule is not None and rule.action == "report":
            return f"Repair the rows; emc migrate --dry-run --only {rule.name} counts and names them"
        if rule is not None:
            return f"emc migrate --only {rule.name}"
        columns = ", ".join(attribute(table_key(directive), name) for name in directive.local_cols)
        return f'upgrade.orphans({columns}, action="set null")  # or "delete"; then: emc migrate'


@dataclass(frozen=True, eq=False)
class FitsType(RowsGate):
    """A narrower type needs every value to fit."""

    kind = "fits-type"

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows whose value does not fit."""
        table, name = scope.table(self.element.table), str(self.element.name)
        directive = self.operation.directive
        if table is None or name not in table.columns:
            return None
        assert isinstance(directive, ops.AlterColumnOp)
        live = scope.plan.situation.live.column(self.element.table, name)
        assert live is not None
        new: Any = (directive.info or {}).get(SPELLED_TYPE, directive.modify_type)
        where = scope.dialect.misfits(table.columns[name], live["type"], new)
        if where is None:
            raise CannotProveError(f"emc cannot tell which values of {self.element} fit into {new!r}")
        return table, where

    def noun(self) -> str:
        """What the rows in the way are."""
        return f"rows of {self.element.table} whose {self.element.name} does not fit"

    def remedy(self, scope: Scope) -> str:
        """A data migration."""
        return (
            f"@upgrade.data_migration({mapped_class(self.element.table)}, where=...)  # shorten the values, "
            "then: emc migrate"
        )


@dataclass(frozen=True, eq=False)
class HoldsNoData(RowsGate):
    """What nobody has moved may go only when it is empty."""

    kind = "holds-no-data"

    def in_the_way(
        self, connection: Connection, scope: Scope
    ) -> tuple[FromClause, ColumnElement[bool]] | None:
        """Rows of a table; rows with a value in a column."""
        table = scope.table(self.element.table)
        if table is None:
            return None
        if self.element.kind is ElementKind.TABLE:
            return table, true()
        # Not IS NOT NULL: that is false for a row value of which one field is NULL.
        return table, table.columns[str(self.element.name)].is_distinct_from(None)

    def noun(self) -> str:
        """What the rows in the way are."""
        rows = f"rows of {self.element.table}"
        return (
            rows if self.element.kind is ElementKind.TABLE else f"{rows} with a value in {self.element.name}"
        )

    def refusal(self) -> str:
        """What a session is told that writes such a row."""
        return f"{self.element} is being dropped"

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That there are no such rows."""
        # Where a value is put in the place of another, or NULL is, there was data before.
        claims = super().claims(connection, scope)
        return tuple(dataclasses.replace(claim, overwriting_is_harmless=True) for claim in claims)

    def remedy(self, scope: Scope) -> str:
        """Move the data, or say that it may be lost."""
        return (
            f'upgrade.retire("{self.element}", after=[...])  # a data migration that moves the data; or:\n'
            f'upgrade.discard("{self.element}", reason="...")  # the data may be lost'
        )


@dataclass(frozen=True, eq=False)
class ValueUnused(Gate):
    """A label of an enumerated type may go when no row has it."""

    kind = "value-unused"

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Count over every column of the type."""
        directive = self.operation.directive
        assert isinstance(directive, AlterEnumOp)
        removed = list(directive.removed)
        total = 0
        keys: tuple[str, ...] = ()
        for key, name in directive.columns:
            table = scope.table(key)
            if table is None or name not in table.columns:
                continue
            where = _has_label(table, name, removed)
            rows = count_rows(connection, table, where)
            if rows:
                found = (f"{key} {one}" for one in first_keys(connection, table, where))
                total, keys = total + rows, (*keys, *found)[:SAMPLE]
        if total:
            return self.shut(
                f"{counted(total, 'rows')} with {' or '.join(map(repr, removed))}",
                self.remedy(),
                rows=total,
                keys=keys,
            )
        return self.opened(f"no row has {' or '.join(map(repr, removed))}", rows=0)

    def remedy(self) -> str:
        """A data migration."""
        return "@upgrade.data_migration(...)  # give these rows another value, then: emc migrate"

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """That no row has the label, for each column of the type."""
        directive = self.operation.directive
        assert isinstance(directive, AlterEnumOp)
        claims = []
        for key, name in directive.columns:
            table = scope.table(key)
            if table is not None and name in table.columns:
                where = _has_label(table, name, list(directive.removed))
                refusal = f"{' and '.join(map(repr, directive.removed))} of {self.element} is being removed"
                rows = f"rows of {key} with {' or '.join(map(repr, directive.removed))}"
                claims.append(Claim(self.name, key, table, where, rows, refusal, scope.walk(key)))
        return tuple(claims)


def _has_label(table: Table, name: str, labels: Iterable[str]) -> ColumnElement[bool]:
    column = table.columns[name]
    as_text = cast(column, Text)
    if isinstance(column.type, Enum):
        return as_text.in_(list(labels))
    # An array of the type: any element may have the label.
    return or_(false(), *(as_text.contains(label, autoescape=True) for label in labels))


def _added(directive: Any) -> Any:
    return directive.create if isinstance(directive, ReplaceOp) else directive


def as_written(condition: Any, dialect: Dialect) -> str:
    """*condition* as SQL that names columns without their table, as it stands in the DDL of a CHECK."""
    if isinstance(condition, str):
        return condition
    return literally(condition, dialect, include_table=False)
