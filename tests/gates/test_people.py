"""Gates that ask what people have said, what was seen before, and who may still run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    column,
    exists,
    literal_column,
    select,
    text,
)
from sqlalchemy import table as lightweight

import emc
from emc.changes.base import column_element, operation
from emc.dialects import dialect_of
from emc.errors import ExitCode, UnknownOperationError
from emc.gates import _OWN, Scope, gates_of, judge
from emc.names import TableKey
from emc.operations import Kind
from emc.phases import Phase
from emc.planning import derive
from emc.state.ledger import Event
from emc.upgrade import Upgrade
from tests.gates.gating import contract_steps, gate, gates, make, run_sql, table, upgrade_to

C = partial(partial, Column)
OLD = table(C("a", String(9)))
ROWS = [{"id": 1, "a": "x"}, {"id": 2, "a": "y"}]


def retiring(**options: Any) -> Upgrade:
    """Column a is retired."""
    return upgrade_to(table(), lambda upgrade, _: upgrade.retire("users.a", **options))


def moving(where: Callable[[Any], Any]) -> Upgrade:
    """Column a is retired once it was copied to b."""

    def declare(upgrade: Upgrade, t: Any) -> None:
        upgrade.data_migration(t["users"], name="copy", where=where, values={"b": Column("a")})
        upgrade.retire("users.a", after=["copy"])

    return upgrade_to(table(C("b", String(9))), declare)


def test_every_contract_operation_has_gates() -> None:
    """Each kind of operation that contract can run has its gates, or is listed as one that needs none of its own."""
    contract_only = {
        value
        for name, value in vars(Kind).items()
        if name.isupper() and value not in (Kind.CREATE_TABLE, Kind.ADD_COLUMN, Kind.CREATE_ENUM)
    }
    never_in_contract = {Kind.ADD_ENUM_VALUE, Kind.DROP_NOT_NULL, Kind.SET_COMMENT, Kind.INSTALL_SYNC}
    by_definition = {Kind.REPLACE_CONSTRAINT, Kind.REPLACE_INDEX}
    assert contract_only - never_in_contract - by_definition == set(_OWN)


def test_operation_without_a_gate_is_refused() -> None:
    """A kind of operation that nobody thought of must not run in contract."""
    strange: Any = None
    one = operation(strange, "vaporise", column_element(TableKey(None, "users"), "a"), Phase.CONTRACT, "")
    with pytest.raises(LookupError):
        gates_of(one)


def test_expand_comes_first(engine: Engine) -> None:
    """Nothing is contracted while something is left to expand, even with a gate overridden beside it."""
    make(engine, OLD)
    upgrade = upgrade_to(table(C("b", Integer)), lambda upgrade, _: upgrade.retire("users.a"))
    verdict = gate("expand-done:users.a", upgrade, engine, old_code_gone=True)
    assert not verdict.open
    assert "add-column:users.b" in verdict.reason
    assert verdict.remedy == "emc expand"
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.GATE_SHUT
    emc.expand(upgrade, engine)
    assert gate("expand-done:users.a", upgrade, engine).open
    assert emc.contract(upgrade, engine, old_code_gone=True).done == ("drop-column:users.a",)


def test_old_code_gone_is_the_operators_word(engine: Engine) -> None:
    """Without a word nothing is contracted; the word counts for one run, and the ledger keeps it."""
    make(engine, OLD)
    upgrade = retiring()
    assert not gate("old-code-gone:users.a", upgrade, engine).open
    assert gate("old-code-gone:users.a", upgrade, engine, old_code_gone=True).open
    assert emc.contract(upgrade, engine).exit_code is ExitCode.GATE_SHUT
    assert emc.history(engine) == ()
    emc.contract(upgrade, engine, old_code_gone=True)
    events = [entry.event for entry in emc.history(engine)]
    assert events[0] is Event.OLD_CODE_GONE
    assert set(events[1:]) - {Event.SENT} == {Event.DONE}


def test_discarded_on_purpose(engine: Engine) -> None:
    """A discard lets data go, for the reason that it gives, which the gate repeats."""
    make(engine, OLD, users=ROWS)
    upgrade = upgrade_to(
        table(), lambda upgrade, _: upgrade.discard("users.a", reason="rebuilt nightly from the CDN")
    )
    verdict = gate("data-elsewhere:users.a", upgrade, engine)
    assert verdict.open
    assert "rebuilt nightly from the CDN" in verdict.reason


def test_data_migration_is_asked_of_the_data(engine: Engine) -> None:
    """The gate of a moved column counts the rows that the migration has left, and says how to go on."""
    make(engine, OLD, users=ROWS)
    upgrade = moving(lambda t: t.c.b.is_distinct_from(t.c.a))
    assert gate("data-elsewhere:users.a", upgrade, engine).remedy == "emc expand"
    emc.expand(upgrade, engine)
    verdict = gate("data-elsewhere:users.a", upgrade, engine)
    assert (verdict.open, verdict.rows, verdict.keys) == (False, 2, ("id=1", "id=2"))
    assert verdict.remedy == "emc migrate --only copy"
    emc.migrate(upgrade, engine)
    assert gate("data-elsewhere:users.a", upgrade, engine).open
    run_sql(engine, "UPDATE users SET a = 'z' WHERE id = 2")
    verdict = gate("data-elsewhere:users.a", upgrade, engine)
    assert (verdict.open, verdict.keys) == (False, ("id=2",))


def test_condition_that_does_not_say_keeps_the_gate_shut(engine: Engine) -> None:
    """A condition that is NULL for a row proves nothing about the row, so the column stays."""
    make(engine, OLD, users=ROWS)
    upgrade = moving(lambda t: t.c.b != t.c.a)
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    verdict = gate("data-elsewhere:users.a", upgrade, engine)
    assert not verdict.open
    assert "is_distinct_from" in str(verdict.remedy)
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.GATE_SHUT


def test_no_data_goes_while_a_migration_may_read_it(engine: Engine) -> None:
    """A column that is discarded because a function moves it stays until the function has run."""
    make(engine, OLD, users=ROWS)

    def declare(upgrade: Upgrade, t: Any) -> None:
        upgrade.fill(t["users"].c.b, lambda row: row.a.upper())
        upgrade.discard("users.a", reason="moved to b")

    upgrade = upgrade_to(table(C("b", String(9), nullable=False)), declare)
    emc.expand(upgrade, engine)
    verdict = gate("migrate-done:users.a", upgrade, engine)
    assert (verdict.open, verdict.remedy) == (False, "emc migrate")
    assert emc.contract(upgrade, engine, old_code_gone=True).done == ()
    emc.migrate(upgrade, engine)
    assert gate("migrate-done:users.a", upgrade, engine).open
    assert sorted(emc.contract(upgrade, engine, old_code_gone=True).done) == [
        "drop-column:users.a",
        "set-not-null:users.b",
    ]


USERS = Table("users", MetaData(), Column("id", Integer), Column("vip", Integer), Column("age", Integer))
CONDITIONS: dict[str, tuple[Any, bool]] = {
    "table": (exists(select(1).where(USERS.c.vip == 1)), True),
    "alias": (exists().where(USERS.alias().c.vip == 1), True),
    "lightweight": (exists(select(1).where(lightweight("users", column("vip")).c.vip == 1)), True),
    "view": (exists(select(1).where(lightweight("important", column("vip")).c.vip == 1)), True),
    "text": (text("EXISTS (SELECT 1 FROM users WHERE vip = 1)"), True),
    "literal": (literal_column("(SELECT max(vip) FROM users)") == 1, True),
    "star": (exists().select_from(USERS), True),
    "other column": (exists(select(1).where(USERS.c.age == 1)), False),
    "own column": (Column("flag") == "x", False),
}


@pytest.mark.parametrize("values", [True, False], ids=["values", "function"])
@pytest.mark.parametrize("case", CONDITIONS)
def test_no_data_goes_while_a_condition_may_read_it(sqlite: Engine, case: str, values: bool) -> None:
    """A column that a data migration of another table asks for in its condition stays until that has run."""
    where, reads = CONDITIONS[case]
    old = table(C("vip", Integer), C("age", Integer))
    make(sqlite, old, users=[{"id": 1, "vip": 1, "age": 1}])
    orders = table(C("flag", String(9)), name="orders")
    make(sqlite, orders, orders=[{"id": 1, "flag": "x"}])
    run_sql(sqlite, "CREATE VIEW important AS SELECT id, 1 AS vip FROM orders")

    def new(m: MetaData) -> None:
        table(C("age", Integer))(m)
        orders(m)

    def declare(upgrade: Upgrade, t: Any) -> None:
        pending = and_(t["orders"].c.flag == "x", where)
        if values:
            upgrade.data_migration(t["orders"], name="flags", where=pending, values={"flag": "vip"})
        else:
            upgrade.data_migration(t["orders"], name="flags", where=pending)(lambda _: {"flag": "vip"})
        upgrade.discard("users.vip", reason="in orders.flag")

    upgrade = upgrade_to(new, declare)
    verdict = gate("migrate-done:users.vip", upgrade, sqlite)
    assert verdict.open is not reads, verdict.reason
    emc.migrate(upgrade, sqlite)
    assert gate("migrate-done:users.vip", upgrade, sqlite).open


def test_undeclared_element_is_never_dropped(engine: Engine) -> None:
    """A gate that is asked about an element which nobody has named stays shut."""
    make(engine, OLD)
    (step,) = contract_steps(retiring(), engine)
    dialect = dialect_of(engine)
    with dialect.reading(engine) as connection:
        plan = derive(connection, upgrade_to(table()), dialect)
        answers = judge(step.operation, connection, Scope(plan, dialect, old_code_gone=True))
    shut = [verdict for verdict in answers if not verdict.open]
    assert [verdict.gate for verdict in shut] == ["data-elsewhere:users.a"]
    assert shut[0].remedy == 'upgrade.retire("users.a")'


def test_override_needs_a_known_gate_and_a_reason(engine: Engine) -> None:
    """An override of a gate that the plan does not have, or without a reason, is an error, and nothing is done."""
    make(engine, OLD, users=ROWS)
    for overrides in ({"data-elsewhere:users.b": "x"}, {"data-elsewhere:users.a": "  "}):
        with pytest.raises(UnknownOperationError):
            emc.contract(retiring(), engine, old_code_gone=True, overrides=overrides)
    assert emc.history(engine) == ()


def test_override_is_recorded(engine: Engine) -> None:
    """An override lets one gate pass, and the ledger keeps it with its reason."""
    make(engine, OLD, users=ROWS)
    report = emc.contract(
        retiring(), engine, old_code_gone=True, overrides={"data-elsewhere:users.a": "checked by hand"}
    )
    assert report.done == ("drop-column:users.a",)
    (entry,) = [entry for entry in emc.history(engine) if entry.event is Event.OVERRIDDEN]
    assert entry.details["reason"] == "checked by hand"
    assert entry.details["gate"] == "data-elsewhere:users.a"


# -- soak -------------------------------------------------------------------------------------------------------------


def test_soak_begins_when_the_other_gates_are_open(engine: Engine) -> None:
    """A soak is counted from the first run that saw all other gates open, and starts anew when one shuts again."""
    make(engine, OLD)
    upgrade = retiring(soak="24h")
    assert not gate("soaked:users.a", upgrade, engine, old_code_gone=True).open
    assert emc.contract(upgrade, engine, old_code_gone=True).exit_code is ExitCode.GATE_SHUT
    now = dt.datetime.now(dt.UTC)
    early, late = now + dt.timedelta(hours=23), now + dt.timedelta(hours=25)
    assert not gate("soaked:users.a", upgrade, engine, old_code_gone=True, now=early).open
    assert gate("soaked:users.a", upgrade, engine, old_code_gone=True, now=late).open

    run_sql(engine, "INSERT INTO users (id, a) VALUES (1, 'x')")
    emc.contract(upgrade, engine, old_code_gone=True)
    assert not gate("soaked:users.a", upgrade, engine, old_code_gone=True, now=late).open


def test_soak_can_be_replaced_by_the_operator(engine: Engine) -> None:
    """An operator who gives another soak gets that one; none at all drops at once."""
    make(engine, OLD)
    report = emc.contract(retiring(soak="24h"), engine, old_code_gone=True, soak=dt.timedelta(0))
    assert report.done == ("drop-column:users.a",)


# -- index-unused -----------------------------------------------------------------------------------------------------

INDEXED = table(C("a", String(9)), partial(Index, "ix", "a"))


def index_retired() -> Upgrade:
    """Index ix is retired."""
    return upgrade_to(OLD, lambda upgrade, _: upgrade.retire("users.ix"))


def test_index_where_uses_are_not_counted(sqlite: Engine) -> None:
    """Where the database does not count the uses of an index, the operator's word has to do."""
    make(sqlite, INDEXED)
    assert gate("index-unused:users.ix", index_retired(), sqlite).open
    assert emc.contract(index_retired(), sqlite, old_code_gone=True).done == ("drop-index:users.ix",)


