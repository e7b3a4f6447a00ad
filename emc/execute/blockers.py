"""Which sessions are in the way of a unit?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Blocker
from emc.dialects.base import Dialect
from emc.names import TableKey
from emc.steps import Step


def in_the_way(engine: Engine, dialect: Dialect, steps: Iterable[Step]) -> tuple[Blocker, ...]:
    """The sessions that hold locks on the tables of *steps*, to be shown to a person."""
    keys = {key for step in steps for key in tables_of(step)}
    try:
        with dialect.reading(engine) as connection:
            return tuple(dialect.blockers(connection, sorted(keys, key=lambda key: key.sort_key)))
    except DBAPIError:
        # Nothing is decided by it: a role that may not see other sessions waits without their names.
        return ()


def tables_of(step: Step) -> list[TableKey]:
    """The tables that the statements of *step* may have to lock."""
    keys = [step.operation.element.table]
    # A foreign key locks the table that it refers to as well.
    directive: Any = step.operation.directive
    referent = getattr(directive, "referent_table", None)
    if referent:
        keys.append(TableKey(directive.kw.get("referent_schema"), str(referent)))
    return keys
