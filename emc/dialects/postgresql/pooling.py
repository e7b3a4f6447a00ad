"""Does a session belong to emc alone, or does a pooler between emc and the server hand it around?

A pooler in transaction mode (PgBouncer, pgcat, Odyssey, Supavisor) gives whoever sends a transaction the session that
happens to be free. What SET changed is then lost, or hits somebody else. Reading the settings back does not show it:
where nobody else is busy, PgBouncer 1.18 gives one client the same session every time.

* The server tells its client a process id when it connects, and ``pg_backend_pid()`` tells the same one later. A pooler
  that speaks the protocol makes ids up for its clients (they are what a request to cancel is sent with), so the two
  differ; seen with PgBouncer 1.18 in every mode, by TCP and by Unix socket. Where they agree nobody who could hand
  sessions around is in between. Addresses would not do: behind Docker or a load balancer they differ as well, and a
  Unix socket has none.
* Where they differ, a second client tells the modes apart: it opens a transaction while the first one is between two
  statements. If the pool has nothing else it is given the first one's session; otherwise the first one is given another
  when it goes on. With a session for each client neither ever happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from emc.errors import ConfigurationError

_ROUNDS = 5
"""How often the second client tries; other clients of a busy pool may come in between."""

_REMEDY = "Give emc the address of the PostgreSQL server itself, or of a pool in session mode."
_STATEMENT_MODE = "statement pooling mode"
"""As PgBouncer puts it when somebody begins a transaction; it has no code of its own for that (08P01)."""


def shared_session() -> ConfigurationError:
    """What a person reads where sessions are handed around."""
    return ConfigurationError(
        "A connection pooler stands between emc and PostgreSQL and gives each transaction another session (PgBouncer: "
        "pool_mode = transaction). lock_timeout would be lost between two statements, and a change that waits without "
        "it stalls every other session of its table. Nothing was sent.",
        remedy=_REMEDY,
    )


def entry_remedy(error: DBAPIError) -> str | None:
    """What settles that a pooler does not let emc in with *error*; ``None`` where it is something else."""
    said = str(error.orig)
    if _STATEMENT_MODE in said:
        return f"The pooler gives each statement another session, and emc needs transactions. {_REMEDY}"
    if "unsupported startup parameter" in said:
        return (
            "The pooler does not pass on what the URL, PGOPTIONS or connect_args ask for. Leave it out, or name it in "
            f"ignore_startup_parameters of PgBouncer. Or: {_REMEDY[0].lower()}{_REMEDY[1:]}"
        )
    return None


def demand_own_session(connection: Connection) -> None:
    """Make sure that *connection*, which commits by itself, keeps its session from one statement to the next.

    :raises ConfigurationError: it does not, or may not.
    """
    told = getattr(getattr(connection.connection.driver_connection, "info", None), "backend_pid", None)
    if told != _session(connection) and _is_handed_around(connection):
        raise shared_session()


def _is_handed_around(connection: Connection) -> bool:
    # The engine's own pool may have no second connection to give.
    engine = connection.engine
    second = create_engine(engine.url, pool=engine.pool.recreate())
    try:
        with second.connect() as other:
            for _ in range(_ROUNDS):
                before = _session(connection)
                with other.begin():
                    # In this order: where the pool has no more than one, the first one would wait for the second.
                    if _session(other) == before or _session(connection) != before:
                        return True
        return False
    finally:
        second.dispose()


def _session(connection: Connection) -> int:
    pid: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return pid


@contextmanager
def unprepared(connection: Connection) -> Iterator[None]:
    """Let psycopg prepare no statement of *connection* on the server, which it does with what is sent five times.

    Behind a pooler another session is asked for the prepared statement ("_pg3_0" already exists, or does not; PgBouncer
    1.18). And a statement prepared before a change of type fails after it ("cached plan must not change result type").
    """
    driver = connection.connection.driver_connection
    threshold = getattr(driver, "prepare_threshold", None)
    if driver is None or threshold is None:  # psycopg2, or somebody has switched it off.
        yield
        return
    driver.prepare_threshold = None
    try:
        yield
    finally:
        driver.prepare_threshold = threshold
