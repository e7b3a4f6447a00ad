"""What does ``alembic revision --autogenerate`` write?

The plan of emc, not the differences that Alembic finds: a revision on the branch ``expand``, and one on the branch
``contract`` that depends on it. Nothing to do: no revision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from alembic.autogenerate.api import RevisionContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError, rev_id
from sqlalchemy import Connection

from emc.alembic import directives
from emc.alembic.branches import heads, place
from emc.alembic.gatelines import expanded, gates_before, migrations_before
from emc.alembic.pending import beyond, compare_anyway, contracts
from emc.alembic.quiet import quiet
from emc.alembic.running.errors import StoppedError
from emc.alembic.spelling import Written, together
from emc.commands.session import planned, reach
from emc.dialects import Dialect
from emc.errors import EmcError
from emc.phases import Phase
from emc.planning import Plan
from emc.steps import Step
from emc.upgrade import Upgrade

Hook = Callable[[MigrationContext, Any, list[ops.MigrationScript]], None]
"""What Alembic calls ``process_revision_directives``."""

_ALEMBICS = "alembic.autogenerate."


def plugins(named: Sequence[str] | None = None) -> list[str]:
    """The plugins of autogenerate that are left when Alembic's own comparison is not wanted.

    :param named: those that ``env.py`` names.
    """
    return [name for name in named or () if not name.removeprefix("~").startswith(_ALEMBICS)]


def attach(context: MigrationContext) -> None:
    """Let *context* compare between expand and contract, too, if that is what it is for."""
    revising = _revising(context)
    if revising is not None and revising.command_args.get("autogenerate"):
        compare_anyway(context, revising)


def process(upgrade: Upgrade, then: Hook | None = None) -> Hook:
    """A ``process_revision_directives`` that writes the plan of *upgrade*.

    :param then: another one, that sees what this one has written.
    """

    def hook(context: MigrationContext, revision: Any, scripts: list[ops.MigrationScript]) -> None:
        revising = _revising(context)
        if revising is not None and revising.command_args.get("autogenerate"):
            _write(context, revising, upgrade, scripts)
        if then is not None:
            then(context, revision, scripts)

    return hook


def _revising(context: MigrationContext) -> RevisionContext | None:
    environment = context.environment_context
    found: RevisionContext | None = (
        environment.context_opts.get("revision_context") if environment is not None else None
    )
    return found


def _write(
    context: MigrationContext, revising: RevisionContext, upgrade: Upgrade, scripts: list[ops.MigrationScript]
) -> None:
    """Put the revisions of the plan in the place of the one that Alembic has begun.

    :raises CommandError: there is no plan, or no place for a revision.
    """
    begun = scripts[-1]
    if len(scripts) > 1 or len(begun.upgrade_ops_list) > 1:
        raise CommandError(
            "emc writes revisions for one database at a time, and this env.py runs for several.\n"
            "Give each its own script directory, or its own alembic.ini."
        )
    if begun.head not in ("head", "heads", None) or begun.splice or begun.branch_label:
        raise CommandError(
            "emc chooses where the revisions of its plan go: on the branches expand and contract.\n"
            f"alembic revision --autogenerate -m {begun.message or '...'!r}"
        )
    connection = context.connection
    assert connection is not None
    waiting = contracts(revising.script_directory, context.get_current_heads())
    try:
        dialect = reach(connection.engine)
        with quiet():
            expand, contract = planned(
                upgrade,
                connection.engine,
                dialect,
                lambda asked, plan: (
                    _expand(plan, dialect),
                    _contract(
                        asked,
                        plan,
                        dialect,
                        upgrade,
                        lambda steps: beyond(steps, waiting, context, dialect.lexis(asked)),
                    ),
                ),
            )
    except EmcError as error:
        raise StoppedError(error) from error
    # What comparators of others have found: emc knows nothing of it, and reads it when it runs.
    others = list(begun.upgrade_ops.ops) if begun.upgrade_ops is not None else []
    expand = [*expand, *others]
    if not expand and not contract:
        _nothing(revising)
        return
    written = []
    if expand:
        written.append(_script(begun, Phase.EXPAND, expand, revising, _undo(expand)))
    if contract:
        first = written[0] if written else None
        written.append(_script(begun, Phase.CONTRACT, contract, revising, [directives.Contracted()], first))
        written[-1].upgrade_ops = _Plan(contract, expand, begun)
    scripts[:] = written


class _Plan(ops.UpgradeOps):
    """The operations of contract, of which ``alembic check`` tells all of the plan: it asks the last revision only."""

    def __init__(
        self,
        contract: list[ops.MigrateOperation],
        expand: list[ops.MigrateOperation],
        begun: ops.MigrationScript,
    ) -> None:
        super().__init__(contract, upgrade_token=_tokens(begun)[0])
        self.expand = ops.UpgradeOps(expand)

    def as_diffs(self) -> list[tuple[Any, ...]]:
        """What ``alembic check`` prints."""
        return [*self.expand.as_diffs(), *super().as_diffs()]


def _tokens(begun: ops.MigrationScript) -> tuple[str, str]:
    """What the template calls the code of either direction."""
    assert begun.upgrade_ops is not None
    assert begun.downgrade_ops is not None
    return begun.upgrade_ops.upgrade_token, begun.downgrade_ops.downgrade_token


def _expand(plan: Plan, dialect: Dialect) -> list[ops.MigrateOperation]:
    return [Written(steps, dialect) for steps in together(plan.expand)]


def _contract(
    connection: Connection,
    plan: Plan,
    dialect: Dialect,
    upgrade: Upgrade,
    wanted: Callable[[Iterable[Step]], Sequence[Step]],
) -> list[ops.MigrateOperation]:
    """The lines of contract.

    :param wanted: picks the steps that no revision has yet.
    """
    if not wanted(plan.contract):
        return []
    plan = expanded(plan, dialect, upgrade)
    before = gates_before(connection, plan, dialect)
    lines: list[ops.MigrateOperation] = [*migrations_before(plan, dialect)]
    return lines + [Written(steps, dialect, before) for steps in together(wanted(plan.contract))]


def _undo(expand: Iterable[ops.MigrateOperation]) -> list[ops.MigrateOperation]:
    lines: list[ops.MigrateOperation] = []
    for one in expand:
        lines += (
            [directives.Undo(step.id) for step in one.steps] if isinstance(one, Written) else [one.reverse()]
        )
    return lines[::-1]


def _nothing(revising: RevisionContext) -> None:
    """Write no file.

    ``alembic check`` looks into the revision that was begun, so it stays; it is this one command that writes nothing.
    """
    revising.generate_scripts = lambda: iter(())  # type: ignore[method-assign]


def _script(
    begun: ops.MigrationScript,
    phase: Phase,
    lines: list[ops.MigrateOperation],
    revising: RevisionContext,
    back: list[ops.MigrateOperation],
    first: ops.MigrationScript | None = None,
) -> ops.MigrationScript:
    """A revision of *phase*.

    :param first: the revision of expand that is written along with it.
    """
    scripts = revising.script_directory
    where = place(phase, scripts)
    if first is not None and first.branch_label and where.label:
        # Both branches begin here, and the other one will be there already.
        where = dataclasses.replace(where, splice=where.head != "base")
    ends = heads(scripts)
    depends: list[str] = list(_listed(begun.depends_on))
    other = ends.get(Phase.CONTRACT if phase is Phase.EXPAND else Phase.EXPAND)
    if first is not None and first.rev_id is not None:
        depends.append(first.rev_id)
    elif other is not None:
        # What is replayed on an empty database comes in the order in which it was written.
        depends.append(other.revision)
    revision = begun.rev_id
    if first is not None:
        revision = f"{begun.rev_id}c" if revising.command_args.get("rev_id") else rev_id()
    upgrade_token, downgrade_token = _tokens(begun)
    return ops.MigrationScript(
        rev_id=revision,
        upgrade_ops=ops.UpgradeOps(lines, upgrade_token=upgrade_token),
        downgrade_ops=ops.DowngradeOps(back, downgrade_token=downgrade_token),
        message=f"{phase.value} {begun.message}" if begun.message else phase.value,
        head=where.head,
        splice=where.splice,
        branch_label=where.label,
        version_path=begun.version_path,
        depends_on=depends or None,
    )


def _listed(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
