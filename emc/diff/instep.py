"""Which tables are provably what their models say?

A comparison of the models with the dictionaries of the snapshot that knows nothing but equality: what it does not
recognise at once is *doubtful*, which costs time and nothing else. It never takes a difference for equality. Building
the Table objects that a full comparison needs is what makes that slow, so nothing is built here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Enum,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    TextClause,
    UniqueConstraint,
    exc,
)
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect
from sqlalchemy.schema import DefaultClause
from sqlalchemy.types import TypeEngine

from emc.dialects.base import Dialect
from emc.diff import facts
from emc.diff.text import says_something, single_percents
from emc.names import ElementKind
from emc.schema import LiveTable

_CAST = re.compile(r"('(?:[^']|'')*'|-?\d+(?:\.\d+)?)::(.+)", re.DOTALL)
_NUMBER = re.compile(r"'(-?(?:0|[1-9]\d*)(?:\.\d+)?)'")
_ARGUMENTS = re.compile(r"\([^)]*\)")
_PLAIN_LIST = re.compile(r"\(([^()]*)\)$")
_CAST_NAMES = {"varchar": "character varying", "char": "bpchar"}
"""How PostgreSQL calls a type in a cast, where DDL calls it otherwise."""


class InStep:
    """One comparison; remembers what it compiled.

    :param dialect: SQLAlchemy's dialect of the connection, whose DDL the models are compiled to.
    :param database: what is known of how the server shows such DDL.
    """

    def __init__(self, dialect: SQLAlchemyDialect, database: Dialect) -> None:
        self._dialect = dialect
        self._database = database
        self._types = dialect.type_compiler_instance
        self._ddl = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
        self._options = f"{dialect.name}_"
        self._index_options = tuple(f"{name}_" for name in (dialect.name, *database.option_names))
        self._live_types: dict[int, tuple[str, tuple[str, ...]]] = {}
        """Text and labels by the identity of the type object: a snapshot shares them between columns."""
        self._plain: dict[tuple[str, str], str] = {}
        self._defaults: dict[object, str | None] = {}

    def table(self, model: Table, live: LiveTable) -> bool:
        """Whether *live* is provably what *model* says."""
        return (
            self._columns(model, live)
            and tuple(column.name for column in model.primary_key.columns) == facts.primary_key(live)
            and self._constraints(model, live)
            and self._indexes(model, live)
            and (not self._dialect.supports_comments or (model.comment or None) == (live.comment or None))
            and all(
                live.options.get(key.removeprefix(self._options), "").casefold() == str(value).casefold()
                for key, value in model.dialect_kwargs.items()
                if key.startswith(self._options) and value is not None
            )
            and not any(
                kind in (ElementKind.EXCLUSION, ElementKind.TABLE, ElementKind.COLUMN)
                for kind, _ in live.definitions
            )
        )

    # -- columns ---------------------------------------------------------------------------------------------

    def _columns(self, model: Table, live: LiveTable) -> bool:
        columns = [column for column in model.columns if not column.system]
        if len(columns) != len(live.columns):
            return False
        autoincrement = model.autoincrement_column
        comments = self._dialect.supports_comments
        for column in columns:
            reflected = live.columns.get(column.name)
            if (
                reflected is None
                or (
                    reflected["nullable"] is not column.nullable
                    and facts.nullable(live, column.name, self._dialect) is not column.nullable
                )
                or (comments and (column.comment or None) != (reflected.get("comment") or None))
                or reflected.get("computed")
                or reflected.get("identity")
                or column.constraints
            ):
                return False
            type_text = self._same_type(column, reflected["type"])
            if type_text is None or not self._same_default(
                column, reflected, type_text, is_autoincrement=column is autoincrement
            ):
                return False
        return True

    def _same_type(self, column: Column[Any], reflected: TypeEngine[Any]) -> str | None:
        """The text of the type when it is the same on both sides."""
        known = self._live_types.get(id(reflected))
        if known is None:
            shown = self._database.shown_type(facts.type_text(reflected, self._dialect))
            known = shown, facts.labels(reflected)
            self._live_types[id(reflected)] = known
        text, live_labels = known
        try:
            wanted = self._types.process(column.type, type_expression=column)
        except exc.CompileError:
            return None
        if not text or self._database.shown_type(wanted) != text:
            return None
        if live_labels and not (isinstance(column.type, Enum) and tuple(column.type.enums) == live_labels):
            return None
        return text

    def _same_default(
        self, column: Column[Any], reflected: Mapping[str, Any], type_text: str, *, is_autoincrement: bool
    ) -> bool:
        live = reflected.get("default")
        if column.server_default is None:
            counts = reflected.get("autoincrement", "auto")
            if not is_autoincrement:
                return live is None and counts is not True
            if live is not None:
                return _is_serial(column, reflected)
            # "auto" is what the inspector says where a key of the right type counts up by itself.
            return counts == "auto" or (counts is True and not isinstance(column.default, Sequence))
        if live is None or not isinstance(column.server_default, DefaultClause):
            return False
        wanted = self._default(column)
        if wanted is None:
            return False
        wanted = self._database.shown_default(wanted, type_text)
        return wanted == live or self._bare(wanted, type_text) == self._bare(live, type_text)

    def _bare(self, default: str, type_text: str) -> str:
        key = (default, type_text)
        if key not in self._plain:
            self._plain[key] = _plain(default, type_text)
        return self._plain[key]

    def _default(self, column: Column[Any]) -> str | None:
        """The default as DDL spells it."""
        assert isinstance(column.server_default, DefaultClause)
        argument = column.server_default.arg
        key: object = (
            argument
            if isinstance(argument, str)
            else ("text", argument.text)
            if isinstance(argument, TextClause)
            else None
        )
        if key is not None and key in self._defaults:
            return self._defaults[key]
        try:
            rendered = single_percents(self._ddl.get_column_default_string(column) or "", self._dialect)
        except (exc.CompileError, NotImplementedError):
            rendered = None
        if key is not None:
            self._defaults[key] = rendered
        return rendered

    # -- constraints -----------------------------------------------------------------------------------------

    def _constraints(self, model: Table, live: LiveTable) -> bool:
        uniques: list[UniqueConstraint] = []
        foreign_keys: list[ForeignKeyConstraint] = []
        for constraint in model.constraints:
            if isinstance(constraint, UniqueConstraint):
                uniques.append(constraint)
            elif isinstance(constraint, ForeignKeyConstraint):
                foreign_keys.append(constraint)
            elif isinstance(constraint, CheckConstraint) or not isinstance(constraint, PrimaryKeyConstraint):
                return False
        return (
            not live.checks
            and len(uniques) == len(live.uniques)
            and all(self._has_unique(unique, live) for unique in uniques)
            and len({_unique_columns(unique) for unique in uniques}) == len(uniques)
            and self._same_foreign_keys(foreign_keys, live)
        )

    def _has_unique(self, unique: UniqueConstraint, live: LiveTable) -> bool:
        if unique.deferrable or unique.initially or self._has_options(unique.dialect_kwargs):
            return False
        columns = list(_unique_columns(unique))
        for reflected in live.uniques:
            name = reflected["name"]
            if reflected["column_names"] != columns or (unique.name is not None and unique.name != name):
                continue
            text = live.definitions.get((ElementKind.UNIQUE, str(name)))
            return not any(
                map(says_something, (reflected.get("dialect_options") or {}).values())
            ) and self._is_plain(text, columns)
        return False

    def foreign_keys(self, model: Table, live: LiveTable) -> bool:
        """Whether the foreign keys are provably the same."""
        return self._same_foreign_keys(list(model.foreign_key_constraints), live)

    def _same_foreign_keys(self, foreign_keys: list[ForeignKeyConstraint], live: LiveTable) -> bool:
        if not foreign_keys:
            return not live.foreign_keys
        try:
            wanted = {self._foreign_key(one) for one in foreign_keys}
        except exc.SQLAlchemyError:  # refers to a table that the MetaData does not hold
            return False
        known = set()
        for reflected in live.foreign_keys:
            options = reflected.get("options") or {}
            if options.get("match"):
                return False
            known.add(
                (
                    tuple(reflected["constrained_columns"]),
                    self._schema(reflected["referred_schema"]),
                    reflected["referred_table"],
                    tuple(reflected["referred_columns"]),
                    self._action(options.get("ondelete")),
                    self._action(options.get("onupdate")),
                    bool(options.get("deferrable")),
                    (options.get("initially") or "IMMEDIATE").upper(),
                )
            )
        return len(foreign_keys) == len(live.foreign_keys) and wanted == known

    def _foreign_key(self, constraint: ForeignKeyConstraint) -> tuple[Any, ...]:
        if constraint.match:
            raise exc.ArgumentError("not compared here")
        elements = constraint.elements
        referred = elements[0].column.table
        return (
            tuple(element.parent.name for element in elements),
            self._schema(referred.schema),
            referred.name,
            tuple(element.column.name for element in elements),
            self._action(constraint.ondelete),
            self._action(constraint.onupdate),
            bool(constraint.deferrable),
            (constraint.initially or "IMMEDIATE").upper(),
        )

    def _action(self, action: str | None) -> str:
        said = (action or "NO ACTION").upper()
        return "NO ACTION" if said == "RESTRICT" and self._database.restrict_goes_without_saying else said

    def _schema(self, schema: str | None) -> str | None:
        return None if schema == self._dialect.default_schema_name else schema

    # -- indexes ---------------------------------------------------------------------------------------------

    def _indexes(self, model: Table, live: LiveTable) -> bool:
        if len(model.indexes) != len(live.indexes):
            return False
        known = {reflected["name"]: reflected for reflected in live.indexes}
        return self._shows_all_indexes(live, known) and all(
            self._same_index(index, known.get(index.name), live) for index in model.indexes
        )

    def _shows_all_indexes(self, live: LiveTable, known: Mapping[str | None, object]) -> bool:
        """Whether the inspector's dictionaries leave out no index; SQLite's do those of expressions."""
        return all(
            kind is not ElementKind.INDEX or name in known or name in live.unfinished
            for kind, name in live.definitions
        )

    def _same_index(self, index: Index, reflected: Mapping[str, Any] | None, live: LiveTable) -> bool:
        if reflected is None or self._has_options(index.dialect_kwargs):
            return False
        columns: list[str] = []
        for expression in index.expressions:
            if not isinstance(expression, Column):
                return False
            columns.append(expression.name)
        return (
            bool(reflected["unique"]) is bool(index.unique)
            and reflected["column_names"] == columns
            and not reflected.get("column_sorting")
            and not reflected.get("include_columns")
            and not any(map(says_something, (reflected.get("dialect_options") or {}).values()))
            and self._is_plain(live.definitions.get((ElementKind.INDEX, str(reflected["name"]))), columns)
        )

    def _has_options(self, options: Mapping[str, Any]) -> bool:
        return any(
            key.startswith(self._index_options) and says_something(value) for key, value in options.items()
        )

    def _is_plain(self, text: str | None, columns: list[str]) -> bool:
        """Whether the server's *text* of a key, if there is one, ends with nothing but its columns."""
        if text is None:
            return True
        match = _PLAIN_LIST.search(text)
        if match is None:
            return False
        listed = [one.strip() for one in match.group(1).split(",")]
        return listed in ([self._dialect.identifier_preparer.quote(one) for one in columns], columns)


def _is_serial(column: Column[Any], reflected: Mapping[str, Any]) -> bool:
    """Whether DDL would make the column SERIAL, and it is."""
    default = column.default
    return (
        default is None or (isinstance(default, Sequence) and default.optional)
    ) and facts.draws_from_sequence(reflected)


def _unique_columns(unique: UniqueConstraint) -> tuple[str, ...]:
    return tuple(column.name for column in unique.columns)


def _plain(text: str, type_text: str) -> str:
    """A default without a cast to the type of its own column, and without quotes around a number or a boolean.

    The server casts the literal of a default to the column's type by itself, so both say the same.
    """
    match = _CAST.fullmatch(text)
    if match is not None:
        base = _ARGUMENTS.sub("", type_text).strip().lower()
        if match.group(2).lower() not in (base, _CAST_NAMES.get(base)):
            return text
        text = match.group(1)
    number = _NUMBER.fullmatch(text)
    if number is not None:
        return number.group(1)
    if type_text == "BOOLEAN" and text in ("'true'", "'false'"):
        return text.strip("'")
    return text
