"""What do both releases know about the database's content, and how is it compared?

Read by the interpreter of either release, so it imports neither of them, nor emc.
"""

from __future__ import annotations

import base64
import datetime
import enum
import hashlib
import json
from collections.abc import Iterator
from typing import Any

USERS = 300
GROUPS = 24
SPAWNERS_EVERY = 2  # One user in so many has a named server beside the default one.
RUNNING_EVERY = 3  # One spawner in so many runs.
SERVICES = 40
TOKENS_PER_SERVICE = 5
CODES = 120
ACCESS_TOKENS = 500

EPOCH = datetime.datetime(2021, 11, 4, 12)  # noqa: DTZ001 - JupyterHub stores naive UTC.
EXPIRED = 1_600_000_000
FAR_FUTURE = 2_145_916_800  # 2038-01-01, the last new year that an Integer column can tell.

Row = dict[str, Any]
Dump = dict[str, list[Row]]


def secret(kind: str, number: int) -> str:
    """The secret of the numbered thing of one kind: the same on every run, and in both releases."""
    return hashlib.sha256(f"{kind}-{number}".encode()).hexdigest()[:32]


def user_name(number: int) -> str:
    """The name of a user; one in ten is not ASCII, one in eleven has an upper-case letter."""
    if number % 10 == 3:
        return f"élève-{number:03}"
    if number % 11 == 5:
        return f"Student-{number:03}"
    return f"student-{number:03}"


def plain(value: Any) -> Any:
    """A value as JSON can tell it, without loss: bytes, times and enums are marked."""
    match value:
        case bytes() | memoryview():
            return {"bytes": base64.b64encode(value).decode()}
        case datetime.datetime():
            return {"time": value.isoformat()}
        case enum.Enum():
            return {"enum": value.name}
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def dump(session: Any, base: Any) -> Dump:
    """Every row of every table as the release's own ORM reads it, by table, in the order of the primary key.

    Args:
        session: a session of the release.
        base: its declarative base. Tables that no class maps (`user_group_map`) are read as tables.
    """
    mappers = {mapper.local_table.name: mapper for mapper in base.registry.mappers}
    tables: Dump = {}
    for table in base.metadata.sorted_tables:
        if table.name in mappers:
            rows = list(_entities(session, mappers[table.name]))
        else:
            rows = [dict(row._mapping) for row in session.execute(table.select())]
        keys = [column.name for column in table.primary_key]
        tables[table.name] = sorted(
            ({name: plain(value) for name, value in row.items()} for row in rows),
            key=lambda row: [row[key] for key in keys],
        )
    return tables


def _entities(session: Any, mapper: Any) -> Iterator[Row]:
    for entity in session.query(mapper.class_):
        yield {prop.columns[0].name: getattr(entity, prop.key) for prop in mapper.column_attrs}


def write(document: Any) -> None:
    """Print a document as the only line of standard output; the releases log to standard error."""
    print(json.dumps(document, sort_keys=True))  # noqa: T201 - what the script is run for.


def lost(before: Dump, after: Dump) -> list[str]:
    """What `after` no longer says of the rows of `before`: missing tables, rows, columns and other values.

    Rows that only `after` has, and columns that only `after` has, are what an upgrade adds: no loss.
    """
    found: list[str] = []
    for table, rows in before.items():
        if table not in after:
            if rows:
                found.append(f"{table}: {len(rows)} rows, no such table")
            continue
        left = {_identity(row): row for row in after[table]}
        for row in rows:
            match left.get(_identity(row)):
                case None:
                    found.append(f"{table} {_identity(row)}: gone")
                case same:
                    found.extend(
                        f"{table} {_identity(row)}.{name}: {value!r} became {same.get(name)!r}"
                        for name, value in row.items()
                        if name not in same or same[name] != value
                    )
    return found


def _identity(row: Row) -> tuple[Any, ...]:
    """The primary key: `id` wherever there is one, else (in the association table) every `…_id`."""
    if "id" in row:
        return (row["id"],)
    return tuple(row[name] for name in sorted(row) if name.endswith("_id") and name != "role_id")
