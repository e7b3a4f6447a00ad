"""How are columns kept in step by triggers of MariaDB and MySQL?

Two of them, BEFORE INSERT and BEFORE UPDATE, which set columns of the row that is about to be written: so there is one
write, whatever the statement is (INSERT … ON DUPLICATE KEY UPDATE, REPLACE, LOAD DATA, an UPDATE of many rows or
tables). There is no ``UPDATE OF`` and no ``WHEN``; one comparison of the row before and after is all that an unrelated
update pays for.

A trigger keeps the ``sql_mode`` of whoever made it and runs in it. Ours is :data:`_MODES` and nothing else: strict,
since a value that the conversion cannot take must be refused and not be bent into another one; and without modes that
change what an expression means. It runs as whoever made it, too (its *definer*): that account has to stay, with its
privileges, as long as the trigger does.

Our triggers have to see the row as it will be stored, so they come last of their kind. A trigger that somebody adds
later runs behind them; where it speaks of a column of theirs they are no longer in force, and are made anew.

The statements hold LOCK TABLES … WRITE: writers never meet one trigger without the other, nor a gap where one is made
anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Column, ColumnElement, not_
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import visitors

from emc.dialects.mysql.comparing import kind_of, same
from emc.dialects.mysql.conditions import of_row, quoted, rules_for, text_literal, trigger_text
from emc.dialects.mysql.dependents import names
from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.ground import Ground, Part
from emc.dialects.mysql.live import MySQLSchema
from emc.dialects.rowwise import NotRowwiseError, check_row
from emc.errors import Refusal
from emc.names import TableKey, dotted
from emc.schema import LiveSchema
from emc.steps import Hazard, Probe, Transaction
from emc.sync import SYNC_PREFIX, Sync, SyncPart

_MODES = "STRICT_ALL_TABLES"
SET_MODES = f"SET @emc_sql_mode = @@SESSION.sql_mode, SESSION sql_mode = '{_MODES}'"
"""What has to be sent before a trigger is made, in the same session."""
RESET_MODES = "SET SESSION sql_mode = @emc_sql_mode"
"""What undoes that."""
_QUOTED = re.compile(r"`((?:[^`]|``)+)`")
"""The columns of which a trigger of ours speaks."""
_LONGEST_MESSAGE = 128
"""Characters of MESSAGE_TEXT (MariaDB knowledge base, "SIGNAL"; the rest is cut off)."""


# -- what stands ---------------------------------------------------------------------------------------------------


def parts(sync: Sync, flavour: Flavour) -> tuple[SyncPart, ...]:
    """The triggers of *sync*."""
    return tuple(
        SyncPart(sync.key, trigger_name(sync, event), definition("BEFORE", event, _MODES, body))
        for event, body in _bodies(sync, flavour).items()
    )


def trigger_name(sync: Sync, event: str) -> str:
    """At most 64 characters; names of triggers are unique in their schema."""
    digest = hashlib.sha256(sync.name.encode()).hexdigest()[:16]
    return f"{SYNC_PREFIX}{digest}_{event[0].lower()}"


def definition(timing: str, event: str, modes: str, body: str) -> str:
    """A trigger, as :attr:`emc.schema.LiveTable.syncs` has it."""
    return f"[{modes}] {trigger_text(timing, event, body)}"


def shown(row: Mapping[str, Any], triggers: Sequence[Mapping[str, Any]], *, definer_is_gone: bool) -> str:
    """The trigger in *row* of TRIGGERS, one of *triggers*, with whatever keeps it from being in force."""
    text = definition(row["timing"], row["event"], row["modes"], row["body"])
    if definer_is_gone:
        text += f" -- fails: its definer {row['definer']} is gone"
    ours = {name.replace("``", "`").lower() for name in _QUOTED.findall(row["body"])}
    for other in triggers:
        kind = ("of_schema", "of_table", "timing", "event")
        follows = all(other[one] == row[one] for one in kind) and other["position"] > row["position"]
        if follows and not other["name"].startswith(SYNC_PREFIX) and names(other["body"]) & ours:
            text += f" -- outrun by trigger {other['name']}"
    return text


# -- what the triggers say ----------------------------------------------------------------------------------------


def _bodies(sync: Sync, flavour: Flavour) -> Mapping[str, str]:
    """What is done on each event, by the table in :mod:`emc.sync`."""
    write = partial(of_row, flavour=flavour)
    alike = partial(same, flavour=flavour)
    derived, in_step, unset = sync.is_derived(alike), sync.is_in_step(alike), sync.is_unset()
    pending = write(sync.is_pending(alike))
    up = _assignments(sync.targets, sync.up, write)
    sources = [sync.row.c[name] for name in sync.sources]
    targets = [sync.row.c[name] for name in sync.targets]
    if not sync.down:
        message = text_literal(_read_only(sync)[:_LONGEST_MESSAGE])
        return {
            "UPDATE": (
                f"BEGIN IF NOT ({_unchanged(sources, flavour)}) THEN IF {write(not_(derived))} THEN "
                f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {message}; END IF; END IF; END"
            ),
            "INSERT": f"BEGIN IF {pending} THEN {up}; END IF; END",
        }
    down = _assignments(sync.sources, sync.down, write)
    out_of_step = write(not_(in_step))
    return {
        "UPDATE": (
            f"BEGIN IF NOT ({_unchanged([*sources, *targets], flavour)}) THEN IF {out_of_step} THEN "
            f"IF {_unchanged(targets, flavour)} THEN {up}; "
            f"ELSE {down}; IF {pending} THEN {up}; END IF; END IF; END IF; END IF; END"
        ),
        "INSERT": (
            f"BEGIN IF {out_of_step} THEN IF {write(unset)} THEN {up}; ELSE {down}; END IF; END IF; END"
        ),
    }


def _read_only(sync: Sync) -> str:
    sources = ", ".join(dotted(sync.key.name, name) for name in sync.sources)
    targets = ", ".join(sync.targets)
    return f"emc: {sources} is read-only; {targets} took its place, with no way back"


def _assignments(
    columns: Sequence[str], values: Mapping[str, ColumnElement[Any]], write: Callable[[Any], str]
) -> str:
    return "SET " + ", ".join(f"NEW.{quoted(name)} = {write(values[name])}" for name in columns)


def _unchanged(columns: Sequence[Column[Any]], flavour: Flavour) -> str:
    """Whether a row has kept its values, to the letter."""
    return " AND ".join(_is_kept(column, flavour) for column in columns)


def _is_kept(column: Column[Any], flavour: Flavour) -> str:
    new, old = (of_row(column, flavour, row) for row in ("NEW", "OLD"))
    if "AS BINARY" in of_row(same(column, column, flavour), flavour):
        # A text: of one column, so of one character set. One binary side makes it a comparison of bytes.
        return f"CAST({new} AS BINARY) <=> {old}"
    return f"{new} <=> {old}"


# -- recipes ------------------------------------------------------------------------------------------------------


def install(ground: Ground) -> Part:
    """Both triggers, in place of what stands under their names."""
    sync: Sync = ground.directive.sync
    wanted = parts(sync, ground.flavour)
    statements = [
        f"LOCK TABLES {quoted(sync.key.schema, sync.key.name)} WRITE",
        SET_MODES,
        *(f"DROP TRIGGER IF EXISTS {quoted(part.key.schema, part.name)}" for part in wanted),
        *created(sync, ground.flavour),
        RESET_MODES,
    ]
    # Ours, since one whose account is gone fails; and the last ones, since they have to see the final row.
    outrun = (
        f"SELECT 1 FROM information_schema.TRIGGERS other WHERE other.TRIGGER_SCHEMA = {_schema(sync.key)} "
        f"AND other.EVENT_OBJECT_TABLE = {text_literal(sync.key.name)} AND other.ACTION_TIMING = 'BEFORE' "
        "AND other.EVENT_MANIPULATION = t.EVENT_MANIPULATION AND other.ACTION_ORDER > t.ACTION_ORDER "
        f"AND LEFT(other.TRIGGER_NAME, {len(SYNC_PREFIX)}) <> {text_literal(SYNC_PREFIX)}"
    )
    in_force = f"DEFINER = CURRENT_USER() AND NOT EXISTS ({outrun})"
    probe = Probe(f"SELECT {_standing(wanted, in_force)}", f"{_named(wanted)} stand")
    return ground.part(statements, probe, Hazard.EXCLUSIVE_LOCK, transaction=Transaction.LOCKED)


def created(sync: Sync, flavour: Flavour) -> list[str]:
    """What makes the triggers of *sync*, in a session with :data:`SET_MODES`."""
    table = quoted(sync.key.schema, sync.key.name)
    return [
        f"CREATE TRIGGER {quoted(sync.key.schema, trigger_name(sync, event))} BEFORE {event} ON {table} "
        f"FOR EACH ROW {body}"
        for event, body in _bodies(sync, flavour).items()
    ]


def drop(ground: Ground) -> Part:
    """Both triggers; see :mod:`emc.dialects.mysql.sync_units` for how they go."""
    wanted = parts(ground.directive.sync, ground.flavour)
    names = ", ".join(text_literal(part.name) for part in wanted)
    probe = Probe(
        f"SELECT NOT EXISTS (SELECT 1 {_rows(wanted[0].key)} AND TRIGGER_NAME IN ({names}))",
        f"{_named(wanted)} are gone",
    )
    return ground.part([], probe, Hazard.EXCLUSIVE_LOCK, transaction=Transaction.LOCKED)


def required(wanted: Sequence[SyncPart]) -> str:
    """A query that fails (1242) unless *wanted* stand as they are."""
    return f"SELECT CASE WHEN {_standing(wanted)} THEN 1 ELSE (SELECT 1 UNION SELECT 2) END AS `emc: triggers stand`"


def _standing(wanted: Sequence[SyncPart], in_force: str = "TRUE") -> str:
    # A body is shown without introducers by one server, and perhaps not by another: see trigger_text().
    text = "CONCAT('[', SQL_MODE, '] ', CONCAT_WS(' ', ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT))"
    found = " OR ".join(
        f"(TRIGGER_NAME = {text_literal(part.name)}"
        f" AND BINARY REPLACE({text}, '_utf8mb4 X', ' X') = BINARY {text_literal(part.definition)})"
        for part in wanted
    )
    return f"(SELECT COUNT(*) {_rows(wanted[0].key)} AND ({found}) AND {in_force}) = {len(wanted)}"


def _named(wanted: Sequence[SyncPart]) -> str:
    return f"triggers {', '.join(part.name for part in wanted)} of {wanted[0].key}"


def _rows(key: TableKey) -> str:
    return (
        "FROM information_schema.TRIGGERS t"
        f" WHERE t.TRIGGER_SCHEMA = {_schema(key)} AND t.EVENT_OBJECT_TABLE = {text_literal(key.name)}"
    )


def _schema(key: TableKey) -> str:
    return "DATABASE()" if key.schema is None else text_literal(key.schema)


# -- what cannot be kept -------------------------------------------------------------------------------------------


def cannot_sync(sync: Sync, live: LiveSchema, flavour: Flavour) -> Refusal | None:
    """Why triggers could not keep *sync*, or would break what is there."""
    assert isinstance(live, MySQLSchema)
    looks = (_elsewhere, _set_by_the_server, _written_behind_triggers, _not_of_the_row, _not_plain)
    for look in looks:
        for refusal in look(sync, live, flavour):
            return refusal
    return None


def _elsewhere(sync: Sync, live: MySQLSchema, flavour: Flavour) -> Iterator[Refusal]:
    if sync.elsewhere is not None:
        yield Refusal(
            sync.name,
            f"a trigger of {flavour.title} may not write to a table that the statement which fires it uses (1442): "
            f"statements that use {sync.key} and {sync.elsewhere.key} together would fail while triggers keep them",
            "Take the convert away, move the data with @upgrade.data_migration(...), let the new release write both. "
            f'In the release after it: upgrade.retire("{dotted(sync.key.schema, sync.key.name, sync.sources[0])}")',
        )


def _columns(sync: Sync) -> Iterator[tuple[TableKey, str]]:
    yield from ((sync.key, name) for name in sync.sources)
    yield from ((sync.target_key, name) for name in sync.targets)


def _set_by_the_server(sync: Sync, live: MySQLSchema, flavour: Flavour) -> Iterator[Refusal]:
    """Columns whose value a BEFORE trigger does not see yet, or may not set."""
    for key, name in _columns(sync):
        column, text = live.column(key, name), live.text(key, name)
        if column is None or text is None:
            continue
        if column.get("computed"):
            what = "is generated, and a BEFORE trigger neither sees nor sets its value"
        elif text.auto_increment:
            what = "is AUTO_INCREMENT, and its number is given after the BEFORE triggers have run"
        elif text.on_update and not flavour.bumps_before_triggers:
            what = "is set ON UPDATE CURRENT_TIMESTAMP, perhaps after the BEFORE triggers have run"
        else:
            continue
        place = dotted(key.schema, key.name, name)
        yield Refusal(
            place,
            f"{place} {what}, so no trigger of {flavour.title} can keep {sync.name} in step with it",
            "Let the application write the column itself for one release, without that, and declare this in the next.",
        )


def _written_behind_triggers(sync: Sync, live: MySQLSchema, flavour: Flavour) -> Iterator[Refusal]:
    """Foreign keys whose actions write a column of the sync: such a write fires no trigger.

    (MariaDB knowledge base, "Trigger Overview"; MySQL 8.4 manual, "FOREIGN KEY Constraints"; measured.)
    """
    for key, name, columns, options in _foreign_keys(sync, live):
        written = set(columns) & {column for at, column in _columns(sync) if at == key}
        actions = [
            f"{words} {rule}"
            for option, words in (("onupdate", "ON UPDATE"), ("ondelete", "ON DELETE"))
            if (rule := str(options.get(option) or "RESTRICT").upper()) not in _harmless(option)
        ]
        if written and actions:
            column = dotted(key.schema, key.name, min(written))
            yield Refusal(
                column,
                f"foreign key {name or '(without a name)'} of {key} ({' '.join(actions)}) writes {column} when its "
                f"parent changes, and {flavour.title} fires no trigger for that: {sync.name} would fall out of step",
                f"Give the foreign key ON UPDATE RESTRICT ON DELETE RESTRICT, and let the application write {column} "
                "when it changes or deletes a parent, until this has been contracted.",
            )


def _harmless(option: str) -> Collection[str]:
    # A row that is deleted along has no sides that could differ.
    return ("RESTRICT", "NO ACTION", "CASCADE") if option == "ondelete" else ("RESTRICT", "NO ACTION")


def _foreign_keys(
    sync: Sync, live: MySQLSchema
) -> Iterator[tuple[TableKey, str | None, Sequence[str], Mapping[str, Any]]]:
    for key in dict.fromkeys((sync.key, sync.target_key)):
        table = live.table(key)
        for one in table.foreign_keys if table is not None else ():
            yield key, one["name"], one["constrained_columns"], one.get("options") or {}
    for constraint in sorted(
        sync.model.foreign_key_constraints if sync.model is not None else (), key=lambda one: one.column_keys
    ):
        columns = [column.name for column in constraint.columns]
        options = {"onupdate": constraint.onupdate, "ondelete": constraint.ondelete}
        yield sync.target_key, None if constraint.name is None else str(constraint.name), columns, options


def _not_of_the_row(sync: Sync, live: MySQLSchema, flavour: Flavour) -> Iterator[Refusal]:
    """Conversions that do not answer the same whenever and by whomever they are asked."""
    sides = (
        ("up", sync.up, sync.row, sync.key, sync.sources, sync.target_row, sync.target_key),
        ("down", sync.down, sync.target_row, sync.target_key, sync.targets, sync.row, sync.key),
    )
    for side, values, row, key, given, written, other_key in sides:
        rules = rules_for(key, live)
        for name, value in values.items():
            what = f"{side} of {dotted(written.name, name)}"
            read = [part.name for part in visitors.iterate(value) if isinstance(part, Column)]
            try:
                if other := [one for one in read if one not in given]:
                    raise NotRowwiseError(
                        f"{what} reads {', '.join(other)}, which the declaration does not name"
                    )
                is_moment = _is_moment(written.c[name], live, other_key, flavour)
                if isinstance(value, Column) and is_moment == _is_moment(value, live, key, flavour):
                    continue
                check_row(value, row, rules, what)
                if is_moment:
                    raise NotRowwiseError(
                        f"{what} is stored as a moment (TIMESTAMP), by the session's time zone"
                    )
            except NotRowwiseError as error:
                yield Refusal(
                    sync.name,
                    f"{error}; so two sides that say the same now could differ later, or for another session",
                    f"Write {side} so that it depends on {', '.join(given)} alone.",
                )


def _is_moment(column: Column[Any], live: MySQLSchema, key: TableKey, flavour: Flavour) -> bool:
    """Whether *column* reads differently in each session's time zone."""
    found = live.text(key, column.name)
    return (
        (found.type if found is not None else kind_of(column.type, flavour).name)
        .lower()
        .startswith("timestamp")
    )


def _not_plain(sync: Sync, live: MySQLSchema, flavour: Flavour) -> Iterator[Refusal]:
    try:
        _bodies(sync, flavour)
    except (CompileError, NotImplementedError) as error:
        yield Refusal(
            sync.name,
            f"its up or down cannot be written as plain SQL into a trigger: {error}",
            "Use expressions that SQLAlchemy renders with literal values.",
        )
