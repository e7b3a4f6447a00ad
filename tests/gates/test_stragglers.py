"""Data that comes, or hides, between the first look of contract and the drop."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import pytest
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Engine,
    Enum,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DBAPIError

import emc
from emc.errors import ExitCode, PrivilegeError, StatementFailedError
from emc.execute import RetryPolicy
from emc.upgrade import Upgrade
from tests.gates.gating import Build, gate, make, run_sql, table, upgrade_to
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


SMALL = 8 * 1024 * 1024
# A row that is in nobody's way but that of a table which is to hold none.
GOOD = {"id": 1, "a": None, "b": 5, "c": 1, "kind": "new"}


def old_users(m: Any) -> None:
    """What the old release has."""
    table(name="parents")(m)
    table(
        C("a", String(20)),
        C("b", Integer),
        C("c", Integer),
        C("kind", Enum("old", "new", name="kinds")),
    )(m)


def new_users(*more: Any, a: Any = None, b: Any = None, kind: Any = None) -> Build:
    """What the new release has instead."""

    def build(m: Any) -> None:
        table(name="parents")(m)
        table(
            a or C("a", String(20)),
            b or C("b", Integer),
            C("c", Integer),
            kind or C("kind", Enum("old", "new", name="kinds")),
            *more,
        )(m)

    return build


def _without_users(m: Any) -> None:
    table(name="parents")(m)


def _without_a(m: Any) -> None:
    table(name="parents")(m)
    table(C("b", Integer), C("c", Integer), C("kind", Enum("old", "new", name="kinds")))(m)


def _retiring(target: str) -> Any:
    return lambda upgrade, _: upgrade.retire(target)


class Straggling(NamedTuple):
    """An operation that the rows decide about, and a row that is in its way."""

    step: str
    build: Build
    straggler: dict[str, Any]
    declare: Any = None
    rewrites: bool = False
    """Copies every row, so that it is refused where there are many."""


STRAGGLING = [
    Straggling("set-not-null:users.b", new_users(b=C("b", Integer, nullable=False)), {"b": None}),
    Straggling(
        "add-check:users.ck_users_b",
        new_users(lambda: CheckConstraint("b > 0", name="ck_users_b")),
        {"b": -1},
    ),
    Straggling(
        "add-foreign-key:users.fk_users_c",
        new_users(lambda: ForeignKeyConstraint(["c"], ["parents.id"], name="fk_users_c")),
        {"c": 99},
    ),
    Straggling(
        "add-unique:users.uq_users_b", new_users(lambda: UniqueConstraint("b", name="uq_users_b")), {"b": 5}
    ),
    Straggling(
        "create-index:users.ix_users_b", new_users(lambda: Index("ix_users_b", "b", unique=True)), {"b": 5}
    ),
    Straggling("alter-type:users.a", new_users(a=C("a", String(5))), {"a": "much too long"}, rewrites=True),
    Straggling(
        "remove-enum-value:kinds",
        new_users(kind=C("kind", Enum("new", name="kinds"))),
        {"kind": "old"},
        rewrites=True,
    ),
    Straggling("drop-column:users.a", _without_a, {"a": "x"}, _retiring("users.a")),
    Straggling("drop-table:users", _without_users, {}, _retiring("users")),
]


class Meddler:
    """Another program, which writes a row right before the n-th statement that contract sends about users."""

    def __init__(self, engine: Engine, straggler: dict[str, Any], at: int) -> None:
        self.engine, self.at = engine, at
        self.row = {**GOOD, "id": 7, "b": 7, **straggler}
        self.moments = 0
        self.refused: str | None = None
        self._other = create_engine(engine.url)

    def __enter__(self) -> Self:
        event.listen(self.engine, "before_cursor_execute", self._sent)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self._sent)
        self._other.dispose()

    def _sent(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not re.match(r"(LOCK|ALTER|CREATE|DROP|DO|COMMENT)\b", statement) or re.search(
            r"pg_temp|emc_(?!guard|nn|kinds)", statement
        ):
            return
        self.moments += 1
        if self.moments - 1 != self.at:
            return
        try:
            with self._other.begin() as connection:
                # What emc has locked stays so until its transaction ends: the application waits, and may give up.
                connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
                names = ", ".join(self.row)
                values = ", ".join(
                    f"CAST(:{name} AS kinds)" if name == "kind" else f":{name}" for name in self.row
                )
                connection.execute(text(f"INSERT INTO users ({names}) VALUES ({values})"), self.row)
        except DBAPIError as error:
            self.refused = str(error.orig)


def _fresh(engine: Engine, rows: list[dict[str, Any]]) -> None:
    """The database of the old release."""
    run_sql(engine, "DROP TABLE IF EXISTS users, parents", "DROP TYPE IF EXISTS kinds")
    make(engine, old_users, parents=[{"id": 1}], users=rows)


def _contract(upgrade: Upgrade, engine: Engine) -> tuple[str, ...]:
    """What was done; a row that the server finds in the way ends the run."""
    retry = RetryPolicy(sleep=lambda _: None)
    try:
        return emc.contract(upgrade, engine, old_code_gone=True, retry=retry).done
    except StatementFailedError:
        return ()


@pytest.mark.parametrize("small", [SMALL, -1], ids=["small", "big"])
@pytest.mark.parametrize("case", STRAGGLING, ids=lambda case: str(case.step))
def test_a_straggler_is_refused_or_kept(
    postgresql: Engine, case: Straggling, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right before every statement of contract: a row in the way is refused, or keeps the step from being done."""
    if small < 0 and case.rewrites:
        pytest.skip("a big table is not rewritten")
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", small)
    refused = kept = 0
    for at in itertools.count():
        _fresh(postgresql, [] if case.step.startswith("drop-table") else [GOOD])
        upgrade = upgrade_to(case.build, case.declare)
        with Meddler(postgresql, case.straggler, at) as meddler:
            done = _contract(upgrade, postgresql)
        if meddler.moments <= at:
            assert done == (case.step,)
            break
        if meddler.refused is not None:
            refused += 1
        else:
            kept += 1
            assert done == ()
            with postgresql.connect() as connection:
                row = connection.exec_driver_sql("SELECT * FROM users WHERE id = 7").mappings().one()
            assert dict(row) == meddler.row
            # Nobody who writes is hindered by what the run has left.
            run_sql(postgresql, "UPDATE users SET c = 1 WHERE id = 1", "DELETE FROM users WHERE id = 7")
        assert done or _contract(upgrade, postgresql) == (case.step,)
        assert emc.plan(upgrade, postgresql).is_empty
    assert refused + kept == at > 0
    # What locks everybody out first of all loses nothing either, and a first moment is always there.
    assert kept > 0
