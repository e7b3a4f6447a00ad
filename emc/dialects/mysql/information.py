"""Which rows of ``information_schema`` say what a schema looks like?

One query per kind of fact, over all tables of all schemas at once: the number of queries does not depend on the number
of tables. Each is a UNION of one SELECT per schema, because the server goes straight to a schema that a plain ``=``
names, and opens the tables of every other one for anything else (MariaDB 10.11: "Lookup_Field" of EXPLAIN; MySQL 5.7
manual, "Optimizing INFORMATION_SCHEMA Queries"). ``information_schema`` knows no snapshot: whoever changes the schema
meanwhile is seen by one query and not by the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, MetaData, Table, text
from sqlalchemy.dialects.mysql.reflection import MySQLTableDefinitionParser
from sqlalchemy.exc import DBAPIError

from emc.dialects.mysql.flavour import Flavour

_TABLES = """
SELECT table_schema AS of_schema, table_name AS of_table, table_type AS kind, engine, row_format,
       table_rows AS row_count, data_length AS bytes, table_collation AS collation,
       create_options AS options, table_comment AS comment
  FROM information_schema.tables
 WHERE table_schema = {schema}
"""

_COLUMNS = """
SELECT table_schema AS of_schema, table_name AS of_table, ordinal_position AS position, column_name AS name,
       column_type AS type_text, character_set_name AS charset, collation_name AS collation,
       is_nullable AS nullable, column_default AS default_text, extra, column_comment AS comment,
       generation_expression AS generation, {srid} AS srid
  FROM information_schema.columns
 WHERE table_schema = {schema}
"""

# CARDINALITY is left out: it alone would make the server open the tables.
_INDEXES = """
SELECT table_schema AS of_schema, table_name AS of_table, index_name AS name, seq_in_index AS position,
       non_unique, column_name AS of_column, collation AS direction, sub_part AS length, index_type AS method,
       {expression} AS expression
  FROM information_schema.statistics
 WHERE table_schema = {schema}
"""

# The rules come from a derived table that cannot be merged: in a join MariaDB looks up no constant, and would open
# every table of every database of the server (10.11.19: "Open_full_table; Scanned all databases").
_FOREIGN_KEYS = """
SELECT k.table_schema AS of_schema, k.table_name AS of_table, k.constraint_name AS name,
       k.ordinal_position AS position, k.column_name AS of_column,
       k.referenced_table_schema AS parent_schema, k.referenced_table_name AS parent,
       k.referenced_column_name AS parent_column, r.update_rule AS on_update, r.delete_rule AS on_delete
  FROM information_schema.key_column_usage k
  LEFT JOIN (SELECT DISTINCT constraint_schema, constraint_name, table_name, update_rule, delete_rule
               FROM information_schema.referential_constraints
              WHERE constraint_schema = {schema}) r
    ON r.constraint_name = k.constraint_name AND r.table_name = k.table_name
 WHERE k.table_schema = {schema} AND k.constraint_schema = {schema} AND k.referenced_table_name IS NOT NULL
"""

_CHECKS = """
SELECT constraint_schema AS of_schema, table_name AS of_table, constraint_name AS name, level,
       check_clause AS clause, 'YES' AS enforced
  FROM information_schema.check_constraints
 WHERE constraint_schema = {schema}
"""

# MySQL 8.4 manual, "The INFORMATION_SCHEMA CHECK_CONSTRAINTS Table": no table is named there, names are unique in
# their schema, and TABLE_CONSTRAINTS tells the table and whether the constraint is enforced.
_CHECKS_WITHOUT_TABLES = """
SELECT t.constraint_schema AS of_schema, t.table_name AS of_table, t.constraint_name AS name, 'Table' AS level,
       c.check_clause AS clause, t.enforced AS enforced
  FROM information_schema.table_constraints t
  JOIN information_schema.check_constraints c
    ON c.constraint_schema = t.constraint_schema AND c.constraint_name = t.constraint_name
 WHERE t.table_schema = {schema} AND t.constraint_type = 'CHECK'
"""

# Every partition says the same of the table, so the first speaks for all.
_PARTITIONS = """
SELECT table_schema AS of_schema, table_name AS of_table, partition_method AS method,
       partition_expression AS expression, subpartition_method AS submethod,
       subpartition_expression AS subexpression
  FROM information_schema.partitions
 WHERE table_schema = {schema} AND partition_ordinal_position = 1
   AND (subpartition_ordinal_position IS NULL OR subpartition_ordinal_position = 1)
"""

_TRIGGERS = """
SELECT event_object_schema AS of_schema, event_object_table AS of_table, trigger_name AS name,
       action_timing AS timing, event_manipulation AS event, action_statement AS body,
       sql_mode AS modes, definer, action_order AS position
  FROM information_schema.triggers
 WHERE trigger_schema = {schema}
"""

# Views of other schemas may name our tables too.
_VIEWS = """
SELECT table_schema AS of_schema, table_name AS of_table, view_definition AS body
  FROM information_schema.views
 WHERE table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')
