"""How do the rows of ``information_schema`` become a table, in the dictionaries of SQLAlchemy's inspector?

A unique index and a unique constraint are one and the same here; each is told as a constraint, marked as SQLAlchemy
marks it (``duplicates_index``), unless no constraint of the models could look like it. What the models call it, if they
know it, is decided by whoever compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.engine.interfaces import ReflectedColumn

from emc.dialects.mysql.columns import Types, charset_of, column, column_text, unknown_type
from emc.dialects.mysql.conditions import key_text
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import ColumnText, MySQLTable
from emc.dialects.mysql.options import CHARSET_OPTIONS, COLLATION_OPTIONS
from emc.names import GUARD_PREFIX, ElementKind, TableKey

_AUTOMATIC_NAME = re.compile(r".*_ibfk_\d+", re.DOTALL)
_TABLE_OPTION = re.compile(r"(\w+)=(?:'([^']*)'|(\S+))")


@dataclass
class Draft:
    """A table while its rows come in."""

    key: TableKey
    schema: str
    """The real schema, which the key may leave unsaid."""
    engine: str
    row_format: str | None
    collation: str | None
    columns: dict[str, ReflectedColumn] = field(default_factory=dict)
    texts: dict[str, ColumnText] = field(default_factory=dict)
    keys: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The elements of each index, the primary key's under ``PRIMARY``."""
    primary_key: Any = None
    foreign_keys: list[Any] = field(default_factory=list)
    indexes: list[Any] = field(default_factory=list)
    implied: dict[str, Any] = field(default_factory=dict)
    uniques: list[Any] = field(default_factory=list)
    checks: list[Any] = field(default_factory=list)
    comment: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    definitions: dict[tuple[ElementKind, str], str] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    guards: dict[str, str] = field(default_factory=dict)
    syncs: dict[str, str] = field(default_factory=dict)
    rows: int | None = None
    bytes: int | None = None

    def table(self) -> MySQLTable:
        """The table, once everything is in."""
        return MySQLTable(
            key=self.key,
            columns=self.columns,
            primary_key=self.primary_key,
            foreign_keys=tuple(self.foreign_keys),
            indexes=tuple(self.indexes),
            uniques=tuple(self.uniques),
            checks=tuple(self.checks),
            comment=self.comment,
            definitions=self.definitions,
            unfinished=frozenset(self.unfinished),
            implied=self.implied,
            guards=self.guards,
            syncs=self.syncs,
            options=self.options,
            row_estimate=self.rows,
            size_bytes=self.bytes,
            texts=self.texts,
            engine=self.engine,
            charset=charset_of(self.collation),
            collation=self.collation,
            row_format=self.row_format,
            partitioned="partition_by" in self.options,
            fulltext=any(elements[0]["method"] == "FULLTEXT" for elements in self.keys.values()),
        )


def draft_of(row: Mapping[str, Any], key: TableKey) -> Draft:
    """The table of a row of TABLES, without anything in it."""
    draft = Draft(
        key=key,
        schema=row["of_schema"],
        engine=str(row["engine"]),
        row_format=row["row_format"],
        collation=row["collation"],
    )
    draft.comment = row["comment"] or None
    draft.rows, draft.bytes = row["row_count"], row["bytes"]
    said = {
        name.lower(): quoted or plain for name, quoted, plain in _TABLE_OPTION.findall(row["options"] or "")
    }
    draft.options = {
        **said,
        "engine": draft.engine,
        **dict.fromkeys(CHARSET_OPTIONS, str(charset_of(row["collation"]))),
        **dict.fromkeys(COLLATION_OPTIONS, str(row["collation"])),
        "row_format": str(row["row_format"]),
    }
    if row["engine"] is None:
        # A table that the server cannot open says so where its comment would be.
        draft.comment = None
    return draft


def _json_checks(column: str) -> tuple[str, str]:
    """What the server checks by itself of a JSON column; quotes depend on ``ANSI_QUOTES`` (both seen with 10.11.19)."""
    return (
        f"json_valid(`{column.replace('`', '``')}`)",
        f'json_valid("{column.replace(chr(34), chr(34) * 2)}")',
    )


def add_column(
    draft: Draft, row: Mapping[str, Any], types: Types, flavour: Flavour, check: str | None
) -> None:
    """A column.

    :param check: the expression of its CHECK at column level.
    """
    is_json = (
        row["type_text"] == "longtext"
        and row["collation"] == "utf8mb4_bin"
        and check in _json_checks(row["name"])
    )
    type_ = types.of(row, draft.collation, is_json=is_json)
    draft.columns[row["name"]] = column(row, type_, flavour)  # type: ignore[assignment]
    draft.texts[row["name"]] = column_text(row, check, flavour)
    if (text := unknown_type(row, type_)) is not None:
        draft.definitions[ElementKind.COLUMN, row["name"]] = text


def add_check(draft: Draft, row: Mapping[str, Any]) -> None:
    """A CHECK; that of a column has the column's name, and is in :attr:`MySQLTable.texts` too (MariaDB).

    The one that makes a JSON column of LONGTEXT belongs to the type.
    """
    name, clause = row["name"], row["clause"]
    if (
        row["level"] == "Column"
        and name in draft.columns
        and draft.columns[name]["type"].__visit_name__ == "JSON"
    ):
        return
    draft.definitions[ElementKind.CHECK, name] = f"CHECK ({clause})"
    if row["enforced"] != "YES":
        draft.unfinished.add(name)
        return
    draft.checks.append({"name": name, "sqltext": clause})


