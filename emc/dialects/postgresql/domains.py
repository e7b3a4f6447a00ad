"""Which domains are there, and which have to be made before a column can have one?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Column, Connection, text
from sqlalchemy.dialects.postgresql import DOMAIN, CreateDomainType
from sqlalchemy.types import TypeEngine

from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.rendering import compiled
from emc.dialects.postgresql.spelling import named_types
from emc.names import TableKey

_DOMAINS = """
SELECT n.nspname, t.typname
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typtype = 'd' AND n.nspname <> 'information_schema'
   AND (n.nspname = ANY (CAST(:named AS text[])) OR (:visible AND pg_type_is_visible(t.oid)))
"""


def read(connection: Connection, named: Sequence[str], *, visible: bool) -> frozenset[TableKey]:
    """The domains of the schemas *named*, and those that the search path finds."""
    rows = connection.execute(text(_DOMAINS), {"named": list(named), "visible": visible})
    return frozenset(TableKey(schema if schema in named else None, name) for schema, name in rows)


def made(ground: Ground) -> list[str]:
    """The statements that make the domains which the operation needs first, and which are not there yet."""
    there = set(ground.live.domains)
    for one in ground.operations:
        if one.id == ground.operation.id:
            break
        there |= {_key(domain) for domain in _needed(one.directive)}
    missing = {_key(one): one for one in _needed(ground.directive) if _key(one) not in there}
    return [compiled(CreateDomainType(one)) for one in missing.values()]


def _needed(directive: Any) -> Iterator[DOMAIN]:
    """The domains of the columns that *directive* makes, each behind what it is made of."""
    columns: Iterable[Any] = ()
    if isinstance(directive, ops.CreateTableOp):
        columns = [one for one in directive.columns if isinstance(one, Column)]
    elif isinstance(directive, ops.AddColumnOp):
        columns = [directive.column]
    types: list[TypeEngine[Any]] = [one.type for one in columns]
    if isinstance(directive, ops.AlterColumnOp) and directive.modify_type is not None:
        types.append(directive.modify_type)
    for type_ in types:
        yield from (one for one in named_types(type_) if isinstance(one, DOMAIN))


def _key(domain: DOMAIN) -> TableKey:
    return TableKey(domain.schema, str(domain.name))
