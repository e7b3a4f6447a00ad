"""Which rows are pending still, once nobody else can write to them?

A condition that looks at other rows, of the same table even, is judged before the row is locked, and not again: a row
that another session corrects in between would be deleted all the same. So the rows are locked first, and judged then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, select

from emc.data.walk import Key, Walk

_CHUNK = 200
"""Keys in one statement; databases limit the number of parameters."""


def in_chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """*keys*, as many at a time as a statement may name."""
    for at in range(0, len(keys), _CHUNK):
        yield keys[at : at + _CHUNK]


def locked_and_pending(connection: Connection, walk: Walk, rows: ColumnElement[bool]) -> list[Key]:
    """The keys of those of *rows* that are pending, and stay as they are until the transaction ends.

    Under READ COMMITTED, where each statement sees what was committed before it.
    """
    keys = walk.pending_keys(connection, rows)
    return still_pending(connection, walk, keys, rows) if keys else []


def still_pending(
    connection: Connection, walk: Walk, keys: Sequence[Key], rows: ColumnElement[bool]
) -> list[Key]:
    """Lock the rows with *keys*, which are among *rows*, and answer which of them are pending then."""
    columns = walk.labelled()
    for chunk in in_chunks(keys):
        query = select(*columns).select_from(walk.table).where(walk.among(chunk)).with_for_update()
        connection.execute(query).all()
    wanted = set(keys)
    return [key for key in walk.pending_keys(connection, rows) if key in wanted]
