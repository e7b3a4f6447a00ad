"""What is a gate, and what does it answer?

A gate is a condition on one contract operation. It is derived from the operation, asks the database, and stays shut
when it cannot tell. Nothing but its answer, or a recorded override, lets the operation run.
"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, FromClause, Table, Text, cast, func, select

from emc.claims import Claim, Proof
from emc.dialects.base import Dialect
from emc.names import Element, TableKey
from emc.operations import Operation
from emc.planning import Plan
from emc.schema import as_table
from emc.work.tables import walking_key

SAMPLE = 3
"""How many keys a shut gate names."""


@dataclass(frozen=True)
class Verdict:
    """A gate's answer, with the facts behind it."""

    gate: str
    """The full name, as ``--override`` takes it, e.g. ``no-nulls:users.tz``."""
    open: bool
    reason: str
    """Why, in one sentence with the user's own names."""
    remedy: str | None = None
    """The command or line that would open it; ``None`` where it is open."""
    rows: int | None = None
    """How many rows are in the way, where rows are."""
    keys: tuple[str, ...] = ()
    """The first few of their keys."""
    overridden: str | None = None
    """The reason that an operator gave for going on although the gate is shut."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What goes into the ledger: predicate, rows seen, and the like."""

    @property
    def lets_pass(self) -> bool:
        """Whether the operation may run, as far as this gate is concerned."""
        return self.open or self.overridden is not None


@dataclass(frozen=True, eq=False)
class Scope:
    """What a gate may look at, besides the database itself."""

    plan: Plan
    dialect: Dialect
    old_code_gone: bool = False
    """The operator's word that no process of the old release runs any more."""
    soak: dt.timedelta | None = None
    """Replaces the soak of every declaration."""
    new_code_gone: bool = False
    """In undo: the operator's word that no process of the new release runs any more."""
    expands_later: bool = False
    """Whether what is left of expand can only come behind what runs now: it is of later revisions of Alembic."""
    is_new: bool = False
    """Whether the database was empty when the run began, so that no release has worked with it."""
    command: str = "emc contract --old-code-gone"
    """What is run again once a gate is open."""
    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def table(self, key: TableKey) -> Table | None:
        """The live table, to build statements on; ``None`` when it is not there."""
        live = self.plan.situation.live.table(key)
        return as_table(live, self.plan.situation.models.get(key)) if live is not None else None

    def walk(self, key: TableKey) -> tuple[str, ...]:
        """The columns to walk the live table by; empty when it has no key, or is not there."""
        live = self.plan.situation.live.table(key)
        return walking_key(live) if live is not None else ()


@dataclass(frozen=True, eq=False)
class Gate(abc.ABC):
    """A condition on one operation."""

    kind: ClassVar[str]
    operation: Operation

    @property
    def element(self) -> Element:
        """What the operation is about."""
        return self.operation.element

    @property
    def name(self) -> str:
        """The full name, as ``--override`` takes it."""
        return f"{self.kind}:{self.element}"

    def concerns(self, scope: Scope) -> bool:
        """Whether there is anything to ask; if not, nothing is said of the gate."""
        return True

    @abc.abstractmethod
    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Ask the database. Reads only."""

    def claims(self, connection: Connection, scope: Scope) -> tuple[Claim, ...]:
        """What has to be true of every row, from the answer *open* until the operation has run; empty: of none.

        Asked of a gate that is open.
        """
        return ()

    def cleaned_by(self, scope: Scope) -> str | None:
        """The name of the data migration whose declaration says what becomes of the rows in the way, if one does."""
        return None

    def proved(self, proofs: Sequence[Proof]) -> Verdict:
        """The answer to what was seen behind a guard, where :meth:`evaluate` would have to look at every row again."""
        seen = sum(proof.rows_seen for proof in proofs)
        evidence: dict[str, Any] = {
            "predicate": " / ".join(str(proof.claim.in_the_way) for proof in proofs),
            "rows_seen": seen,
            "seconds": round(sum(proof.seconds for proof in proofs), 3),
            "guards": sorted({name for proof in proofs for name in proof.guards}),
        }
        rows = sum(proof.rows for proof in proofs)
        if rows:
            found = next(proof for proof in proofs if proof.rows)
            return self.shut(
                f"{counted(found.rows, found.claim.rows)}, seen behind the guard",
                "emc plan   # says which, and what gets them out of the way",
                rows=rows,
                keys=[key for proof in proofs for key in proof.keys][:SAMPLE],
                **evidence,
            )
        none = " and ".join(dict.fromkeys(f"no {proof.claim.rows}" for proof in proofs))
        return self.opened(f"{none} ({counted(seen, 'rows')} looked at, behind a guard)", rows=0, **evidence)

    def opened(self, reason: str, **evidence: Any) -> Verdict:
        """The answer *open*."""
        return Verdict(self.name, True, reason, evidence=evidence)

    def shut(
        self, reason: str, remedy: str, *, rows: int | None = None, keys: Sequence[str] = (), **evidence: Any
    ) -> Verdict:
        """The answer *shut*."""
        return Verdict(self.name, False, reason, remedy, rows, tuple(keys), evidence=evidence)

    def not_there_yet(self, what: str) -> Verdict:
        """The answer while expand has not run."""
        return self.shut(f"{what} is not there yet", "emc expand")


def counted(number: int, noun: str) -> str:
    """*number* and *noun*, which is given in the plural: ``1 row``, ``1,200 rows``."""
    first, _, rest = noun.partition(" ")
    word = first.removesuffix("s") if number == 1 else first
    return f"{number:,} {word} {rest}".rstrip()


def count_rows(connection: Connection, source: FromClause, where: ColumnElement[bool]) -> int:
    """How many rows of *source* satisfy *where*."""
    return int(connection.execute(select(func.count()).select_from(source).where(where)).scalar_one())


def first_keys(connection: Connection, table: FromClause, where: ColumnElement[bool]) -> tuple[str, ...]:
    """The keys of the first few rows of *table* that satisfy *where*, as ``id=3``."""
    columns: list[ColumnElement[Any]] = [*table.primary_key]
    order = columns
    if not columns:
        columns = [*table.columns][:SAMPLE]
        # Every type can be text, and not every one has an order.
        order = [cast(column, Text) for column in columns]
    rows = connection.execute(select(*columns).select_from(table).where(where).order_by(*order).limit(SAMPLE))
    return tuple(
        ", ".join(f"{column.key}={value!r}" for column, value in zip(columns, row, strict=True))
        for row in rows
    )
