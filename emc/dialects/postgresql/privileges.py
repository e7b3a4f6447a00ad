"""What may the role not do that the steps need?

A table is changed by its owner, whatever was granted: that is what most of it comes to. What else is asked for was
tried on PostgreSQL 15: whatever makes a relation (an index and a sequence too) takes ``CREATE`` on its schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Connection, Enum, text
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import ARRAY

from emc.names import ElementKind, TableKey
from emc.operations import Kind, ReplaceOp, constraint_kind, table_of
from emc.steps import Step

_MAKE_RELATIONS = frozenset(
    {
        Kind.CREATE_TABLE,
        Kind.CREATE_INDEX,
        Kind.REPLACE_INDEX,
        Kind.ADD_UNIQUE,
        Kind.ADD_EXCLUSION,
        Kind.INSTALL_SYNC,
    }
)
_WITH_AN_INDEX = frozenset({ElementKind.UNIQUE, ElementKind.EXCLUSION})
_ENUM_KINDS = frozenset({Kind.ADD_ENUM_VALUE, Kind.REMOVE_ENUM_VALUE, Kind.DROP_ENUM})

# What is lacking, and the statement that grants it. Names are looked up in the catalog: to_regclass() fails where the
# role may not look into the schema.
_LACKS = text("""
WITH asked AS (
  SELECT * FROM unnest(CAST(:what AS text[]), CAST(:schemas AS text[]), CAST(:names AS text[]))
             AS asked (what, schema, name)
), me AS (
  SELECT quote_ident(current_user) AS role
), spaces AS (
  SELECT DISTINCT a.what, n.oid, quote_ident(n.nspname) AS name
    FROM asked a JOIN pg_namespace n ON n.nspname = coalesce(a.schema, current_schema())
), relations AS (
  SELECT a.what, c.oid, c.relowner,
         coalesce(quote_ident(a.schema) || '.', '') || quote_ident(a.name) AS name
    FROM asked a JOIN pg_class c ON c.relname = a.name JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE a.what IN ('table', 'parent')
     AND CASE WHEN a.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = a.schema END
), types AS (
  SELECT a.what, t.oid, t.typowner,
         coalesce(quote_ident(a.schema) || '.', '') || quote_ident(a.name) AS name
    FROM asked a JOIN pg_type t ON t.typname = a.name JOIN pg_namespace n ON n.oid = t.typnamespace
   WHERE a.what IN ('type', 'used type')
     AND CASE WHEN a.schema IS NULL THEN pg_type_is_visible(t.oid) ELSE n.nspname = a.schema END
), own AS (
  SELECT c.oid, quote_ident(c.relname) AS name, c.relkind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = current_schema() AND c.relname LIKE 'emc\\_%' AND c.relkind IN ('r', 'S')
)
SELECT 'CREATE on schema ' || name, 'GRANT CREATE ON SCHEMA ' || name || ' TO ' || role
  FROM spaces, me WHERE what = 'schema' AND NOT has_schema_privilege(oid, 'CREATE')
UNION SELECT 'USAGE on schema ' || name, 'GRANT USAGE ON SCHEMA ' || name || ' TO ' || role
  FROM spaces, me WHERE NOT has_schema_privilege(oid, 'USAGE')
UNION SELECT 'ownership of table ' || name,
             CASE WHEN r.rolsuper THEN 'ALTER TABLE ' || name || ' OWNER TO ' || role
                                                     ELSE 'GRANT ' || quote_ident(r.rolname) || ' TO ' || role END
  FROM relations JOIN pg_roles r ON r.oid = relowner, me WHERE what = 'table' AND NOT pg_has_role(relowner, 'USAGE')
UNION SELECT 'REFERENCES on table ' || name, 'GRANT REFERENCES ON ' || name || ' TO ' || role
  FROM relations, me WHERE what = 'parent' AND NOT has_any_column_privilege(oid, 'REFERENCES')
