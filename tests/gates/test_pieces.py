"""What is big goes in pieces on PostgreSQL: foreign keys and plain indexes first, each by itself, then the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    inspect,
)

import emc
from emc.commands import PhaseReport
from emc.commands.jsonable import plan_json
from emc.errors import ExitCode
from emc.execute import RetryPolicy
from emc.upgrade import Upgrade
from tests.gates.gating import make, run_sql, upgrade_to
from tests.gates.test_guards import before, columns, live, rows

INDEX = "DROP INDEX CONCURRENTLY ix_users_a"
LOCK = "LOCK TABLE users IN ACCESS EXCLUSIVE MODE"
DROP = "ALTER TABLE users DROP COLUMN a"
KEY = "ALTER TABLE kids DROP CONSTRAINT kids_parent_id_fkey"


@pytest.fixture(autouse=True)
def big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table counts as big."""
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", -1)


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[Engine]:
    """An engine on a fresh PostgreSQL database."""
    engine = create_engine(postgresql_url)
    yield engine
    engine.dispose()


@pytest.fixture
def other(postgresql_url: str) -> Iterator[Engine]:
    """Another program's engine on it."""
    other = create_engine(postgresql_url)
    yield other
    other.dispose()


def old_release(m: MetaData) -> None:
    """A column with an index of its own, one with another column, and a unique one."""
    users = Table(
        "users", m, Column("id", Integer, primary_key=True), Column("a", String), Column("b", Integer)
    )
    Index("ix_users_a", users.c.a)
    Index("ix_users_b_a", users.c.b, postgresql_include=["a"])
    Index("ux_users_a", users.c.a, unique=True)


def new_release(m: MetaData) -> None:
    """Without the column."""
    Table("users", m, Column("id", Integer, primary_key=True), Column("b", Integer))


def retiring() -> Upgrade:
    """The column goes, once it holds nothing."""
    return upgrade_to(new_release, lambda upgrade, _: upgrade.retire("users.a"))


def family(m: MetaData) -> None:
    """Two tables that refer to each other."""
    Table("parents", m, Column("id", Integer, primary_key=True), Column("kid_id", ForeignKey("kids.id")))
    Table("kids", m, Column("id", Integer, primary_key=True), Column("parent_id", ForeignKey("parents.id")))


def orphaning() -> Upgrade:
    """Both tables go."""

    def declare(upgrade: Upgrade, _: object) -> None:
        upgrade.discard("parents", reason="nobody has any")
        upgrade.discard("kids", reason="nobody is one")

    return upgrade_to(lambda _: None, declare)


def contract(upgrade: Upgrade, engine: Engine) -> PhaseReport:
    """Run contract, with the old release gone."""
    return emc.contract(upgrade, engine, old_code_gone=True, retry=RetryPolicy(sleep=lambda _: None))


def indexes(engine: Engine) -> set[str]:
    """The indexes of users."""
    return {str(one["name"]) for one in inspect(engine).get_indexes("users")}


def test_plain_indexes_go_before_the_column(engine: Engine) -> None:
    """Once the proof stands, plain indexes go one by one beside the traffic; the unique one goes with the column."""
    make(engine, old_release, users=[{"id": 1}])
    with before(engine, LOCK, lambda: None) as sent:
        report = contract(retiring(), engine)
    assert report.done == (
        "drop-index:users.ix_users_a",
        "drop-index:users.ix_users_b_a",
        "drop-column:users.a",
    )
    kept = [
        one for one in sent if one.startswith(("DROP", LOCK, "SELECT count(*) AS count_1, coalesce", DROP))
    ]
    assert kept == [kept[0], INDEX, "DROP INDEX CONCURRENTLY ix_users_b_a", LOCK, DROP]
    assert kept[0].startswith("SELECT count(*)")
    assert (columns(engine), indexes(engine)) == ({"id", "b"}, set())
    assert emc.plan(retiring(), engine).is_empty
    done = [one for one in emc.history(engine) if one.operation == "drop-index:users.ix_users_a"]
    assert [one.event for one in done] == ["done"]
    assert done[0].details["evidence"]["data-elsewhere:users.a"]["rows_seen"] == 1


