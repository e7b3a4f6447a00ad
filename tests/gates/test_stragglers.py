"""Data that comes, or hides, between the first look of contract and the drop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Engine, Integer, String, Table, create_engine, event

import emc
from emc.errors import ExitCode, PrivilegeError
from emc.upgrade import Upgrade
from tests.gates.gating import gate, make, run_sql, table, upgrade_to
from tests.servers import make_role

C = partial(partial, Column)


@contextmanager
def before_the_lock(engine: Engine, *statements: str) -> Iterator[list[str]]:
    """Another session commits *statements* right before each table is locked; answers what was locked."""
    other, locked = create_engine(engine.url), []

    @event.listens_for(engine, "before_cursor_execute")
    def sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("LOCK TABLE"):
            locked.append(statement)
            for one in statements:
                run_sql(other, one)

    yield locked
    event.remove(engine, "before_cursor_execute", sent)
    other.dispose()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize(
    ("target", "straggler"),
    [("users.a", "INSERT INTO users (id, a) VALUES (1, 'x')"), ("logs", "INSERT INTO logs (id) VALUES (1)")],
)
def test_a_row_written_before_the_lock_is_seen(
    postgresql: Engine, level: str, target: str, straggler: str
) -> None:
    """Tables are locked before the last look, so that what was committed until then keeps its column or table."""
    make(postgresql, lambda m: (table(C("a", String(9)))(m), table(name="logs")(m)))
    upgrade = upgrade_to(table(), lambda upgrade, _: upgrade.retire(target))
    engine = create_engine(postgresql.url, isolation_level=level)
    with before_the_lock(engine, straggler) as locked:
        report = emc.contract(upgrade, engine, old_code_gone=True)
    engine.dispose()
    assert len(locked) == 1
    assert report.done == ()
    assert report.exit_code is ExitCode.GATE_SHUT


def test_a_row_that_still_has_to_be_read_keeps_a_discarded_column(postgresql: Engine) -> None:
    """What is discarded because a data migration moves it stays while a straggler's row has not been moved."""
    make(postgresql, table(C("a", String(9)), C("b", Integer)))

    def declare(upgrade: Upgrade, t: Any) -> None:
        upgrade.data_migration(t["users"], name="move", where=lambda live: live.c.b.is_(None))(
            lambda row: {"b": int(row.a)}
        )
        upgrade.discard("users.a", reason="moved to b")

    upgrade = upgrade_to(table(C("b", Integer)), declare)
    with before_the_lock(postgresql, "INSERT INTO users (id, a) VALUES (1, '7')") as locked:
        assert emc.contract(upgrade, postgresql, old_code_gone=True).done == ()
    assert len(locked) == 1
    assert emc.migrate(upgrade, postgresql).exit_code is ExitCode.DONE
    assert emc.contract(upgrade, postgresql, old_code_gone=True).done == ("drop-column:users.a",)


def test_rows_that_a_policy_hides_keep_the_gate_shut(postgresql: Engine) -> None:
    """Where row-level security hides rows from the owner too, nothing is proved, and nothing is dropped."""
    url = make_role(postgresql.url.render_as_string(hide_password=False), "emc_test_owner", "owner")
    owner = create_engine(url)
    make(owner, lambda m: (table()(m), table(name="logs")(m)), logs=[{"id": 1}])
    run_sql(
        owner,
        "ALTER TABLE logs ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE logs FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON logs USING (id < 0)",
    )
    with pytest.raises(PrivilegeError, match="row-level security"):
        emc.contract(
            upgrade_to(table(), lambda upgrade, _: upgrade.retire("logs")), owner, old_code_gone=True
        )
    owner.dispose()
    run_sql(postgresql, "SELECT id FROM logs")


def test_a_row_value_with_a_null_in_it_is_data(postgresql: Engine) -> None:
    """IS NOT NULL is false for ROW('x', NULL); the column holds data all the same."""
    make(postgresql, table(), users=[{"id": 1}])
    run_sql(
        postgresql,
        "CREATE TYPE address AS (street text, zip text)",
        "ALTER TABLE users ADD COLUMN a address",
        "UPDATE users SET a = ROW('Mill Lane', NULL)",
    )
    upgrade = upgrade_to(table(), lambda upgrade, _: upgrade.retire("users.a"))
    assert gate("data-elsewhere:users.a", upgrade, postgresql).rows == 1


def test_rows_of_a_table_without_key_or_order_are_counted(engine: Engine) -> None:
    """A gate names rows by their first columns, even of types that have no order."""
    run_sql(engine, "CREATE TABLE users (data json, a int)", "INSERT INTO users VALUES ('{}', 1)")
    upgrade = upgrade_to(
        lambda m: Table("users", m, Column("data", JSON)), lambda upgrade, _: upgrade.retire("users.a")
    )
    assert gate("data-elsewhere:users.a", upgrade, engine).rows == 1
