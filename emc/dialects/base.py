"""What does emc have to know about a database?

A dialect answers *how, online?* It knows locks, bytes and catalogs, and knows no change: what a difference means for
applications is decided in :mod:`emc.changes`, before an operation gets here.
"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Index,
    Table,
    Text,
    UniqueConstraint,
    cast,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from emc.claims import Claim, Guarding
from emc.dialects.answers import Blocker, Failure, Progress
from emc.dialects.scripting import Scripting
from emc.errors import Refusal
from emc.fit import Fit, fit, misfits
from emc.names import Element, TableKey
from emc.operations import Operation
from emc.schema import Dependent, LiveSchema, LiveTable
from emc.steps import LockPolicy, Step, Transaction
from emc.work.uniqueness import Uniqueness, uniqueness

_T = TypeVar("_T")

_SNAPSHOTS = 5
"""How many snapshots are taken for one question that others' DDL keeps from being answered."""


class CannotSpellError(Exception):
    """The server does not let us create anything, so its spelling of the models cannot be had."""


class Dialect(abc.ABC):
    """One database. Stateless: everything it knows comes from its arguments."""

    name: ClassVar[str]
    """SQLAlchemy's name of the dialect."""
    transactional_ddl: ClassVar[bool]
    """Whether DDL can be rolled back."""
    concurrent_sessions: ClassVar[bool] = True
    """Whether a second session may write while the first one works."""
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
    option_names: ClassVar[tuple[str, ...]] = ()
    """What options of the models may begin with besides SQLAlchemy's name of the dialect."""

    def serves(self, engine: Engine) -> bool:
        """Whether *engine* leads to this database; where several share a kind of URL, known once it has connected."""
        return engine.dialect.name == self.name

    # -- sessions -----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def open(
        self, engine: Engine, transaction: Transaction, locks: LockPolicy, lock_timeout: float
    ) -> AbstractContextManager[Connection]:
        """A connection for one attempt at one unit of work, with every timeout set and read back.

        :param transaction: with ``TOGETHER`` and ``REBUILD`` the block is one transaction that can write, committed
            when it ends and rolled back when it raises; with ``AUTOCOMMIT`` each statement is one of its own.
        :param lock_timeout: seconds to wait for a lock under ``LockPolicy.SHORT``.
        """

    def renew(self, connection: Connection) -> bool:
        """Set the timeouts of :meth:`open` again, after a user's function had *connection* in its hands.

        :returns: whether its transaction is still the one that :meth:`open` began, as far as the database tells.
        """
        return True

    def absent(self, engine: Engine) -> str | None:
        """Why there is no database behind *engine* to look at, where connecting would make one; else ``None``."""
        return None

    def no_database(self, connection: Connection) -> str | None:
        """Why *connection* works in no database, where a server may be entered without naming one; else ``None``."""
        return None

    def entry_remedy(self, error: DBAPIError) -> str | None:
        """What would settle that a connection was refused with *error*; ``None`` where that is to check the URL."""
        return None

    @contextmanager
    def reading(self, engine: Engine) -> Iterator[Connection]:
        """A connection whose reads are one consistent snapshot, and whose transaction is always rolled back."""
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    def ask(self, engine: Engine, question: Callable[[Connection], _T]) -> _T:
        """What *question*, which only reads, finds in one consistent snapshot.

        It is asked again in a fresh one where DDL of another session got in its way: a snapshot cannot see into a table
        that was made or rebuilt after it (MariaDB: error 1412).

        :param question: given the connection of :meth:`reading`; may run several times.
        """
        for _ in range(_SNAPSHOTS - 1):
            try:
                with self.reading(engine) as connection:
                    return question(connection)
            except DBAPIError as error:
                if self.failure(error) is not Failure.LOCKED:
                    raise
        with self.reading(engine) as connection:
            return question(connection)

    @abc.abstractmethod
    def lock(self, connection: Connection, keys: Sequence[TableKey]) -> None:
        """Keep everybody out of tables *keys* until the transaction of *connection* ends.

        So what is proved next is still true when the drop runs. Nothing to do where :meth:`open` keeps writers out.
        """

    @abc.abstractmethod
    def failure(self, error: DBAPIError) -> Failure:
        """What *error* means."""

    def cut_off(self, error: DBAPIError) -> bool:
        """Whether a statement was ended because of the time it took, rather than because of that for which it waited.

        It may have kept everybody out meanwhile, and would again.
        """
        return False

    def blockers(self, connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
        """The sessions, other than emc's, that hold locks on tables *keys*; empty where the database cannot tell."""
        return ()

    def long_transactions(self, connection: Connection) -> Sequence[Blocker]:
        """Transactions, other than emc's, that have been open for longer than a build could wait for them at its end.

        Empty where a build loses nothing by waiting, and where the database does not tell.
        """
        return ()

    def builders(self, connection: Connection, key: TableKey) -> Sequence[Blocker]:
        """The sessions that build an index on table *key* at this moment.

        The server goes on with a build whose emc was killed; what it has made so far looks like a leftover. Empty where
        such a statement ends with its session.
        """
        return ()

    def knock(self, connection: Connection, key: TableKey) -> None:
        """Make sure that nobody holds table *key* at this moment, so that a build of *connection* can begin at once.

        :raises DBAPIError: somebody does; :meth:`failure` says ``LOCKED``. Nothing happens where a build that waits for
            its beginning stalls nobody.
        """
        return

    def session(self, connection: Connection) -> str | None:
        """What :meth:`progress` knows the session of *connection* by; ``None`` where the server tells no progress."""
        return None

    def progress(self, connection: Connection, session: str, key: TableKey) -> Progress | None:
        """How far *session* is with the statement about table *key* that it has sent; ``None`` if none is under way.

        :param connection: another one, that commits by itself.
        """
        return None

    def server_version(self, connection: Connection) -> str:
        """The version, for the ledger, e.g. ``PostgreSQL 15.18``."""
        version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
        return f"{self.name} {version}"

    def now(self, connection: Connection) -> dt.datetime:
        """The server's clock, in UTC: hosts whose own clocks differ agree on it."""
        now: dt.datetime = connection.execute(select(func.current_timestamp())).scalar_one()
        return now.replace(tzinfo=dt.UTC) if now.tzinfo is None else now.astimezone(dt.UTC)

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

    def lift(self, key: TableKey, names: Sequence[str], live: LiveSchema) -> Step:
        """Take the guards called *names*, which nothing needs any more, away from table *key*."""
        raise NotImplementedError(f"{self.name} knows no guards")

    def leftovers(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[Step]:
        """How to take away what an interrupted run left, besides guards, and that none of *steps* needs any more.

        :param steps: all of the plan.
        """
        return ()

    def remarks(self, steps: Sequence[Step], live: LiveSchema) -> Sequence[tuple[str, str]]:
        """Half-made elements that are not emc's to touch: the dotted name of each, and what there is to say of it."""
        return ()

    def in_doubt(self, engine: Engine, keys: Sequence[TableKey]) -> frozenset[str]:
        """Those of tables *keys* that a transaction may write to which no guard has waited for."""
        return frozenset()

    # -- facts for gates and data migrations ----------------------------------------------------------------------

    def index_scans(self, connection: Connection, index: Element) -> int | None:
        """How often *index* was used since the statistics were reset; ``None`` where the database cannot tell."""
        return None

    def uniqueness(self, element: Index | UniqueConstraint) -> Uniqueness:
        """What a unique constraint or index of the models demands here, its options for this database included."""
        prefix = f"{self.name}_"
        options = {
            name.removeprefix(prefix): value
            for name, value in element.kwargs.items()
            if name.startswith(prefix)
        }
        return uniqueness(element, options)

    def ordered(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """*column* of a key in a form whose comparisons agree with the order in which rows are sorted by it."""
        return column

    def exact(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """*column* in a form in which two values are equal if they are the same, and only then.

        Not every type can be compared, and a collation may find different texts equal.
        """
        return cast(column, Text)

    def row_id(self, table: Table) -> ColumnElement[Any] | None:
        """The physical address of a row, for tables without a key; ``None`` where there is none to walk by."""
        return None
