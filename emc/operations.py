"""The narrow waist: which primitive schema directives are there?

Alembic's own operations, and the few that it lacks. :class:`Operation` gives each a kind, a target and a phase, so that
whoever handles it looks at the kind and never at the class of the directive.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops
from sqlalchemy import MetaData, Table

from emc.names import EMC_PREFIX, Element, ElementKind, TableKey
from emc.phases import Phase

DROPPED_TYPES = "emc_dropped_types"
"""Key in the ``info`` of a ``DropTableOp`` or ``DropColumnOp``: enumerated types (:class:`TableKey`) that nothing else
uses, and that go in the same step."""


SPELLED_TYPE = "emc_spelled_type"
"""Key in the ``info`` of an ``AlterColumnOp`` that changes the type: the type as the server would show it, which says
more than that of the models (collation, size in bytes). Absent where the server does not let us ask."""


SPELLED_DEFINITION = "emc_spelled_definition"
"""Key in the ``info`` of a ``CreateIndexOp`` or ``AddConstraintOp``: its definition as the server would show it, in the
form of :attr:`emc.schema.LiveTable.definitions`. Absent where the server does not let us ask, and for foreign keys."""


class OwnOp(ops.MigrateOperation):
    """An operation that Alembic does not have.

    ``reverse`` and ``to_diff_tuple`` keep ``produce_migrations`` and ``alembic check`` working.
    """

    def reverse(self) -> ops.MigrateOperation:
        """An operation that stands for the way back; these differences have none that emc would run."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` prints."""
        raise TypeError(f"{type(self).__name__} is abstract")


class AlterEnumOp(OwnOp):
    """The labels of an enumerated type differ.

    :param type_name: name of the type on PostgreSQL; of the column's inline enum elsewhere.
    :param schema: schema of the type, ``None`` for the default one.
    :param before: labels of the live type, in its order.
    :param after: labels of the models, in their order. May leave out labels of *before* only in contract.
    :param columns: the columns of the models that use the type, as ``(table, column name)``.
    """

    def __init__(
        self,
        type_name: str,
        schema: str | None,
        before: tuple[str, ...],
        after: tuple[str, ...],
        columns: tuple[tuple[TableKey, str], ...],
    ) -> None:
        self.type_name = type_name
        self.schema = schema
        self.before = before
        self.after = after
        self.columns = columns

    @property
    def added(self) -> tuple[str, ...]:
        """Labels that only the models have, in their order."""
        return tuple(label for label in self.after if label not in self.before)

    @property
    def removed(self) -> tuple[str, ...]:
        """Labels that only the live type has, in its order."""
        return tuple(label for label in self.before if label not in self.after)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` prints."""
        return ("modify_enum", self.schema, self.type_name, self.before, self.after)


class UnsupportedDifferenceOp(OwnOp):
    """A difference that is seen, and that emc refuses to act on.

    :param element: what differs.
    :param what: ``"primary key"``, ``"identity"``, ``"computed"``, ``"partitioning"``: a short noun for the message.
    :param live: how the database has it, for the message.
    :param model: how the models have it, for the message.
    """

    def __init__(self, element: Element, what: str, live: str, model: str) -> None:
        self.element = element
        self.what = what
        self.live = live
        self.model = model

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` prints."""
        return ("unsupported", self.what, str(self.element), self.live, self.model)


class ReplaceOp(OwnOp):
    """An index or constraint gets a new definition under its own name.

    The new one is in place before the old one goes.

    :param drop: ``DropIndexOp`` or ``DropConstraintOp`` of the old definition.
    :param create: ``CreateIndexOp`` or ``AddConstraintOp`` of the new one, under the same name.
    :param beside: name under which the expand phase may already have built the new definition, else ``None``.
    """

    def __init__(
        self,
        drop: ops.DropIndexOp | ops.DropConstraintOp,
        create: ops.CreateIndexOp | ops.AddConstraintOp,
        beside: str | None = None,
    ) -> None:
        self.drop = drop
        self.create = create
        self.beside = beside

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` prints."""
        return ("replace", self.drop.to_diff_tuple(), self.create.to_diff_tuple())


@dataclass(frozen=True, eq=False)
class Operation:
    """A directive with its name, its place in the upgrade and its reason for being there.

    ``kind`` is one of the constants of :class:`Kind`; gates and dialects are looked up by it.
    """

    directive: ops.MigrateOperation
    kind: str
    element: Element
    phase: Phase
    description: str
    """One line for a person: what is done, with the user's own names."""
    reversible: bool = True
    """Whether what the operation took away can be put back; adding something can always be undone before contract."""
    because: str | None = None
    """Why the operation is not in an earlier phase, or why there is something to do at all, where that is not
    plain."""
    allowed: str | None = None
    """The reason why a person lets it keep others waiting for as long as it takes; ``None``: nobody does."""
    at_once: bool = False
    """Whether writers may be kept out for it, if that takes but a moment or is allowed: it was tried beside them, and
    rows came in its way."""
    remembers: Mapping[str, Any] = field(default_factory=dict)
    """How the element is before the operation, for the ledger: what the way back needs; see
    :mod:`emc.changes.remembering`."""
    undoes: str | None = None
    """Of an operation of undo: the id of the one of expand that it takes back."""
    together: str | None = None
    """Operations of a phase that bear the same mark follow each other and run in one unit, or none of them does: while
    the one is done and the other is not, writes would fail or get lost."""

    @property
    def id(self) -> str:
        """The stable name, derived from kind and target, e.g. ``drop-column:users.name``."""
        return f"{self.kind}:{self.element}"

    def moved(self, phase: Phase, because: str) -> Operation:
        """The same operation in a later phase."""
        return dataclasses.replace(self, phase=phase, because=because)


