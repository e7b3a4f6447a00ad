"""What does emc remember between runs, and for whom?

No plan and no schema version: the ledger (what was done and proved), observations (since when something is
so), progress (cursors), failed rows, and the lease (who is at work).
"""

from __future__ import annotations

from emc.state.failures import FailedRow, clear_failures, failures, note_failure
from emc.state.lease import Holder, Lease, acquire, holder
from emc.state.ledger import Entry, Event, entries, record
from emc.state.observations import Observation, observation, observe
from emc.state.progress import Progress
from emc.state.runner import Runner
from emc.state.tables import ensure

__all__ = [
    "Entry",
    "Event",
    "FailedRow",
    "Holder",
    "Lease",
    "Observation",
    "Progress",
    "Runner",
    "acquire",
    "clear_failures",
    "ensure",
    "entries",
    "failures",
    "holder",
    "note_failure",
    "observation",
    "observe",
    "record",
]
