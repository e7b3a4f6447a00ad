"""How far is the server with a statement that keeps us waiting?

The statement has our session and our thread. So another thread looks, through a connection of its own that is no part
of the engine's pool: there may be just enough of those. Nothing that goes wrong here is of any consequence but that
less is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from emc.dialects.base import Dialect
from emc.execute.events import StepEvent, StepState
from emc.execute.retry import RetryPolicy
from emc.state.beside import beside
from emc.steps import LockPolicy, Step, Transaction

_PATIENCE = 1.0
"""Seconds for which the watch waits for a lock of the catalog, and for which its end is waited for."""

_log = logging.getLogger(__name__)


@contextmanager
def watched(
    engine: Engine,
    dialect: Dialect,
    connection: Connection,
    step: Step,
    attempt: int,
    retry: RetryPolicy,
    report: Callable[[StepEvent], None],
) -> Iterator[None]:
    """While the block runs, which sends one statement of *step* on *connection*, tell now and then how far it is.

    Nobody is asked anything in the first :attr:`~emc.execute.RetryPolicy.progress_every` seconds: most statements are
    through by then.
    """
    session = dialect.session(connection) if retry.progress_every > 0 else None
    if session is None:
        yield
        return
    ended = threading.Event()
    turn = threading.Lock()
    began = retry.clock()

    def look() -> None:
        if ended.wait(retry.progress_every):
            return
        apart: Engine | None = None
        try:
            # Made as the engine makes them (its creator, its events), and not counted among the pool's.
            apart = Engine(engine.pool.recreate(), engine.dialect, engine.url)
            with dialect.open(apart, Transaction.AUTOCOMMIT, LockPolicy.SHORT, _PATIENCE) as beside:
                while not ended.is_set():
                    found = dialect.progress(beside, session, step.operation.element.table)
                    with turn:
                        if found is not None and not ended.is_set():
                            seconds = retry.clock() - began
                            report(
                                StepEvent(StepState.RUNNING, step, attempt, seconds=seconds, progress=found)
                            )
                    ended.wait(retry.progress_every)
        except Exception as problem:  # noqa: BLE001  # No connection left for us, a server that restarts: none of it may
            # end the statement that is watched.
            _log.info("no progress is shown: %s", problem)
        finally:
            if apart is not None:
                apart.dispose()

    thread = threading.Thread(target=beside, args=(engine, look), name="emc progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with turn:
            ended.set()
        thread.join(timeout=_PATIENCE)
