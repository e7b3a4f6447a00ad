"""In which words does a trigger ask the row that is being written what a condition asks of the rows of a table?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, literal_column
from sqlalchemy.dialects.mysql.base import MySQLCompiler, MySQLDialect
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

from emc.claims import CannotGuardError, Claim
from emc.dialects.mysql.flavour import MARIADB, Flavour
from emc.dialects.mysql.live import MySQLSchema
from emc.dialects.rowwise import Rules, check
from emc.names import TableKey

_FUNCTIONS = """
    abs acos ascii asin atan atan2 bin bit_count bit_length ceil ceiling char_length character_length coalesce concat
    concat_ws conv cos cot crc32 date datediff day dayofmonth dayofweek dayofyear degrees elt exp field find_in_set
    floor from_base64 from_days greatest hex hour if ifnull instr isnull json_contains json_contains_path json_depth
    json_exists json_extract json_keys json_length json_overlaps json_quote json_search json_type json_unquote
    json_valid json_value last_day lcase least left length ln locate log log10 log2 lower lpad ltrim makedate maketime
    md5 microsecond mid minute mod month nullif oct octet_length ord pi position pow power quarter radians
    regexp_instr regexp_replace regexp_substr repeat replace reverse right round rpad rtrim sec_to_time second sha
    sha1 sha2 sign sin soundex space sqrt strcmp substr substring substring_index tan time time_to_sec to_base64
    to_days to_seconds trim truncate ucase unhex upper weekday year
"""
"""Functions that answer the same whenever and by whomever they are asked (MariaDB knowledge base, "Built-in Functions";
MySQL 8.4 manual, "Functions and Operators"). Those that depend on the time zone or the language of the session are left
out (``from_unixtime``, ``date_format``, ``week``)."""

_INTRODUCER = "_utf8mb4"
"""What says in which character set the digits of a literal are."""
_NEEDS_NO_CARE = re.compile(r"[ -~]*")


def row_condition(claim: Claim, live: MySQLSchema, flavour: Flavour) -> str:
    """What *claim* says of rows in the way, as SQL that asks the row ``NEW`` of a trigger; NULL where it is NULL.

    :raises CannotGuardError: it does not depend on that row alone.
    """
    check(claim, rules_for(claim.key, live))
    try:
        return of_row(claim.in_the_way, flavour)
    except (CompileError, NotImplementedError) as error:
        raise CannotGuardError(f"its condition cannot be written as plain SQL ({error})") from error


def rules_for(key: TableKey, live: MySQLSchema) -> Rules:
    """What the server answers the same whenever and by whomever it is asked, of a row of table *key*."""

    def is_timestamp(column: Column[Any]) -> bool:
        found = live.text(key, column.name)
        return found is not None and found.type.lower().startswith("timestamp")

    return Rules(frozenset(_FUNCTIONS.split()), is_timestamp, fixes_constants=False)


def of_row(expression: ColumnElement[Any], flavour: Flavour, row: str = "NEW") -> str:
    """*expression*, which speaks of columns of one table, as SQL about *row* of a trigger, ``NEW`` or ``OLD``.

    :raises sqlalchemy.exc.CompileError: it cannot be written as plain SQL; NotImplementedError too.
    """

    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, Column):
            return literal_column(f"{row}.{_quoted(element.name)}", element.type)
        return None

    written = visitors.replacement_traverse(expression, {}, replace)
    # "named", since the compiler doubles each % for the drivers' paramstyle, and no driver replaces anything here.
    compiler = _RowCompiler(_RowDialect(paramstyle="named", is_mariadb=flavour is MARIADB), None)
    return str(compiler.process(written))


def text_literal(value: str) -> str:
    """*value* as SQL that reads the same in every ``sql_mode`` and character set of the connection."""
    if _NEEDS_NO_CARE.fullmatch(value) and "\\" not in value:
        return "'" + value.replace("'", "''") + "'"
    return f"{_INTRODUCER} X'{value.encode().hex()}'"


def trigger_text(timing: str, event: str, body: str) -> str:
    """A trigger that is a guard, as :attr:`emc.schema.LiveTable.guards` has it."""
    # information_schema shows a body without introducers (seen with MariaDB 10.11.19).
    return f"{timing} {event} {body.replace(f'{_INTRODUCER} X', ' X')}"


class _RowDialect(MySQLDialect):
    # What a dialect learns from a connection: an attribute in SQLAlchemy 2.1, a property in 2.0.
    _support_float_cast = True
    supports_statement_cache = True


class _RowCompiler(MySQLCompiler):
    """Writes literals so that neither ``NO_BACKSLASH_ESCAPES`` nor the connection's character set changes them."""

    def visit_bindparam(self, bindparam: Any, **kw: Any) -> str:  # type: ignore[override]
        # The compilers of is_distinct_from() forget that literals were asked for (seen with SQLAlchemy 2.1.9).
        compile_one: Any = super().visit_bindparam
        return str(compile_one(bindparam, **{**kw, "literal_binds": True}))

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(value, bytes | bytearray | memoryview):
            return f"X'{bytes(value).hex()}'"
        # Not as MySQLCompiler does: it doubles backslashes, which the server undoes or not, according to sql_mode.
        text = str(SQLCompiler.render_literal_value(self, value, type_))
        if text.startswith("'") and text.endswith("'"):
            return text_literal(text[1:-1].replace("''", "'"))
        if "\\" in text:
            raise CompileError(f"the literal {text}")
        return text


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def quoted(*names: str | None) -> str:
    """A name, qualified by those before it that are given."""
    return ".".join(_quoted(name) for name in names if name is not None)


def listed(literals: Iterable[str]) -> str:
    """Text literals between commas."""
    return ", ".join(text_literal(one) for one in literals)


def key_text(
    columns: Sequence[str], parent: TableKey, parent_columns: Sequence[str], rules: Mapping[str, str | None]
) -> str:
    """A foreign key that is a guard, as :attr:`emc.schema.LiveTable.guards` has it.

    :param parent: its schema is ``None`` where that is the default one.
    :param rules: ``ondelete`` and ``onupdate``; absent where nothing is done.
    """
    text = f"FOREIGN KEY ({', '.join(map(quoted, columns))}) REFERENCES {quoted(parent.schema, parent.name)} "
    text += f"({', '.join(map(quoted, parent_columns))})"
    for option, words in (("ondelete", "ON DELETE"), ("onupdate", "ON UPDATE")):
        rule = (rules.get(option) or "RESTRICT").upper()
        # Both say the same to InnoDB.
        text += "" if rule in ("RESTRICT", "NO ACTION") else f" {words} {rule}"
    return text
