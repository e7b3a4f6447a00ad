"""How does an upgrade flow?

One function per command. They print nothing and know no terminal: progress goes to a callback, results come back as
values. The command line, test fixtures and services all call these.
"""

from emc.commands.contracting import contract
from emc.commands.controlling import Asked, pause, resume, stop
from emc.commands.expanding import expand
from emc.commands.looking import history, plan, status
from emc.commands.migrating import migrate
from emc.commands.results import (
    Blocked,
    MigrateReport,
    PhaseReport,
    PlanReport,
    StatusReport,
    UndoReport,
    WorkStatus,
)
from emc.commands.scripting import script
from emc.commands.undoing import undo

__all__ = [
    "Asked",
    "Blocked",
    "MigrateReport",
    "PhaseReport",
    "PlanReport",
    "StatusReport",
    "UndoReport",
    "WorkStatus",
    "contract",
    "expand",
    "history",
    "migrate",
    "pause",
    "plan",
    "resume",
    "script",
    "status",
    "stop",
    "undo",
]