def add_foreign_key(draft: Draft, rows: Sequence[Mapping[str, Any]], homes: Mapping[str, str | None]) -> None:
    """A foreign key, from a row for each of its columns; one of emc's own is a guard.

    :param homes: by which name models know the real schemas.
    """
    first = rows[0]
    parent_schema = first["parent_schema"]
    rules = {"onupdate": first["on_update"], "ondelete": first["on_delete"]}
    # Both say the same to InnoDB, and which of them stands for "nothing said" depends on the server.
    options = {option: rule for option, rule in rules.items() if rule not in ("NO ACTION", "RESTRICT")}
    foreign_key: dict[str, Any] = {
        "name": first["name"],
        "constrained_columns": [row["of_column"] for row in rows],
        "referred_schema": draft.key.schema
        if parent_schema == draft.schema
        else homes.get(parent_schema, parent_schema),
        "referred_table": first["parent"],
        "referred_columns": [row["parent_column"] for row in rows],
        "options": options,
    }
    if first["name"].startswith(GUARD_PREFIX):
        referred = TableKey(foreign_key["referred_schema"], foreign_key["referred_table"])
        draft.guards[first["name"]] = key_text(
            foreign_key["constrained_columns"], referred, foreign_key["referred_columns"], options
        )
        return
    draft.foreign_keys.append(foreign_key)
    parent = _quoted(first["parent"])
    if parent_schema != draft.schema:
        parent = f"{_quoted(parent_schema)}.{parent}"
    draft.definitions[ElementKind.FOREIGN_KEY, first["name"]] = (
        f"FOREIGN KEY ({', '.join(map(_quoted, foreign_key['constrained_columns']))}) "
        f"REFERENCES {parent} ({', '.join(map(_quoted, foreign_key['referred_columns']))})"
        + "".join(
            f" ON {words} {options[option]}"
            for option, words in (("ondelete", "DELETE"), ("onupdate", "UPDATE"))
            if option in options
        )
    )


def _quoted(name: str) -> str:
    """*name* in quotes; the preparer of SQLAlchemy would double a percent sign for the driver."""
    return "`" + name.replace("`", "``") + "`"


def add_partitioning(draft: Draft, row: Mapping[str, Any]) -> None:
    """How the table is partitioned."""
    draft.options["partition_by"] = f"{row['method']} ({row['expression'] or ''})"
    if row["submethod"] is not None:
        draft.options["subpartition_by"] = f"{row['submethod']} ({row['subexpression'] or ''})"


# -- keys ------------------------------------------------------------------------------------------------------


def add_keys(draft: Draft, dialect: SQLAlchemyDialect) -> None:
    """Primary key, unique constraints and indexes, once the foreign keys are known."""
    for name, elements in draft.keys.items():
        columns = [element["of_column"] for element in elements]
        if name.startswith(GUARD_PREFIX):
            continue
        if name == "PRIMARY":
            draft.primary_key = {"constrained_columns": columns, "name": None}
            continue
        index = _index(name, elements, dialect)
        if _may_be_constraint(index):
            draft.uniques.append({"name": name, "column_names": columns, "duplicates_index": name})
            continue
        if (foreign_key := _implied_by(draft, index)) is not None:
            draft.implied[foreign_key] = index
            continue
        draft.indexes.append(index)


def _index(name: str, elements: Sequence[Mapping[str, Any]], dialect: SQLAlchemyDialect) -> dict[str, Any]:
    """The inspector's dictionary of an index, with the order and expressions that it leaves out."""
    columns = [element["of_column"] for element in elements]
    index: dict[str, Any] = {
        "name": name,
        "column_names": columns,
        "unique": not elements[0]["non_unique"],
    }
    if None in columns:
        index["expressions"] = [element["of_column"] or f"({element['expression']})" for element in elements]
    if sorting := {e["of_column"]: ("desc",) for e in elements if e["direction"] == "D" and e["of_column"]}:
        index["column_sorting"] = sorting
    options: dict[str, Any] = {}
    method = elements[0]["method"]
    if method in ("FULLTEXT", "SPATIAL"):
        options[f"{dialect.name}_prefix"] = method
    # A spatial index tells a length that is its own affair.
    elif lengths := {e["of_column"]: e["length"] for e in elements if e["length"] is not None}:
        options[f"{dialect.name}_length"] = lengths
    if options:
        index["dialect_options"] = options
    return index


def _may_be_constraint(index: Mapping[str, Any]) -> bool:
    """Whether ``UNIQUE (a, b)`` of the models could have made *index*."""
    return index["unique"] and not index.keys() & {"expressions", "column_sorting", "dialect_options"}


def _implied_by(draft: Draft, index: Mapping[str, Any]) -> str | None:
    """The foreign key for which the server has made *index* by itself.

    Nothing marks such an index. It is called like the constraint, or like the first column where the constraint has no
    name of its own (seen with MariaDB 10.11.19; MySQL 8.4 manual, "FOREIGN KEY Constraints").
    """
    if index["unique"] or index.keys() & {"expressions", "column_sorting", "dialect_options"}:
        return None
    columns = index["column_names"]
    for foreign_key in draft.foreign_keys:
        name = str(foreign_key["name"])
        # Under its own name stands what emc has kept of a key without one, where it was taken back.
        automatic = {name, columns[0]} if _AUTOMATIC_NAME.fullmatch(name) else {name}
        if foreign_key["constrained_columns"] == columns and index["name"] in automatic:
            return name
    return None
