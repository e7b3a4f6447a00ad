"""How do rows move online, in batches that can be killed at any moment?

Each batch is one transaction that confirms the lease, does its rows and saves the cursor. A run is over
when no row satisfies the condition of the work any more, or when emc can say why some still do.
"""

from __future__ import annotations

from emc.data.engine import run, run_all
from emc.data.throttle import ThrottlePolicy, Throttles
from emc.data.traffic import Notice
from emc.data.values import BatchPolicy, Outcome, ProgressEvent, Result

__all__ = [
    "BatchPolicy",
    "Notice",
    "Outcome",
    "ProgressEvent",
    "Result",
    "ThrottlePolicy",
    "Throttles",
    "run",
    "run_all",
]