"""


def tables(connection: Connection, schemas: Sequence[str], flavour: Flavour) -> list[dict[str, Any]]:
    """Whatever has a name that a table could have: tables, views, sequences; with their sizes of now."""
    variable = flavour.statistics_expiry
    if variable is None:
        return _rows(connection, _TABLES, schemas)
    before = connection.exec_driver_sql(f"SELECT @@SESSION.{variable}").scalar_one()
    connection.exec_driver_sql(f"SET SESSION {variable} = 0")
    try:
        return _rows(connection, _TABLES, schemas)
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql(f"SET SESSION {variable} = {before}")


def columns(connection: Connection, schemas: Sequence[str], flavour: Flavour) -> list[dict[str, Any]]:
    """The columns, in their order."""
    sql = _COLUMNS.replace("{srid}", "srs_id" if flavour.knows_srids else "NULL")
    return sorted(_rows(connection, sql, schemas), key=_place)


def indexes(connection: Connection, schemas: Sequence[str], flavour: Flavour) -> list[dict[str, Any]]:
    """The elements of all indexes, primary keys included, in their order."""
    expression = "expression" if flavour.indexes_expressions else "NULL"
    rows = _rows(connection, _INDEXES.replace("{expression}", expression), schemas)
    for row in rows:
        row["expression"] = flavour.expression(row["expression"])
    return sorted(rows, key=lambda row: (row["name"], row["position"]))


def foreign_keys(connection: Connection, schemas: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of all foreign keys, in their order.

    Who may only SELECT from a table is not told the rules of its foreign keys (MariaDB 10.11.19); SHOW CREATE TABLE
    tells even that role, so it is asked about such tables, one by one.
    """
    rows = _rows(connection, _FOREIGN_KEYS, schemas)
    hidden = {(row["of_schema"], row["of_table"]) for row in rows if row["on_update"] is None}
    rules = {place: _rules(connection, *place) for place in sorted(hidden)}
    for row in rows:
        if row["on_update"] is None:
            told = rules[row["of_schema"], row["of_table"]].get(row["name"], {})
            row["on_update"] = told.get("onupdate") or "RESTRICT"
            row["on_delete"] = told.get("ondelete") or "RESTRICT"
    return sorted(rows, key=lambda row: (row["name"], row["position"]))


def _rules(connection: Connection, schema: str, table: str) -> dict[str, dict[str, Any]]:
    """What SHOW CREATE TABLE tells of the foreign keys of a table, by their names."""
    preparer = connection.dialect.identifier_preparer
    name = preparer.format_table(Table(table, MetaData(), schema=schema))
    shown = connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()
    parser = MySQLTableDefinitionParser(connection.dialect, preparer)  # type: ignore[arg-type]
    return {one["name"]: one for one in parser.parse(str(_plain(shown[1])), None).fk_constraints}


def checks(connection: Connection, schemas: Sequence[str], flavour: Flavour) -> list[dict[str, Any]]:
    """The CHECK constraints."""
    sql = _CHECKS if flavour.checks_name_tables else _CHECKS_WITHOUT_TABLES
    rows = _rows(connection, sql, schemas)
    for row in rows:
        row["clause"] = flavour.expression(row["clause"])
    return sorted(rows, key=lambda row: str(row["name"]))


def partitions(connection: Connection, schemas: Sequence[str]) -> list[dict[str, Any]]:
    """How tables are partitioned, one row for each that is."""
    return _rows(connection, _PARTITIONS, schemas)


def triggers(connection: Connection, schemas: Sequence[str]) -> list[dict[str, Any]]:
    """The triggers; only those of tables on which the role has the privilege TRIGGER."""
    return sorted(_rows(connection, _TRIGGERS, schemas), key=lambda row: str(row["name"]))


def gone_accounts(connection: Connection, accounts: Collection[str]) -> frozenset[str]:
    """Those of *accounts*, like ``emc@%``, that are known not to be there any more.

    Who may not read mysql.user is told nothing; the server tells whoever writes to the table (1449).
    """
    if not accounts:
        return frozenset()
    # Under PAD_CHAR_TO_FULL_LENGTH they end in spaces.
    statement = text("SELECT CONCAT(RTRIM(user), '@', RTRIM(host)) FROM mysql.user")
    try:
        there = {str(_plain(name)).lower() for name in connection.execute(statement).scalars()}
    except DBAPIError:
        return frozenset()
    return frozenset(one for one in accounts if one.lower() not in there)


def views(connection: Connection) -> list[dict[str, Any]]:
    """The views of all schemas, with their text; without it where the role lacks SHOW VIEW."""
    return sorted(
        _rows(connection, _VIEWS, ()), key=lambda row: (str(row["of_schema"]), str(row["of_table"]))
    )


def _rows(connection: Connection, select: str, schemas: Sequence[str]) -> list[dict[str, Any]]:
    parameters = {f"schema_{number}": schema for number, schema in enumerate(schemas)}
    union = " UNION ALL ".join(select.replace("{schema}", f":{name}") for name in parameters) or select
    result = connection.execute(text(union), parameters)
    names = tuple(result.keys())
    return [dict(zip(names, map(_plain, row), strict=True)) for row in result.all()]


def _plain(value: Any) -> Any:
    """*value* as text where the driver gives the bytes of a text (mysqlclient, columns with a binary collation)."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _place(row: dict[str, Any]) -> int:
    position: int = row["position"]
    return position
