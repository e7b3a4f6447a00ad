"""Which statements add and drop CHECKs on MariaDB and MySQL?"""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import CheckConstraint, MetaData, Table
from sqlalchemy.schema import AddConstraint, DDLElement, DropConstraint, conv

from emc.dialects.mysql.algorithms import Algorithm
from emc.dialects.mysql.clauses import Modify
from emc.dialects.mysql.dependents import names
from emc.dialects.mysql.ground import Ground, Part
from emc.dialects.mysql.index_recipes import wanted
from emc.dialects.mysql.probes import Catalog
from emc.names import TableKey
from emc.operations import Kind, Operation
from emc.steps import Probe


def add_check(ground: Ground) -> Part:
    """Only by a copy, which looks at every row; one that is a part of a new column's definition comes with that.

    A CHECK that is called like a column is a part of that column's definition (MariaDB).
    """
    carrier = carrier_of(ground)
    catalog = Catalog(ground.writer, ground.key)
    if carrier is not None:
        return Part(ground.operation, (), catalog.check(str(carrier.element.name), 0), rides_with=carrier.id)
    constraint, name = wanted(ground, ground.directive)
    text = ground.scene.text(ground.key, name) if name is not None and ground.flavour.is_mariadb else None
    clause: DDLElement = AddConstraint(constraint)
    if text is not None and text.check is None and name == text.name:
        clause = Modify(
            ground.key,
            ground.scene.now(ground.key, dataclasses.replace(text, check=check_text(ground))),
        )
    return ground.part([ground.alter(clause, expected=Algorithm.COPY)], _check_probe(ground, name))


def carrier_of(ground: Ground) -> Operation | None:
    """The operation that adds the column into whose definition a CHECK can be written.

    MariaDB takes a CHECK without a name there, calls it like the column, and adds the column at once all the same
    (10.11.19); with the CHECK beside the column it copies, and a name it does not understand.
    """
    directive = ground.directive
    if not ground.flavour.is_mariadb or ground.table is None:
        return None
    added = {
        str(one.element.name).lower(): one
        for one in ground.before
        if one.kind == Kind.ADD_COLUMN and one.element.table == ground.key
    }
    live = {name.lower() for name in ground.table.columns}
    spoken_of = names(check_text(ground)) & (live | added.keys())
    new = spoken_of - live
    home = (
        str(directive.constraint_name).lower()
        if directive.constraint_name is not None
        else min(new, default="")
    )
    if home not in added or not new <= {home} or (directive.constraint_name is None and len(spoken_of) != 1):
        return None
    # A definition has room for one.
    earlier = (
        Ground(one, ground.scene)
        for one in ground.before
        if one.kind == Kind.ADD_CHECK and one.element.table == ground.key
    )
    return None if any(carrier_of(one) is added[home] for one in earlier) else added[home]


def check_text(ground: Ground) -> str:
    """What a CHECK asks for, in SQL."""
    return str(ground.writer.constraint(ground.directive).sqltext)


def _check_probe(ground: Ground, name: str | None) -> Probe:
    unnamed = sum(
        one.kind == Kind.ADD_CHECK
        and one.element.table == ground.key
        and one.directive.constraint_name is None  # type: ignore[attr-defined]
        for one in ground.before
    )
    there = len(ground.table.checks) if ground.table is not None else 0
    return Catalog(ground.writer, ground.key).check(name, there + unnamed + 1)


def drop_check(ground: Ground) -> Part:
    """A change of the catalog alone."""
    name = str(ground.directive.constraint_name)
    table = ground.table
    check = next((one for one in (table.checks if table else ()) if one["name"] == name), {"name": name})
    clause = drop_check_clause(ground, check)
    assert clause is not None
    return ground.part(
        [ground.alter(clause, expected=Algorithm.INSTANT)],
        Catalog(ground.writer, ground.key).constraint_gone(name, "CHECK"),
    )


def drop_check_clause(ground: Ground, check: Any, *, dropping: str | None = None) -> DDLElement | None:
    """The clause that takes a CHECK away; ``None`` where it goes with column *dropping*.

    MariaDB's CHECK at column level is called like its column, and is a part of its definition: by its name it cannot be
    dropped (1091, seen with 10.11.19).
    """
    name = str(check["name"])
    text = ground.scene.text(ground.key, name)
    if text is not None and text.check is not None and text.check == check.get("sqltext"):
        if dropping is not None and name.lower() == dropping.lower():
            return None
        return Modify(ground.key, ground.scene.now(ground.key, dataclasses.replace(text, check=None)))
    return _drop_check(ground.key, name)


def _drop_check(key: TableKey, name: str) -> DropConstraint:
    table = Table(key.name, MetaData(), schema=key.schema)
    constraint = CheckConstraint("", name=conv(name))
    table.append_constraint(constraint)
    return DropConstraint(constraint)


def replace_check(ground: Ground) -> Part:
    """The new one takes the place of the old one in the copy that looks at every row."""
    directive = ground.directive
    constraint, name = wanted(ground, directive.create)
    drop = _drop_check(ground.key, str(directive.drop.constraint_name))
    alteration = ground.alter(drop, AddConstraint(constraint), expected=Algorithm.COPY)
    return ground.part([alteration], _check_probe(ground, name))
