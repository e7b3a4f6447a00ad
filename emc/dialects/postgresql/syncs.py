"""How does PostgreSQL keep columns in step?

Two row triggers and one function. The function is called for rows alone that are not in step: a trigger's WHEN says
which. A statement that names none of the columns does not get that far (``UPDATE OF``), since the server reads the WHEN
anew for each statement: 20 microseconds, as much again as an UPDATE of one row takes (15.18). But UPDATE OF goes by the
columns that a statement names, and would not notice what a user's trigger has written to others: where there are such
triggers it is left out. Triggers of one kind fire in the order of their names (manual, "Overview of Trigger Behavior"):
these begin with a tilde, which comes last, so that they see the row as it will be stored. They fire ALWAYS, also for
sessions that apply what was replicated or restored (``session_replication_role``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, not_, or_, text, true

from emc.dialects.postgresql import moves
from emc.dialects.postgresql.comparing import same
from emc.dialects.postgresql.ground import Ground
from emc.dialects.postgresql.moves import Trigger
from emc.dialects.postgresql.naming import DIALECT, MAX_BYTES, identifier, literal, qualified, table_name
from emc.names import TableKey, dotted
from emc.schema import LiveSchema
from emc.steps import Hazard, Probe, Step
from emc.sync import SYNC_PREFIX, Sync, SyncOp, SyncPart
from emc.work.tables import rewritten

TRIGGER_PREFIX = f"~{SYNC_PREFIX}"

# What a trigger is, and its function, in the catalog's own terms: text that the server makes of them, such as
# pg_get_triggerdef() does, would depend on the search path.
_FACTS = (
    "md5(concat_ws('|', g.tgtype, CAST(g.tgqual AS text), CAST(g.tgattr AS text), encode(g.tgargs, 'hex'),"
    " f.proname, f.prosrc, array_to_string(f.proconfig, ','), f.prosecdef, f.prolang))"
)
_SAID = "coalesce(obj_description(g.oid, 'pg_trigger'), '')"

# Those of another table (emc.dialects.postgresql.moves) come AFTER the write: without the bit of BEFORE.
_WANTED = "CASE WHEN CAST(g.tgtype AS integer) & 2 = 0 THEN 'O' ELSE 'A' END"

DEFINITION = (
    f"split_part({_SAID}, ' ', 2)"
    f" || CASE WHEN split_part({_SAID}, ' ', 3) <> {_FACTS} THEN ' changed' ELSE '' END"
    f" || CASE WHEN g.tgenabled <> {_WANTED} OR EXISTS (SELECT FROM pg_trigger part"
    f" WHERE part.tgparentid = g.oid AND part.tgenabled <> {_WANTED}) THEN ' not always in force' ELSE '' END"
)
"""What a trigger ``g`` with the function ``f`` is, in short: a hash of what emc has sent; and how it differs from what
stood when emc had made it."""

OURS = f"NOT g.tgisinternal AND g.tgparentid = 0 AND starts_with(g.tgname, '{TRIGGER_PREFIX}')"


def standing(connection: Connection, keys: Sequence[TableKey]) -> Mapping[TableKey, Mapping[str, str]]:
    """The triggers that stand on tables *keys*: definition by name."""
    found: dict[TableKey, Mapping[str, str]] = {}
    for key in keys:
        rows = connection.execute(_STANDING, {"table": table_name(key)})
        found[key] = {row.name: row.definition for row in rows}
    return found


_STANDING = text(
    f"SELECT g.tgname AS name, {DEFINITION} AS definition FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid"
    f" WHERE g.tgrelid = to_regclass(:table) AND {OURS}"
)


# -- what it is made of -----------------------------------------------------------------------------------------------


def parts(sync: Sync, live: LiveSchema) -> Sequence[SyncPart]:
    """The triggers; their functions are part of what they are."""
    return [
        SyncPart(one.key, _name(sync, one), hashlib.sha256(one.text.encode()).hexdigest()[:16])
        for one in triggers_of(sync, live)
    ]


def triggers_of(sync: Sync, live: LiveSchema) -> Sequence[Trigger]:
    """What is put in place, each with its function."""
    if sync.elsewhere is not None:
        return moves.triggers(sync, live)
    table, body = live.table(sync.key), _body(sync)
    named = ", ".join(map(identifier, (*sync.sources, *sync.targets)))
    update = "UPDATE" if table is not None and table.rewriters else f"UPDATE OF {named}"
    return [
        Trigger(sync.key, "_i", "BEFORE INSERT", _on_insert(sync), "", body),
        Trigger(sync.key, "_u", f"BEFORE {update}", _on_update(sync), "", body),
    ]


def _name(sync: Sync, trigger: Trigger) -> str:
    return f"{TRIGGER_PREFIX}{_base(sync)}{trigger.suffix}"


def _base(sync: Sync) -> str:
    """Table and column for a person to read, and a hash that tells them apart where they are cut."""
    digest = hashlib.sha256(f"{sync.key}|{sync.name}".encode()).hexdigest()[:8]
    room = MAX_BYTES - len(TRIGGER_PREFIX) - len(digest) - len("__i")
    start = f"{sync.target_key.name}_{sync.targets[0]}".encode()[:room].decode(errors="ignore")
    return f"{start}_{digest}"


def _function(sync: Sync, trigger: Trigger) -> str:
    return qualified(trigger.key.schema, f"{SYNC_PREFIX}{_base(sync)}{trigger.function}")


def _sql(sync: Sync, expression: ColumnElement[Any], source: FromClause) -> str:
    """*expression* of columns of the row *source*, ``new`` or ``old``."""
    return rendered(rewritten(expression, sync.key, source))


def rendered(expression: ColumnElement[Any]) -> str:
    """*expression* as plain SQL."""
    compiler = DIALECT.statement_compiler(DIALECT, None)
    return str(compiler.process(expression, literal_binds=True))


def _rows(sync: Sync) -> tuple[FromClause, FromClause]:
    return sync.row.alias("new"), sync.row.alias("old")


def _changed(sync: Sync, columns: Iterable[str]) -> str:
    new, old = _rows(sync)
    return rendered(or_(*(not_(same(old.c[name], new.c[name])) for name in columns)))


def _in_step(sync: Sync) -> ColumnElement[bool]:
    # Without a way back every write to a source has to be looked at, and it is refused.
    return sync.is_in_step(same) if sync.down else sync.is_derived(same)


def _on_insert(sync: Sync) -> str:
    new, _ = _rows(sync)
    wrong = not_(_in_step(sync)) if sync.down else sync.is_pending(same)
    return _sql(sync, wrong, new)


def _on_update(sync: Sync) -> str:
    new, _ = _rows(sync)
    return f"({_changed(sync, (*sync.sources, *sync.targets))}) AND {_sql(sync, not_(_in_step(sync)), new)}"


def _body(sync: Sync) -> str:
    """The function's, of rows that are not in step."""
    new, _ = _rows(sync)
    unset = _sql(sync, sync.is_unset(), new)
    up = _assigned(sync, sync.up, 6)
    if sync.down:
        down = _assigned(sync, sync.down, 6)
        changed = _changed(sync, sync.targets)
        on_insert = f"    IF {unset} THEN\n{up}    ELSE\n{down}    END IF;\n"
        on_update = f"    IF {changed} THEN\n{down}    END IF;\n"
        on_update += f"    IF {unset} OR NOT ({changed}) THEN\n{up}    END IF;\n"
    else:
        source_changed = _changed(sync, sync.sources)
        on_insert = up
        on_update = (
            f"    IF {source_changed} THEN\n"
            f"      RAISE EXCEPTION USING ERRCODE = 'check_violation',\n"
            f"        MESSAGE = {literal(read_only(sync))}, HINT = {literal(read_only_hint(sync))},\n"
            f"        TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA, COLUMN = {literal(sync.sources[0])};\n"
            f"    END IF;\n    IF {unset} THEN\n{up}    END IF;\n"
        )
    return f"BEGIN\n  IF TG_OP = 'INSERT' THEN\n{on_insert}  ELSE\n{on_update}  END IF;\n  RETURN new;\nEND\n"


