"""How do rows become converted that a session saves?

Before a flush writes, the database is asked which of its rows are pending, as they are now, and nobody else can write
to these until the transaction ends. What another process wrote since an object was loaded is seen by the function and
never overwritten by something that was computed before. Its answer is written at once, and what the application has
changed after it: were it the other way round, a row that the change makes look converted would be left half converted,
and a value that the application meant as it is would be converted, or lost.

After the flush new rows are looked at, and such as it has made pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection, Session
from sqlalchemy.sql.elements import ClauseElement

from emc.dialects.rowwrites import RowWrites
from emc.orm.excluding import TRUE
from emc.orm.loading import Maps
from emc.orm.mapped import Mapped, converted, unmark
from emc.orm.rows import (
    Key,
    Seen,
    answer,
    look,
    look_and_lock,
    look_and_remember,
    row_writes,
    stored,
    versions,
    write,
    write_if_unchanged,
)
from emc.orm.standing import Databases, Standing, Task, commits_by_itself
from emc.work import Deletion

State = InstanceState[Any]
States = Sequence[State]
Candidates = Mapping[Key, State]
Asked = tuple[Task, Candidates, Mapping[Key, Seen], RowWrites | None]

_ATTEMPTS = 3
"""How often a row is converted that cannot be locked, while others write to it."""


class Saving:
    """The conversion of the rows that one flush of *session* writes."""

    def __init__(self, session: Session, databases: Databases, maps: Maps) -> None:
        self._session = session
        self._databases = databases
        self._maps = maps
        self._is_written = False
        self._seen: dict[State, set[str]] = {}
        """The names of the work that the row of an object was locked and looked at for, before it was written."""
        self._expressions: dict[State, set[str]] = {}
        """The attributes that the application has set to SQL. When that is written they are as if never set."""

    def before(self) -> None:
        """Convert the rows that the flush, which is about to begin, may write.

        :raises ConversionError: a function failed; the transaction is rolled back.
        """
        for state in self._states((*self._session.new, *self._session.dirty)):
            found = {name for name in state.committed_state if _is_sql(state.dict.get(name))}
            if found:
                self._expressions[state] = found
        self._save(filter(_is_changed, self._states(self._session.dirty)))

    def after(self) -> None:
        """Convert what is pending among the rows that the flush, which is about to end, has written.

        :raises ConversionError: a function failed; the flush is rolled back.
        """
        self._is_written = True
        self._save(filter(_is_saved, self._states((*self._session.new, *self._session.dirty))))

    def _states(self, instances: Iterable[object]) -> Iterator[State]:
        for instance in instances:
            state: State = inspect(instance)
            if self._maps(state.mapper):
                yield state

    def _save(self, states: Iterable[State]) -> None:
        groups: dict[Mapper[Any], list[State]] = {}
        for state in states:
            groups.setdefault(state.mapper, []).append(state)
        # Sessions that lock rows of several tables should do so in one order.
        for mapper in sorted(groups, key=str):
            for mapped in self._maps(mapper):
                connection = self._session.connection(bind_arguments={"mapper": mapper})
                # One after the other, as in emc migrate: the second is given what the first has written.
                for task in self._databases.standing(connection).tasks.get(mapped.table_key, ()):
                    left: States = groups[mapper]
                    for _ in range(_ATTEMPTS):
                        if not self._candidates(mapped, task, left):
                            break
                        with _failing_like_a_flush(self._session):
                            left = self._convert(connection, mapped, task, left)
            for state in groups[mapper]:
                unmark(state)

    def _convert(self, connection: Connection, mapped: Mapped, known: Task, states: States) -> States:
        """Convert the rows of *states*; answers those that somebody else has written to meanwhile."""

        def question(standing: Standing) -> Asked | None:
            tasks = standing.tasks.get(mapped.table_key, ())
            task = next((task for task in tasks if task.work.name == known.work.name), None)
            if task is None:
                return None
            found = self._candidates(mapped, task, states)
            keys, dialect = list(found), standing.dialect
            if not commits_by_itself(connection):
                return task, found, look_and_lock(connection, task, mapped.key, keys, dialect), None
            writes = row_writes(connection, task, mapped.key, dialect)
            return task, found, look_and_remember(connection, task, mapped.key, keys, writes), writes

        answered = self._databases.ask(connection, question)
        if answered is None:
            return []
        task, found, rows, writes = answered
        answers: dict[Key, Mapping[str, Any]] = {}
        for key, seen in rows.items():
            if seen.is_pending:
                values = _answer(connection, mapped, task, seen)
                if values and self._is_written and key in found:
                    own = self._own(mapped, found[key])
                    values = {name: value for name, value in values.items() if name not in own}
                if values:
                    answers[key] = values
        before = _versions(connection, mapped, list(answers))
        missed: list[Key] = []
        if writes is None:
            write(connection, task, mapped.key, answers)
        else:
            written = write_if_unchanged(connection, task, writes, rows, answers)
            missed = [key for key in answers if key not in written]
            rows = {**rows, **look(connection, task, mapped.key, missed)}
            answers = {key: answers[key] for key in written}
        shown = stored(connection, task, mapped.key, answers)
        after = _versions(connection, mapped, list(before))
        for key, state in found.items():
            if key in rows and (key not in missed or task.action.takes_connection):
                self._note(task, state, is_written_to=key in answers)
            if key in answers:
                self._put(mapped, state, shown[key])
                if key in after:
                    _show_version(mapped, state, before[key], after[key])
            elif key in rows:
                self._show_as_it_is(mapped, task, state, rows[key])
        # What a function has written elsewhere must not be written twice.
        return [] if task.action.takes_connection else [found[key] for key in missed if key in found]

    def _candidates(self, mapped: Mapped, task: Task, states: States) -> Candidates:
        """The objects whose rows may be pending, by the keys of these."""
        judge = task.judge(mapped)
        found = {}
        for state in states:
            if self._is_settled(mapped, task, state):
                continue
            values = state.dict if self._is_written else mapped.before(state)
            # What looks converted since it was loaded is not in the row yet.
            if converted(state) or judge(values) & TRUE:
                key = mapped.key_of(state, values)
                if key is not None:
                    found[key] = state
        return _in_order(found)

    def _is_settled(self, mapped: Mapped, task: Task, state: State) -> bool:
        """Whether all that is to be done for a row was done before it was written."""
        if task.work.name not in self._seen.get(state, ()):
            return False
        # What such a function writes elsewhere must not be written twice.
        if task.action.takes_connection:
            return True
        # The row is locked, and nothing that the condition speaks of has been written to it since.
        set_ = state.committed_state.keys() | self._expressions.get(state, set())
        return all(mapped.attributes.get(name) not in set_ for name in task.asks)

    def _note(self, task: Task, state: State, *, is_written_to: bool) -> None:
        if not self._is_written:
            self._seen.setdefault(state, set()).add(task.work.name)
        elif is_written_to:
            # What comes next may have to do with what was written just now.
            self._seen.pop(state, None)

    def _own(self, mapped: Mapped, state: State) -> set[str]:
        """The columns to which the flush has written a value of the application's."""
        sql = self._expressions.get(state, ())
        own = {name for name in mapped.changed(state) if state.dict.get(mapped.attributes[name]) is not None}
        return own | {name for name, attribute in mapped.attributes.items() if attribute in sql}

    def _put(self, mapped: Mapped, state: State, values: Mapping[str, Any]) -> None:
        # What is yet to be written is what the application wants the object to have.
        kept = set() if self._is_written else mapped.changed(state)
        mapped.put(state, {name: value for name, value in values.items() if name not in kept}, saved=True)

    def _show_as_it_is(self, mapped: Mapped, task: Task, state: State, seen: Seen) -> None:
        """Somebody else has converted the row of an object that showed what the function made of it before."""
        shown = converted(state)
        if shown:
            row = seen.by_column(task)
            self._put(
                mapped, state, {name: row[name] for name, at in mapped.attributes.items() if at in shown}
            )


