"""How do objects become converted that a statement has loaded, before the application sees them?

The load events of a statement's objects are collected, and all are looked at together when its first row is asked for:
one query for each batch of rows that may be pending, and none for rows that are certain not to be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import ChunkedIteratorResult, Result
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session

from emc.dialects import Dialect
from emc.orm.excluding import TRUE
from emc.orm.mapped import Mapped, converted, mark
from emc.orm.rows import Key, Seen, answer, evaluated, look
from emc.orm.standing import Databases, Standing, Task
from emc.work import Deletion

Maps = Callable[[Mapper[Any]], Sequence[Mapped]]
"""The tables of a class whose rows are converted."""
One = tuple[InstanceState[Any], Collection[str] | None]
Candidates = Mapping[Key, InstanceState[Any]]


class Loaded:
    """What one statement has loaded and nobody has looked at."""

    def __init__(self, execution: ORMExecuteState, databases: Databases, maps: Maps) -> None:
        self._session: Session = execution.session
        self._bind_arguments = dict(execution.bind_arguments)
        self._databases = databases
        self._maps = maps
        self.ones: list[One] = []
        """Objects, each with those of its attributes that were loaded, ``None`` if it is new to the session."""

    def watch(self, result: Result[Any], dialect: Dialect) -> None:
        """Convert whatever *result* loads before it hands it out."""
        if not isinstance(result, ChunkedIteratorResult):
            return
        # What an asynchronous session executes has fetched its rows by now, and is not awaited any more afterwards.
        self.convert()
        chunks = result.chunks
        # To ask for anything while rows are still to come would lose these (PyMySQL), or fail (MySQLdb).
        at_once = result.dynamic_yield_per and dialect.streams_alone

        def watched(size: int | None) -> Iterator[Sequence[Any]]:
            found = chunks(size)
            for rows in list(found) if at_once else found:
                self.convert()
                yield rows

        # The result has begun to ask for chunks; it asks anew when their size is changed.
        result.chunks = watched
        result.iterator = self._each(result.iterator, at_once=at_once)

    def _each(self, rows: Iterable[Any], *, at_once: bool) -> Iterator[Any]:
        # Objects of a whole chunk are there when its first row is.
        for row in list(rows) if at_once else rows:
            if self.ones:
                self.convert()
            yield row

    def convert(self) -> None:
        """Convert what was loaded since the last call.

        :raises ConversionError: a function failed. What was loaded is expired, so that no object stays that looks as if
            it had been converted.
        """
        ones, self.ones = self.ones, []
        if not ones:
            return
        groups: dict[Mapper[Any], list[One]] = {}
        for one in ones:
            groups.setdefault(one[0].mapper, []).append(one)
        try:
            for mapper, group in groups.items():
                for mapped in self._maps(mapper):
                    connection = self._session.connection(bind_arguments=dict(self._bind_arguments))
                    _convert(connection, self._databases, mapped, group)
        except BaseException:
            for state, attributes in ones:
                self._expire(state, attributes)
            raise

    def _expire(self, state: InstanceState[Any], attributes: Collection[str] | None) -> None:
        instance = state.obj()
        if instance is None or state.session is not self._session:
            return
        if attributes is None:
            self._session.expire(instance)
        elif attributes:
            self._session.expire(instance, [name for name in attributes if name not in state.committed_state])


def _convert(connection: Connection, databases: Databases, mapped: Mapped, ones: Sequence[One]) -> None:
    known = databases.standing(connection)
    found = _candidates(known, mapped, ones)
    if not found:
        return

    def question(standing: Standing) -> list[tuple[Task, Candidates, Mapping[Key, Seen]]]:
        return [
            (task, candidates, look(connection, task, mapped.key, list(candidates)))
            for task, candidates in (found if standing is known else _candidates(standing, mapped, ones))
        ]

    for task, candidates, rows in databases.ask(connection, question):
        for key, seen in rows.items():
            # The key of the object may be spelled otherwise than that of the row; it is converted when it is saved.
            if key in candidates:
                _show(connection, mapped, task, candidates[key], key, seen)


def _candidates(standing: Standing, mapped: Mapped, ones: Sequence[One]) -> list[tuple[Task, Candidates]]:
    """The objects that may be those of pending rows, by the keys of these, for each task."""
    found: list[tuple[Task, Candidates]] = []
    for task in standing.tasks.get(mapped.table_key, ()):
        # It writes elsewhere, which is nothing that loading does.
        if task.action.takes_connection:
            continue
        judge = task.judge(mapped)
        candidates = {}
        for state, attributes in ones:
            # Attributes that the application has changed since say nothing about the row.
            values = mapped.unchanged(state) if state.committed_state else state.dict
            if judge(values) & TRUE and _matters(mapped, task, state, attributes):
                key = mapped.key_of(state)
                if key is not None:
                    candidates[key] = state
        if candidates:
            found.append((task, candidates))
    return found


def _matters(
    mapped: Mapped, task: Task, state: InstanceState[Any], attributes: Collection[str] | None
) -> bool:
    """Whether what was loaded of an object can show anything of a conversion."""
    filled = task.action.column
    if filled is not None and mapped.attributes.get(filled) not in state.dict:
        return False
    if attributes is None:
        return True
    # Only what the condition speaks of, or what was converted before, can be another thing now.
    return any(mapped.attributes.get(name) in attributes for name in task.asks) or not converted(
        state
    ).isdisjoint(attributes)


def _show(
    connection: Connection, mapped: Mapped, task: Task, state: InstanceState[Any], key: Key, seen: Seen
) -> None:
    """Let an object show its row as the function makes it."""
    if not seen.is_pending:
        # Under READ COMMITTED somebody may have converted it since it was loaded.
        if any(_differs(mapped, state, name, seen.values[at]) for name, at in task.asks.items()):
            loaded = mapped.loaded(state)
            mapped.put(state, {name: value for name, value in seen.by_column(task).items() if name in loaded})
        return
    values = answer(connection, task, mapped.key, seen)
    if isinstance(values, Deletion) or not values:
        return
    mapped.put(state, evaluated(connection, task, mapped.key, key, values))
    mark(state, [mapped.attributes[name] for name in values if name in mapped.attributes])


def _differs(mapped: Mapped, state: InstanceState[Any], column: str, now: Any) -> bool:
    """Whether an object has loaded another value of *column* than there is now."""
    attribute = mapped.attributes.get(column)
    if attribute not in state.dict or attribute in state.committed_state:
        return False
    try:
        return bool(state.dict[attribute] != now)
    except Exception:  # noqa: BLE001 - whatever a type of a user's may raise, its values are not known to be equal
        return True
