"""How does a foreign key come into force without a copy of the table?

With ``foreign_key_checks=0`` the server adds it at once, and looks at every row that is written from then on, but at
none that is there (MariaDB 10.11.19: INSTANT, and NOCOPY where its index has to be built; MySQL 8.4 manual, "Online DDL
Operations": INPLACE). So it first stands under the name of a guard; once the rows that were there are proved to have
their parents, one statement puts it under its own name and takes the guard away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, ForeignKeyConstraint, Index, Integer, MetaData, Table
from sqlalchemy.schema import AddConstraint, DropConstraint, conv

from emc.dialects.mysql.algorithms import Algorithm, of_index
from emc.dialects.mysql.clauses import AddIndex, DropIndex, RenameIndex
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.ground import Alteration, Change, Ground, Part, Scene
from emc.dialects.mysql.kinship import indexes_of, serves
from emc.dialects.mysql.probes import Catalog
from emc.names import TableKey, is_own
from emc.operations import Kind, Operation, ReplaceOp, beside_name
from emc.schema import LiveSchema
from emc.steps import Probe

# -- recipes -----------------------------------------------------------------------------------------------------------


def add_foreign_key(ground: Ground) -> Part:
    """At once, and unchecked: no row can be without its parent, or it has been proved that none is."""
    constraint = wanted(ground, ground.directive)
    leftover = beside_name(str(constraint.name)) if constraint.name is not None else None
    drops: list[Any] = [drop(ground.key, leftover)] if leftover in _own_keys(ground) else []
    expected = _expected(ground, _columns(constraint))
    if (left_over := _left_over(ground, constraint)) is not None:
        drops, expected = [left_over, *drops], of_index(ground.table, None)
    alteration = ground.alter(*drops, AddConstraint(constraint), expected=expected, unchecked=True)
    return ground.part([alteration], probe(ground, constraint))


def drop_foreign_key(ground: Ground) -> Part:
    """A change of the catalog alone; the index that the server made for it stays, and is called like it from then on.

    Else that of a key without a name would be called like its column, and nobody could tell whose it was.
    """
    name = str(ground.directive.constraint_name)
    clauses: list[Any] = [drop(ground.key, name)]
    implied: Any = ground.table.implied.get(name) if ground.table is not None else None
    taken = {found.lower() for found, _, _ in indexes_of(ground.table)} if ground.table is not None else set()
    if implied is not None and implied["name"] != name and name.lower() not in taken:
        clauses.append(RenameIndex(ground.key, str(implied["name"]), name))
    return ground.part(
        [ground.alter(*clauses, expected=Algorithm.INSTANT)],
        Catalog(ground.writer, ground.key).constraint_gone(name, "FOREIGN KEY"),
    )


def replace_foreign_key(ground: Ground) -> Part:
    """Another action for the same columns. The old one is proof that every row has its parent.

    Two names cannot be exchanged at once (1826, seen with 10.11.19), so the new one first stands beside the old one:
    one of the two is in force all the time.
    """
    directive = ground.directive
    constraint = wanted(ground, directive.create)
    old, name = str(directive.drop.constraint_name), str(constraint.name)
    beside = beside_name(name)
    columns = _columns(constraint)
    changes: list[Alteration] = []
    if beside not in _own_keys(ground):
        aside = renamed(wanted(ground, directive.create), beside)
        changes.append(
            ground.alter(
                AddConstraint(aside),
                drop(ground.key, old),
                expected=_expected(ground, columns),
                unchecked=True,
            )
        )
    changes.append(
        ground.alter(
            AddConstraint(constraint), drop(ground.key, beside), expected=Algorithm.INSTANT, unchecked=True
        )
    )
    return ground.part(changes, probe(ground, constraint))


# -- guard, and the real one in its place ------------------------------------------------------------------------------


def add_guard(operation: Operation, guard: str, live: LiveSchema, flavour: Flavour) -> Change:
    """The foreign key of *operation* under the name *guard*, unchecked, with its index under its final name.

    :param operation: of kind ``add-foreign-key`` or ``replace-constraint``.
    """
    ground = _ground(operation, live, flavour)
    constraint = wanted(ground, _created(ground))
    columns = _columns(constraint)
    index = _index_name(ground, constraint)
    left_over = _left_over(ground, constraint)
    clauses: list[Any] = [AddConstraint(renamed(constraint, guard))]
    expected = _expected(ground, columns)
    if expected is not Algorithm.INSTANT:
        # Else the server makes one that is called like the guard.
        clauses.insert(0, AddIndex(ground.key, _index(ground.key, index, columns)))
    if left_over is not None:
        clauses.insert(0, left_over)
    return ground.alter(*clauses, expected=expected, unchecked=True).rendered(ground.writer)


def swap(operation: Operation, guard: str, live: LiveSchema, flavour: Flavour) -> Change:
    """The foreign key of *operation* under its own name in the place of *guard*, in one moment.

    It fails where the guard is not there any more (1091), so it confirms that what was proved still holds.
    """
    ground = _ground(operation, live, flavour)
    constraint = wanted(ground, _created(ground))
    alteration = ground.alter(
        AddConstraint(constraint), drop(ground.key, guard), expected=Algorithm.INSTANT, unchecked=True
    )
    return alteration.rendered(ground.writer)


def drop_guard(key: TableKey, guard: str, live: LiveSchema, flavour: Flavour) -> Change:
    """Take the guard away; its index stays, and serves the foreign key when that comes."""
    writer = Scene(live, flavour, ()).writer
    alteration = Alteration(key, (drop(key, guard),), Algorithm.INSTANT, may_block=False)
    return alteration.rendered(writer)


def _ground(operation: Operation, live: LiveSchema, flavour: Flavour) -> Ground:
    return Ground(operation, Scene(live, flavour, (operation,)))


def _created(ground: Ground) -> ops.AddConstraintOp:
    directive = ground.directive
    created: Any = directive.create if isinstance(directive, ReplaceOp) else directive
    return created  # type: ignore[no-any-return]


# -- parts of them -----------------------------------------------------------------------------------------------------


def wanted(ground: Ground, directive: ops.AddConstraintOp) -> Any:
    """The foreign key under the name that it will have; without one the server chooses."""
    constraint = ground.writer.constraint(directive)
    name = ground.writer.final_name(constraint)
    return constraint if name is None else renamed(constraint, name)


def renamed(constraint: Any, name: str) -> Any:
    """*constraint* under the name *name*, as it stands."""
    constraint.name = conv(name)
    return constraint


def drop(key: TableKey, name: str) -> DropConstraint:
    """The clause that drops a foreign key."""
    table = Table(key.name, MetaData(), Column("c", Integer), schema=key.schema)
    constraint = ForeignKeyConstraint(["c"], ["t.c"], name=conv(name))
    table.append_constraint(constraint)
    return DropConstraint(constraint)


def probe(ground: Ground, constraint: Any) -> Probe:
    """The foreign key is there, with its columns and actions."""
    parent = constraint.elements[0].column.table
    return Catalog(ground.writer, ground.key).foreign_key(
        None if constraint.name is None else str(constraint.name),
        _columns(constraint),
        TableKey(parent.schema, parent.name),
        [element.column.name for element in constraint.elements],
        constraint.ondelete,
        constraint.onupdate,
    )


def _columns(constraint: Any) -> list[str]:
    return [column.name for column in constraint.columns]


def _own_keys(ground: Ground) -> frozenset[str]:
    table = ground.table
    return frozenset(str(one["name"]) for one in (table.foreign_keys if table else ()) if is_own(one["name"]))


def _expected(ground: Ground, columns: Sequence[str]) -> Algorithm:
    """At once where an index is there that serves, by now or by then; else that has to be built."""
    table = ground.table
    if table is None:
        return Algorithm.INSTANT if ground.is_new else Algorithm.NOCOPY
    there = [found for _, found, _ in indexes_of(table)]
    if table.primary_key:
        there.append([*table.primary_key["constrained_columns"]])
    made: list[Any] = [
        one.directive
        for one in ground.before
        if one.element.table == ground.key and one.kind in (Kind.CREATE_INDEX, Kind.ADD_UNIQUE)
    ]
    there += [[getattr(column, "name", str(column)) for column in one.columns] for one in made]
    if any(serves(found, columns) for found in there):
        return Algorithm.INSTANT
    return of_index(table, None)


def _left_over(ground: Ground, constraint: Any) -> DropIndex | None:
    """The index that an earlier foreign key of the same name has left behind, on other columns (1061 otherwise)."""
    if constraint.name is None or ground.table is None:
        return None
    columns = _columns(constraint)
    for name, found, unique in indexes_of(ground.table):
        if name.lower() == str(constraint.name).lower() and not unique and not serves(found, columns):
            return DropIndex(ground.key, name)
    return None


def _index_name(ground: Ground, constraint: Any) -> str:
    """What the server would call the index of a foreign key."""
    if constraint.name is not None:
        return str(constraint.name)
    taken = {name.lower() for name, _, _ in indexes_of(ground.table)} if ground.table else set()
    name = _columns(constraint)[0]
    number = 2
    found = name
    while found.lower() in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _index(key: TableKey, name: str, columns: Sequence[str]) -> Index:
    table = Table(key.name, MetaData(), *(Column(one, Integer) for one in columns), schema=key.schema)
    return Index(conv(name), *table.columns)
