"""Runs one data migration until somebody kills it: ``python -m tests.data.killed URL sql|function WORKERS``."""

import sys
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Row, String, Table, create_engine, text

from emc.data import BatchPolicy
from emc.upgrade import Upgrade
from tests.data.support import migrate, only_work

metadata = MetaData()
ITEMS = Table(
    "items",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(50)),
    Column("size", Integer),
)


def upgrade(how: str) -> Upgrade:
    """Counts up rather than sets, so that a row that is done twice can be told."""
    declared = Upgrade(metadata)
    where = ITEMS.c.size < 1000
    if how == "sql":
        declared.data_migration(ITEMS, name="m", where=where, values={"size": ITEMS.c.size + 1000})
        return declared

    @declared.data_migration(ITEMS, name="m", where=where)
    def count(row: Row[Any], connection: Connection) -> dict[str, Any]:
        connection.execute(text("INSERT INTO log VALUES (:id)"), {"id": row.id})
        return {"size": row.size + 1000}

    return declared


if __name__ == "__main__":
    engine = create_engine(sys.argv[1])
    result = migrate(
        engine,
        only_work(upgrade(sys.argv[2]), engine),
        batch=BatchPolicy(fast=True),
        small=20,
        workers=int(sys.argv[3]),
        report=lambda event: print(event.rows_done, flush=True),  # noqa: T201  # The parent counts the batches.
    )
    sys.exit(0 if result.outcome == "complete" else 1)
