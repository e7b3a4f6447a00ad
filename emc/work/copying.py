"""What do a rename and a conversion mean on this database, and which rows are left to copy?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

from sqlalchemy import Column, ColumnElement, Executable, MetaData, Table, and_, false, or_
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, ScalarSelect, SelectBase

from emc.errors import DeclarationError
from emc.names import dotted
from emc.schema import LiveSchema, LiveTable
from emc.sync import Elsewhere, Same, Sync, SyncPart, is_kept
from emc.upgrade.parallel import Parallel
from emc.work.tables import live_table, own_type, walking_key
from emc.work.values import NotReady, SetElsewhere, SetValues, Work

_NEVER_THE_SAME = frozenset(
    {
        *(
            "now",
            "current_timestamp",
            "current_date",
            "current_time",
            "localtime",
            "localtimestamp",
            "sysdate",
        ),
        *("clock_timestamp", "statement_timestamp", "transaction_timestamp", "random", "rand", "uuid"),
        *(
            "gen_random_uuid",
            "uuid_generate_v4",
            "nextval",
            "next_value",
            "current_user",
            "session_user",
            "user",
        ),
    }
)
"""Functions that answer something else each time; a row would never be in step with them."""


class Keeper(Protocol):
    """What a database knows of columns that are kept in step."""

    errors_end_transactions: ClassVar[bool]
    """Whether nothing more can be asked in a transaction once a statement of it has failed."""

    def same(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether *column* holds exactly what *value* becomes when it is stored there."""

    def sync_parts(self, sync: Sync, live: LiveSchema) -> Sequence[SyncPart]:
        """What stands in the database while *sync* is kept."""


def synced(
    declared: Parallel, live: LiveSchema, model: Table, *, source: Table | None = None, is_new: bool = False
) -> Sync | None:
    """What *declared* keeps in step on the database that *live* shows.

    :param model: the table of the models that has the targets.
    :param source: where they are in another table: the one of the models that had the sources.
    :param is_new: whether the table of the targets is one that this upgrade creates.
    :returns: ``None`` where the sources are not there: they are gone already, or never were.
    :raises DeclarationError: *up* or *down* answers something that triggers cannot keep.
    """
    there = live.table(declared.key)
    if there is None or not all(name in there.columns for name in declared.sources):
        return None
    elsewhere = None
    if declared.on:
        row = live_table(there, source)
        its = _there(live.table(declared.target_key), model, declared)
        elsewhere = Elsewhere(declared.target_key, its, declared.on, is_new)
    else:
        row = its = _row(there, model, declared.targets)
    sources, targets = declared.sources, tuple(column.name for column in declared.targets)
    up = _answer(declared, "up", declared.up, row, sources, targets)
    down = (
        _answer(declared, "down", declared.down, its, targets, sources) if declared.down is not None else {}
    )
    return Sync(
        name=declared.target,
        key=declared.key,
        row=row,
        sources=sources,
        targets=targets,
        up=up,
        down=down,
        elsewhere=elsewhere,
        model=model,
        verb=declared.verb,
        place=declared.place,
    )


def copies(
    parallels: Sequence[Parallel], live: LiveSchema, keeper: Keeper | None
) -> Iterator[Work | NotReady]:
    """The work of each of *parallels*; of those that lead to the same column, of the one whose source is there.

    :raises LookupError: there are any, and the database is not known.
    """
    by_name: dict[str, list[Parallel]] = {}
    for declared in parallels:
        by_name.setdefault(declared.name, []).append(declared)
    for several in by_name.values():
        if keeper is None:
            raise LookupError("only a database can tell what keeps columns in step")
        yield _copying(next((one for one in several if _is_there(one, live)), several[0]), live, keeper)


def _is_there(declared: Parallel, live: LiveSchema) -> bool:
    return all(live.column(declared.key, name) is not None for name in declared.sources)


def _copying(declared: Parallel, live: LiveSchema, keeper: Keeper) -> Work | NotReady:
    """The rows whose targets are yet to be set: those that were written before the triggers stood."""
    model = declared.targets[0].table
    assert isinstance(model, Table)
    there = live.table(declared.key)
    old = ", ".join(dotted(declared.key.schema, declared.key.name, name) for name in declared.sources)
    described = f"copy {old} to {', '.join(column.name for column in declared.targets)}"
    target = live.table(declared.target_key)
    described += f" of {declared.target_key}" if declared.on else ""
    missing = [
        column.name for column in declared.targets if target is None or column.name not in target.columns
    ]
    if there is None or target is None or missing:
        at = declared.target_key
        what = f"column {dotted(at.schema, at.name, missing[0])}" if missing else f"table {declared.key}"
        what = f"table {at}" if target is None else what
        return _not_ready(declared, f"{what} is not there yet")
    sync = synced(declared, live, model)
    if sync is None:
        # The sources are gone: all of it was in step when they went.
        model_of_walk = None if declared.on else model
        return _work(declared, live_table(there, model_of_walk), false(), SetValues({}), described, there)
    if not is_kept(sync, live, keeper.sync_parts):
        return _not_ready(declared, f"what keeps {old} and {declared.target} in step is not in place")
    given = or_(*(sync.row.c[name].is_not(None) for name in sync.sources))
    action: SetValues | SetElsewhere = SetValues(sync.up)
    if sync.elsewhere is not None:
        action = SetElsewhere(partial(_written_elsewhere, sync, keeper.same))
    work = _work(declared, sync.row, sync.is_pending(keeper.same), action, described, there)
    if sync.elsewhere is not None:
        # By these the rows over there are found, too.
        work = dataclasses.replace(work, walk=tuple(own for _, own in sync.elsewhere.on))
    return dataclasses.replace(
        work, presumed=and_(sync.is_unset(), given), fails_apart=keeper.errors_end_transactions
    )