def read_only(sync: Sync) -> str:
    """What a session is told that changes a source which has no way back."""
    sources = ", ".join(dotted(sync.key.schema, sync.key.name, name) for name in sync.sources)
    return f"{sources} is read-only while it is converted to {sync.name}"


def read_only_hint(sync: Sync) -> str:
    """What such a session could do."""
    # Without the source line of the declaration: the triggers would have to be made anew whenever it moves.
    return f"Write {sync.name}; or give the conversion of the upgrade a down=, and run emc expand."


def _comment(sync: Sync) -> str:
    return f"emc: keeps {', '.join(sync.sources)} and {', '.join(sync.targets)} in step".replace("\n", " ")


def _assigned(sync: Sync, values: Mapping[str, ColumnElement[Any]], indent: int) -> str:
    new, _ = _rows(sync)
    return "".join(
        f"{' ' * indent}new.{identifier(name)} := {_sql(sync, value, new)};\n"
        for name, value in values.items()
    )


# -- steps ----------------------------------------------------------------------------------------------------------


def install(ground: Ground) -> Step:
    """All in one transaction, which waits for writers in flight: from its end on every write leaves a row in step."""
    sync = _sync(ground)
    triggers, made = triggers_of(sync, ground.live), parts(sync, ground.live)
    statements = _locked(sync, "SHARE ROW EXCLUSIVE")
    for function, one in {_function(sync, one): one for one in triggers}.items():
        definer = " SECURITY DEFINER" if one.is_definer else ""
        # Functions of the expressions are found where they are found now, whoever writes.
        head = f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql{definer}"
        body = f"-- {_comment(sync)}\n{one.body}"
        statements.append(f"{head} SET search_path FROM CURRENT AS {_quoted(body)}")
    for part, one in zip(made, triggers, strict=True):
        table, key, name = ground.live.table(part.key), table_name(part.key), identifier(part.name)
        if table is not None and part.name in table.syncs:
            statements.append(f"DROP TRIGGER {name} ON {key}")
        when = f" WHEN ({one.when})" if one.when else ""
        statements.append(
            f"CREATE TRIGGER {name} {one.event} ON {key} FOR EACH ROW{when} "
            f"EXECUTE FUNCTION {_function(sync, one)}()"
        )
        if one.event.startswith("BEFORE"):
            statements.append(f"ALTER TABLE {key} ENABLE ALWAYS TRIGGER {name}")
    statements += [_looked_over(sync, of_table) for of_table in _by_table(made)]
    return ground.step(statements, stands(made, f"{_sides(sync)} are kept in step"), Hazard.BLOCKS_WRITES)


