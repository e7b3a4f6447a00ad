"""Contracts until it kills itself in the middle of a clean-up: ``python -m tests.commands.cleaning URL WHAT [N]``.

The n-th moment is right behind a write to a row of the user, or behind the commit of one. Where nobody says which, all
of them are counted, and printed.
"""

import itertools
import os
import re
import signal
import sys
import threading
from functools import partial
from typing import Any
from unittest.mock import patch

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    event,
    text,
    update,
)

import emc
from emc.commands import stragglers
from emc.data import BatchPolicy
from emc.upgrade import Upgrade

_WRITE = re.compile(r"(INSERT|UPDATE|DELETE)\b[^(]*\b(users|orders)\b")


def upgrade(what: str) -> Upgrade:
    """Users with one address each, merged; or orders whose users are there."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("email", String(50)),
        Column("visits", Integer),
    )
    orders = Table(
        "orders",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("user_id", Integer, ForeignKey("users.id", name="fk_orders_user")),
    )
    declared = Upgrade(metadata, release="2")
    if what == "orphans":
        declared.orphans(orders.c.user_id, action="set null")
        return declared
    Index("uq_users_email", users.c.email, unique=True)

    def merge(winner: Row[Any], loser: Row[Any], connection: Connection) -> dict[str, Any]:
        # Not the same when it is done twice.
        connection.execute(update(orders).where(orders.c.user_id == loser.id).values(user_id=winner.id))
        return {"visits": winner.visits + loser.visits}

    declared.deduplicate(users.c.email, keep=users.c.id.desc(), merge=merge)
    return declared


def build(engine: Engine, what: str) -> None:
    """The database of the old release, cleaned up by migrate, and written to by stragglers since."""
    key = ", CONSTRAINT fk_orders_user FOREIGN KEY (user_id) REFERENCES users (id)" if what == "merge" else ""
    with engine.begin() as connection:
        for statement in (
            "DROP TABLE IF EXISTS orders",
            "DROP TABLE IF EXISTS users",
            "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR(50), visits INTEGER)",
            f"CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER{key})",
        ):
            connection.execute(text(statement))
        _write(connection, 1, lost=what == "orphans")
    emc.migrate(upgrade(what), engine, batch=BatchPolicy(fast=True))
    with engine.begin() as connection:
        _write(connection, 10, lost=what == "orphans")


def _write(connection: Connection, groups: int, *, lost: bool) -> None:
    """Four users of each group, with an order each; one of the orders of a user who is not there, if it is *lost*."""
    for group, number in itertools.product(range(groups), range(4)):
        identity = 10_000 * groups + 100 * group + number
        values = {"id": identity, "email": f"{groups}-{group}", "user": -identity if lost else identity}
        connection.execute(text("INSERT INTO users VALUES (:id, :email, 1)"), values)
        connection.execute(text("INSERT INTO orders VALUES (:id, :user)"), values)


def contract(engine: Engine, what: str) -> int:
    """Contract in small batches; answers the exit code."""
    small = partial(BatchPolicy, start=4, smallest=4, largest=4)
    with patch.object(stragglers, "BatchPolicy", small):
        return int(emc.contract(upgrade(what), engine, old_code_gone=True).exit_code)


def main(url: str, what: str, last: int | None) -> int:
    """Contract, as far as it comes."""
    engine, moments, written = create_engine(url), 0, False

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == last:
            os.kill(os.getpid(), signal.SIGKILL)

    @event.listens_for(engine, "after_cursor_execute")
    def carried_out(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal written
        if threading.current_thread() is threading.main_thread() and _WRITE.match(statement):
            written = True
            moment()

    @event.listens_for(engine, "checkin")
    def committed(*_: Any) -> None:
        # The transaction of the batch is over: its connection goes back to the pool.
        nonlocal written
        if threading.current_thread() is threading.main_thread() and written:
            written = False
            moment()

    code = contract(engine, what)
    print(moments)  # noqa: T201  # The parent chooses among them.
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None))
