"""What refers to rows that are about to be deleted, and what becomes of it?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import ForeignKeyConstraint, Table

from emc.names import TableKey, dotted
from emc.schema import LiveSchema


@dataclass(frozen=True)
class Reference:
    """A foreign key to a table whose rows are deleted."""

    child: TableKey
    columns: tuple[str, ...]
    parent: TableKey
    parent_columns: tuple[str, ...]
    on_delete: str | None
    """``CASCADE``, ``SET NULL``, ``SET DEFAULT``, ``RESTRICT`` or ``NO ACTION``; ``None`` where only the models say
    that there is such a foreign key, and the database has none."""
    behind: TableKey | None = None
    """The table whose rows are deleted along, where that is why this one matters; ``None``: rows of ``parent`` are
    deleted by the work itself."""

    @property
    def name(self) -> str:
        """``orders.user_id``."""
        return ", ".join(dotted(self.child.schema, self.child.name, column) for column in self.columns)

    @property
    def loses_rows(self) -> bool:
        """Whether the rows that refer to a deleted one are deleted along."""
        return self.on_delete == "CASCADE"

    def __str__(self) -> str:
        rows = f"rows of {self.child} that refer to a deleted row of {self.parent}"
        if self.on_delete is None:
            return (
                f"{self.name} refers to {self.parent} in the models, and no foreign key in the database says so: "
                f"{rows} become orphans"
            )
        becomes = {
            "CASCADE": "are deleted along",
            "SET NULL": "get NULL there",
            "SET DEFAULT": "get the default there",
        }.get(self.on_delete, "keep it from being deleted")
        return f"{self.name} is ON DELETE {self.on_delete}: {rows} {becomes}"


def references_to(
    key: TableKey, live: LiveSchema, models: Collection[Table], behind: TableKey | None = None
) -> tuple[Reference, ...]:
    """What refers to *key*, nearest first; where rows are deleted along, what refers to those too."""
    found: dict[Reference, None] = {}
    seen = {key}
    queue = [key]
    while queue:
        parent = queue.pop(0)
        for one in _direct(parent, live, models, None if parent == key else parent):
            found.setdefault(one)
            if one.loses_rows and one.child not in seen:
                seen.add(one.child)
                queue.append(one.child)
    return tuple(found)


def _direct(
    key: TableKey, live: LiveSchema, models: Collection[Table], behind: TableKey | None
) -> Iterator[Reference]:
    known: set[tuple[TableKey, frozenset[str]]] = set()
    for child, table in sorted(live.tables.items(), key=lambda item: item[0].sort_key):
        for foreign_key in table.foreign_keys:
            if TableKey(foreign_key["referred_schema"], foreign_key["referred_table"]) != key:
                continue
            columns = tuple(foreign_key["constrained_columns"])
            known.add((child, frozenset(columns)))
            action = str((foreign_key.get("options") or {}).get("ondelete") or "NO ACTION").upper()
            yield Reference(child, columns, key, tuple(foreign_key["referred_columns"]), action, behind)
    for model in models:
        child = TableKey(model.schema, model.name)
        there = live.table(child)
        for constraint in sorted(model.foreign_key_constraints, key=lambda one: sorted(one.column_keys)):
            parent = _parent(constraint)
            columns = tuple(element.parent.name for element in constraint.elements)
            is_known = (child, frozenset(columns)) in known
            if parent == key and not is_known and there is not None and set(columns) <= set(there.columns):
                remote = tuple(element.column.name for element in constraint.elements)
                yield Reference(child, columns, key, remote, None, behind)


def _parent(constraint: ForeignKeyConstraint) -> TableKey:
    table = constraint.elements[0].column.table
    return TableKey(table.schema, table.name)