def _locked(sync: Sync, mode: str) -> list[str]:
    """Lock both tables, that of the sources first, as the triggers do."""
    if sync.elsewhere is None:
        return []
    return [f"LOCK TABLE {table_name(sync.key)}, {table_name(sync.elsewhere.key)} IN {mode} MODE"]


def _by_table(made: Sequence[SyncPart]) -> list[list[SyncPart]]:
    keys = dict.fromkeys(part.key for part in made)
    return [[part for part in made if part.key == key] for key in keys]


def drop(ground: Ground) -> Step:
    """The triggers, and the functions that nobody calls any more."""
    sync = _sync(ground)
    made = parts(sync, ground.live)
    statements = _locked(sync, "ACCESS EXCLUSIVE")
    for part in made:
        table = ground.live.table(part.key)
        if table is not None and part.name in table.syncs:
            statements.append(f"DROP TRIGGER {identifier(part.name)} ON {table_name(part.key)}")
    functions = dict.fromkeys(_function(sync, one) for one in triggers_of(sync, ground.live))
    statements += [f"DROP FUNCTION IF EXISTS {function}()" for function in functions]
    found = " OR ".join(
        f"(g.tgrelid = to_regclass({literal(table_name(of_table[0].key))})"
        f" AND g.tgname IN ({', '.join(literal(part.name) for part in of_table)}))"
        for of_table in _by_table(made)
    )
    probe = Probe(
        f"SELECT NOT EXISTS (SELECT FROM pg_trigger g WHERE {found})",
        f"nothing keeps {_sides(sync)} in step any more",
    )
    return ground.step(statements, probe, Hazard.EXCLUSIVE_LOCK)


def stands(made: Sequence[SyncPart], expects: str) -> Probe:
    """All of *made* stand as they should."""
    conditions = [
        "EXISTS (SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid"
        f" WHERE g.tgrelid = to_regclass({literal(table_name(part.key))}) AND g.tgname = {literal(part.name)}"
        f" AND {DEFINITION} = {literal(part.definition)})"
        for part in made
    ]
    return Probe(f"SELECT {' AND '.join(conditions)}", expects)


def confirmation(made: Sequence[SyncPart]) -> str:
    """A statement that fails unless all of *made* stand as they should."""
    probe = stands(made, "")
    names = ", ".join(part.name for part in made)
    body = (
        f"BEGIN\n  IF NOT ({probe.sql}) THEN\n"
        f"    RAISE EXCEPTION USING MESSAGE = {literal(f'emc: {names} is not what it has to be')};\n  END IF;\nEND\n"
    )
    return f"DO {_quoted(body)}"


