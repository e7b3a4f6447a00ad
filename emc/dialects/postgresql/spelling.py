"""How would this PostgreSQL server spell the tables of the models?

They are built in the session's own temporary schema, read back like live tables, and rolled back: a savepoint brackets
it all. Only the privilege TEMP on the database is needed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, ForeignKeyConstraint, Table
from sqlalchemy import Sequence as SequenceDefault
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    DOMAIN,
    ENUM,
    CreateDomainType,
    CreateEnumType,
)
from sqlalchemy.exc import CompileError, DBAPIError, IdentifierError
from sqlalchemy.schema import (
    CreateIndex,
    CreateSequence,
    CreateTable,
    ExecutableDDLElement,
    SetColumnComment,
    SetConstraintComment,
    SetTableComment,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from emc.dialects.base import CannotSpellError
from emc.dialects.postgresql.naming import DIALECT, identifier, with_schema
from emc.dialects.postgresql.reading import read_scratch
from emc.names import TableKey
from emc.schema import LiveSchema, LiveTable

_SCRATCH = "pg_temp"
_FORBIDDEN = frozenset({"25006", "42501"})
"""read_only_sql_transaction, insufficient_privilege."""


def spell(connection: Connection, tables: Sequence[Table], live: LiveSchema) -> Mapping[TableKey, LiveTable]:
    """*tables* as the server would show them had it just created them, foreign keys left out.

    A table that the server refuses to create (it needs a type or function that is not there yet) is missing from the
    answer.

    :raises CannotSpellError: the role or transaction may not create temporary tables.
    """
    spelled: dict[TableKey, LiveTable] = {}
    for batch in _batches(tables):
        savepoint = connection.begin_nested()
        try:
            schemas = {table.name: table.schema for table in _create(connection, batch)}
            built = read_scratch(connection, schemas)
        finally:
            savepoint.rollback()
        types = {
            str(type_.name): type_.schema
            for table in batch
            for type_ in _named_types(table)
            if type_.schema is not None
        }
        spelled.update((key, _at_home(table, types, live.table(key))) for key, table in built.items())
    return {key: spelled[key] for key in sorted(spelled, key=lambda key: key.sort_key)}


def _batches(tables: Iterable[Table]) -> Iterator[Sequence[Table]]:
    """*tables* in as few groups as possible, so that within a group all names fit into one schema."""
    groups: list[tuple[list[Table], dict[str, tuple[str | None, Any]]]] = []
    for table in sorted(tables, key=lambda table: TableKey(table.schema, table.name).sort_key):
        names: dict[str, tuple[str | None, Any]] = {table.name: (table.schema, table)}
        names.update({str(index.name): (table.schema, index) for index in table.indexes})
        for type_ in _named_types(table):
            names[str(type_.name)] = (type_.schema, _fingerprint(type_))
        for group, used in groups:
            if all(used.get(name, owner) == owner for name, owner in names.items()):
                group.append(table)
                used.update(names)
                break
        else:
            groups.append(([table], names))
    for group, _ in groups:
        yield group


def _create(connection: Connection, tables: Sequence[Table]) -> Sequence[Table]:
    """Build *tables*; those that could not be built are missing from the answer."""
    scripts: list[tuple[Table, str]] = []
    needed: dict[str, None] = {}
    for table in tables:
        try:
            prerequisites = [_compiled(element, table) for element in _prerequisites(table)]
            script = ";\n".join(_compiled(element, table) for element in _elements(table))
        except (CompileError, IdentifierError):
            # PostgreSQL cannot have such a table, under that name or at all: nothing to spell.
            continue
        needed.update(dict.fromkeys(prerequisites))
        scripts.append((table, script))
    _build(connection, [(statement, statement) for statement in needed])
    return _build(connection, scripts)


_T = TypeVar("_T")


def _build(connection: Connection, scripts: Sequence[tuple[_T, str]]) -> Sequence[_T]:
    """Run what can be run of *scripts*, and answer whose went well.

    All in one round trip where that goes well; halved until each that does not is found.
    """
    if not scripts:
        return ()
    if _attempt(connection, ";\n".join(script for _, script in scripts)):
        return tuple(owner for owner, _ in scripts)
    if len(scripts) == 1:
        return ()
    middle = len(scripts) // 2
    return (*_build(connection, scripts[:middle]), *_build(connection, scripts[middle:]))


def _attempt(connection: Connection, script: str) -> bool:
    """Run *script* in a savepoint of its own; tell whether that went well."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(script, execution_options={"no_parameters": True})
    except DBAPIError as error:
        savepoint.rollback()
        if error.connection_invalidated:
            raise
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        if code in _FORBIDDEN and not _may_create(connection):
            raise CannotSpellError(str(error.orig)) from error
        return False
    savepoint.commit()
    return True


