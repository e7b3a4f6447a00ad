"""Merges users until it kills itself in the middle of the n-th merge: ``python -m tests.data.merging URL N``."""

import os
import sys
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Row, String, Table, create_engine

from emc.upgrade import Upgrade
from tests.data.support import migrate, only_work

USERS = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("email", String(50), unique=True),
    Column("visits", Integer),
    Column("token", String(50)),
)


def add_visits(winner: Row[Any], loser: Row[Any]) -> dict[str, Any]:
    """What the two have counted."""
    return {"visits": winner.visits + loser.visits}


if __name__ == "__main__":
    engine, last = create_engine(sys.argv[1]), int(sys.argv[2])
    calls = 0

    def merge(winner: Row[Any], loser: Row[Any]) -> dict[str, Any]:
        """As :func:`add_visits`, until the last one."""
        global calls  # noqa: PLW0603
        calls += 1
        if calls == last:
            os._exit(9)
        return add_visits(winner, loser)

    upgrade = Upgrade(USERS.metadata)
    upgrade.deduplicate(USERS.c.email, keep=USERS.c.id.desc(), merge=merge)
    migrate(engine, only_work(upgrade, engine), small=4)
