"""What would a piece of work do to the rows that are there now?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, column, func, select, table, union_all

from emc.literally import literally
from emc.work.left import rows_left
from emc.work.references import Reference
from emc.work.values import Work

_SAMPLE = 5
"""Rows that are named."""
_LONGEST = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Preview:
    """What a piece of work would do, as the database stood when somebody looked."""

    work: str
    """Its name."""
    does: str
    """One line for a person."""
    rows: int
    """How many rows it would write or delete; at most, where rows have to go by more than one rule."""
    groups: int | None = None
    """Of how many groups of equal rows they are part; ``None`` where they are in no groups."""
    samples: tuple[str, ...] = ()
    """The first of these rows, with the values that matter."""
    references: tuple[str, ...] = ()
    """What becomes of rows that refer to deleted ones."""


def preview(connection: Connection, work: Work, limit: int = _SAMPLE, *, enforced: bool = True) -> Preview:
    """What *work* would do. Reads only; takes scans of the table, and of those that refer to it.

    :param enforced: whether foreign keys act on what emc writes.
    :param limit: how many rows are named.
    """
    rows, groups = _counted(connection, work) if work.rivalries else (rows_left(connection, work), None)
    references = tuple(_told(connection, work, one, enforced) for one in work.references) if rows else ()
    samples = tuple(samples_of(connection, work, limit)) if rows else ()
    return Preview(work.name, work.description, rows, groups, samples, references)


def samples_of(connection: Connection, work: Work, limit: int = _SAMPLE) -> Iterator[str]:
    """The first of the rows that *work* has left, with the values that matter; none where the table has no key."""
    if work.is_complete or not work.walk:
        return
    if work.rivalries:
        yield from _losers(connection, work, limit)
        return
    keys = [work.table.c[name] for name in work.walk]
    shown = [work.table.c[name] for name in work.concerns if name not in work.walk]
    query = select(*keys, *shown).where(work.pending).order_by(*keys).limit(limit)
    for row in connection.execute(query):
        key, values = _pairs(work.walk, row), _pairs([one.name for one in shown], row[len(keys) :])
        has_no = " has no parent" if work.kind == "orphans" and not _is_in_key(work) else ""
        yield f"{key}: {values}{has_no}" if values else key


def _is_in_key(work: Work) -> bool:
    return set(work.concerns) <= set(work.walk)


def _losers(connection: Connection, work: Work, limit: int) -> Iterator[str]:
    for rivalry in work.rivalries:
        keys = [rivalry.source.c[name] for name in work.walk]
        group = [one.label(f"emc_group_{at}") for at, one in enumerate(rivalry.group)]
        found = rivalry.losers(keys).subquery()
        mine = [found.c[f"emc_key_{at}"] for at, _ in enumerate(keys)]
        best = [found.c[f"emc_best_{at}"] for at, _ in enumerate(keys)]
        query = (
            select(*mine, *best, *group)
            .join_from(found, rivalry.source, and_(*(a == b for a, b in zip(mine, keys, strict=True))))
            .order_by(*mine)
            .limit(limit)
        )
        for row in connection.execute(query):
            loser, winner = _pairs(work.walk, row), _pairs(work.walk, row[len(keys) :])
            alike = _pairs([_shown(one, connection) for one in rivalry.group], row[2 * len(keys) :])
            yield f"{loser} goes, {winner} stays: {alike}"


def _counted(connection: Connection, work: Work) -> tuple[int, int]:
    """How many rows have to go, and of how many groups they are."""
    every = []
    for rivalry in work.rivalries:
        keys = [rivalry.source.c[name] for name in work.walk]
        found = rivalry.losers(keys).subquery()
        best = [found.c[f"emc_best_{at}"] for at, _ in enumerate(keys)]
        every.append(select(func.count().label("emc_rows")).select_from(found).group_by(*best))
    groups = union_all(*every).subquery()
    rows = func.coalesce(func.sum(groups.c.emc_rows), 0)
    total, number = connection.execute(select(rows, func.count()).select_from(groups)).one()
    # By more than one rule a row may have to go more than once.
    return (int(total) if len(every) == 1 else rows_left(connection, work)), int(number)


def _told(connection: Connection, work: Work, reference: Reference, enforced: bool) -> str:
    said = work.consequences[reference]
    if not enforced and reference.on_delete is not None:
        said = (
            f"{reference.name} refers to {reference.parent}, and foreign keys are not enforced on emc's connections"
            " (PRAGMA foreign_keys): rows that refer to a deleted row become orphans"
        )
    if reference.behind is not None:
        return said
    child = table(
        reference.child.name, *(column(name) for name in reference.columns), schema=reference.child.schema
    )
    gone = select(*(work.table.c[name] for name in reference.parent_columns)).where(work.pending).subquery()
    pairs: list[ColumnElement[bool]] = [
        child.c[mine] == gone.c[theirs]
        for mine, theirs in zip(reference.columns, reference.parent_columns, strict=True)
    ]
    rows = connection.execute(select(func.count()).select_from(child.join(gone, and_(*pairs)))).scalar_one()
    return f"{said} ({rows:,} now)"


def _pairs(names: Sequence[str], values: Any) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in zip(names, values, strict=False))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _shown(expression: ColumnElement[Any], connection: Connection) -> str:
    """*expression* without the name of its table."""
    return literally(expression, connection.dialect, include_table=False)
