"""How much does a MariaDB or MySQL server have to bear, as far as it tells?

A primary knows which replicas have registered with it, and not how far they are behind: that, each replica tells itself
(:func:`replica_lag`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Failure, Pressure, Signal
from emc.dialects.mysql.failures import failure
from emc.dialects.mysql.flavour import Flavour

THREADS_RUNNING = 25.0
"""Sessions that may be at work at once, unless somebody says otherwise (the default of ``--max-load`` in Percona's
pt-online-schema-change)."""
REPLICA_LAG = 5.0
"""Seconds that a replica may be behind, unless somebody says otherwise."""


def pressures(connection: Connection, flavour: Flavour) -> Sequence[Pressure]:
    """Sessions at work, and a word about replicas whose lag has to be asked of themselves."""
    return [*_threads(connection), *_replicas(connection, flavour)]


def _threads(connection: Connection) -> Iterator[Pressure]:
    _, value = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Threads_running'").one()
    said = f"{value} sessions are at work at once"
    yield Pressure(Signal.THREADS_RUNNING, float(value), THREADS_RUNNING, said)


def _replicas(connection: Connection, flavour: Flavour) -> Iterator[Pressure]:
    if not connection.exec_driver_sql("SELECT @@GLOBAL.log_bin").scalar_one():
        return  # Nothing is written that a replica could read.
    try:
        found = connection.exec_driver_sql(flavour.shows_replicas).all()
    except DBAPIError as error:
        if failure(error) in (Failure.DISCONNECTED, Failure.LOCKED):
            raise
        role = connection.exec_driver_sql("SELECT CURRENT_USER()").scalar_one().rpartition("@")
        yield Pressure(
            Signal.REPLICA_LAG,
            None,
            REPLICA_LAG,
            "whether there are replicas is not shown to this account",
            f"GRANT {flavour.privilege_to_see_replicas} ON *.* TO '{role[0]}'@'{role[2]}';",
        )
        return
    if found:
        # Server_id, Host, Port, …; the host only where the replica was told to report it.
        names = ", ".join(f"{row[1]}:{row[2]}" if row[1] else f"server {row[0]}" for row in found)
        yield Pressure(
            Signal.REPLICA_LAG,
            None,
            REPLICA_LAG,
            f"the server does not know how far its replicas are behind ({names})",
            'replicas = ["env:REPLICA_URL"]   # below [tool.emc.throttle]: each is asked itself',
        )


def replica_lag(connection: Connection, flavour: Flavour) -> Pressure | None:
    """As the replica sees it: how old the event is that it carries out, for the slowest of its primaries.

    It is 0 as well while events are still on their way to the replica (MariaDB knowledge base, "SHOW REPLICA STATUS").
    """
    found = connection.exec_driver_sql(flavour.shows_lag).mappings().all()
    if not found:
        return None
    lags = [row[flavour.lag_column] for row in found]
    if any(lag is None for lag in lags):
        return Pressure(Signal.REPLICA_LAG, math.inf, REPLICA_LAG, "its replication does not run")
    lag = max(float(lag) for lag in lags)
    return Pressure(Signal.REPLICA_LAG, lag, REPLICA_LAG, f"it is {lag:.0f} s behind")
