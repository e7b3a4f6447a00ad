"""How is a unit of steps carried out?

One at a time: under a lease, with timeouts, retries, the gates' last look, the postcondition and the ledger.
"""

from __future__ import annotations

from emc.execute.events import StepEvent, StepState
from emc.execute.guard import SubtractiveStatementError, refuse_subtractive
from emc.execute.messages import described, first_line, hints
from emc.execute.retry import RetryPolicy
from emc.execute.unit import run_unit

__all__ = [
    "RetryPolicy",
    "StepEvent",
    "StepState",
    "SubtractiveStatementError",
    "described",
    "first_line",
    "hints",
    "refuse_subtractive",
    "run_unit",
]