UNION SELECT 'ownership of type ' || name, CASE WHEN r.rolsuper THEN 'ALTER TYPE ' || name || ' OWNER TO ' || role
                                                    ELSE 'GRANT ' || quote_ident(r.rolname) || ' TO ' || role END
  FROM types JOIN pg_roles r ON r.oid = typowner, me WHERE what = 'type' AND NOT pg_has_role(typowner, 'USAGE')
UNION SELECT 'USAGE on type ' || name, 'GRANT USAGE ON TYPE ' || name || ' TO ' || role
  FROM types, me WHERE what = 'used type' AND NOT has_type_privilege(oid, 'USAGE')
UNION SELECT 'CREATE on schema ' || quote_ident(current_schema()),
             'GRANT CREATE ON SCHEMA ' || quote_ident(current_schema()) || ' TO ' || role
  FROM me WHERE NOT has_schema_privilege(current_schema(), 'CREATE') AND NOT EXISTS (SELECT FROM own)
UNION SELECT p.privilege || ' on table ' || name, 'GRANT ' || p.privilege || ' ON ' || name || ' TO ' || role
  FROM own, me, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p (privilege)
 WHERE relkind = 'r' AND NOT has_table_privilege(oid, p.privilege)
UNION SELECT 'USAGE on sequence ' || name, 'GRANT USAGE ON SEQUENCE ' || name || ' TO ' || role
  FROM own, me WHERE relkind = 'S' AND NOT CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'USAGE') END
UNION SELECT 'a server that takes writes: this one is a standby', '-- give emc the address of the primary'
 WHERE pg_is_in_recovery()
UNION SELECT 'sessions that may write: default_transaction_read_only is on for it',
             'ALTER ROLE ' || role || ' IN DATABASE ' || quote_ident(current_database())
             || ' SET default_transaction_read_only = off'
  FROM me WHERE NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'on'
 ORDER BY 1
""")


def missing(connection: Connection, steps: Sequence[Step]) -> Mapping[str, str]:
    """What the role of *connection* lacks to run *steps*, in one query; its memberships count.

    :returns: the statement that grants it, by what is lacking.
    """
    asked = {one for step in steps for piece in (step, *step.beforehand) for one in _needed(piece)}
    if not asked:
        return {}
    what, schemas, names = zip(*sorted(asked, key=str), strict=True)
    rows = connection.execute(_LACKS, {"what": list(what), "schemas": list(schemas), "names": list(names)})
    return {lack: f"{grant};" for lack, grant in rows}


_Asked = tuple[str, str | None, str]
"""What it is, schema (``None`` for the default), name."""


def _needed(step: Step) -> set[_Asked]:
    operation, directive = step.operation, step.operation.directive
    kind, key = operation.kind, operation.element.table
    needed: set[_Asked] = set()
    if kind in _ENUM_KINDS:
        its: Any = directive
        needed.add(("type", its.schema, its.type_name))
        if kind == Kind.REMOVE_ENUM_VALUE:
            needed.add(("schema", its.schema, ""))
        if kind != Kind.DROP_ENUM:
            needed |= {("table", table.schema, table.name) for table, _ in its.columns}
    elif kind == Kind.CREATE_ENUM:
        needed.add(("schema", getattr(directive, "schema", None), ""))
    elif kind != Kind.CREATE_TABLE:
        needed.add(("table", key.schema, key.name))
    columns = _columns(directive)
    makes_relation = kind in _MAKE_RELATIONS or any(column.identity is not None for column in columns)
    if makes_relation or (kind == Kind.REPLACE_CONSTRAINT and operation.element.kind in _WITH_AN_INDEX):
        needed.add(("schema", key.schema, ""))
    for column in columns:
        its = column.type.item_type if isinstance(column.type, ARRAY) else column.type
        if isinstance(its, DOMAIN) or (isinstance(its, Enum) and its.native_enum):
            needed.add(("used type", its.schema, str(its.name)))
    return needed | {("parent", parent.schema, parent.name) for parent in _parents(directive)}


def _columns(directive: Any) -> Sequence[Column[Any]]:
    if isinstance(directive, ops.CreateTableOp):
        return list(table_of(directive).columns)
    return [directive.column] if isinstance(directive, ops.AddColumnOp) else []


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