def _versions(connection: Connection, mapped: Mapped, keys: Sequence[Key]) -> Mapping[Key, Any]:
    """The versions of rows by which a flush tells that nobody else has written to them, if the server makes them."""
    column = mapped.version
    if column is None or not keys:
        return {}
    columns = {one.name: one for one in mapped.table.columns}
    return versions(connection, column, [columns[name] for name in mapped.key], keys)


def _show_version(mapped: Mapped, state: State, before: Any, after: Any) -> None:
    """That of the converted row, or the flush would find it written to by somebody else. What somebody has is stale."""
    assert mapped.version is not None
    name = mapped.version.name
    if state.dict.get(mapped.attributes[name]) == before:
        mapped.put(state, {name: after}, saved=True)


def _is_changed(state: State) -> bool:
    """Whether a flush is going to look at the object's own row: a value was set, or a parent that a value refers to."""
    changed = state.committed_state.keys()
    return not changed.isdisjoint(state.mapper.column_attrs.keys()) or any(
        relationship.direction is RelationshipDirection.MANYTOONE and relationship.key in changed
        for relationship in state.mapper.relationships
        if not relationship.viewonly
    )


def _is_saved(state: State) -> bool:
    """Whether a value of the object's own row was set, be it to what it was, and not only its relationships."""
    return not state.persistent or not state.committed_state.keys().isdisjoint(
        state.mapper.column_attrs.keys()
    )


def _is_sql(value: Any) -> bool:
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def _in_order(found: Candidates) -> Candidates:
    """By key, as a flush writes them, so that sessions that lock many rows do not wait for each other."""
    try:
        return dict(sorted(found.items(), key=lambda one: one[0]))
    except TypeError:
        return found


@contextmanager
def _failing_like_a_flush(session: Session) -> Iterator[None]:
    """Whatever fails meanwhile ends the transaction, or savepoint, of *session*, as if a flush had failed.

    Else the application could go on with half of the answers written, and what functions wrote elsewhere besides.
    """
    transaction = session._autobegin_t()._begin()  # noqa: SLF001 - what flush() does once it has asked its listeners
    try:
        yield
    except BaseException:
        transaction.rollback(_capture_exception=True)
        raise
    transaction.commit()


def _answer(connection: Connection, mapped: Mapped, task: Task, seen: Seen) -> Mapping[str, Any] | None:
    if not task.action.takes_connection:
        values = answer(connection, task, mapped.key, seen)
        return None if isinstance(values, Deletion) else values
    # It may have written elsewhere before it says that the row is to go, which is left to emc migrate.
    apart = connection.begin_nested()
    try:
        values = answer(connection, task, mapped.key, seen)
    except BaseException:
        apart.rollback()
        raise
    if isinstance(values, Deletion):
        apart.rollback()
        return None
    apart.commit()
    return values
