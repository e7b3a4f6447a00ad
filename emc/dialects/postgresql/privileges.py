"""What may the role not do that the steps need?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Connection, text

from emc.dialects.postgresql.naming import qualified, table_name
from emc.names import ElementKind, TableKey
from emc.operations import Kind, ReplaceOp, constraint_kind, table_of
from emc.steps import Step

_NEEDS_CREATE = frozenset(
    {
        Kind.CREATE_TABLE,
        Kind.CREATE_ENUM,
        Kind.CREATE_INDEX,
        Kind.REPLACE_INDEX,
        Kind.ADD_UNIQUE,
        Kind.ADD_EXCLUSION,
        Kind.REMOVE_ENUM_VALUE,
    }
)
_ENUM_KINDS = frozenset({Kind.ADD_ENUM_VALUE, Kind.REMOVE_ENUM_VALUE, Kind.DROP_ENUM})

_LACKS = """
SELECT 'CREATE on schema ' || n.nspname
  FROM pg_namespace n
 WHERE (n.nspname = ANY (CAST(:schemas AS text[])) OR (:in_default AND n.nspname = current_schema()))
   AND NOT has_schema_privilege(n.oid, 'CREATE')
UNION ALL
SELECT 'ownership of table ' || asked.name
  FROM unnest(CAST(:tables AS text[])) AS asked (name) JOIN pg_class c ON c.oid = to_regclass(asked.name)
 WHERE NOT pg_has_role(c.relowner, 'USAGE')
UNION ALL
SELECT 'REFERENCES on table ' || asked.name
  FROM unnest(CAST(:parents AS text[])) AS asked (name) JOIN pg_class c ON c.oid = to_regclass(asked.name)
 WHERE NOT has_table_privilege(c.oid, 'REFERENCES')
UNION ALL
SELECT 'ownership of type ' || asked.name
  FROM unnest(CAST(:types AS text[])) AS asked (name) JOIN pg_type t ON t.oid = to_regtype(asked.name)
 WHERE NOT pg_has_role(t.typowner, 'USAGE')
UNION ALL
SELECT 'CREATE on schema ' || current_schema()
 WHERE :own_tables AND NOT has_schema_privilege(current_schema(), 'CREATE')
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))
                                            AND c.relkind = 'r' AND c.relname LIKE 'emc\\_%')
"""


def missing(connection: Connection, steps: Sequence[Step]) -> Sequence[str]:
    """What the role of *connection* lacks to run *steps*, in one query; its memberships count."""
    schemas: set[str | None] = set()
    tables: set[str] = set()
    parents: set[str] = set()
    types: set[str] = set()
    for step in steps:
        operation, directive = step.operation, step.operation.directive
        key = operation.element.table
        if operation.kind in _NEEDS_CREATE:
            schemas.add(
                getattr(directive, "schema", None) if operation.kind == Kind.CREATE_ENUM else key.schema
            )
        if operation.kind in _ENUM_KINDS:
            types.add(qualified(directive.schema, directive.type_name))  # type: ignore[attr-defined]
        elif operation.kind not in (Kind.CREATE_TABLE, Kind.CREATE_ENUM):
            tables.add(table_name(key))
        parents.update(table_name(parent) for parent in _parents(directive))
    rows = connection.execute(
        text(_LACKS),
        {
            "schemas": sorted(schema for schema in schemas if schema is not None),
            "in_default": None in schemas,
            "tables": sorted(tables),
            "parents": sorted(parents),
            "types": sorted(types),
            "own_tables": bool(steps),
        },
    )
    return sorted(set(rows.scalars()))


def _parents(directive: Any) -> Sequence[TableKey]:
    """The tables that foreign keys of *directive* refer to."""
    if isinstance(directive, ReplaceOp):
        return _parents(directive.create)
    if isinstance(directive, ops.CreateTableOp):
        table = table_of(directive)
        parents = [key.target_fullname.rpartition(".")[0] for key in table.foreign_keys]
        return [TableKey(*_split(parent)) for parent in parents]
    if isinstance(directive, ops.AddConstraintOp) and constraint_kind(directive) is ElementKind.FOREIGN_KEY:
        parent = directive.to_constraint().elements[0].column.table  # type: ignore[attr-defined]
        return [TableKey(parent.schema, parent.name)]
    return []


def _split(parent: str) -> tuple[str | None, str]:
    schema, _, name = parent.rpartition(".")
    return schema or None, name
