"""What would be done, where does the upgrade stand, and what was done? Reads only."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, Engine

from emc.commands.guarding import standing
from emc.commands.plainly import plainly
from emc.commands.results import PlanReport, StatusReport, WorkStatus
from emc.commands.session import planned, reach
from emc.dialects import Dialect
from emc.gates import Scope, judge
from emc.planning import Plan
from emc.planning.back import standing_of_undo
from emc.state import ledger
from emc.state.control import Standing, published
from emc.state.failures import failures
from emc.state.lease import holder
from emc.state.progress import load
from emc.state.ranges import ranges
from emc.upgrade import Upgrade
from emc.work import NotReady, Work, rows_left


@plainly
def plan(upgrade: Upgrade, engine: Engine) -> PlanReport:
    """What each phase would do, derived from models, declarations and live schema as of now.

    Reads only: a role without any other privilege is enough.

    :raises DeclarationError: a declaration contradicts the models or the database.
    :raises PlanRefusedError: there are differences that emc refuses to act on.
    :raises DatabaseUnavailableError: the database cannot be reached.
    """
    dialect = reach(engine)
    return planned(
        upgrade, engine, dialect, lambda connection, derived: _judged(connection, derived, dialect)
    )


@plainly
def status(upgrade: Upgrade, engine: Engine) -> StatusReport:
    """Where the upgrade stands: what is left of each phase, how far data migrations are, which gates are shut.

    Reads only.

    :raises EmcError: as :func:`plan`.
    """
    dialect = reach(engine)

    def look(connection: Connection, derived: Plan) -> StatusReport:
        held = holder(connection)
        running = run = None
        if held is not None and held.expires_at > dialect.now(connection):
            run = published(connection, held.token)
            running = f"{held.runner} runs {held.command} since {held.acquired_at:%Y-%m-%d %H:%M:%S} UTC"
        work = tuple(_work_status(connection, one, run) for one in derived.all_work.values())
        judged, back = _judged(connection, derived, dialect), standing_of_undo(connection, derived)
        return StatusReport(judged, work, running, _next(derived), run, back)

    return planned(upgrade, engine, dialect, look)


@plainly
def history(engine: Engine, *, limit: int | None = None) -> tuple[ledger.Entry, ...]:
    """The ledger, newest entry last.

    :param limit: how many entries to answer, counted from the newest; ``None``: all.
    :raises DatabaseUnavailableError: the database cannot be reached.
    """
    dialect = reach(engine)
    return dialect.ask(engine, lambda connection: ledger.entries(connection, limit=limit))


def _judged(connection: Connection, derived: Plan, dialect: Dialect) -> PlanReport:
    scope = Scope(derived, dialect)
    return PlanReport(
        derived, {step.id: judge(step.operation, connection, scope) for step in derived.contract}
    )


def _work_status(connection: Connection, work: Work | NotReady, run: Standing | None) -> WorkStatus:
    progress = load(connection, work.name)
    done = progress.rows_done if progress is not None else 0
    done += sum(one.rows_done for one in ranges(connection, work.name))
    if isinstance(work, NotReady):
        return WorkStatus(work.name, done, None, None, reason=work.reason)
    left = rows_left(connection, work)
    eta: float | None = None
    if run is not None and run.work == work.name:
        eta = run.eta_seconds
    elif progress is not None and done and left:
        elapsed = (progress.updated_at - progress.started_at) / dt.timedelta(seconds=1)
        eta = elapsed / done * left
    failed = failures(connection, work.name) if left else ()
    return WorkStatus(work.name, done, left, eta, failed)


def _next(derived: Plan) -> str:
    if derived.expand:
        return "emc expand"
    if derived.work:
        return "emc migrate"
    if derived.contract:
        return "emc contract --old-code-gone   # once no process of the old release is left"
    if standing(derived.situation.live) or any(note.kind == "guard" for note in derived.notes):
        return "emc contract   # takes away what an interrupted one left"
    return "nothing: models and database agree"
