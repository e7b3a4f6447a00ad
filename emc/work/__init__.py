"""What data work does the upgrade declare, and which rows are left?

Every declaration that moves data becomes a :class:`Work`: a condition that says which rows remain, and
an action that takes a row out of it. The same condition is the filter of the batches, the progress and
the gate, so that nothing is complete because somebody wrote down that it was.
"""

from __future__ import annotations

from emc.work.declared import all_work, in_order
from emc.work.deleting import may_reopen
from emc.work.left import anything_left, anything_undecided, rows_left, sample_keys
from emc.work.previews import Preview, preview, samples_of
from emc.work.references import Reference
from emc.work.rivalry import Rivalry
from emc.work.rows import DELETE, CallFunction, Deletion, Merge
from emc.work.values import DeleteRow, NotReady, Report, SetElsewhere, SetValues, Work

__all__ = [
    "DELETE",
    "CallFunction",
    "DeleteRow",
    "Deletion",
    "Merge",
    "NotReady",
    "Preview",
    "Reference",
    "Report",
    "Rivalry",
    "SetElsewhere",
    "SetValues",
    "Work",
    "all_work",
    "anything_left",
    "anything_undecided",
    "in_order",
    "may_reopen",
    "preview",
    "rows_left",
    "sample_keys",
    "samples_of",
]
