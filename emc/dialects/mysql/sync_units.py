"""How do the triggers of a sync go together with the columns that they speak of?

A trigger that names a column which is gone breaks every write, and a column that stays behind its triggers falls out of
step: between the one and the other nobody may write, and nothing may come in between. No transaction spans DDL here, so
all of it holds LOCK TABLES, which keeps the writers out; and MariaDB is sent the two as one statement, a block that
puts the triggers back where the columns do not go. So it makes no difference whether emc, or the connection, lives long
enough to send a second one. MySQL knows blocks in stored programs only ("Compound Statement Syntax" of its 8.4 manual):
there the statements are sent one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import groupby

from alembic.ddl.base import DropColumn

from emc.dialects.mysql import syncs
from emc.dialects.mysql.algorithms import Algorithm
from emc.dialects.mysql.conditions import quoted, text_literal
from emc.dialects.mysql.ground import Alteration, Change, Part, Scene
from emc.operations import Kind
from emc.steps import Hazard, Step, Transaction, Way
from emc.sync import Sync, SyncPart


def gathered(parts: Sequence[Part]) -> Iterator[tuple[bool, list[Part]]]:
    """*parts* in their order: those side by side that go along with a sync that is taken away, and the others."""
    marks = {_mark(part) for part in parts if part.operation.kind == Kind.DROP_SYNC}
    for mark, found in groupby(parts, key=lambda part: _mark(part) if _mark(part) in marks else None):
        yield mark is not None, list(found)


def _mark(part: Part) -> str:
    return part.operation.together or part.operation.id


def steps(group: Sequence[Part], scene: Scene) -> Iterator[Step]:
    """The steps of one unit, in one session that locks their tables.

    The first carries what keeps the triggers and the columns together.
    """
    gone: list[Sync] = [
        part.operation.directive.sync  # type: ignore[attr-defined]
        for part in group
        if part.operation.kind == Kind.DROP_SYNC
    ]
    triggers = [part for sync in gone for part in syncs.parts(sync, scene.flavour)]
    tables = sorted({part.key for part in triggers}, key=lambda key: key.sort_key)
    ahead, drops, behind = _sorted_out(group)
    locks = ", ".join(f"{quoted(key.schema, key.name)} WRITE" for key in tables)
    changes = [
        Change(f"LOCK TABLES {locks}"),
        Change(syncs.required(triggers)),
        # Should a trigger have to be made again, it keeps this.
        Change(syncs.SET_MODES),
        *(one.rendered(scene.writer) for one in ahead),
        *_together(triggers, gone, drops, scene),
        Change(syncs.RESET_MODES),
    ]
    hazards = [hazard for part in group for hazard in _hazards(part)]
    for position, part in enumerate(group):
        sent = (
            changes if position == 0 else [_rendered(one, scene) for one in behind.get(part.operation.id, ())]
        )
        statements = tuple(statement for change in sent for statement in change.statements)
        yield Step(
            operation=part.operation,
            statements=statements,
            postcondition=part.postcondition,
            transaction=Transaction.LOCKED,
            hazards=tuple(
                dict.fromkeys([*(hazards if position == 0 else _hazards(part)), Hazard.EXCLUSIVE_LOCK])
            ),
            unit=_mark(group[0]),
            statement_locks=tuple(change.locks for change in sent for _ in change.statements),
            instead={change.statement: change.instead for change in sent if change.instead},
        )


def _sorted_out(
    group: Sequence[Part],
) -> tuple[list[Alteration], list[Alteration], dict[str, list[Alteration | str]]]:
    """What goes before the columns do (their indexes and constraints), the columns, and what comes after that."""
    ahead: list[Alteration] = []
    drops: list[Alteration] = []
    behind: dict[str, list[Alteration | str]] = {}
    for part in group:
        if part.operation.kind == Kind.DROP_SYNC:
            continue
        if part.operation.kind != Kind.DROP_COLUMN:
            behind[part.operation.id] = list(part.changes)
            continue
        for change in part.changes:
            assert isinstance(change, Alteration)
            is_column = any(isinstance(clause, DropColumn) for clause in change.clauses)
            (drops if is_column else ahead).append(change)
    return ahead, drops, behind


def _together(
    triggers: Sequence[SyncPart], gone: Sequence[Sync], drops: Sequence[Alteration], scene: Scene
) -> list[Change]:
    """The triggers, and the columns of each table in one ALTER TABLE."""
    unhooked = [f"DROP TRIGGER {quoted(part.key.schema, part.name)}" for part in triggers]
    altered = []
    for key in dict.fromkeys(one.key for one in drops):
        of_table = [one for one in drops if one.key == key]
        whole = dataclasses.replace(
            max(of_table, key=lambda one: list(Algorithm).index(one.expected)),
            clauses=tuple(clause for one in of_table for clause in one.clauses),
            may_block=all(one.may_block for one in of_table),
        )
        altered.append(whole.rendered(scene.writer))
    if not scene.flavour.runs_blocks or len(altered) != 1:
        return [*map(Change, unhooked), *altered]
    remade = [statement for sync in gone for statement in syncs.created(sync, scene.flavour)]

    def block(alter: str) -> str:
        again = " ".join(f"EXECUTE IMMEDIATE {text_literal(statement)};" for statement in remade)
        return (
            f"BEGIN NOT ATOMIC DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN {again} RESIGNAL; END; "
            f"{'; '.join(unhooked)}; {alter}; END"
        )

    (one,) = altered
    ways = tuple(Way(block(way.sql), way.locks) for way in one.instead)
    return [Change(block(one.statement), one.locks, ways)]


def _rendered(change: Alteration | str, scene: Scene) -> Change:
    return Change(change) if isinstance(change, str) else change.rendered(scene.writer)


def _hazards(part: Part) -> list[Hazard]:
    found = [hazard for one in part.changes if isinstance(one, Alteration) for hazard in one.hazards]
    return [*found, *part.hazards]
