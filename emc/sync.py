"""Which columns say the same, and how does the database keep them in step while both releases run?

By value, never by who is writing: what a row holds before and after a write says which side has changed. So it works
behind poolers, for bulk statements, cron jobs and psql alike.

The rules, the same in every database. *Sources* are the columns that the old release knows, *targets* those of the new:

====== ========================================== ========================================================
Write  What is seen of a row that is not in step  What the triggers do
====== ========================================== ========================================================
INSERT all targets NULL                           targets := up(sources)
INSERT targets given                              sources := down(targets): the new release's meaning wins
UPDATE a source changed, no target                targets := up(sources)
UPDATE a target changed                           sources := down(targets); after that, should all targets
                                                  be NULL, targets := up(sources)
====== ========================================== ========================================================

A row is in step if ``targets = up(sources)``, or if it has targets and ``sources = down(targets)``, NULL being equal to
NULL: what one side wrote need not survive the way there and back. Nothing is done to such a row, so a lossy *down* is
not undone by the *up* that would follow it, and where triggers can only write after the fact (SQLite) they rest.
A row whose targets are all NULL, though *up* makes something else of its sources, has yet to be copied.

Values are compared as they are stored, and to the letter: a collation that finds ``Bob`` and ``bob`` equal would lose a
change of case, and a value that the column rounds would never be equal to what it was made of.

Where there is no *down*, sources are left alone, an UPDATE that changes one is refused unless the row is derived from
it afterwards (the old column becomes read-only), and a row is in step once it has targets or nothing to set them to.

Where the targets are in another table (:class:`Elsewhere`), each row has at most one there, which goes with it (a
foreign key with ON DELETE CASCADE sees to that). The rules are the same, but that the row may be missing:

============================= ==========================================================================================
Write                         What the triggers do where the two rows are not in step
============================= ==========================================================================================
sources inserted or updated   targets := up(sources); the row is made if *up* makes anything of the sources. Only an
                              INSERT without a value takes what a row that is there already says
targets inserted, all NULL    targets := up(sources)
targets inserted or updated   sources := down(targets), and so for a row that is given to another owner
row of the targets deleted    sources of its owner := what *down* makes of NULLs
============================= ==========================================================================================

A row without one over there is in step if *up* makes nothing but NULLs of it, or if it says what *down* makes of NULLs:
no row is needed to say that. There has to be a *down*: without it, a row that the new release has deleted could not be
told from one that is yet to be made. What the triggers decide, they decide by value and before they write, so that
those of the other table find nothing left to do.

All other writes cost nothing. A write of the backfill (targets := up(sources)) changes targets only and leaves a row in
step, so the triggers have nothing to do for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Subquery,
    Table,
    Update,
    and_,
    exists,
    insert,
    literal_column,
    not_,
    or_,
    select,
    true,
    update,
)

from emc.names import EMC_PREFIX, TableKey
from emc.operations import OwnOp
from emc.schema import LiveSchema

SYNC_PREFIX = f"{EMC_PREFIX}sync_"
"""Triggers and functions that keep columns in step bear this prefix, triggers of PostgreSQL behind a ``~``."""

Same = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]
"""Whether a column holds exactly what a value becomes when it is stored there, NULL being equal to NULL; never NULL
itself: :meth:`emc.dialects.base.Dialect.same`."""


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """The other table, where the targets are columns of one."""

    key: TableKey
    row: Table
    on: tuple[tuple[str, str], ...]
    """Which of its rows belongs to which row of the sources: pairs of its own column and one of theirs, all of which
    are equal. At most one row on each side: both sides of the pairs are unique and NOT NULL."""
    is_new: bool = False
    """Whether this upgrade creates it, so that no statement of the old release speaks of it."""


@dataclass(frozen=True, eq=False)
class Sync:
    """Columns of a row that say the same."""

    name: str
    """The dotted name of the first target: ``users.full_name``."""
    key: TableKey
    """The table of the sources."""
    row: Table
    """Its columns as *up* and *down* speak of them: those of the live table, and the targets even before they are
    added. Where the targets are in another table, *down* speaks of ``elsewhere.row``."""
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    up: Mapping[str, ColumnElement[Any]]
    """Each target's value, from the sources."""
    down: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """Each source's value, from the targets; empty: there is no way back."""
    elsewhere: Elsewhere | None = None
    model: Table | None = None
    """The table of the models that has the targets, with their foreign keys and defaults."""
    verb: str = "convert"
    """What a person has called it: ``rename`` or ``convert``."""
    place: str = ""
    """``path:line`` of the declaration."""

    @property
    def is_copy(self) -> bool:
        """Whether each target holds what its source holds, as it stands: a rename."""
        return all(self.row.c[source] is self.up[target] for source, target in self.pairs)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each source and its target, where they are as many."""
        return tuple(zip(self.sources, self.targets, strict=False))

    @property
    def target_row(self) -> Table:
        """The table that has the targets."""
        return self.row if self.elsewhere is None else self.elsewhere.row

    @property
    def target_key(self) -> TableKey:
        """The name of the table that has the targets."""
        return self.key if self.elsewhere is None else self.elsewhere.key

    def is_unset(self) -> ColumnElement[bool]:
        """Whether no target of the row has a value; never NULL."""
        return self._of_both(self._unset)

    def is_derived(self, same: Same) -> ColumnElement[bool]:
        """Whether the targets are what *up* makes of the sources; never NULL."""
        return self._of_both(self._derived(same))

    def is_in_step(self, same: Same) -> ColumnElement[bool]:
        """Whether the two sides of the row say the same; never NULL."""
        says = or_(not_(self._unset), self._missing) if self.elsewhere is not None else not_(self._unset)
        return self._of_both(or_(self._derived(same), and_(says, self._back(same))))

    def is_pending(self, same: Same) -> ColumnElement[bool]:
        """Whether the row was written before the triggers stood, and has yet to be copied; never NULL."""
        pending = [self._unset, not_(self._derived(same))]
        if self.elsewhere is not None:
            pending.append(not_(and_(self._missing, self._back(same))))
        return self._of_both(and_(*pending))

    def says_the_same(self, same: Same) -> ColumnElement[bool]:
        """Whether a row and its row of the other table do, where both are asked about; never NULL."""
        return or_(self._derived(same), and_(not_(self._unset), self._back(same)))

    @property
    def _unset(self) -> ColumnElement[bool]:
        return and_(*(self.target_row.c[name].is_(None) for name in self.targets))

    def _derived(self, same: Same) -> ColumnElement[bool]:
        return and_(*(same(self.target_row.c[name], self.up[name]) for name in self.targets))

    def _back(self, same: Same) -> ColumnElement[bool]:
        if not self.down:
            return true()
        return and_(*(same(self.row.c[name], self.down[name]) for name in self.sources))

    def _of_both(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """*condition* of a row; where the targets are elsewhere, of it and of its row there."""
        if self.elsewhere is None:
            return condition
        one, both = self._beside()
        found: Select[Any] = select(literal_column("1")).select_from(both).where(condition)
        return exists(found.correlate_except(one, self.elsewhere.row))

    # -- the other table ----------------------------------------------------------------------------------------

    @property
    def joined(self) -> ColumnElement[bool]:
        """Whether a row of the other table belongs to one of the sources."""
        assert self.elsewhere is not None
        there = self.elsewhere.row
        return and_(*(there.c[its] == self.row.c[own] for its, own in self.elsewhere.on))

    @property
    def _missing(self) -> ColumnElement[bool]:
        """Whether the row has none over there; for :meth:`_of_both`."""
        assert self.elsewhere is not None
        return self.elsewhere.row.c[self.elsewhere.on[0][0]].is_(None)

    def _beside(self) -> tuple[Subquery, Any]:
        """One row: that of the other table which belongs to a row of the sources, or NULLs where there is none."""
        assert self.elsewhere is not None
        one = select(literal_column("1").label("emc_one")).subquery("emc_beside")
        return one, one.outerjoin(self.elsewhere.row, self.joined)

    def to_targets(self, same: Same, there: ColumnElement[bool], *, only_unset: bool = False) -> Update:
        """Set targets to up(sources), in rows of the other table that are not in step.

        :param there: which rows, of the other table.
        :param only_unset: leave those alone that have a value.
        """
        assert self.elsewhere is not None
        rows = self.elsewhere.row
        wrong = not_(self.says_the_same(same))
        where = [there, exists(select(literal_column("1")).where(self.joined, wrong).correlate(rows))]
        values = {
            rows.c[name]: select(self.up[name]).where(self.joined).correlate(rows).scalar_subquery()
            for name in self.targets
        }
        return update(rows).where(*where, *([self._unset] if only_unset else [])).values(values)

    def to_make(self, same: Same, here: ColumnElement[bool]) -> Insert:
        """Rows of the other table, for those of the sources that have something to say and none over there.

        :param here: for which rows of the sources.
        """
        assert self.elsewhere is not None
        rows, on = self.elsewhere.row, self.elsewhere.on
        needed = self._of_both(and_(self._missing, not_(self._derived(same)), not_(self._back(same))))
        values = [*(self.row.c[own] for _, own in on), *(self.up[name] for name in self.targets)]
        made = select(*values).select_from(self.row).where(here, needed)
        return insert(rows).from_select(
            [*(its for its, _ in on), *self.targets], made, include_defaults=False
        )

    def to_sources(self, same: Same, here: ColumnElement[bool]) -> Update:
        """Set sources to down(targets), in rows that are not in step; of NULLs, where there is no row over there.

        :param here: which rows, of the sources.
        """
        assert self.elsewhere is not None
        one, both = self._beside()
        values = {
            self.row.c[name]: select(value)
            .select_from(both)
            .correlate_except(one, self.elsewhere.row)
            .scalar_subquery()
            for name, value in self.down.items()
        }
        return update(self.row).where(here, not_(self.is_in_step(same))).values(values)

    def to_late(self, same: Same, here: ColumnElement[bool]) -> Update:
        """:meth:`to_sources` for rows of which *up* makes nothing, and whose row over there says something."""
        assert self.elsewhere is not None
        says = self._of_both(not_(or_(self._unset, self._missing)))
        nothing = and_(*(self.up[name].is_(None) for name in self.targets))
        return self.to_sources(same, and_(here, nothing, says))


@dataclass(frozen=True)
class SyncPart:
    """A trigger, or a function that triggers call."""

    key: TableKey
    """The table that it hangs on."""
    name: str
    """Made with :data:`SYNC_PREFIX`; the same for every definition of the same sync."""
    definition: str
    """As :attr:`emc.schema.LiveTable.syncs` shows it while it stands and is in force."""


def is_kept(sync: Sync, live: LiveSchema, parts: Callable[[Sync, LiveSchema], Sequence[SyncPart]]) -> bool:
    """Whether all that *sync* needs stands in *live* as it should, and is in force.

    :param parts: what that is; not asked where nothing stands at all.
    """
    tables = [live.table(key) for key in dict.fromkeys((sync.key, sync.target_key))]
    if not any(table is not None and table.syncs for table in tables):
        return False
    if any(live.column(sync.target_key, name) is None for name in sync.targets):
        return False
    return all(
        part.key in live.tables and live.tables[part.key].syncs.get(part.name) == part.definition
        for part in parts(sync, live)
    )


class SyncOp(OwnOp):
    """Triggers are put in place, or taken away."""

    def __init__(self, sync: Sync, *, install: bool) -> None:
        self.sync = sync
        self.install = install
        self.table_name = sync.key.name
        self.schema = sync.key.schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` would print, which never sees it."""
        return ("install_sync" if self.install else "drop_sync", self.schema, self.sync.name)
