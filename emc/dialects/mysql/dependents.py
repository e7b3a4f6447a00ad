"""What speaks of a table or column, and would break or stand in the way if that went?

The server keeps no list; the texts of views, triggers and generated columns are searched for names. In doubt a text
speaks of a name. Foreign keys, CHECKs and indexes are part of the snapshot, and whoever plans a drop deals with them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from emc.names import TableKey, dotted
from emc.schema import LiveTable

_LITERAL_OR_COMMENT = re.compile(r"'(?:[^'\\]|''|\\.)*'|/\*.*?\*/|--[^\n]*|\#[^\n]*", re.DOTALL)
_NAME = re.compile(r'`((?:[^`]|``)+)`|"((?:[^"]|"")+)"|([\w$]+)')

_Place = tuple[str, str]


def names(sql: str) -> frozenset[str]:
    """Everything in *sql* that may be a name, in lower case."""
    text = _LITERAL_OR_COMMENT.sub(" ", sql)
    return frozenset(
        (backquoted.replace("``", "`") or quoted.replace('""', '"') or plain).lower()
        for backquoted, quoted, plain in _NAME.findall(text)
    )


def find_dependents(
    tables: Mapping[_Place, LiveTable],
    *,
    views: Sequence[Mapping[str, Any]],
    triggers: Sequence[Mapping[str, Any]],
    own: str | None,
) -> Mapping[tuple[TableKey, str | None], Sequence[str]]:
    """What depends on each table (``None``) and column of *tables*.

    :param tables: by real schema and name.
    :param own: the schema that goes without saying.
    """
    found: defaultdict[tuple[TableKey, str | None], dict[str, None]] = defaultdict(dict)
    speakers = [_view(row, own) for row in views] + [_trigger(row, own) for row in triggers]
    for (schema, name), table in tables.items():
        for described, home, about, spoken_of in speakers:
            if about == (schema, name) or _speaks_of(spoken_of, home, schema, name):
                # A trigger goes with its own table.
                if about != (schema, name):
                    found[table.key, None][described] = None
                for column in table.columns:
                    if spoken_of is None or column.lower() in spoken_of:
                        found[table.key, column][described] = None
        for column, reflected in table.columns.items():
            if computed := reflected.get("computed"):
                spoken_of = names(str(computed["sqltext"]))
                for other in table.columns:
                    if other != column and other.lower() in spoken_of:
                        found[table.key, other][f"generated column {column}"] = None
        spoken_of = names(
            f"{table.options.get('partition_by', '')} {table.options.get('subpartition_by', '')}"
        )
        for column in table.columns:
            if column.lower() in spoken_of:
                found[table.key, column]["the partitioning of the table"] = None
    return {place: tuple(sorted(described)) for place, described in sorted(found.items(), key=_order)}


_Speaker = tuple[str, str, _Place | None, frozenset[str] | None]
"""Description, schema in which bare names are looked up, own table, names spoken of (``None``: not to be known)."""


def _view(row: Mapping[str, Any], own: str | None) -> _Speaker:
    schema, name = row["of_schema"], row["of_table"]
    described = f"view {dotted(None if schema == own else schema, name)}"
    # Without the privilege SHOW VIEW the text is empty: it may speak of anything.
    return described, schema, None, names(row["body"]) if row["body"] else None


def _trigger(row: Mapping[str, Any], own: str | None) -> _Speaker:
    schema, table = row["of_schema"], row["of_table"]
    described = f"trigger {row['name']} on {dotted(None if schema == own else schema, table)}"
    return described, schema, (schema, table), names(row["body"])


def _speaks_of(spoken_of: frozenset[str] | None, home: str, schema: str, name: str) -> bool:
    if spoken_of is None:
        return home == schema
    return name.lower() in spoken_of and (home == schema or schema.lower() in spoken_of)


def _order(item: tuple[tuple[TableKey, str | None], Any]) -> tuple[tuple[str, str], str]:
    (key, column), _ = item
    return (key.sort_key, column or "")
