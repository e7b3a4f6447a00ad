"""Which statements of a revision may stand in a script?

Online emc looks each up in its plan, and asks its gates. A script is written without a database: what takes something
away stands in it only behind the gates that the revision itself spells out, as generated revisions do.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.util import CommandError

from emc.alembic.branches import phase_of, refuse_stray
from emc.alembic.running.by_hand import Handwritten
from emc.alembic.running.matching import names
from emc.alembic.running.reasons import ALLOW, REASONS
from emc.alembic.running.requests import Request, read
from emc.execute import SubtractiveStatementError, refuse_subtractive
from emc.names import is_own
from emc.operations import SUBTRACTIVE
from emc.phases import Phase

SCRIPTED = "emc_scripted"
"""Under which name in the options of a migration context its :class:`Scripted` is found."""


class Scripted:
    """What is known of the revision whose statements are written."""

    def __init__(self) -> None:
        self.revision = ""
        self.phase: Phase | None = None
        """``None`` outside of revisions, and in those of a linear history."""
        self.gated: set[str] = set()
        """The ids of operations of whose gates it has had lines."""
        self.block: tuple[str, ...] = ()
        """The ids of the operations whose statements are written, within ``with op.emc_step(…)``."""
        self.is_ours = False
        """Whether what is written is emc's own, or Alembic's."""

    @contextlib.contextmanager
    def running(self, revision: str, phase: Phase) -> Iterator[None]:
        """Look at what is written within the block as what *revision* asks for."""
        self.revision, self.phase, self.gated = revision, phase, set()
        try:
            yield
        finally:
            self.phase = None

    @contextlib.contextmanager
    def step(self, operations: tuple[str, ...]) -> Iterator[None]:
        """Take what is written within the block for the statements of *operations*."""
        self.block = operations
        try:
            yield
        finally:
            self.block = ()

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Look at nothing that is written within the block."""
        self.is_ours = True
        try:
            yield
        finally:
            self.is_ours = False

    def look_at(self, sql: str) -> None:
        """Make sure that *sql* may stand in the script.

        :raises CommandError: it may not.
        """
        if self.phase is None or self.is_ours:
            return
        statement = read(sql)
        if statement.reads or self._is_spelled_out:
            return
        if self.phase is Phase.UNDO:
            raise self._refused(
                sql, "there are no scripts for the way back", "alembic downgrade, or emc undo"
            )
        if statement.hidden:
            what = f"it takes {statement.hidden[0].target} away in a way that emc has no gate for"
            raise self._refused(sql, what, _BY_EMC)
        for request in statement.requests:
            if request.takes and not self._is_harmless(request):
                raise self._ungated(sql, request)
        if not statement.requests and not REASONS:
            handwritten = Handwritten(self.revision, sql, sql, None, (), Phase.EXPAND)
            try:
                refuse_subtractive([handwritten.step], Phase.EXPAND)
            except SubtractiveStatementError as error:
                why = error.message.partition(": ")[2].partition(", which statements of the old")[0]
                raise self._refused(sql, f"emc cannot tell that it is harmless: {why}", ALLOW) from None

    def _is_harmless(self, request: Request) -> bool:
        if is_own(request.name) or (request.table is not None and is_own(request.table[-1])):
            return True
        if self.phase is Phase.EXPAND:
            return bool(request.kinds - SUBTRACTIVE)  # It may be what expand itself relaxes.
        return names(request, self.gated)

    @property
    def _is_spelled_out(self) -> bool:
        """Whether a step is written as emc has spelled it out: one of expand, or one of contract behind its gates."""
        if self.phase is Phase.EXPAND:
            return bool(self.block) and not any(one.partition(":")[0] in SUBTRACTIVE for one in self.block)
        return bool(self.block) and self.gated.issuperset(self.block)

    def _ungated(self, sql: str, request: Request) -> CommandError:
        if self.phase is Phase.EXPAND:
            why = f"it takes {request.target} away while the old release runs"
            return self._refused(sql, why, "Move it to a revision on the branch contract.")
        return self._refused(
            sql, f"no line op.emc_gate(...) stands before it that is about {request.target}", _BY_EMC
        )

    def _refused(self, sql: str, why: str, remedy: str) -> CommandError:
        return CommandError(
            f"Revision {self.revision} has a statement that no script may hold: {why}.\n  {sql.strip()}\n{remedy}"
        )


def listen(context: MigrationContext) -> Scripted:
    """Let what revisions write to the script of *context* be looked at; the caller shows it."""
    scripted = context.opts[SCRIPTED] = Scripted()
    steps = context._migrations_fn  # noqa: SLF001  # There is no other way in.

    def migrations(heads: Any, of: MigrationContext) -> Iterator[Any]:
        assert steps is not None
        for step in steps(heads, of):
            if isinstance(step, RevisionStep):
                _through(scripted, step, context)
            yield step

    if steps is not None:
        context._migrations_fn = migrations  # noqa: SLF001
    return scripted


def _through(scripted: Scripted, step: RevisionStep, context: MigrationContext) -> None:
    scripts = context.script
    assert scripts is not None
    phase = phase_of(step.revision, scripts)
    if phase is None:
        refuse_stray(step.revision, scripts)
        return
    inner: Callable[..., Any] = step.migration_fn
    revision, towards = step.revision.revision, phase if step.is_upgrade else Phase.UNDO

    @functools.wraps(inner)  # Alembic logs its name.
    def migrate(**kw: Any) -> None:
        with scripted.running(revision, towards):
            inner(**kw)

    step.migration_fn = migrate


_BY_EMC = "emc plan --sql writes its gates too; alembic upgrade without --sql asks them."
