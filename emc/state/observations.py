"""Since when has something been so?

A plan is always derived afresh, so what only time can tell is written down: when a gate first opened, and
how often an index had been used when its retirement was first seen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from emc.state.encoding import decode, encode
from emc.state.tables import OBSERVATIONS, ensure, exists, utc_now


@dataclass(frozen=True)
class Observation:
    """Something that was seen, as it was when it was first seen."""

    name: str
    first_seen: dt.datetime
    facts: Mapping[str, Any]


def observe(
    connection: Connection,
    name: str,
    facts: Mapping[str, Any],
    *,
    clock: Callable[[], dt.datetime] = utc_now,
) -> Observation:
    """Note that *name* is so, unless that has been noted before, and return what was noted first.

    :param name: e.g. ``gate-open:drop-column:users.name``.
    :param facts: kept as they are now; later observations of the same name do not change them.
    """
    ensure(connection, OBSERVATIONS)
    noted = _load(connection, name)
    if noted is None:
        connection.execute(insert(OBSERVATIONS).values(name=name, first_seen=clock(), facts=encode(facts)))
        noted = _load(connection, name)
    assert noted is not None
    return noted


def observation(connection: Connection, name: str) -> Observation | None:
    """What was noted when *name* was first seen; ``None`` if it never was. Does not write."""
    return _load(connection, name) if exists(connection, OBSERVATIONS) else None


def forget(connection: Connection, name: str) -> None:
    """Note that *name* is no longer so: the next observation will be its first."""
    if exists(connection, OBSERVATIONS):
        connection.execute(delete(OBSERVATIONS).where(OBSERVATIONS.c.name == name))


def forget_those(connection: Connection, beginning: str) -> None:
    """Note that nothing whose name begins so is so any longer."""
    if exists(connection, OBSERVATIONS):
        connection.execute(
            delete(OBSERVATIONS).where(OBSERVATIONS.c.name.startswith(beginning, autoescape=True))
        )


def _load(connection: Connection, name: str) -> Observation | None:
    row = connection.execute(select(OBSERVATIONS).where(OBSERVATIONS.c.name == name)).one_or_none()
    return None if row is None else Observation(row.name, row.first_seen, decode(row.facts))
