"""Which elements of the live schema has a person named, and which are there without anybody having named them?"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Table

from emc.changes.base import Unmanaged, column_element
from emc.changes.companions import built_on
from emc.changes.constraints import constraint_element
from emc.changes.indexes import index_element
from emc.errors import DeclarationError
from emc.names import Element, ElementKind, TableKey, dotted
from emc.operations import table_key
from emc.schema import LiveSchema
from emc.upgrade import Removal


def dropped_element(directive: ops.MigrateOperation) -> Element | None:
    """The element that *directive* would take away; ``None`` when it takes nothing away."""
    if isinstance(directive, ops.DropTableOp):
        return Element(ElementKind.TABLE, table_key(directive))
    if isinstance(directive, ops.DropColumnOp):
        return column_element(table_key(directive), str(directive.column_name))
    if isinstance(directive, ops.DropIndexOp):
        return index_element(directive)
    if isinstance(directive, ops.DropConstraintOp):
        return constraint_element(directive)
    return None


def names(removal: Removal, element: Element, live: LiveSchema | None = None) -> bool:
    """Whether *removal* names *element*.

    :param live: where a unique constraint is an index, as on MySQL, it may be called either.
    """
    parts = tuple(
        part for part in (element.table.schema, element.table.name, element.name) if part is not None
    )
    if removal.parts != parts:
        return False
    if removal.kind is ElementKind.INDEX and element.kind is ElementKind.UNIQUE and live is not None:
        table = live.tables.get(element.table)
        uniques = table.uniques if table is not None else ()
        return any(one["name"] == element.name and one.get("duplicates_index") for one in uniques)
    return removal.kind is None or removal.kind is element.kind


def resolve(
    removals: Iterable[Removal],
    droppable: Sequence[Element],
    models: Mapping[TableKey, Table],
    live: LiveSchema,
) -> dict[Element, Removal]:
    """Match what people have named with what the database has and the models do not.

    A removal that matches nothing asks for a state that already holds (another run has dropped the element, or a
    fresh database never had it) and is left out.

    :raises DeclarationError: a name is ambiguous, names something that the models have, or looks misspelt.
    """
    resolved: dict[Element, Removal] = {}
    for removal in removals:
        matches = _outermost([element for element in droppable if names(removal, element, live)], live)
        if len(matches) > 1:
            kinds = " or ".join(f'kind="{element.kind}"' for element in matches)
            raise DeclarationError(
                f"{removal.target} is ambiguous: the database has "
                + " and ".join(f"{element.kind} {element}" for element in matches)
                + ".",
                places=[removal.place],
                remedy=f'upgrade.{removal.verb}("{removal.target}", …, {kinds})',
            )
        if not matches:
            _still_modelled(removal, models)
            continue
        if removal.kind is None and _could_be_of_a_table(matches[0], models):
            # Once the column is gone, the same line would name the table.
            raise DeclarationError(
                f"{removal.target} is ambiguous: a schema and a table are called {matches[0].table.schema}.",
                places=[removal.place],
                remedy=f'If the table {matches[0]} of that schema is meant, add kind="table"; if something of the '
                "table is meant, it is not there any more, and the line can go.",
            )
        twin = _of_models(matches[0], models)
        if removal.kind is None and twin is not None:
            # Once it is gone, the same line would name what the models have.
            raise DeclarationError(
                f"{removal.target} is ambiguous: the models have {twin.kind} {twin}.",
                places=[removal.place],
                remedy=f"If {matches[0].kind} {matches[0]} is meant, which the models do not have: upgrade."
                f'{removal.verb}("{removal.target}", …, kind="{matches[0].kind}")',
            )
        if matches[0] in resolved:
            raise DeclarationError(
                f"{removal.target} is named twice.",
                places=[resolved[matches[0]].place, removal.place],
                remedy="Keep one of the two.",
            )
        resolved[matches[0]] = removal
    return resolved


def _outermost(matches: list[Element], live: LiveSchema) -> list[Element]:
    """*matches* without what goes with a column among them.

    MariaDB and MySQL call a unique key, and a CHECK that is written with its column, like the column.
    """
    for column in matches:
        table = live.tables.get(column.table)
        if column.kind is ElementKind.COLUMN and table is not None:
            along = set(built_on(table, str(column.name)))
            return [element for element in matches if element not in along]
    return matches


def _of_models(element: Element, models: Mapping[TableKey, Table]) -> Element | None:
    """What the models have under the name of *element*, which they do not have."""
    table = models.get(element.table)
    if table is None or element.kind is ElementKind.TABLE:
        return None
    return next((one for one in _elements(element.table, table) if str(one) == str(element)), None)


def _could_be_of_a_table(element: Element, tables: Container[TableKey]) -> bool:
    """Whether the name of a table, which begins with its schema, could also name something of another table."""
    schema = element.table.schema
    return element.kind is ElementKind.TABLE and schema is not None and TableKey(None, schema) in tables


def misspelt(removal: Removal, unmanaged: Iterable[Unmanaged]) -> Element | None:
    """The unmanaged element that *removal*, which names nothing, was probably meant for."""
    candidates = {str(one.element): one.element for one in unmanaged}
    close = difflib.get_close_matches(dotted(*removal.parts), list(candidates), n=1, cutoff=0.8)
    return candidates[close[0]] if close else None


def _still_modelled(removal: Removal, models: Mapping[TableKey, Table]) -> None:
    for key, table in models.items():
        for element in _elements(key, table):
            if names(removal, element):
                where = (
                    f"mapped in {table.info['place']}"
                    if "place" in table.info
                    else f"table {key} of the models"
                )
                raise DeclarationError(
                    f"{removal.target} is named by {removal.verb}, but the models still have that {element.kind}.",
                    places=[removal.place, where],
                    remedy=f"Take the {element.kind} out of the models, or take the {removal.verb} away.",
                )


def _elements(key: TableKey, table: Table) -> Iterable[Element]:
    yield Element(ElementKind.TABLE, key)
    for column in table.columns:
        yield column_element(key, column.name)
    for index in table.indexes:
        yield Element(ElementKind.INDEX, key, str(index.name))
    for constraint in table.constraints:
        if constraint.name is not None:
            kind = _VISIT_NAMES.get(constraint.__visit_name__)
            if kind is not None:
                yield Element(kind, key, str(constraint.name))


_VISIT_NAMES: Mapping[Any, ElementKind] = {
    "unique_constraint": ElementKind.UNIQUE,
    "check_constraint": ElementKind.CHECK,
    "column_check_constraint": ElementKind.CHECK,
    "table_or_column_check_constraint": ElementKind.CHECK,
    "foreign_key_constraint": ElementKind.FOREIGN_KEY,
    "exclude_constraint": ElementKind.EXCLUSION,
}


def unmanaged_elements(
    droppable: Sequence[Element],
    resolved: Mapping[Element, Removal],
    live: LiveSchema,
    models: Mapping[TableKey, Table],
) -> list[Unmanaged]:
    """What nobody has named, each with the line that names it."""
    # Whatever belongs to a table that goes, goes with it; whatever belongs to an unmanaged table is listed with it.
    tables = {element.table for element in droppable if element.kind is ElementKind.TABLE}
    along = {
        companion
        for element in resolved
        if element.kind is ElementKind.COLUMN and element.table in live.tables
        for companion in built_on(live.tables[element.table], str(element.name))
    }
    listed = []
    for element in sorted(droppable, key=lambda one: one.sort_key):
        if element in resolved or (element.kind is not ElementKind.TABLE and element.table in tables):
            continue
        if element in along:
            continue
        twins = [one for one in droppable if str(one) == str(element) and one is not element]
        twins += [one for one in [_of_models(element, models)] if one is not None]
        escaped = str(element).replace("\\", "\\\\").replace('"', '\\"')
        quoted = f"'{element}'" if '"' in str(element) and "'" not in str(element) else f'"{escaped}"'
        kind = f', kind="{element.kind}"' if twins or not element.name else ""
        if element.kind is ElementKind.TABLE and not twins:
            kind = ', kind="table"' if _could_be_of_a_table(element, live.tables) else ""
        listed.append(Unmanaged(element, f"upgrade.retire({quoted}{kind})"))
    return listed
