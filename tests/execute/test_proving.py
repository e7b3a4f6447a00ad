"""Is every row looked at, whatever the key, in batches?"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, update

from emc.claims import Claim, Proof
from emc.dialects import dialect_of
from emc.execute import RetryPolicy, proving
from emc.execute.proving import prove
from emc.names import TableKey
from emc.work.tables import walking_key

ROWS = 11
KEYS: dict[str, list[tuple[str, Any, Any]]] = {
    "one column": [("id", Integer(), lambda at: at * 3)],
    "two columns": [("k", String(9), lambda at: "ab"[at % 2]), ("id", Integer(), lambda at: at)],
    "three columns": [
        ("k", Integer(), lambda at: at % 2),
        ("l", String(9), lambda at: "xyz"[at % 3]),
        ("id", Integer(), lambda at: at),
    ],
    "none": [],
}


def held(name: str) -> Table:
    """A table with the key of that name."""
    key = [Column(column, type_, primary_key=True, autoincrement=False) for column, type_, _ in KEYS[name]]
    return Table("held", MetaData(), *key, Column("n", Integer), Column("a", Integer))


def look(engine: Engine, table: Table, pauses: list[float]) -> Proof:
    """The proof that no row has a value in a."""
    dialect, key = dialect_of(engine), TableKey(None, "held")
    with dialect.reading(engine) as connection:
        walk = walking_key(dialect.read(connection, [None]).tables[key])
    claim = Claim("gate", key, table, table.c.a.is_not(None), "rows", "no", walk)
    (proof,) = prove(engine, dialect, [claim], ["guard"], RetryPolicy(sleep=pauses.append))
    return proof


@pytest.mark.parametrize("name", ["one column", "two columns", "three columns", "none"])
def test_no_row_is_passed_over(engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row in the way is found wherever it is, and where none is all have been seen."""
    monkeypatch.setattr(proving, "_START", 2)
    monkeypatch.setattr(proving, "_LARGEST", 3)
    table = held(name)
    table.create(engine)
    with engine.connect():
        pass  # A mysql:// URL is known to lead to MariaDB from now on.
    for at in range(ROWS):
        with engine.begin() as connection:
            connection.execute(insert(table).values(n=at, **{c: value(at) for c, _, value in KEYS[name]}))
    for at in range(ROWS):
        with engine.begin() as connection:
            connection.execute(update(table).where(table.c.n == at).values(a=1))
        proof = look(engine, table, [])
        assert proof.rows == 1
        assert len(proof.keys) == (1 if KEYS[name] else 0)
        with engine.begin() as connection:
            connection.execute(update(table).values(a=None))
    pauses: list[float] = []
    proof = look(engine, table, pauses)
    assert (proof.rows_seen, proof.rows, proof.guards) == (ROWS, 0, ("guard",))
    assert bool(pauses) is bool(KEYS[name])


def test_an_empty_table_proves_at_once(engine: Engine) -> None:
    """Empty and one-row tables are ordinary cases."""
    table = held("one column")
    table.create(engine)
    with engine.connect():
        pass
    assert look(engine, table, []).rows_seen == 0
    with engine.begin() as connection:
        connection.execute(insert(table).values(id=1, a=1))
    assert look(engine, table, []).rows == 1
