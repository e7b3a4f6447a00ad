"""Has the database too much to bear for the next batch?

Asked of the server itself, of its replicas where their URLs are known, and of whatever the application declares. What
somebody asked for by name (a replica, a declaration) and that does not answer counts as too much; a signal of the
server that this role may not read is said once, and the run goes on without it.
"""

from __future__ import annotations

import inspect
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from emc.dialects import Dialect, dialect_of
from emc.dialects.answers import Pressure, Signal
from emc.upgrade import Throttle

_ANSWER = 10.0
"""Seconds after which a question to a server counts as not answered: two looks."""


@dataclass(frozen=True, kw_only=True)
class ThrottlePolicy:
    """How much is too much, and what follows from it."""

    limits: Mapping[Signal, float | None] = field(default_factory=dict)
    """Other limits than the dialect's own, by signal; ``None``: the signal is not looked at."""
    replicas: tuple[Engine, ...] = ()
    """Replicas that are asked themselves how far they are behind."""
    poll: float = 5.0
    """Seconds between two looks while nothing is wrong."""
    back_off: float = 30.0
    """Seconds until the next look once something is; twice as many after each that finds no better."""
    longest_back_off: float = 300.0
    """Seconds, at most."""
    patience: float = 3600.0
    """Seconds for which a run waits in one go before it ends."""


@dataclass(frozen=True)
class Held:
    """Why no batch may begin."""

    sources: frozenset[str]
    """What says so: the same as long as it is the same reason, whatever the numbers."""
    reason: str
    """For a person, as a clause."""


class Throttles:
    """Everything that may hold up a run.

    :param declared: what the application declares.
    """

    def __init__(
        self, engine: Engine, dialect: Dialect, policy: ThrottlePolicy, declared: Sequence[Throttle] = ()
    ) -> None:
        self.policy = policy
        self.unread: dict[str, str] = {}
        """Signals of the server that cannot be read, with what would make them readable."""
        self._server = _Question(
            "the server", partial(_pressures, engine, dialect), dialect.concurrent_sessions
        )
        self._replicas = [
            _Question(f"replica {shown(replica)}", partial(_lag, replica), beside=True)
            for replica in policy.replicas
        ]
        self._declared = [
            _Question(
                f"throttle {one.name}", partial(_asked, one, engine, dialect), dialect.concurrent_sessions
            )
            for one in declared
        ]
        self._seen_waiting: Held | None = None

    def noticed(self, pressure: Pressure) -> None:
        """A batch found out that others wait for it; the next look tells."""
        if self._is_too_much(pressure):
            self._seen_waiting = Held(frozenset({str(pressure.signal)}), pressure.said)

    @property
    def has_news(self) -> bool:
        """Whether there is a reason to look before it is time."""
        return self._seen_waiting is not None

    def look(self) -> Held | None:
        """Ask everybody; ``None``: the next batch may begin."""
        found = [*self._of_server(), *self._of_replicas(), *self._of_application()]
        if self._seen_waiting is not None:
            found.append(self._seen_waiting)
            # Whoever waited has been let through by now: the batch is over.
            self._seen_waiting = None
        if not found:
            return None
        return Held(
            frozenset().union(*(one.sources for one in found)), "; ".join(one.reason for one in found)
        )

    def _of_server(self) -> Iterator[Held]:
        try:
            pressures: Sequence[Pressure] = self._server.answer()
        except _NoAnswerError as error:
            self.unread["server"] = str(error)
            return
        self.unread = {}
        for one in pressures:
            if one.value is None:
                if self._looks_at(one.signal) and not (one.signal is Signal.REPLICA_LAG and self._replicas):
                    self.unread[str(one.signal)] = f"{one.said}; {one.remedy}" if one.remedy else one.said
            elif self._is_too_much(one):
                yield Held(frozenset({str(one.signal)}), one.said)

    def _of_replicas(self) -> Iterator[Held]:
        for question in self._replicas:
            try:
                pressure: Pressure | None = question.answer()
            except _NoAnswerError as error:
                yield Held(frozenset({question.name}), str(error))
                continue
            if pressure is None:
                yield Held(frozenset({question.name}), f"{question.name} is not a replica")
            elif self._is_too_much(pressure):
                yield Held(frozenset({question.name}), f"{question.name}: {pressure.said}")

    def _of_application(self) -> Iterator[Held]:
        for question in self._declared:
            try:
                reason: str | None = question.answer()
            except _NoAnswerError as error:
                yield Held(frozenset({question.name}), str(error))
                continue
            if reason is not None:
                yield Held(frozenset({question.name}), f"{question.name}: {reason}")

    def _looks_at(self, signal: Signal) -> bool:
        return self.policy.limits.get(signal, 0.0) is not None

    def _is_too_much(self, pressure: Pressure) -> bool:
        limit = self.policy.limits.get(pressure.signal, pressure.limit)
        return limit is not None and pressure.value is not None and pressure.value > limit