def _may_create(connection: Connection) -> bool:
    """Whether this transaction may make temporary tables at all."""
    return bool(
        connection.exec_driver_sql(
            "SELECT has_database_privilege(current_database(), 'TEMP')"
            " AND current_setting('transaction_read_only') = 'off'"
        ).scalar()
    )


def _compiled(element: ExecutableDDLElement, table: Table) -> str:
    schemas = {None, table.schema, *(type_.schema for type_ in _named_types(table))}
    schemas.update(sequence.schema for sequence in _sequences(table))
    compiled = element.compile(
        dialect=DIALECT,
        schema_translate_map=dict.fromkeys(schemas, _SCRATCH),
        render_schema_translate=True,
    )
    return str(compiled).strip()


def _elements(table: Table) -> Iterator[ExecutableDDLElement]:
    yield CreateTable(table, include_foreign_key_constraints=[])
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        yield CreateIndex(index)
    if table.comment is not None:
        yield SetTableComment(table)
    for column in table.columns:
        if column.comment is not None:
            yield SetColumnComment(column)
    for constraint in sorted(table.constraints, key=lambda constraint: str(constraint.name)):
        if constraint.comment is not None and not isinstance(constraint, ForeignKeyConstraint):
            yield SetConstraintComment(constraint)


def _prerequisites(table: Table) -> Iterator[ExecutableDDLElement]:
    for type_ in _named_types(table):
        yield CreateEnumType(type_) if isinstance(type_, ENUM) else CreateDomainType(type_)
    for sequence in _sequences(table):
        yield CreateSequence(sequence)


def _sequences(table: Table) -> Iterator[SequenceDefault]:
    for column in table.columns:
        for default in (column.default, getattr(column.server_default, "arg", None)):
            sequence = getattr(default, "sequence", default)
            if isinstance(sequence, SequenceDefault):
                yield sequence


def _named_types(table: Table) -> Iterator[ENUM | DOMAIN]:
    for column in table.columns:
        yield from named_types(column.type)


def named_types(type_: TypeEngine[Any]) -> Iterator[ENUM | DOMAIN]:
    """The enumerated types and domains that *type_* is made of, as PostgreSQL's own type objects."""
    type_ = type_.dialect_impl(DIALECT)
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance.dialect_impl(DIALECT)
    if isinstance(type_, ARRAY):
        yield from named_types(type_.item_type)
    elif isinstance(type_, DOMAIN):
        yield from named_types(type_.data_type)
        yield type_
    elif isinstance(type_, ENUM) and type_.name is not None and type_.native_enum:
        yield type_


def _fingerprint(type_: ENUM | DOMAIN) -> Any:
    return tuple(type_.enums) if isinstance(type_, ENUM) else "domain"


def _at_home(table: LiveTable, types: Mapping[str, str], live: LiveTable | None) -> LiveTable:
    """*table* as it would be outside the scratch schema, which hides the schemas of *types* and of its sequences."""
    homes = {schema: frozenset(name for name in types if types[name] == schema) for schema in types.values()}

    def text(value: str) -> str:
        for schema in sorted(homes):
            value = with_schema(value, schema, homes[schema])
        return value

    columns: dict[str, Any] = {}
    for name, column in table.columns.items():
        columns[name] = at_home = dict(column, type=_type_at_home(column["type"], types))
        if column["default"] is not None:
            was = live.columns.get(name) if live is not None else None
            default = text(column["default"])
            at_home["default"] = _sequence_at_home(default, table.key.schema, was["default"] if was else None)
        if "computed" in column:
            at_home["computed"] = {**column["computed"], "sqltext": text(column["computed"]["sqltext"])}
    indexes: list[Any] = []
    for index in table.indexes:
        indexes.append(at_home := dict(index))
        if "expressions" in index:
            at_home["expressions"] = [text(expression) for expression in index["expressions"]]
        options = dict(index.get("dialect_options", {}))
        if "postgresql_where" in options:
            options["postgresql_where"] = text(options["postgresql_where"])
            at_home["dialect_options"] = options
    checks: list[Any] = [{**check, "sqltext": text(check["sqltext"])} for check in table.checks]
    return dataclasses.replace(table, columns=columns, indexes=tuple(indexes), checks=tuple(checks))


def _type_at_home(type_: TypeEngine[Any], types: Mapping[str, str]) -> TypeEngine[Any]:
    if isinstance(type_, ARRAY):
        return ARRAY(_type_at_home(type_.item_type, types), dimensions=type_.dimensions)
    if isinstance(type_, (ENUM, DOMAIN)) and str(type_.name) in types:
        at_home = copy.copy(type_)
        at_home.schema = types[str(type_.name)]
        return at_home
    return type_


def _sequence_at_home(default: str, schema: str | None, was: str | None) -> str:
    """The default of a serial column: the inspector puts the schema in quotes where the server leaves it out."""
    if schema is None or default == was:
        return default
    return default.replace(f'nextval(\'"{schema}".', f"nextval('{identifier(schema)}.")
