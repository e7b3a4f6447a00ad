"""What is in the database right now?

A snapshot, in the dictionaries that SQLAlchemy's :class:`~sqlalchemy.engine.Inspector` answers, plus the few facts it
does not know. The same shape describes how the server would spell the tables of the models, so that both sides can be
compared as values. Reading it is the business of :mod:`emc.dialects`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.engine.interfaces import (
    ReflectedCheckConstraint,
    ReflectedColumn,
    ReflectedForeignKeyConstraint,
    ReflectedIndex,
    ReflectedPrimaryKeyConstraint,
    ReflectedUniqueConstraint,
)

from emc.names import Element, ElementKind, TableKey


@dataclass(frozen=True)
class Partition:
    """A part of a partitioned table that is a table of its own (PostgreSQL)."""

    key: TableKey
    parent: TableKey
    """What it is a part of: the table itself, or another partition of it."""
    is_leaf: bool
    """Whether it holds rows, and no partitions."""
    is_foreign: bool
    """Whether its rows are elsewhere, so that it can have no index."""
    definitions: Mapping[tuple[ElementKind, str], str]
    """The server's own text of its unique constraints, foreign keys, and indexes that belong to no constraint."""
    unfinished: frozenset[str]
    """Names of INVALID indexes and NOT VALID constraints."""
    part_of: Mapping[tuple[ElementKind, str], str]
    """What is attached to the index or constraint of its parent: the name of that."""


@dataclass(frozen=True)
class LiveTable:
    """One table as the catalog shows it."""

    key: TableKey
    columns: Mapping[str, ReflectedColumn]
    primary_key: ReflectedPrimaryKeyConstraint | None = None
    foreign_keys: Sequence[ReflectedForeignKeyConstraint] = ()
    indexes: Sequence[ReflectedIndex] = ()
    """Valid indexes only, without those that a constraint owns where the inspector can tell."""
    uniques: Sequence[ReflectedUniqueConstraint] = ()
    checks: Sequence[ReflectedCheckConstraint] = ()
    """Validated constraints only: one that is not is *not there yet*."""
    comment: str | None = None
    definitions: Mapping[tuple[ElementKind, str], str] = field(default_factory=dict)
    """The server's own text of an element, e.g. what ``pg_get_indexdef`` or ``pg_get_constraintdef`` says, without
    the name and schema of the table; equal text means an equal definition. Exclusion constraints are only here.
    A column's entry holds what its reflected dictionary leaves out (collation, identity, generation expression)."""
    unfinished: frozenset[str] = frozenset()
    """Names of INVALID indexes and NOT VALID constraints: left out above, since they prove nothing."""
    enforcing: frozenset[str] = frozenset()
    """Names of unique indexes among the unfinished that refuse duplicates all the same: of new rows, and of a row that
    has one already when it is written to (PostgreSQL)."""
    implied: Mapping[str, ReflectedIndex] = field(default_factory=dict)
    """Indexes that the database made by itself, by the name of the foreign key that asked for them (MySQL). They are no
    part of what models say, and appear nowhere else as long as their foreign key stands; they stay when it goes."""
    options: Mapping[str, str] = field(default_factory=dict)
    """How the table is stored (engine, character set, partitioning), by the name of SQLAlchemy's option without the
    dialect's prefix. An operator may choose what models leave unsaid: only what they say is compared."""
    guards: Mapping[str, str] = field(default_factory=dict)
    """What emc itself put in the way of new rows (names with :data:`emc.names.GUARD_PREFIX`): name → definition, as
    the server shows it. They are no part of the user's schema and appear nowhere above."""
    syncs: Mapping[str, str] = field(default_factory=dict)
    """What emc put there to keep columns in step (names with :data:`emc.sync.SYNC_PREFIX`): name → definition, as the
    server shows it, whether it is in force included. They appear nowhere above."""
    rewriters: frozenset[str] = frozenset()
    """Users' own triggers that may change a row of an UPDATE before it is stored, so that columns get other values that
    the statement does not name (PostgreSQL)."""
    row_estimate: int | None = None
    """How many rows the database believes the table to have; ``None`` where it cannot tell without counting."""
    size_bytes: int | None = None
    """Bytes on disk, without indexes; ``None`` where it cannot be told cheaply."""
    partitions: Sequence[Partition] = ()
    """Its partitions where they are tables of their own, and theirs, each behind what it is a part of."""