def test_index_that_is_still_used_stays(postgresql: Engine) -> None:
    """An index goes when no scan was counted since its retirement was first seen; a scan starts the wait anew."""
    make(postgresql, INDEXED, users=ROWS)
    verdict = gate("index-unused:users.ix", index_retired(), postgresql)
    assert not verdict.open
    emc.expand(index_retired(), postgresql)
    assert gate("index-unused:users.ix", index_retired(), postgresql).open

    with postgresql.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        connection.exec_driver_sql("SELECT id FROM users WHERE a = 'x'").all()
        # What a session has counted is seen by others when it says so.
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        connection.commit()
    verdict = gate("index-unused:users.ix", index_retired(), postgresql)
    assert not verdict.open
    assert verdict.remedy
    assert emc.contract(index_retired(), postgresql, old_code_gone=True).exit_code is ExitCode.GATE_SHUT
    assert emc.contract(index_retired(), postgresql, old_code_gone=True).done == ("drop-index:users.ix",)


def test_gates_never_write(engine: Engine) -> None:
    """Asking every gate leaves no trace in the database, not even of its own tables."""
    make(engine, INDEXED, users=ROWS)
    upgrade = upgrade_to(table(), lambda upgrade, _: upgrade.retire("users.a", soak="1h"))
    assert gates(upgrade, engine)
    assert emc.history(engine) == ()
    with engine.connect() as connection:
        names = connection.dialect.get_table_names(connection)
    assert names == ["users"]
