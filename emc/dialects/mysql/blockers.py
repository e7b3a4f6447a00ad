"""Which sessions are in the way of a change, as far as MariaDB or MySQL tells?"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from emc.dialects.base import Blocker
from emc.names import TableKey


def blockers(connection: Connection, keys: Sequence[TableKey]) -> Sequence[Blocker]:
    """The sessions that may hold locks on tables *keys*, longest first."""
    return ()