@dataclass(frozen=True)
class Dependent:
    """Something that an operation on a table, column, index or type does not get past, or that would break."""

    what: str
    """Its kind and name, with its schema: ``view billing.active_users``."""
    remedy: str = ""
    """The statement that takes it out of the way; empty where there is none to paste."""
    place: Element | None = None
    """The element that goes along with it, where a plan could drop that."""
    mentions: bool = False
    """Whether a text speaks of it, so that the database lets the operation pass and whoever uses the text finds out."""
    only_drops: bool = False
    """Whether it stands in the way of a drop, and not of a change of type."""


@dataclass(frozen=True)
class LiveSchema:
    """Every table that emc may look at, as one consistent snapshot."""

    tables: Mapping[TableKey, LiveTable]
    """Ordinary tables, ``emc_…`` ones included. Views, partitions and tables of extensions are left out."""
    enums: Mapping[TableKey, Sequence[str]] = field(default_factory=dict)
    """Labels of enumerated types that exist apart from columns (PostgreSQL), by schema and name of the type."""
    domains: frozenset[TableKey] = frozenset()
    """Domains (PostgreSQL), by schema and name."""
    names_taken: Mapping[TableKey, str] = field(default_factory=dict)
    """Views, partitions, tables of extensions: names in use by what emc leaves alone, with what it is."""
    folds_tables: bool = False
    """Whether names of tables that differ in case alone are the same (``lower_case_table_names``)."""
    folds_names: bool = False
    """Whether names of columns, indexes and constraints that differ in case alone are the same."""
    dependents: Mapping[tuple[TableKey, str | None], Sequence[str]] = field(default_factory=dict)
    """What would stop a drop of a table (``None``) or column: ``"view active_users"``, ``"policy owner_only"``."""
    hanging: Mapping[Element, Sequence[Dependent]] = field(default_factory=dict)
    """The same where the database tells more of it (PostgreSQL): of indexes, constraints and types too."""

    def table(self, key: TableKey) -> LiveTable | None:
        """The table called *key*, if there is one."""
        return self.tables.get(key)

    def column(self, key: TableKey, name: str) -> ReflectedColumn | None:
        """The column *name* of table *key*, if there is one."""
        table = self.tables.get(key)
        return table.columns.get(name) if table is not None else None


def column_named(table: Table, name: str) -> Column[Any] | None:
    """The column of the models that the database calls *name*; ``table.columns`` goes by their keys."""
    return next((column for column in table.columns if column.name == name), None)


def inserts_must_name(column: Mapping[str, Any]) -> bool:
    """Whether an INSERT that leaves *column* out fails: NOT NULL, and nothing fills it in."""
    return (
        not column["nullable"]
        and column.get("default") is None
        and column.get("autoincrement") is not True
        and not column.get("identity")
        and not column.get("computed")
    )


def set_by_updates(default: Any) -> bool:
    """Whether a server default says that every UPDATE sets the column too (MySQL's ON UPDATE CURRENT_TIMESTAMP)."""
    return re.search(r"\bON\s+UPDATE\b", str(getattr(default, "arg", default)), re.IGNORECASE) is not None


def as_table(live: LiveTable, model: Table | None = None) -> Table:
    """*live* as a Table object to build statements on, its columns typed by *model* where the models know them.

    Constraints other than the primary key are left out: statements need names and types only.
    """
    primary_key = set(live.primary_key["constrained_columns"]) if live.primary_key else set()
    columns = []
    for name, column in live.columns.items():
        known = column_named(model, name) if model is not None else None
        typed = known.type if known is not None else column["type"]
        columns.append(
            Column(name, typed, primary_key=name in primary_key, nullable=column["nullable"], key=name)
        )
    return Table(live.key.name, MetaData(), *columns, schema=live.key.schema)
