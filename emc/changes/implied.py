"""Which indexes did the database make by itself for a foreign key that goes?

MariaDB and MySQL need an index on the columns of a foreign key, and make one where there is none. It stays when the
foreign key goes. Whoever named the foreign key has named it too; but the old release's queries use it, so it waits for
contract like any other index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alembic.operations import ops

from emc.changes.base import Situation, because_old_code, column_element, operation
from emc.names import Element, ElementKind
from emc.operations import Kind, Operation, table_key
from emc.phases import Phase


def left_behind(operations: Sequence[Operation], situation: Situation) -> Iterable[Operation]:
    """``drop-index`` for each index that would outlive its foreign key among *operations*, under its name."""
    for dropped in operations:
        if dropped.kind != Kind.DROP_FOREIGN_KEY:
            continue
        key, name = dropped.element.table, str(dropped.element.name)
        index = situation.live.tables[key].implied.get(name)
        model = situation.models.get(key)
        if model is not None and name in {one.name for one in model.indexes}:
            continue
        if index is None or _goes_or_returns(dropped.element, index["column_names"], operations):
            continue
        yield operation(
            ops.DropIndexOp(name, key.name, schema=key.schema),
            Kind.DROP_INDEX,
            Element(ElementKind.INDEX, key, name),
            Phase.CONTRACT,
            f"drop index {name} of {key}, which the database made for the foreign key",
            because=because_old_code("be slow without it"),
        )


def _goes_or_returns(
    foreign_key: Element, columns: Iterable[str | None], operations: Iterable[Operation]
) -> bool:
    """Whether a column takes the index along, or the foreign key comes again and uses it."""
    going = {
        one.element.name
        for one in operations
        if one.kind == Kind.DROP_COLUMN and one.element.table == foreign_key.table
    }
    tables = {one.element.table for one in operations if one.kind == Kind.DROP_TABLE}
    returning = {one.element for one in operations if one.kind == Kind.ADD_FOREIGN_KEY}
    return not going.isdisjoint(columns) or foreign_key.table in tables or foreign_key in returning


def orphaned(droppable: Iterable[Element], situation: Situation) -> set[Element]:
    """Those indexes among *droppable* whose foreign key emc has dropped before, and which no column takes along."""
    found = set()
    for element in droppable:
        if element.kind is not ElementKind.INDEX or str(element) not in situation.past.unkeyed:
            continue
        for index in situation.live.tables[element.table].indexes:
            going = (
                column_element(element.table, str(name)) in situation.removals
                for name in index["column_names"]
            )
            if index["name"] == element.name and not index["unique"] and not any(going):
                found.add(element)
    return found


def becoming_foreign_keys(directives: Iterable[ops.MigrateOperation]) -> set[Element]:
    """Indexes under the name of a foreign key to be added: it had one before, or a run ended in between."""
    return {
        Element(ElementKind.INDEX, table_key(one), str(one.constraint_name))
        for one in directives
        if isinstance(one, ops.CreateForeignKeyOp) and one.constraint_name is not None
    }