def test_foreign_keys_go_before_their_tables(engine: Engine) -> None:
    """Two tables are not locked together with the drop of one: what ties them goes before, by itself."""
    make(engine, family)
    with before(engine, "DROP TABLE", lambda: None) as sent:
        report = contract(orphaning(), engine)
    assert report.exit_code is ExitCode.DONE
    drops = [one.strip() for one in sent if one.strip().startswith(("ALTER TABLE", "DROP TABLE"))]
    assert sorted(drops[:2]) == [KEY, "ALTER TABLE parents DROP CONSTRAINT parents_kid_id_fkey"]
    assert sorted(drops[2:]) == ["DROP TABLE kids", "DROP TABLE parents"]
    assert {"kids", "parents"}.isdisjoint(inspect(engine).get_table_names())


def test_the_plan_shows_the_pieces(engine: Engine) -> None:
    """Whoever reads the plan sees every statement, in the order in which it is sent."""
    make(engine, old_release)
    report = emc.plan(retiring(), engine)
    (step,) = plan_json(report, engine.dialect)["phases"]["contract"]
    assert step["sql"] == [INDEX, "DROP INDEX CONCURRENTLY ix_users_b_a", DROP]


def test_nothing_goes_while_the_gate_is_shut(engine: Engine) -> None:
    """A row in the way keeps the indexes, too."""
    make(engine, old_release, users=[{"id": 1, "a": "x"}])
    report = contract(retiring(), engine)
    assert (report.done, report.exit_code) == ((), ExitCode.GATE_SHUT)
    assert indexes(engine) == {"ix_users_a", "ix_users_b_a", "ux_users_a"}


def test_a_gate_that_shuts_on_the_way_says_what_went_before(engine: Engine, other: Engine) -> None:
    """The guard is taken away by somebody, and a row comes: it is kept, and so is what has not gone yet."""
    make(engine, old_release)

    def unguard() -> None:
        for name in live(engine).guards:
            run_sql(other, f"ALTER TABLE users DROP CONSTRAINT {name}")
        run_sql(other, "INSERT INTO users (id, a) VALUES (7, 'x')")

    with before(engine, LOCK, unguard):
        report = contract(retiring(), engine)
    assert report.exit_code is ExitCode.GATE_SHUT
    assert report.done == ("drop-index:users.ix_users_a", "drop-index:users.ix_users_b_a")
    ((verdict,),) = [one.verdicts for one in report.blocked]
    assert verdict.reason.endswith("; gone before it shut: " + ", ".join(report.done))
    assert (rows(engine), indexes(engine)) == ([(7, "x")], {"ux_users_a"})


@pytest.mark.parametrize("moment", [INDEX, "DROP INDEX CONCURRENTLY ix_users_b_a", LOCK, DROP])
def test_what_is_interrupted_goes_on(engine: Engine, moment: str) -> None:
    """Whichever piece emc is killed at: the same command again takes away what is left."""
    make(engine, old_release)

    class KilledError(BaseException):
        """Stands for the end of the process."""

    def die() -> None:
        raise KilledError

    with before(engine, moment, die), pytest.raises(KilledError):
        contract(retiring(), engine)
    assert "a" in columns(engine)
    assert contract(retiring(), engine).exit_code is ExitCode.DONE
    assert columns(engine) == {"id", "b"}
    assert live(engine).guards == {}


@pytest.mark.parametrize("moment", [INDEX, LOCK, DROP])
def test_a_lost_connection_is_no_harm(engine: Engine, other: Engine, moment: str) -> None:
    """Where the session is ended by somebody, emc looks what is there and goes on."""
    make(engine, old_release)
    sessions = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'emc' AND pid <> pg_backend_pid()"
    )
    with before(engine, moment, lambda: run_sql(other, sessions)):
        assert contract(retiring(), engine).exit_code is ExitCode.DONE
    assert columns(engine) == {"id", "b"}


def test_a_small_table_goes_in_one_transaction(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the proof is a matter of a moment, so is all of it."""
    monkeypatch.setattr("emc.dialects.postgresql.ground.SMALL", 8 * 1024 * 1024)
    make(engine, old_release)
    with before(engine, LOCK, lambda: None) as sent:
        assert contract(retiring(), engine).done == ("drop-column:users.a",)
    assert [one for one in sent if one.startswith("DROP INDEX")] == []
