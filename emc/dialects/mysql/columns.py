"""How does a row of ``information_schema.COLUMNS`` become the dictionary that SQLAlchemy's inspector answers?"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from sqlalchemy.dialects.mysql import JSON, YEAR, types
from sqlalchemy.dialects.mysql.reflection import MySQLTableDefinitionParser, ReflectedState
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.types import Integer, NullType, TypeEngine

from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import ColumnText

_ON_UPDATE = re.compile(r"on update (\S+)", re.IGNORECASE)
_CURRENT_TIMESTAMP = re.compile(r"current_timestamp(\(\d*\))?", re.IGNORECASE)


class Types:
    """SQLAlchemy's type objects for the server's text of a type, made by SQLAlchemy's own parser.

    The parser reads a line of SHOW CREATE TABLE; such a line is put together here, once for each kind of type. Columns
    of one kind share the object.
    """

    def __init__(self, dialect: SQLAlchemyDialect) -> None:
        self._preparer = dialect.identifier_preparer
        self._parser = MySQLTableDefinitionParser(dialect, self._preparer)  # type: ignore[arg-type]
        self._known: dict[tuple[str, str | None, str | None], TypeEngine[Any]] = {}
        self._json = JSON()

    def of(self, row: Mapping[str, Any], table_collation: str | None, *, is_json: bool) -> TypeEngine[Any]:
        """The type of a column.

        :param table_collation: what a column of the table gets that names no collation. A type says what differs from
            that: a collation; a character set besides when that is another one too.
        :param is_json: whether the server checks the column with ``json_valid``, as it does for a JSON column.
        """
        charset, collation = row["charset"], row["collation"]
        if is_json:
            return self._json
        if collation == table_collation:
            charset = collation = None
        elif charset is not None and charset == charset_of(table_collation):
            charset = None
        key = (row["type_text"], charset, collation)
        if key not in self._known:
            self._known[key] = self._parsed(*key)
        return self._known[key]

    def _parsed(self, text: str, charset: str | None, collation: str | None) -> TypeEngine[Any]:
        line = f"  {self._preparer.quote_identifier('c')} {text}"
        line += f" CHARACTER SET {charset}" if charset else ""
        line += f" COLLATE {collation}" if collation else ""
        state = ReflectedState()
        with warnings.catch_warnings():
            # "Did not recognize type": the text of such a type goes into the column's definition.
            warnings.filterwarnings("ignore", "Did not recognize type|Incomplete reflection")
            self._parser._parse_column(line, state)  # noqa: SLF001  # parse() does no more, after splitting lines
        type_: Any = state.columns[0]["type"]
        if isinstance(type_, YEAR) or (isinstance(type_, types._IntegerType) and not type_.zerofill):  # noqa: SLF001
            _forget_width(type_)
        return type_  # type: ignore[no-any-return]


def _forget_width(type_: Any) -> None:
    """Leave out how wide a number is displayed, which says nothing about it; ``TINYINT(1)`` says that it is a truth.

    MySQL 8.0.19 and later shows no other widths either (its manual, "Numeric Type Attributes").
    """
    if not (type_.__visit_name__ == "TINYINT" and type_.display_width == 1):
        type_.display_width = None


def charset_of(collation: str | None) -> str | None:
    """The character set of a collation, which its name begins with."""
    return collation.partition("_")[0] if collation is not None else None


def column(row: Mapping[str, Any], type_: TypeEngine[Any], flavour: Flavour) -> dict[str, Any]:
    """The dictionary of a column.

    As in SQLAlchemy's, the default includes what happens ON UPDATE. A column that ``SELECT *`` leaves out has
    ``"invisible": True`` besides.
    """
    extra = row["extra"] or ""
    nullable = row["nullable"] == "YES"
    found: dict[str, Any] = {
        "name": row["name"],
        "type": type_,
        "nullable": nullable,
        "default": None,
        "comment": row["comment"] or None,
    }
    if "auto_increment" in extra:
        found["autoincrement"] = True
    elif isinstance(type_, Integer):
        found["autoincrement"] = False
    if "INVISIBLE" in extra.upper():
        found["invisible"] = True
    if row["generation"]:
        found["computed"] = {
            "sqltext": flavour.expression(row["generation"]),
            "persisted": "STORED" in extra.upper(),
        }
        return found
    found["default"] = _default(row["default_text"], extra, flavour)
    if (match := _ON_UPDATE.search(extra)) is not None:
        found["default"] = f"{found['default'] or 'NULL'} ON UPDATE {match[1]}"
    return found


def column_text(row: Mapping[str, Any], check: str | None, flavour: Flavour) -> ColumnText:
    """The definition of a column in the pieces of the server's own text.

    :param check: the expression of its CHECK at column level.
    """
    extra = row["extra"] or ""
    on_update = _ON_UPDATE.search(extra)
    more = [word for word in ("INVISIBLE", "WITHOUT SYSTEM VERSIONING") if word in extra.upper()]
    if row["srid"] is not None:
        more.append(f"SRID {row['srid']}")
    generated = row["generation"] or None
    return ColumnText(
        name=row["name"],
        type=row["type_text"],
        nullable=row["nullable"] == "YES",
        charset=row["charset"],
        collation=row["collation"],
        default=None if generated else _default(row["default_text"], extra, flavour),
        on_update=on_update[1] if on_update else None,
        auto_increment="auto_increment" in extra,
        generated=flavour.expression(generated) if generated else None,
        stored="STORED" in extra.upper(),
        comment=row["comment"] or "",
        check=check,
        more=" ".join(more),
    )


def _default(text: str | None, extra: str, flavour: Flavour) -> str | None:
    """The default as SHOW CREATE TABLE spells it."""
    if text is None or flavour.quotes_defaults:
        return None if text == "NULL" else text
    if _CURRENT_TIMESTAMP.fullmatch(text) or text.startswith("b'"):
        return text
    if "DEFAULT_GENERATED" in extra:
        return f"({flavour.expression(text)})"
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def unknown_type(row: Mapping[str, Any], type_: TypeEngine[Any]) -> str | None:
    """The server's text of a type that SQLAlchemy does not know."""
    return f"TYPE {row['type_text']}" if isinstance(type_, NullType) else None