def shown(engine: Engine) -> str:
    """Which server, without user and password."""
    return f"{engine.url.host or 'localhost'}:{engine.url.port or 'default port'}"


def _pressures(engine: Engine, dialect: Dialect) -> Sequence[Pressure]:
    with dialect.reading(engine) as connection:
        return dialect.pressures(connection)


def _lag(replica: Engine) -> Pressure | None:
    # Which of MariaDB and MySQL answers is known once it has.
    with replica.connect():
        dialect = dialect_of(replica)
    with dialect.reading(replica) as connection:
        return dialect.replica_lag(connection)


def _asked(declared: Throttle, engine: Engine, dialect: Dialect) -> str | None:
    """The reason that *declared* gives to hold up the run, if it does."""
    signal = declared.signal
    if isinstance(signal, str):
        with dialect.reading(engine) as connection:
            found = connection.execute(text(signal)).first()
        answer = found[0] if found is not None else None
    elif inspect.signature(signal).parameters:
        with dialect.reading(engine) as connection:
            answer = signal(connection)
    else:
        answer = signal()
    if not answer:
        return None
    return answer if isinstance(answer, str) else "it says so"


# -- questions that may not be answered -------------------------------------------------------------------------------


class _NoAnswerError(Exception):
    """Somebody did not answer; says why."""


class _Question:
    """A question that is asked again and again, of somebody who may not answer.

    :param beside: whether it can be asked by a thread of its own, so that nobody waits for ever: a server that is
        frozen does not even refuse.
    """

    def __init__(self, name: str, ask: Callable[[], Any], beside: bool) -> None:
        self.name = name
        self._ask = ask
        self._beside = beside
        self._under_way: queue.SimpleQueue[tuple[Any, Exception | None]] | None = None
        self._began = 0.0

    def answer(self) -> Any:
        """What it says.

        :raises _NoAnswerError: it fails, or does not come.
        """
        if not self._beside:
            answer, error = self._asked()
        else:
            if self._under_way is None:
                self._under_way = queue.SimpleQueue()
                self._began = time.monotonic()
                threading.Thread(
                    target=self._put, args=(self._under_way,), name="emc throttle", daemon=True
                ).start()
            try:
                answer, error = self._under_way.get(timeout=_ANSWER)
            except queue.Empty:
                # It is still being asked: once is enough.
                seconds = time.monotonic() - self._began
                raise _NoAnswerError(f"{self.name} has not answered for {seconds:.0f} s") from None
            self._under_way = None
        if error is not None:
            raise _NoAnswerError(f"{self.name} cannot be read: {_first_line(error)}") from error
        return answer

    def _put(self, answers: queue.SimpleQueue[tuple[Any, Exception | None]]) -> None:
        answers.put(self._asked())

    def _asked(self) -> tuple[Any, Exception | None]:
        try:
            return self._ask(), None
        except Exception as error:  # noqa: BLE001  # A person's function may raise anything, and is told about it.
            return None, error


def _first_line(error: Exception) -> str:
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(said).strip().splitlines()
    return f"{type(said).__name__}: {lines[0]}" if lines else type(said).__name__