class Kind:
    """The kinds of operations. A closed list: whoever handles operations handles each of these."""

    CREATE_ENUM = "create-enum"
    """``AlterEnumOp`` with an empty *before*: the type is not there at all."""
    ADD_ENUM_VALUE = "add-enum-value"
    REMOVE_ENUM_VALUE = "remove-enum-value"
    DROP_ENUM = "drop-enum"
    CREATE_TABLE = "create-table"
    DROP_TABLE = "drop-table"
    ADD_COLUMN = "add-column"
    DROP_COLUMN = "drop-column"
    SET_NOT_NULL = "set-not-null"
    DROP_NOT_NULL = "drop-not-null"
    ALTER_TYPE = "alter-type"
    SET_DEFAULT = "set-default"
    DROP_DEFAULT = "drop-default"
    SET_COMMENT = "set-comment"
    """Of a column or of a table; an absent comment is ``None``."""
    CREATE_INDEX = "create-index"
    """Plain or unique: a unique index is as good as a constraint."""
    DROP_INDEX = "drop-index"
    REPLACE_INDEX = "replace-index"
    ADD_UNIQUE = "add-unique"
    DROP_UNIQUE = "drop-unique"
    ADD_CHECK = "add-check"
    DROP_CHECK = "drop-check"
    ADD_FOREIGN_KEY = "add-foreign-key"
    DROP_FOREIGN_KEY = "drop-foreign-key"
    ADD_EXCLUSION = "add-exclusion"
    DROP_EXCLUSION = "drop-exclusion"
    REPLACE_CONSTRAINT = "replace-constraint"
    INSTALL_SYNC = "install-sync"
    """``SyncOp``: what keeps the columns of two releases in step."""
    DROP_SYNC = "drop-sync"


SUBTRACTIVE = frozenset(
    {
        Kind.DROP_TABLE,
        Kind.DROP_COLUMN,
        Kind.SET_NOT_NULL,
        Kind.DROP_INDEX,
        Kind.DROP_UNIQUE,
        Kind.DROP_EXCLUSION,
        Kind.REMOVE_ENUM_VALUE,
        Kind.DROP_ENUM,
        Kind.DROP_DEFAULT,
        Kind.REPLACE_INDEX,
        Kind.DROP_SYNC,
    }
)
"""Kinds that never run in expand, whatever their content: the executor refuses to send them there."""

_CONSTRAINT_KINDS = {
    "unique": ElementKind.UNIQUE,
    "check": ElementKind.CHECK,
    "foreignkey": ElementKind.FOREIGN_KEY,
    "primary": ElementKind.PRIMARY_KEY,
    "exclude": ElementKind.EXCLUSION,
    # DropConstraintOp.from_constraint() knows no exclusion constraint and says nothing for it.
    None: ElementKind.EXCLUSION,
}


def constraint_kind(directive: ops.AddConstraintOp | ops.DropConstraintOp) -> ElementKind:
    """Which kind of constraint *directive* adds or drops."""
    return _CONSTRAINT_KINDS[directive.constraint_type]


def table_key(directive: Any) -> TableKey:
    """The table that *directive* concerns."""
    if isinstance(directive, ops.CreateForeignKeyOp):
        return TableKey(directive.kw.get("source_schema"), str(directive.source_table))
    return TableKey(directive.schema, str(directive.table_name))


def beside_name(name: str) -> str:
    """The name under which a new definition of *name* is built beside the old one.

    It fits every database's limit of 63 characters, and differs for names that are cut to the same start.
    """
    plain = f"{EMC_PREFIX}new_{name}"
    if len(plain.encode()) <= 63:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    start = name.encode()[: 63 - len(EMC_PREFIX) - len("new__") - len(digest)].decode(errors="ignore")
    return f"{EMC_PREFIX}new_{start}_{digest}"


def table_of(directive: ops.CreateTableOp) -> Table:
    """The Table that *directive* creates.

    A type that brings a CHECK along (Enum, Boolean with ``create_constraint=True``) makes it again when its column is
    copied, and the directive lists it besides: with SQLAlchemy 2.0 the CHECK would be there twice (seen with 2.0.58).
    """
    listed = copy.copy(directive)
    listed.columns = [item for item in directive.columns if not getattr(item, "_type_bound", False)]
    return listed.to_table()


def bare_table(key: TableKey) -> Table:
    """A Table object with a name and nothing else, for rendering names."""
    return Table(key.name, MetaData(), schema=key.schema)
