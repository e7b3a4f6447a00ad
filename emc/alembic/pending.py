"""Which revisions have not run yet, and what of the plan will they see to?

Between expand and contract a database is where it should be, although a revision of contract is still to come; then
``alembic check`` has nothing to say of what that revision does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any

import alembic.op
from alembic.autogenerate.api import RevisionContext
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from emc.alembic.batches import without_recreation
from emc.alembic.branches import phase_of
from emc.alembic.directives import RECORDED
from emc.alembic.running.matching import asked_for
from emc.alembic.running.requests import parted
from emc.dialects.lexis import Lexis
from emc.execute.plain import UnreadableError
from emc.phases import Phase
from emc.steps import Step


def contracts(scripts: ScriptDirectory, current: Iterable[str]) -> tuple[Script, ...]:
    """The revisions of contract that have not run yet, if nothing else is missing; else none.

    :param current: where the database is.
    """
    missing = list(scripts.iterate_revisions("heads", tuple(current), implicit_base=True))
    if not missing or any(phase_of(one, scripts) is not Phase.CONTRACT for one in missing):
        return ()
    return tuple(missing)


def compare_anyway(context: MigrationContext, revising: RevisionContext) -> None:
    """Let ``alembic check`` look at a database that only contract is still to come for.

    Alembic compares nothing that is not up to date; it still writes no revision for it.
    """
    inner: Callable[..., Any] | None = context._migrations_fn  # noqa: SLF001  # There is no other way in.
    assert inner is not None

    def refuse() -> Any:
        raise CommandError("Target database is not up to date.")

    def compare(current: Any, of: MigrationContext) -> Any:
        if contracts(revising.script_directory, current):
            revising.generate_scripts = refuse  # type: ignore[method-assign]
            current = tuple(one.revision for one in revising.script_directory.get_revisions("heads"))
        return inner(current, of)

    context._migrations_fn = compare  # noqa: SLF001


def beyond(
    steps: Iterable[Step], waiting: Iterable[Script], context: MigrationContext, lexis: Lexis
) -> list[Step]:
    """Those of *steps* that none of the revisions *waiting* sees to.

    :param lexis: how the database reads SQL.
    """
    ids: set[str] = set()
    left = list(steps)
    default_schema = context.dialect.default_schema_name
    for script in waiting:
        named, sent = _asked(script, context)
        ids |= named
        for sql in sent:
            try:
                statements = parted(sql, lexis)
            except UnreadableError:
                continue  # Such as emc itself writes stand in a block that names their operation.
            for statement in statements:
                found = (asked_for(one, left, default_schema) for one in statement.requests)
                ids |= {step.id for step in found if step is not None}
    return [step for step in left if step.id not in ids]


_TERMINATED = re.compile(r";\s*\Z")


def _asked(script: Script, context: MigrationContext) -> tuple[set[str], list[str]]:
    """The operations that *script* names, and the statements that it sends, as far as a dry run tells.

    :raises CommandError: it does not, since the revision looks at the database.
    """
    named: set[str] = set()
    sent: list[str] = []
    dry = MigrationContext.configure(
        dialect=context.dialect,
        opts={"as_sql": True, "literal_binds": True, "output_buffer": StringIO(), RECORDED: named},
    )
    impl: Any = dry.impl
    impl.static_output = lambda text: sent.append(_TERMINATED.sub("", text))
    before = getattr(alembic.op, "_proxy", None)
    try:
        with Operations.context(dry), without_recreation(dry):
            script.module.upgrade()
    except (SQLAlchemyError, NotImplementedError, TypeError, AttributeError, CommandError) as error:
        raise CommandError(
            f"Target database is not up to date, and whether revision {script.revision} brings it there only running "
            f"it would tell: {error}"
        ) from error
    finally:
        if before is not None:
            before._install_proxy()  # noqa: SLF001  # Leaving the inner one has taken the outer one away, too.
    return named, sent