def _work(
    declared: Parallel,
    table: Table,
    pending: ColumnElement[bool],
    action: SetValues | SetElsewhere,
    described: str,
    there: LiveTable,
) -> Work:
    return Work(
        name=declared.name,
        kind="copy",
        table=table,
        key=declared.key,
        pending=pending,
        action=action,
        place=declared.place,
        description=described,
        walk=walking_key(there),
    )


def _not_ready(declared: Parallel, reason: str) -> NotReady:
    return NotReady(declared.name, "copy", declared.key, reason, "run emc expand", declared.place)


def _written_elsewhere(sync: Sync, same: Same, rows: ColumnElement[bool]) -> Sequence[Executable]:
    """What copies *rows* of the sources, named by the columns that say which row belongs to which."""
    assert sync.elsewhere is not None
    there = sync.elsewhere.row
    own = {source: there.c[its] for its, source in sync.elsewhere.on}

    def replace(element: Any, **_: Any) -> Any:
        return own.get(element.name) if isinstance(element, Column) and element.table is sync.row else None

    theirs = visitors.replacement_traverse(rows, {}, replace)
    return [sync.to_targets(same, theirs, only_unset=True), sync.to_make(same, rows)]


def _there(live: LiveTable | None, model: Table, declared: Parallel) -> Table:
    """The other table as it stands, or as it will."""
    if live is not None:
        return _row(live, model, declared.targets)
    columns = (Column(one.name, own_type(one.type), primary_key=one.primary_key) for one in model.columns)
    return Table(model.name, MetaData(), *columns, schema=model.schema, **dict(model.kwargs))


def _row(there: LiveTable, model: Table, targets: Sequence[Column[Any]]) -> Table:
    """The live table, with the targets even before they are added."""
    row = live_table(there, model)
    for column in targets:
        if column.name not in row.c:
            row.append_column(Column(column.name, own_type(column.type), nullable=True))
    return row


# -- what a person's functions answer ------------------------------------------------------------------------------


def _answer(
    declared: Parallel,
    what: str,
    function: Callable[..., Any],
    row: Table,
    given: Sequence[str],
    wanted: Sequence[str],
) -> Mapping[str, ColumnElement[Any]]:
    try:
        answer = function(*(row.c[name] for name in given))
    except Exception as error:  # A person's function may raise anything.
        raise _wrong(
            declared, what, f"failed with {type(error).__name__}: {error}", f"It is given {_columns(given)}."
        ) from error
    if isinstance(answer, Mapping):
        by_name = {_name(key): value for key, value in answer.items()}
    else:
        several = list(answer) if isinstance(answer, (tuple, list)) else [answer]
        if len(several) != len(wanted):
            raise _wrong(
                declared,
                what,
                f"answers {len(several)} value{'s' * (len(several) != 1)} for {len(wanted)}: {_columns(wanted)}",
                "Answer a tuple of as many SQL expressions, or a dictionary by column.",
            )
        by_name = dict(zip(wanted, several, strict=True))
    if set(by_name) != set(wanted):
        raise _wrong(
            declared,
            what,
            f"answers values for {_columns(sorted(by_name)) or 'nothing'}, and not for {_columns(wanted)}",
            "Answer one SQL expression for each of them.",
        )
    return {name: _expression(declared, what, by_name[name], row, given) for name in wanted}


def _expression(
    declared: Parallel, what: str, value: Any, row: Table, given: Sequence[str]
) -> ColumnElement[Any]:
    value = value.__clause_element__() if hasattr(value, "__clause_element__") else value
    if not isinstance(value, ColumnElement):
        raise _wrong(
            declared,
            what,
            f"answers {value!r}, which is no SQL expression",
            "The database converts each row itself: use the columns that the function is given, sqlalchemy.func, "
            "case() and literal(). What only Python can compute is a data migration: @upgrade.data_migration(...).",
        )
    for part in visitors.iterate(value):
        problem = _problem(part, row, given)
        if problem is not None:
            raise _wrong(
                declared,
                what,
                f"answers {str(value)!r}, which {problem}",
                f"A trigger computes it from {_columns(given)} of the row alone.",
            )
    return value


def _problem(part: Any, row: Table, given: Sequence[str]) -> str | None:
    """Why *part* makes an expression depend on more than the columns *given*."""
    if isinstance(part, (SelectBase, ScalarSelect)):
        return "holds a subquery, whose answer may change without the row"
    if isinstance(part, FunctionElement):
        name = str(getattr(part, "name", type(part).__name__)).lower()
        return f"calls {name}(), which answers something else each time" if name in _NEVER_THE_SAME else None
    if isinstance(part, Column) and part.table is not row:
        return f"speaks of {part}, which is not one of them"
    if isinstance(part, Column) and part.name not in given:
        return f"reads {part.name}"
    if isinstance(part, BindParameter) and (part.callable is not None or part.required):
        return "holds a value that is only known when it is asked"
    if isinstance(part, FromClause) and part is not row:
        return "reads other rows"
    return None


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(getattr(key, "name", getattr(key, "key", key)))


def _columns(names: Sequence[str]) -> str:
    return ", ".join(names)


def _wrong(declared: Parallel, what: str, problem: str, remedy: str) -> DeclarationError:
    return DeclarationError(
        f"{what}= of {declared.verb} {declared.target} {problem}.", places=[declared.place], remedy=remedy
    )