def _looked_over(sync: Sync, made: Sequence[SyncPart]) -> str:
    """Refuse expressions that the server cannot store, or that answer otherwise at another time; then say what stands.

    An index would demand functions that are IMMUTABLE. Here STABLE ones will do that are so only because they write
    values of any type (concat(), jsonb_build_object()), and not those that read the time zone.
    """
    names = ", ".join(literal(part.name) for part in made)
    where = f"g.tgrelid = to_regclass({literal(table_name(made[0].key))}) AND g.tgname"
    said = "".join(
        f"  EXECUTE (SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', g.tgname, CAST(g.tgrelid AS regclass),"
        f" 'emc {part.definition} ' || {_FACTS}) FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid"
        f" WHERE {where} = {literal(part.name)});\n"
        for part in made
    )
    body = (
        "DECLARE\n  named text;\nBEGIN\n"
        f"{''.join(f'  EXECUTE {literal(one)};{chr(10)}' for one in _explained(sync))}"
        "  SELECT string_agg(DISTINCT CAST(CAST(p.oid AS regprocedure) AS text), ', ') INTO named\n"
        "    FROM pg_trigger g CROSS JOIN regexp_matches(CAST(g.tgqual AS text), ':(?:op)?funcid (\\d+)', 'g') AS m\n"
        "    JOIN pg_proc p ON p.oid = CAST(m[1] AS oid)\n"
        f"   WHERE {where} IN ({names})\n"
        "     AND (p.provolatile = 'v' OR p.provolatile = 's' AND EXISTS (\n"
        "          SELECT FROM unnest(array_append(CAST(p.proargtypes AS oid[]), p.prorettype)) AS argument (oid)\n"
        "            JOIN pg_type t ON t.oid = argument.oid WHERE t.typcategory IN ('D', 'T')));\n"
        "  IF named IS NOT NULL THEN\n"
        "    RAISE EXCEPTION USING MESSAGE = 'emc: ' || named || ' may answer otherwise at another time, or to another "
        "session, so that the columns would not stay in step',\n"
        f"      HINT = {literal(f'Give the conversion at {sync.place} expressions that depend on the row alone.')};\n"
        "  END IF;\n"
        f"{_own_names_first(sync, where, names)}"
        # Another member of the owner may be the one who takes it away.
        "  FOR named IN SELECT format('ALTER FUNCTION %s OWNER TO %I', CAST(f.oid AS regprocedure),"
        " pg_get_userbyid(c.relowner))\n"
        "    FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_class c ON c.oid = g.tgrelid\n"
        f"   WHERE {where} = {literal(made[0].name)} AND f.proowner <> c.relowner\n"
        "     AND pg_has_role(c.relowner, 'MEMBER') AND has_schema_privilege(c.relowner, f.pronamespace, 'CREATE')\n"
        "  LOOP\n    EXECUTE named;\n  END LOOP;\n"
        f"{said}END\n"
    )
    return f"DO {_quoted(body)}"


def _own_names_first(sync: Sync, where: str, names: str) -> str:
    """Let no session slip in a table of its own (pg_temp): these functions run with the rights of the owner."""
    if sync.elsewhere is None:
        return ""
    return (
        "  FOR named IN SELECT DISTINCT format('ALTER FUNCTION %s SET search_path = %s, pg_temp',"
        " CAST(g.tgfoid AS regprocedure), current_setting('search_path'))\n"
        f"    FROM pg_trigger g WHERE {where} IN ({names})\n  LOOP\n    EXECUTE named;\n  END LOOP;\n"
    )


def _explained(sync: Sync) -> list[str]:
    """What fails unless the columns take what the expressions answer."""
    table = sync.row
    if sync.elsewhere is None:
        values = {table.c[name]: value for name, value in (*sync.up.items(), *sync.down.items())}
        return [f"EXPLAIN {rendered_update(table.update().values(values))}"]
    everywhere = true()
    sent = (
        sync.to_targets(same, everywhere),
        sync.to_make(same, everywhere),
        sync.to_sources(same, everywhere),
    )
    return [f"EXPLAIN {rendered_update(one)}" for one in sent]


def rendered_update(update: Any) -> str:
    """An UPDATE as plain SQL."""
    return str(update.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))


def _sync(ground: Ground) -> Sync:
    directive = ground.directive
    assert isinstance(directive, SyncOp)
    return directive.sync


def _sides(sync: Sync) -> str:
    if sync.elsewhere is None:
        return f"{', '.join(sync.sources)} and {', '.join(sync.targets)} of {sync.key}"
    return f"{', '.join(sync.sources)} of {sync.key} and {', '.join(sync.targets)} of {sync.elsewhere.key}"


def _quoted(body: str) -> str:
    tag = "$emc$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"{tag}\n{body}{tag}"
