"""Is a claim true of every row, while its guard stands?

The rows are looked at in batches along a key, each in a statement of its own, so that no snapshot grows old and nobody
waits. That is enough because the guard stands: every session that had written before has ended its transaction, and
whoever writes later is refused what would be in the way, behind the walk as well as before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, case, func, select, true
from sqlalchemy.exc import DBAPIError

from emc.claims import Claim, Proof
from emc.data.pace import Pace
from emc.data.values import BatchPolicy
from emc.data.walk import Key, way_of
from emc.dialects.answers import Failure
from emc.dialects.base import Dialect
from emc.execute.retry import RetryPolicy
from emc.steps import LockPolicy, Transaction

_SAMPLE = 3
"""How many keys of rows in the way are noted down."""
_START, _LARGEST = 5_000, 200_000
"""Rows of the first batch, and of the largest; nobody waits for a batch that only reads."""
_TARGET = 0.5
"""Seconds that such a batch should take."""


def prove(
    engine: Engine, dialect: Dialect, claims: Sequence[Claim], guards: Sequence[str], retry: RetryPolicy
) -> tuple[Proof, ...]:
    """Look at every row that *claims* speak of, up to the first claim that does not hold.

    Begins anew whenever it is called: no proof outlives its guard. A claim whose scan is cut off is begun again.

    :param guards: the names of what stands, for the ledger.
    :param retry: its clock, how it sleeps between batches, and how often a lost connection is made again.
    """
    policy = BatchPolicy(
        start=_START, largest=_LARGEST, target=_TARGET, rest=0.5, clock=retry.clock, sleep=retry.sleep
    )
    proofs: list[Proof] = []
    for claim in claims:
        same = next((proof for proof in proofs if _is_same(proof.claim, claim)), None)
        if same is not None:
            proofs.append(dataclasses.replace(same, claim=claim))  # Several gates may ask for the same.
            continue
        began = policy.clock()
        seen, found, keys = _until_told(engine, dialect, claim, policy, retry)
        proofs.append(Proof(claim, seen, found, policy.clock() - began, tuple(guards), keys))
        if found:
            break
    return tuple(proofs)


def _is_same(one: Claim, other: Claim) -> bool:
    """Whether *other* speaks of the same rows, as far as that can be seen."""
    return one.table is other.table and one.in_the_way.compare(other.in_the_way)


def _until_told(
    engine: Engine, dialect: Dialect, claim: Claim, policy: BatchPolicy, retry: RetryPolicy
) -> tuple[int, int, tuple[str, ...]]:
    attempt = 0
    while True:
        attempt += 1
        try:
            with dialect.open(
                engine, Transaction.AUTOCOMMIT, LockPolicy.WEAK, retry.lock_timeout(attempt)
            ) as connection:
                return _scan(connection, dialect, claim, policy)
        except DBAPIError as error:
            passes = dialect.failure(error) in (Failure.DISCONNECTED, Failure.LOCKED)
            if not passes or attempt > retry.reconnects:
                raise
            retry.sleep(retry.pause(attempt))


def _scan(
    connection: Connection, dialect: Dialect, claim: Claim, policy: BatchPolicy
) -> tuple[int, int, tuple[str, ...]]:
    """How many rows there are, how many are in the way, and keys of some of these. Ends behind the first such batch."""
    counts = select(
        func.count(), func.coalesce(func.sum(case((claim.in_the_way, 1), else_=0)), 0)
    ).select_from(claim.table)
    if not claim.walk:
        # Without a key there is no order to go by: one statement, which keeps nobody waiting either.
        seen, found = connection.execute(counts).one()
        return int(seen), int(found), ()
    way = way_of(dialect, claim.table, claim.walk)
    pace = Pace(policy)
    lower: Key | None = None
    seen = 0
    while True:
        began = policy.clock()
        end = way.end(connection, lower, pace.size)
        rows = way.after(lower) & (way.up_to(end) if end is not None else true())
        here, found = connection.execute(counts.where(rows)).one()
        seen += int(here)
        if found:
            return seen, int(found), _keys(connection, claim, rows)
        if end is None:
            return seen, 0, ()
        seconds = policy.clock() - began
        pace.record(pace.size, seconds)
        policy.sleep(pace.pause(seconds))
        lower = end


def _keys(connection: Connection, claim: Claim, rows: Any) -> tuple[str, ...]:
    columns = [claim.table.c[name] for name in claim.walk]
    query = select(*columns).where(rows, claim.in_the_way).order_by(*columns).limit(_SAMPLE)
    return tuple(
        ", ".join(f"{name}={value!r}" for name, value in zip(claim.walk, row, strict=True))
        for row in connection.execute(query)
    )
