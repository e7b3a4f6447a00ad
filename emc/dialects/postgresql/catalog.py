"""Which rows of PostgreSQL's catalog say what a schema looks like?

One query per kind of fact, over all tables of all schemas at once: the number of queries does not depend on the number
of tables. Sizes come from the statistics where there are any, since ``pg_relation_size`` waits behind whoever has the
table locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from emc.dialects.postgresql.syncs import DEFINITION, OURS

IN_SCHEMAS = """
    c.relpersistence <> 't'
    AND (n.nspname = ANY (CAST(:named AS text[]))
         OR (:visible AND n.nspname NOT IN ('pg_catalog', 'information_schema')
             AND pg_table_is_visible(c.oid)))
"""
"""Tables of named schemas; with ``visible`` also those that the search path finds, as an unqualified name would."""

IN_SCRATCH = "n.oid = pg_my_temp_schema()"
"""Tables that this very session made up."""

# A table that was never analysed has no statistics: only then is its file asked for. Long values are in a file of
# their own.
_SIZE = """
    CASE WHEN {0}.relpages > 0 THEN {0}.relpages * CAST(current_setting('block_size') AS bigint)
         ELSE pg_relation_size({0}.oid) END
    + coalesce((SELECT CASE WHEN toast.relpages > 0 THEN toast.relpages * CAST(current_setting('block_size') AS bigint)
                            ELSE pg_relation_size(toast.oid) END
                  FROM pg_class toast WHERE toast.oid = {0}.reltoastrelid), 0)
"""

_TABLES = """
SELECT c.oid, n.nspname, c.relname, CAST(c.relkind AS text) AS kind,
       CASE WHEN c.relkind IN ('i', 'I') THEN
           (SELECT CAST(CAST(i.indrelid AS regclass) AS text) FROM pg_index i WHERE i.indexrelid = c.oid)
       END AS index_of,
       CASE WHEN c.relispartition THEN
           (SELECT CAST(CAST(i.inhparent AS regclass) AS text) FROM pg_inherits i WHERE i.inhrelid = c.oid)
       END AS partition_of,
       (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = c.oid AND d.deptype = 'e'
           AND d.refclassid = CAST('pg_extension' AS regclass)) AS extension,
       CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
       description.description AS comment,
       CASE WHEN c.relhastriggers THEN
           (SELECT CAST(json_object_agg(g.tgname, {definition}) AS text)
              FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid WHERE g.tgrelid = c.oid AND {ours})
       END AS syncs,
       -- Bits of tgtype: 1 for each row, 2 before, 16 on UPDATE.
       CASE WHEN c.relhastriggers THEN
           ARRAY(SELECT CAST(g.tgname AS text) FROM pg_trigger g
                  WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
                    AND CAST(g.tgtype AS int) & 19 = 19 AND NOT ({ours}))
       END AS rewriters,
       CAST(size.rows AS bigint) AS rows, CAST(size.bytes AS bigint) AS bytes
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_description description
    ON description.objoid = c.oid AND description.objsubid = 0
   AND description.classoid = CAST('pg_class' AS regclass)
  LEFT JOIN LATERAL (
       SELECT CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN c.reltuples END AS rows,
              {own_size} AS bytes
        WHERE c.relkind = 'r'
       UNION ALL
       SELECT CASE WHEN bool_and(leaf.reltuples >= 0 AND leaf.relpages > 0) THEN sum(leaf.reltuples) END,
              sum({leaf_size})
         FROM (WITH RECURSIVE tree AS (
                   SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid
                   UNION ALL
                   SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.inhrelid)
               SELECT k.* FROM tree JOIN pg_class k ON k.oid = tree.inhrelid WHERE k.relkind = 'r') leaf
       HAVING c.relkind = 'p'
       ) size ON true
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S', 'i', 'I') AND {where}
 ORDER BY n.nspname, c.relname
