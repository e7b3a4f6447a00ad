"""Does undo leave what was there before expand?"""

from __future__ import annotations

from sqlalchemy import Engine

import emc
from emc.testing.failures import CheckFailedError, told
from emc.testing.snapshots import differences, everything, settled
from emc.upgrade import Upgrade

__tracebackhide__ = True


def check_undo(engine: Engine, upgrade: Upgrade) -> None:
    """After expand and undo, schema and rows are what they were, and expand can begin anew.

    :param engine: a database as the old release has it, with rows.
    :raises CheckFailedError: something differs, or undo is refused.
    """
    before, rows = _seen(engine, upgrade)
    with told("emc expand fails"):
        emc.expand(upgrade, engine)
    with told("emc undo cannot take the upgrade back"):
        report = emc.undo(upgrade, engine, new_code_gone=True)
    if report.blocked:
        shut = [verdict for one in report.blocked for verdict in one.verdicts]
        raise CheckFailedError(
            "emc undo stops at a gate right after expand:\n"
            + "\n".join(f"  {one.gate}: {one.reason}" for one in shut),
            facts=[one.gate for one in shut],
            remedy="\n".join(dict.fromkeys(one.remedy for one in shut if one.remedy)) or None,
        )
    after, rows_after = _seen(engine, upgrade)
    changed = differences(before, after) + differences(rows, rows_after, "rows")
    if changed:
        raise CheckFailedError(
            "emc undo does not leave what was there before expand, which the old release goes on with:\n"
            + "\n".join(f"  {one}" for one in changed),
            facts=changed,
            remedy="What differs has to be put back by hand if this upgrade is ever taken back. Please report it.",
        )


def _seen(engine: Engine, upgrade: Upgrade) -> tuple[object, object]:
    """The schema, with spellings settled, and the rows."""
    found = everything(engine, upgrade.schema_names)
    rows = found.pop("rows")
    return settled(found), rows
