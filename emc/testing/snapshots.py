"""What does a database hold, as plain values that can be compared?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Engine, MetaData, select, text, type_coerce
from sqlalchemy.types import NullType

from emc.commands.session import reach
from emc.names import is_own
from emc.schema import LiveSchema, LiveTable

_MARIADB_TRIGGERS: Final = (
    "SELECT action_statement FROM information_schema.triggers"
    " WHERE trigger_schema = COALESCE(:schema, DATABASE())"
)
_TRIGGERS: Final = {
    "sqlite": "SELECT sql FROM {}sqlite_master WHERE type = 'trigger'",
    "postgresql": (
        "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE NOT tgisinternal AND nspname = COALESCE(:schema, current_schema())"
    ),
    "mariadb": _MARIADB_TRIGGERS,
    "mysql": _MARIADB_TRIGGERS,
}


def live(engine: Engine, schemas: Sequence[str | None] = (None,)) -> LiveSchema:
    """What is in the database."""
    dialect = reach(engine, may_create=True)
    with dialect.reading(engine) as connection:
        return dialect.read(connection, schemas)


def shape(engine: Engine, schemas: Sequence[str | None] = ()) -> dict[str, Any]:
    """The default schema behind *engine*, and *schemas*, as plain values, without emc's own tables, in an order."""
    seen = live(engine, _with_default(schemas))
    tables = {str(key): _table(table, engine) for key, table in seen.tables.items() if not is_own(key.name)}
    return {"tables": tables, "enums": {str(key): list(labels) for key, labels in seen.enums.items()}}


def _table(table: LiveTable, engine: Engine) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                str(key): plain(one) for key, one in value.items() if not str(key).startswith("duplicates")
            }
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if hasattr(value, "compile"):
            return str(value.compile(dialect=engine.dialect))
        return value if isinstance(value, str | int | bool | None) else repr(value)

    def named(elements: Any) -> list[Any]:
        return sorted(map(plain, elements), key=lambda one: json.dumps(one, sort_keys=True))

    return {
        "columns": plain(table.columns),
        "primary key": plain(table.primary_key),
        "foreign keys": named(table.foreign_keys),
        "indexes": named(table.indexes),
        "uniques": named(table.uniques),
        "checks": named(table.checks),
        "comment": table.comment,
        "definitions": {f"{kind}:{name}": one for (kind, name), one in sorted(table.definitions.items())},
        "unfinished": sorted(table.unfinished),
    }


def bare(column: Column[Any]) -> ColumnElement[Any]:
    """*column* without its type, so that any value can be read."""
    return type_coerce(column, NullType())


def settled(shape: dict[str, Any]) -> Any:
    """*shape*, with the conditions of CHECKs as PostgreSQL shows them once they were made of what it shows.

    ``x IN ('a', 'b')`` becomes ``x = ANY (ARRAY['a'::…, 'b'::…]::text[])``, and that ``… ARRAY['a'::…::text, …])``.
    """
    text = json.dumps(shape, sort_keys=True)
    return json.loads(
        re.sub(r"\]::text\[\]", "]", text).replace("::character varying::text", "::character varying")
    )


def rows(engine: Engine, schemas: Sequence[str | None] = ()) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table in the default schema and in *schemas*, but for emc's own, in an order of their own."""
    metadata = MetaData()
    with engine.connect() as connection:
        for schema in _with_default(schemas):
            metadata.reflect(connection, schema=schema)
        return {
            table.fullname: sorted(
                (
                    dict(zip(table.columns.keys(), row, strict=True))
                    for row in connection.execute(select(*map(bare, table.columns)))
                ),
                key=repr,
            )
            for table in metadata.sorted_tables
            if not is_own(table.name)
        }


def everything(engine: Engine, schemas: Sequence[str | None] = ()) -> dict[str, Any]:
    """Everything that a run may bring about: the schema, views and triggers, and every row that is not emc's own.

    :param schemas: which are looked at besides the default one.
    """
    found = shape(engine, schemas)
    found["rows"] = rows(engine, schemas)
    with engine.connect() as connection:
        for schema in _with_default(schemas):
            place = f"{schema}." if schema else ""
            quoted = f"{engine.dialect.identifier_preparer.quote(schema)}." if schema else ""
            triggers = text(_TRIGGERS[engine.dialect.name].format(quoted))
            found[f"{place}views"] = engine.dialect.get_view_names(connection, schema=schema)
            found[f"{place}triggers"] = sorted(connection.execute(triggers, {"schema": schema}).scalars())
    return found


def _with_default(schemas: Sequence[str | None]) -> Sequence[str | None]:
    return list(dict.fromkeys((None, *schemas)))


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Where two values of :func:`shape` or :func:`everything` differ, one line each: ``tables.users.columns.tz``."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for key in sorted({*before, *after}, key=str):
            inner = f"{place}.{key}" if place else str(key)
            if key not in before:
                found.append(f"{inner} was not there before")
            elif key not in after:
                found.append(f"{inner} is gone")
            else:
                found += differences(before[key], after[key], inner)
        return found
    if before == after:
        return []
    if isinstance(before, list) and isinstance(after, list):
        gone = [one for one in before if one not in after]
        new = [one for one in after if one not in before]
        if gone or new:
            return [f"{place}: was {one!r}" for one in gone[:3]] + [f"{place}: is {one!r}" for one in new[:3]]
    return [f"{place}: was {before!r}, is {after!r}"]
