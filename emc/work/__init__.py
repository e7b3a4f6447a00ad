"""What data work does the upgrade declare, and which rows are left?

Every declaration that moves data becomes a :class:`Work`: a condition that says which rows remain, and
an action that takes a row out of it. The same condition is the filter of the batches, the progress and
the gate, so that nothing is complete because somebody wrote down that it was.
"""

from __future__ import annotations

from emc.work.declared import all_work, in_order
from emc.work.left import anything_left, anything_undecided, rows_left, sample_keys
from emc.work.rows import DELETE, CallFunction, Deletion
from emc.work.values import DeleteRow, NotReady, SetValues, Work

__all__ = [
    "DELETE",
    "CallFunction",
    "DeleteRow",
    "Deletion",
    "NotReady",
    "SetValues",
    "Work",
    "all_work",
    "anything_left",
    "anything_undecided",
    "in_order",
    "rows_left",
    "sample_keys",
]
