"""What does emc have to know about a database?

A dialect answers *how, online?* It knows locks, bytes and catalogs, and knows no change: what a difference means for
applications is decided in :mod:`emc.changes`, before an operation gets here.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, Table
from sqlalchemy.types import TypeEngine

from emc.claims import Claim, Guarding
from emc.dialects.rows import Rows
from emc.dialects.scripting import Demanding, Scripting
from emc.dialects.server import Server
from emc.errors import Refusal
from emc.fit import Fit, fit, misfits
from emc.names import Element, TableKey
from emc.operations import Kind, Operation
from emc.schema import Dependent, LiveSchema, LiveTable
from emc.steps import Step
from emc.sync import Sync, SyncPart


class CannotSpellError(Exception):
    """The server does not let us create anything, so its spelling of the models cannot be had."""


class Dialect(Server, Rows):
    """One database. Stateless: everything it knows comes from its arguments."""

    transactional_ddl: ClassVar[bool]
    """Whether DDL can be rolled back."""
    errors_end_transactions: ClassVar[bool] = False
    """Whether a statement that fails leaves a transaction in which nothing but ROLLBACK works."""
    streams_alone: ClassVar[bool] = False
    """Whether a session that streams a result can send nothing else until that is read."""
    indexes_row_values: ClassVar[bool] = True
    """Whether an index serves a comparison of row values, ``(a, b) > (1, 2)``."""
    updates_what_it_reads: ClassVar[bool] = True
    """Whether a subquery of an UPDATE or DELETE may look into the table that is written to."""
    builds_end_locked: ClassVar[bool] = False
    """Whether a build (``LockPolicy.WEAK``) needs a lock at its end, and is lost when that is not to be had."""
    shares_rows: ClassVar[bool] = True
    """Whether a session can keep a row from being taken over while another one updates it (``FOR KEY SHARE``)."""
    separate_enums: ClassVar[bool] = False
    """Whether enumerated types exist apart from the columns that use them."""
    keeps_writers_out: ClassVar[bool] = False
    """Whether a transaction can keep writers out from the last look at the rows until a unique index is there, where it
    is not that way anyhow (:attr:`emc.operations.Operation.at_once`)."""
    foreign_keys_guard_themselves: ClassVar[bool] = False
    """Whether a foreign key stands for new rows before the statements that add it prove it for the others."""
    indexes_foreign_keys: ClassVar[bool] = False
    """Whether a foreign key makes an index where it finds none; one that outlives it bears its name."""
    counting: ClassVar[str] = "a sequence as its default"
    """What makes an integer key of the models count by itself."""
    restrict_goes_without_saying: ClassVar[bool] = False
    """Whether a foreign key that says nothing is the same as one that says RESTRICT."""
    parents_are_siblings: ClassVar[bool] = False
    """Whether DDL that says no schema for the parent of a foreign key means that of the child."""
    tells_implied_indexes: ClassVar[bool] = False
    """Whether a snapshot tells the indexes that foreign keys have made (:attr:`LiveTable.implied`)."""
    scripting: ClassVar[Scripting | None] = None
    """How a script is written that proves for itself what emc would prove; ``None`` where scripts are for reading."""
    unlocks: ClassVar[str | None] = None
    """What ends the locks of a step that holds some from statement to statement, where its session goes on."""
    demanding: ClassVar[Demanding | None] = None
    """How a script of Alembic's is stopped by a gate; ``None``: it cannot be."""
    conditional: ClassVar[frozenset[str]] = frozenset({Kind.CREATE_TABLE, Kind.DROP_TABLE})
    """The kinds of operations whose statement can say IF NOT EXISTS or IF EXISTS."""
    option_names: ClassVar[tuple[str, ...]] = ()
    """What options of the models may begin with besides SQLAlchemy's name of the dialect."""

    def serves(self, engine: Engine) -> bool:
        """Whether *engine* leads to this database; where several share a kind of URL, known once it has connected."""
        return engine.dialect.name == self.name

    # -- reading ------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def read(self, connection: Connection, schemas: Sequence[str | None]) -> LiveSchema:
        """Everything that can be known about the tables of *schemas*.

        The number of queries does not depend on the number of tables, where the database allows that.
        """

    @abc.abstractmethod
    def spell(
        self, connection: Connection, tables: Sequence[Table], live: LiveSchema
    ) -> Mapping[TableKey, LiveTable]:
        """*tables* of the models as the server would show them had it just created them.

        They are built in a scratch place that leaves no trace, then read like live ones. Foreign keys may be left out.

        :raises CannotSpellError: the server does not allow it here (read-only role or transaction).
        """

    def shown_type(self, text: str) -> str:
        """The type *text* in one of the ways to spell it, be it that of DDL or that of a snapshot.

        What is spelled alike is the same type; what is not may be.
        """
        return text

    def shown_default(self, text: str, type_text: str) -> str:
        """The default that DDL spells *text* as a snapshot has it; *text* itself where only the server knows that.

        :param type_text: the type of the column, as a snapshot spells it.
        """
        return text

    def fit(self, old: TypeEngine[Any], new: TypeEngine[Any]) -> Fit:
        """How the values of *old*, as the server has it, fit into *new*, as the server would have it.

        Types of the models stand for *new* where :meth:`spell` is not allowed.
        """
        return fit(old, new)

    def misfits(
        self, column: ColumnElement[Any], old: TypeEngine[Any], new: TypeEngine[Any]
    ) -> ColumnElement[bool] | None:
        """The rows whose value of *column*, of type *old*, does not fit into *new*.

        :returns: ``None`` where that cannot be told.
        """
        return misfits(column, new)

    # -- doing --------------------------------------------------------------------------------------------------

    def refuse(
        self, operation: Operation, live: LiveSchema, operations: Sequence[Operation] = ()
    ) -> Refusal | None:
        """Why this database could not do *operation* without harm to a running system; ``None`` when it can.

        :param operations: all of its phase, in their order: what one of them takes away is in nobody's way.
        """
        return None

    def dependents(
        self, operation: Operation, live: LiveSchema, operations: Sequence[Operation]
    ) -> Sequence[Dependent]:
        """What hangs on what *operation* takes away, and goes neither by itself nor with *operations*.

        Empty too where :meth:`refuse` has said it already.

        :param operations: all of the plan, whatever their phase.
        """
        return ()

    @abc.abstractmethod
    def steps(self, operations: Sequence[Operation], live: LiveSchema) -> Sequence[Step]:
        """*operations* of one phase as this database runs them: one step each, in the given order.

        What *live* shows to be half done (an INVALID index, a NOT VALID constraint, leftovers of a rebuild) is
        finished or cleaned up by the statements of the step.
        """

    def foreseen(self, operations: Sequence[Operation], live: LiveSchema, expected: LiveSchema) -> LiveSchema:
        """*expected*, with what this database will know besides once *operations* have run.

        :param live: what they meet.
        :param expected: what they leave, as far as any database goes.
        """
        return expected

    def missing_privileges(self, connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
        """What the role of *connection* lacks to run *steps*, by clauses like ``"CREATE on schema public"``.

        :returns: the statement that grants it, or nothing, by what is lacking; empty when nothing is missing or the
            database has no privileges.
        """
        return {}

    # -- guard, prove, drop ---------------------------------------------------------------------------------------

    def guarded(self, operation: Operation, claim: Claim, live: LiveSchema) -> bool:
        """Whether rows could break *claim* between its proof and the statements of *operation*, unless guarded.

        ``False`` where the statements look at the rows themselves, or where :meth:`lock` keeps everybody out while the
        rows are looked at, which are few enough for that.
        """
        return False

    def outgrown(self, connection: Connection, key: TableKey, live: LiveSchema) -> int | None:
        """Bytes of table *key*, where it is far from the few that its rows are looked at under a lock for.

        *live* goes by statistics, which may be old. ``None`` where it is as small as *live* says, or was known to be
        big, and where the size is no matter.
        """
        return None

    def cannot_guard(self, operation: Operation, claim: Claim, live: LiveSchema) -> str | None:
        """Why nothing could keep *claim* true until *operation* has run, as a clause; ``None`` when something can."""
        return None

    def guarding(self, steps: Sequence[Step], claims: Sequence[Claim], live: LiveSchema) -> Guarding:
        """How *claims* are kept true until *steps*, which share one unit, have run.

        What *live* shows to be in place already is used again if its definition is the one that is needed.

        :raises CannotGuardError: one of them cannot be; :meth:`cannot_guard` says so beforehand.
        """
        raise NotImplementedError(f"{self.name} proves in the transaction of the drop")

    def guards(
        self, connection: Connection, keys: Sequence[TableKey]
    ) -> Mapping[TableKey, Mapping[str, str]]:
        """The guards that stand on tables *keys*: definition by name, as in :attr:`emc.schema.LiveTable.guards`."""
        return {}

    def alone(self, step: Step, cleaning: str, live: LiveSchema) -> Step | None:
        """*step* with statement *cleaning* right before its own, and nobody who writes to its table in between.

        :param cleaning: deletes from the table of the step; it reads none but that.
        :returns: ``None`` where the table is too big for that unasked, and where a transaction spans DDL anyhow.
        """
        return None

    def lift(self, key: TableKey, names: Sequence[str], live: LiveSchema) -> Step:
        """Take the guards called *names*, which nothing needs any more, away from table *key*."""
        raise NotImplementedError(f"{self.name} knows no guards")

    def leftovers(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
        """How to take away what an interrupted run left, besides guards, and that none of *steps* needs any more.

        :param steps: all of the plan.
        """
        return ()

    def given_up(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
        """How to take away what *steps*, which gates have stopped half-way, have left and what hinders writers."""
        return ()

    def remarks(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[tuple[str, str]]:
        """Half-made elements that are not emc's to touch: the dotted name of each, and what there is to say of it."""
        return ()

    def in_doubt(self, engine: Engine, keys: Sequence[TableKey]) -> frozenset[str]:
        """Those of tables *keys* that a transaction may write to which no guard has waited for."""
        return frozenset()

    # -- keeping columns in step ----------------------------------------------------------------------------------

    def cannot_sync(self, sync: Sync, live: LiveSchema) -> Refusal | None:
        """Why triggers could not keep *sync*, or would break what is there; ``None`` when they can and do not."""
        return None

    def sync_parts(self, sync: Sync, live: LiveSchema) -> Sequence[SyncPart]:
        """What stands in the database while *sync* is kept; :meth:`steps` of ``INSTALL_SYNC`` makes these.

        Deterministic: while a part of the same name has another definition in ``live``, the sync is not kept.
        """
        raise NotImplementedError(f"{self.name} keeps no columns in step")

    # -- facts for gates ----------------------------------------------------------------------

    def enforces_foreign_keys(self, connection: Connection) -> bool:
        """Whether foreign keys act on what sessions like *connection* write."""
        return True

    def index_scans(self, connection: Connection, index: Element) -> int | None:
        """How often *index* was used since the statistics were reset; ``None`` where the database cannot tell."""
        return None
