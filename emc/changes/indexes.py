"""Is an index added, taken away, or defined anew under its name?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column

from emc.changes.base import Change, Situation, because_old_code, operation
from emc.changes.syncs import is_kept_unique
from emc.names import Element, ElementKind, TableKey
from emc.operations import Kind, Operation, ReplaceOp, beside_name, table_key
from emc.phases import Phase


def index_element(directive: ops.CreateIndexOp | ops.DropIndexOp) -> Element:
    """The element of an index."""
    return Element(ElementKind.INDEX, table_key(directive), str(directive.index_name))


@dataclass(frozen=True, eq=False)
class IndexAdded(Change):
    """The models have an index that the database does not have."""

    directive: ops.CreateIndexOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``create-index``; a unique one waits where old rows or old inserts could collide."""
        element = index_element(self.directive)
        name, key = element.name, element.table
        if not self.directive.unique or untouched_by_old_code(
            situation, key, index_columns(self.directive), self.directive.kw
        ):
            unique = "unique " if self.directive.unique else ""
            yield operation(
                self.directive,
                Kind.CREATE_INDEX,
                element,
                Phase.EXPAND,
                f"create {unique}index {name} on {key}",
            )
        else:
            yield operation(
                self.directive,
                Kind.CREATE_INDEX,
                element,
                Phase.CONTRACT,
                f"create unique index {name} on {key}",
                because=because_old_code("write duplicates"),
            )


@dataclass(frozen=True, eq=False)
class IndexRetired(Change):
    """A person has named an index that the models no longer have."""

    directive: ops.DropIndexOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """``drop-index``, later."""
        element = index_element(self.directive)
        reverse = self.directive.reverse()
        yield operation(
            self.directive,
            Kind.DROP_INDEX,
            element,
            Phase.CONTRACT,
            f"drop index {element.name} of {element.table}",
            because=because_old_code("upsert on it" if reverse.unique else "be slow without it"),
        )


@dataclass(frozen=True, eq=False)
class IndexRedefined(Change):
    """The models define an index anew under its name."""

    drop: ops.DropIndexOp
    create: ops.CreateIndexOp

    def operations(self, situation: Situation) -> Iterable[Operation]:
        """The new one is built beside where it cannot hurt; ``replace-index`` later."""
        element = index_element(self.create)
        key, name = element.table, str(element.name)
        beside: str | None = None
        old_columns = set(index_columns(self.drop.reverse())) if self.drop.reverse().unique else set()
        implied = bool(old_columns) and old_columns <= set(index_columns(self.create)) and not self.create.kw
        if not self.create.unique or implied:
            beside = beside_name(name)
            if not any(index["name"] == beside for index in situation.live.tables[key].indexes):
                yield operation(
                    _renamed(self.create, beside),
                    Kind.CREATE_INDEX,
                    Element(ElementKind.INDEX, key, beside),
                    Phase.EXPAND,
                    f"build the new definition of index {name} of {key} beside the old one",
                )
        yield operation(
            ReplaceOp(self.drop, self.create, beside),
            Kind.REPLACE_INDEX,
            element,
            Phase.CONTRACT,
            f"put the new definition of index {name} of {key} in the place of the old one",
            because=because_old_code("rely on the old definition"),
        )


def index_columns(directive: ops.CreateIndexOp) -> tuple[str, ...]:
    """The columns of an index; an expression stands as ``""``, which is the name of no column."""
    return tuple(
        column if isinstance(column, str) else column.name if isinstance(column, Column) else ""
        for column in directive.columns
    )


def nulls_not_distinct(options: Any) -> bool:
    """Whether two NULLs count as equal in a unique index or constraint."""
    return bool(options.get("postgresql_nulls_not_distinct"))


def untouched_by_old_code(
    situation: Situation, key: TableKey, columns: Sequence[str], options: Mapping[str, Any]
) -> bool:
    """Whether a unique rule over *columns* can be broken neither by old rows nor by what the old release writes.

    :param options: of the index or constraint, by their names in SQLAlchemy.
    """
    if situation.is_new_table(key):
        return True
    if nulls_not_distinct(options):
        return False
    if all(situation.old_code_leaves_null(key, column) for column in columns):
        return True
    return is_kept_unique(situation, key, columns)


def _renamed(directive: ops.CreateIndexOp, name: str) -> ops.CreateIndexOp:
    renamed = ops.CreateIndexOp(
        name,
        directive.table_name,
        directive.columns,
        schema=directive.schema,
        unique=directive.unique,
        **directive.kw,
    )
    renamed.info.update(directive.info)
    return renamed
