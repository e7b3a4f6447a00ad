"""Which statements change indexes and constraints of a partitioned table online on PostgreSQL?

There is no CREATE INDEX CONCURRENTLY for a partitioned table, and no foreign key NOT VALID before version 18. So each
partition gets its own, beside the traffic, and the parent's then takes them in (PostgreSQL's manual, "Partitioning
Maintenance"). The brackets of the parents come first: from then on a partition that somebody adds has the index too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from emc.dialects.postgresql.ground import Ground, Patient
from emc.dialects.postgresql.naming import (
    identifier,
    qualified,
    shorten,
    squeezed,
    table_name,
    without_schema,
)
from emc.dialects.postgresql.rendering import alter, drop_constraint, validate
from emc.names import ElementKind, TableKey
from emc.schema import Partition


@dataclass(frozen=True)
class Pieces:
    """How an index or unique constraint of a partitioned table is made in pieces."""

    kind: ElementKind
    bracket: Callable[[TableKey, str], str]
    """The statement that makes it on a parent alone: complete once every partition has its own."""
    index: Callable[[TableKey, str], str]
    """The statement that builds the index of a partition, beside the traffic."""
    adopt: Callable[[TableKey, str], Sequence[str]]
    """What makes that index what is wanted, where it is more than an index."""
    drop: Callable[[TableKey, str], str]
    """The statement that takes away that of a table, with what is attached to it."""
    drop_index: Callable[[TableKey, str], str]
    """The statement that takes away the index of a partition, beside the traffic."""
    shown: str | None
    """How the server would show it; ``None``: nobody knows, and nothing that stands there already is trusted."""
    index_shown: str | None
    """How the server would show its index."""


@dataclass(frozen=True)
class Built:
    """What is left to do, and what is there in the end."""

    statements: Sequence[str]
    names: Mapping[TableKey, str]
    """The name on the table and on each of its partitions."""


def build(ground: Ground, name: str, pieces: Pieces) -> Built:
    """What is left to do until it is there under *name*, on the table and on each of its partitions."""
    there = ground.definition(pieces.kind, name)
    fits = there is not None and there == pieces.shown
    statements: list[str] = []
    gone: set[tuple[TableKey, str]] = set()
    if not fits:
        if there is not None:
            gone = going(ground, name)
            statements.append(pieces.drop(ground.key, name))
        statements.append(pieces.bracket(ground.key, name))
    names = {ground.key: name}
    for partition in _partitions(ground):
        mine = _attached(partition, names[partition.parent], gone)
        if mine is None:
            mine = _fitting(partition, pieces, gone)
            if mine is None:
                mine = _name(partition, name, pieces, gone)
                statements += _made(partition, mine, pieces, gone)
            bracket = qualified(partition.parent.schema, names[partition.parent])
            statements.append(
                f"ALTER INDEX {bracket} ATTACH PARTITION {qualified(partition.key.schema, mine)}"
            )
        names[partition.key] = mine
    return Built(statements, names)


def going(ground: Ground, name: str) -> set[tuple[TableKey, str]]:
    """Index *name* of the table and those of its partitions that are attached to it: they go together."""
    gone = {(ground.key, name)}
    for partition in _partitions(ground):
        gone |= {
            (partition.key, one)
            for (kind, one), parent in partition.part_of.items()
            if kind is ElementKind.INDEX and (partition.parent, parent) in gone
        }
    return gone


def final_names(
    ground: Ground, built: Built, beside: str, name: str, old: str
) -> Iterator[tuple[TableKey, str, str]]:
    """Partitions whose part of *beside* gets another name when *beside* takes the place of *old* and is called *name*.

    :returns: key of the partition, and the present and the future name there.
    """
    gone = going(ground, old)
    for partition in _partitions(ground):
        now, future = part_name(partition.key, beside), part_name(partition.key, name)
        taken = {one for _, one in partition.definitions if (partition.key, one) not in gone}
        if built.names[partition.key] == now and future not in taken:
            yield partition.key, now, future


def part_name(key: TableKey, name: str) -> str:
    """What is built on partition *key* for an index or constraint called *name*."""
    return shorten(f"{key.name}_{name}")


def _partitions(ground: Ground) -> Sequence[Partition]:
    """The partitions that can have indexes, each behind what it is a part of."""
    every = ground.table.partitions if ground.table is not None else ()
    return [one for one in every if not one.is_foreign]


def _attached(partition: Partition, parent: str, gone: set[tuple[TableKey, str]]) -> str | None:
    """The index of *partition* that is part of that of its parent."""
    for (kind, name), part_of in partition.part_of.items():
        if kind is ElementKind.INDEX and part_of == parent and (partition.key, name) not in gone:
            return name
    return None


def _fitting(partition: Partition, pieces: Pieces, gone: set[tuple[TableKey, str]]) -> str | None:
    """What *partition* has already that says the same and belongs to nothing else."""
    for (kind, name), definition in partition.definitions.items():
        if (
            kind is pieces.kind
            and definition == pieces.shown
            and (ElementKind.INDEX, name) not in partition.part_of
            and (partition.key, name) not in gone
            # A bracket is unfinished until its own partitions have theirs.
            and not (partition.is_leaf and name in partition.unfinished)
        ):
            return name
    return None


def _name(partition: Partition, name: str, pieces: Pieces, gone: set[tuple[TableKey, str]]) -> str:
    """The name of what is built on *partition*; another one where something else of it is called that."""
    mine = part_name(partition.key, name)
    ours = (partition.key, mine) in gone or mine in partition.unfinished
    index = partition.definitions.get((ElementKind.INDEX, mine))
    if ours or (index is not None and index == pieces.index_shown):
        return mine
    if any(one == mine for _, one in partition.definitions):
        return shorten(f"{mine}_{hashlib.sha256(str(pieces.shown).encode()).hexdigest()[:8]}")
    return mine


def _made(partition: Partition, name: str, pieces: Pieces, gone: set[tuple[TableKey, str]]) -> list[str]:
    """What is left to do until *partition* has its own under *name*."""
    leftover = name in partition.unfinished and (partition.key, name) not in gone
    if not partition.is_leaf:
        drop = [pieces.drop(partition.key, name)] if leftover else []
        return [*drop, pieces.bracket(partition.key, name)]
    statements = [pieces.drop_index(partition.key, name)] if leftover else []
    stands = partition.definitions.get((ElementKind.INDEX, name)) == pieces.index_shown is not None
    if leftover or not stands or (partition.key, name) in gone:
        statements.append(pieces.index(partition.key, name))
    return [*statements, *pieces.adopt(partition.key, name)]


# -- foreign keys ---------------------------------------------------------------------------------------------------


def foreign_key(ground: Ground, name: str, clause: str) -> list[str]:
    """What is left to do until the foreign key is there on the table, and holds for every row of every partition.

    The parent's takes in those of the partitions that say the same, and looks at no row (seen on 15, 16 and 18).

    :param clause: what follows ALTER TABLE: ``ADD CONSTRAINT … FOREIGN KEY …``.
    """
    statements: list[str] = []
    for leaf in _partitions(ground):
        if leaf.is_leaf:
            statements += _of_leaf(leaf, ground.key, name, clause)
    return [*statements, alter(ground.key, clause)]


def _of_leaf(leaf: Partition, root: TableKey, name: str, clause: str) -> list[str]:
    wanted = clause.partition(f"ADD CONSTRAINT {identifier(name)} ")[2]
    if root.schema is not None:
        wanted = without_schema(wanted, root.schema)
    same = [
        its_name
        for (kind, its_name), definition in leaf.definitions.items()
        if kind is ElementKind.FOREIGN_KEY
        and squeezed(definition) == squeezed(wanted)
        and (kind, its_name) not in leaf.part_of
    ]
    for its_name in same:
        if its_name not in leaf.unfinished:
            return []
    if name in same:
        return [validate(leaf.key, name)]
    add = alter(leaf.key, f"{clause} NOT VALID")
    leftover = (ElementKind.FOREIGN_KEY, name) in leaf.definitions
    drop = [drop_constraint(leaf.key, name)] if leftover and name in leaf.unfinished else []
    return [*drop, add, validate(leaf.key, name)]


# -- statements -----------------------------------------------------------------------------------------------------


def elsewhere(
    statement: str, name: str, key: TableKey, new_name: str, new_key: TableKey, only: str = ""
) -> str:
    """The CREATE INDEX *statement* of index *name* on table *key*, for another index on another table."""
    head, _, tail = statement.partition(f"{identifier(name)} ON {table_name(key)} ")
    written = f"{head}{identifier(new_name)} ON {only}{table_name(new_key)} {tail}"
    return Patient(written) if isinstance(statement, Patient) else written
