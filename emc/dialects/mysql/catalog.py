"""What does a MariaDB or MySQL database hold, in the dictionaries that SQLAlchemy's inspector answers?

A unique index and a unique constraint are one and the same there; each is told as a constraint, marked as SQLAlchemy
marks it (``duplicates_index``), unless no constraint of the models could look like it. What the models call it, if they
know it, is decided by whoever compares.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.engine.interfaces import ReflectedColumn

from emc.dialects.mysql import information
from emc.dialects.mysql.columns import Types, charset_of, column, column_text, unknown_type
from emc.dialects.mysql.conditions import key_text, trigger_text
from emc.dialects.mysql.dependents import find_dependents
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import ColumnText, MySQLSchema, MySQLTable
from emc.dialects.mysql.options import CHARSET_OPTIONS, COLLATION_OPTIONS
from emc.names import GUARD_PREFIX, ElementKind, TableKey, is_own
from emc.schema import LiveTable

_TABLE_KINDS = ("BASE TABLE", "SYSTEM VERSIONED")
_OTHER_KINDS = {"VIEW": "view", "SYSTEM VIEW": "view", "SEQUENCE": "sequence"}
_ATTEMPTS = 3
"""How often a schema is read that others are changing."""
_AUTOMATIC_NAME = re.compile(r".*_ibfk_\d+", re.DOTALL)
_TABLE_OPTION = re.compile(r"(\w+)=(?:'([^']*)'|(\S+))")


@dataclass
class _Draft:
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
    rows: int | None = None
    bytes: int | None = None

    def table(self) -> MySQLTable:
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


_Drafts = Mapping[tuple[str, str], _Draft]


def read(connection: Connection, schemas: Sequence[str | None], flavour: Flavour) -> MySQLSchema:
    """Everything that can be known about the tables of *schemas*; ``None`` is the database of the connection.

    A table of a schema that is named belongs to that name, even where that is the connection's own. What was changed
    between two of the queries is asked again.
    """
    for _ in range(_ATTEMPTS - 1):
        live = _read(connection, schemas, flavour)
        if not any(map(_is_torn, live.tables.values())):
            return live
    return _read(connection, schemas, flavour)


def _is_torn(table: LiveTable) -> bool:
    """Whether a key of *table* has columns that were not there yet, or not any more, when they were asked for."""
    key = table.primary_key
    named = [
        *(key["constrained_columns"] if key else ()),
        *(name for one in table.foreign_keys for name in one["constrained_columns"]),
        *(name for one in (*table.indexes, *table.implied.values()) for name in one["column_names"]),
        *(name for one in table.uniques for name in one["column_names"]),
    ]
    return not table.columns or any(name is not None and name not in table.columns for name in named)


def _read(connection: Connection, schemas: Sequence[str | None], flavour: Flavour) -> MySQLSchema:
    own, sql_mode, folds = connection.exec_driver_sql(
        "SELECT DATABASE(), @@SESSION.sql_mode, @@lower_case_table_names"
    ).one()
    named = [schema for schema in schemas if schema is not None]
    real = list(dict.fromkeys([own, *named] if own is not None and None in schemas else named))
    if not real:
        return MySQLSchema({})
    homes = {schema: schema if schema in named else None for schema in real}
    rows = information.tables(connection, real)
    # Where case does not count, the answer may have another one than the question.
    asked = {schema.lower(): schema for schema in real} if folds else {}
    homes |= {row["of_schema"]: homes[asked.get(row["of_schema"].lower(), row["of_schema"])] for row in rows}
    drafts, taken = _sorted_out(rows, homes)
    _fill(connection, drafts, real, homes, flavour)
    triggers = information.triggers(connection, real)
    for row in triggers:
        draft = drafts.get((row["of_schema"], row["of_table"]))
        if draft is not None and row["name"].startswith(GUARD_PREFIX):
            draft.guards[row["name"]] = trigger_text(row["timing"], row["event"], row["body"])
    tables = {draft.key: draft.table() for draft in sorted(drafts.values(), key=lambda d: d.key.sort_key)}
    return MySQLSchema(
        tables=tables,
        names_taken=dict(sorted(taken.items(), key=lambda item: item[0].sort_key)),
        dependents=find_dependents(
            {place: draft.table() for place, draft in drafts.items()},
            views=information.views(connection),
            triggers=[row for row in triggers if not is_own(row["name"])],
            own=own,
        ),
        folds_tables=bool(folds),
        folds_names=True,
        dialect_name=connection.dialect.name,
        database=own,
        version=tuple(part for part in connection.dialect.server_version_info or () if isinstance(part, int)),
        backslash_escapes="NO_BACKSLASH_ESCAPES" not in sql_mode,
    )


def read_scratch(
    connection: Connection, scratch: str, homes: Mapping[str, TableKey], flavour: Flavour
) -> Mapping[TableKey, MySQLTable]:
    """Those tables of the database *scratch* that *homes* names, each as if it were where *homes* says."""
    # What differs in case alone is one table here or there, but never both: a schema of the models is read at a time.
    keys = {**{name.lower(): key for name, key in homes.items()}, **homes}
    rows = [row for row in information.tables(connection, [scratch]) if row["of_table"] in keys]
    drafts = {(row["of_schema"], row["of_table"]): _draft(row, keys[row["of_table"]]) for row in rows}
    _fill(connection, drafts, [scratch], {scratch: None}, flavour)
    return {draft.key: draft.table() for draft in drafts.values()}


def _sorted_out(
    rows: Sequence[Mapping[str, Any]], homes: Mapping[str, str | None]
) -> tuple[dict[tuple[str, str], _Draft], dict[TableKey, str]]:
    """The tables, and what the names stand for that are not tables."""
    drafts: dict[tuple[str, str], _Draft] = {}
    taken: dict[TableKey, str] = {}
    for row in rows:
        place = row["of_schema"], row["of_table"]
        key = TableKey(homes[place[0]], place[1])
        if row["kind"] in _TABLE_KINDS:
            drafts[place] = _draft(row, key)
        else:
            taken[key] = _OTHER_KINDS.get(row["kind"], str(row["kind"]).lower())
    return drafts, taken


def _draft(row: Mapping[str, Any], key: TableKey) -> _Draft:
    draft = _Draft(
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


def _fill(
    connection: Connection,
    drafts: _Drafts,
    schemas: Sequence[str],
    homes: Mapping[str, str | None],
    flavour: Flavour,
) -> None:
    if not drafts:
        return
    dialect = connection.dialect
    checks = information.checks(connection, schemas, flavour)
    at_columns = {
        (row["of_schema"], row["of_table"], row["name"]): row["clause"]
        for row in checks
        if row["level"] == "Column"
    }
    types = Types(dialect)
    for row in information.columns(connection, schemas, flavour):
        if (draft := drafts.get((row["of_schema"], row["of_table"]))) is not None:
            check = at_columns.get((row["of_schema"], row["of_table"], row["name"]))
            _add_column(draft, row, types, flavour, check)
    for row in checks:
        if (draft := drafts.get((row["of_schema"], row["of_table"]))) is not None:
            _add_check(draft, row)
    for row in information.indexes(connection, schemas, flavour):
        if (draft := drafts.get((row["of_schema"], row["of_table"]))) is not None:
            draft.keys.setdefault(row["name"], []).append(row)
    references: defaultdict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in information.foreign_keys(connection, schemas):
        references[row["of_schema"], row["of_table"], row["name"]].append(row)
    for (schema, table, _), its_rows in references.items():
        if (draft := drafts.get((schema, table))) is not None:
            _add_foreign_key(draft, its_rows, homes)
    for row in information.partitions(connection, schemas):
        if (draft := drafts.get((row["of_schema"], row["of_table"]))) is not None:
            _add_partitioning(draft, row)
    for draft in drafts.values():
        _add_keys(draft, dialect)


def _json_checks(column: str) -> tuple[str, str]:
    """What the server checks by itself of a JSON column; quotes depend on ``ANSI_QUOTES`` (both seen with 10.11.19)."""
    return (
        f"json_valid(`{column.replace('`', '``')}`)",
        f'json_valid("{column.replace(chr(34), chr(34) * 2)}")',
    )


def _add_column(
    draft: _Draft, row: Mapping[str, Any], types: Types, flavour: Flavour, check: str | None
) -> None:
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


def _add_check(draft: _Draft, row: Mapping[str, Any]) -> None:
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


def _add_foreign_key(
    draft: _Draft, rows: Sequence[Mapping[str, Any]], homes: Mapping[str, str | None]
) -> None:
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


def _add_partitioning(draft: _Draft, row: Mapping[str, Any]) -> None:
    draft.options["partition_by"] = f"{row['method']} ({row['expression'] or ''})"
    if row["submethod"] is not None:
        draft.options["subpartition_by"] = f"{row['submethod']} ({row['subexpression'] or ''})"


# -- keys ------------------------------------------------------------------------------------------------------


def _add_keys(draft: _Draft, dialect: SQLAlchemyDialect) -> None:
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


def _implied_by(draft: _Draft, index: Mapping[str, Any]) -> str | None:
    """The foreign key for which the server has made *index* by itself.

    Nothing marks such an index. It is called like the constraint, or like the first column where the constraint has no
    name of its own (seen with MariaDB 10.11.19; MySQL 8.4 manual, "FOREIGN KEY Constraints").
    """
    if index["unique"] or index.keys() & {"expressions", "column_sorting", "dialect_options"}:
        return None
    columns = index["column_names"]
    for foreign_key in draft.foreign_keys:
        name = str(foreign_key["name"])
        automatic = columns[0] if _AUTOMATIC_NAME.fullmatch(name) else name
        if foreign_key["constrained_columns"] == columns and index["name"] == automatic:
            return name
    return None