"""

_COLUMNS = """
SELECT a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       CASE WHEN a.atthasdef THEN
           (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
             WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
       END,
       CAST(a.attgenerated AS text),
       CASE WHEN a.attidentity <> '' THEN
           (SELECT CAST(json_build_object(
                       'always', a.attidentity = 'a', 'start', s.seqstart, 'increment', s.seqincrement,
                       'minvalue', s.seqmin, 'maxvalue', s.seqmax, 'cache', s.seqcache, 'cycle', s.seqcycle)
                   AS text)
              FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid
             WHERE d.classid = CAST('pg_class' AS regclass) AND d.refclassid = CAST('pg_class' AS regclass)
               AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i')
       END,
       coll.collname,
       CASE WHEN NOT pg_collation_is_visible(coll.oid) THEN
           (SELECT n.nspname FROM pg_namespace n WHERE n.oid = coll.collnamespace)
       END,
       description.description
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_collation coll ON coll.oid = a.attcollation AND a.attcollation <> t.typcollation
  LEFT JOIN pg_description description
    ON description.objoid = a.attrelid AND description.objsubid = a.attnum
   AND description.classoid = CAST('pg_class' AS regclass)
 WHERE a.attrelid = ANY (CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""

_INDEXES = """
SELECT i.indrelid AS relid, i.indexrelid AS oid, c.relname AS name, i.indisunique AS is_unique,
       i.indisvalid AND i.indisready AND i.indislive AS valid, i.indisprimary AS is_primary,
       i.indisunique AND i.indisready AND i.indislive AND NOT i.indisvalid AS enforcing,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                                             AND k.contype IN ('p', 'u', 'x'))
           AS owned,
       i.indnkeyatts AS key_count, CAST(i.indkey AS int2[]) AS numbers, CAST(i.indoption AS int2[]) AS flags,
       CASE WHEN 0 = ANY (i.indkey) THEN
           ARRAY(SELECT pg_get_indexdef(i.indexrelid, position, true)
                   FROM generate_series(1, i.indnkeyatts) position ORDER BY position)
       END AS texts,
       CASE WHEN NOT CAST(i.indclass AS oid[]) <@ ARRAY(SELECT o.oid FROM pg_opclass o WHERE o.opcdefault) THEN
           ARRAY(SELECT CASE WHEN NOT o.opcdefault THEN CAST(o.opcname AS text) END
                   FROM unnest(CAST(i.indclass AS oid[])) WITH ORDINALITY class (oid, position)
                   JOIN pg_opclass o ON o.oid = class.oid ORDER BY class.position)
       END AS classes,
       c.reloptions AS options, am.amname AS method,
       CASE WHEN i.indpred IS NOT NULL THEN pg_get_expr(i.indpred, i.indrelid) END AS predicate,
       {nulls_not_distinct} AS nulls_not_distinct,
       CASE WHEN NOT i.indisprimary THEN pg_get_indexdef(i.indexrelid) END AS definition,
       quote_ident(t.relname) AS table_name
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_am am ON am.oid = c.relam
 WHERE i.indrelid = ANY (CAST(:oids AS oid[]))
 ORDER BY i.indrelid, c.relname
"""

# conparentid: what a foreign key to a partitioned table repeats for each of its partitions.
_CONSTRAINTS = """
SELECT k.conrelid AS relid, k.conname AS name, CAST(k.contype AS text) AS kind, k.convalidated AS valid,
       CAST(k.conkey AS int2[]) AS numbers, k.conindid AS index_oid,
       k.condeferrable AS is_deferrable, k.condeferred AS is_deferred,
       CASE WHEN k.contype <> 'n' THEN pg_get_constraintdef(k.oid, true) END AS definition,
       description.description AS comment,
       parent_schema.nspname AS parent_schema, parent.relname AS parent,
       CASE WHEN k.contype = 'f' THEN pg_table_is_visible(parent.oid) END AS parent_visible,
       CASE WHEN k.contype = 'f' THEN
           ARRAY(SELECT CAST(a.attname AS text)
                   FROM unnest(k.confkey) WITH ORDINALITY key (attnum, position)
                   JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = key.attnum
                  ORDER BY key.position)
       END AS parent_columns,
       CAST(k.confupdtype AS text) AS on_update, CAST(k.confdeltype AS text) AS on_delete,
       CAST(k.confmatchtype AS text) AS match
  FROM pg_constraint k
  LEFT JOIN pg_description description
    ON description.objoid = k.oid AND description.objsubid = 0
   AND description.classoid = CAST('pg_constraint' AS regclass)
  LEFT JOIN pg_class parent ON parent.oid = k.confrelid
  LEFT JOIN pg_namespace parent_schema ON parent_schema.oid = parent.relnamespace
 WHERE k.conrelid = ANY (CAST(:oids AS oid[])) AND k.conparentid = 0
   AND k.contype IN ('p', 'u', 'c', 'f', 'x', 'n')
 ORDER BY k.conrelid, k.conname
"""

_ENUMS = """
SELECT n.nspname, t.typname,
       ARRAY(SELECT CAST(e.enumlabel AS text) FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typtype = 'e' AND n.nspname NOT LIKE 'pg\\_%'
   AND (n.nspname = ANY (CAST(:named AS text[])) OR (:visible AND pg_type_is_visible(t.oid)))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = CAST('pg_type' AS regclass) AND d.objid = t.oid
                                             AND d.deptype = 'e')
 ORDER BY n.nspname, t.typname
"""


def tables(
    connection: Connection, where: str, *, named: Sequence[str] = (), visible: bool = False
) -> Sequence[Any]:
    """Whatever has a name that a table could have, by *where*: :data:`IN_SCHEMAS` or :data:`IN_SCRATCH`."""
    sql = _TABLES.format(
        where=where,
        own_size=_SIZE.format("c"),
        leaf_size=_SIZE.format("leaf"),
        definition=DEFINITION,
        ours=OURS,
    )
    parameters = {"named": list(named), "visible": visible} if where is IN_SCHEMAS else {}
    return connection.execute(text(sql), parameters).all()


def columns(connection: Connection, oids: Sequence[int]) -> Sequence[Any]:
    """The columns of tables *oids*, in their order."""
    return connection.execute(text(_COLUMNS), {"oids": list(oids)}).all()


def indexes(connection: Connection, oids: Sequence[int]) -> Sequence[Any]:
    """The indexes of tables *oids*, those of constraints included."""
    version = connection.dialect.server_version_info or ()
    sql = _INDEXES.format(nulls_not_distinct="i.indnullsnotdistinct" if version >= (15,) else "false")
    return connection.execute(text(sql), {"oids": list(oids)}).all()


def constraints(connection: Connection, oids: Sequence[int]) -> Sequence[Any]:
    """The constraints of tables *oids*."""
    return connection.execute(text(_CONSTRAINTS), {"oids": list(oids)}).all()


def enums(connection: Connection, named: Sequence[str], *, visible: bool) -> Sequence[Any]:
    """Enumerated types with their labels, those of extensions left out."""
    return connection.execute(text(_ENUMS), {"named": list(named), "visible": visible}).all()
