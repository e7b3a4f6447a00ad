"""PostgreSQL behind a real PgBouncer, in each of its modes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa

import emc
from emc.dialects.postgresql import PostgreSQL, pooling
from emc.errors import ConfigurationError, DatabaseUnavailableError, ExitCode
from emc.steps import LockPolicy, Transaction
from tests.commands import shop
from tests.pgbouncer import Mode, PgBouncer, pooler
from tests.servers import PostgresServer

POSTGRESQL = PostgreSQL()

Through = Callable[..., sa.Engine]


@pytest.fixture
def through(pg_server: PostgresServer, postgresql_url: str) -> Iterator[Through]:
    """Makes engines that reach the database through a PgBouncer of its own."""
    with ExitStack() as stack:

        def make(
            mode: Mode, reach: Callable[[PgBouncer, str], str] = PgBouncer.url, **settings: Any
        ) -> sa.Engine:
            bouncer = stack.enter_context(pooler(pg_server, mode, **settings))
            engine = sa.create_engine(reach(bouncer, postgresql_url))
            stack.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def direct(postgresql_url: str) -> Iterator[sa.Engine]:
    """The same database without a pooler."""
    engine = sa.create_engine(postgresql_url)
    yield engine
    engine.dispose()


def send(engine: sa.Engine, *statements: str) -> None:
    """Make a state of the database."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def tables(engine: sa.Engine) -> list[str]:
    """The tables of the database."""
    return sorted(sa.inspect(engine).get_table_names())


def open_session(engine: sa.Engine) -> None:
    """Ask for a session that commits by itself, as a concurrent build does."""
    with POSTGRESQL.open(engine, Transaction.AUTOCOMMIT, LockPolicy.WEAK, 0.1):
        pass


@pytest.mark.parametrize("reach", [PgBouncer.url, PgBouncer.socket_url])
def test_sessions_that_only_seem_to_stay(through: Through, reach: Callable[[PgBouncer, str], str]) -> None:
    """In an otherwise idle transaction pool SET stays by chance, and emc sees all the same that nothing is its own."""
    engine = through("transaction", reach)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        first = connection.exec_driver_sql(
            "SELECT pg_backend_pid(), set_config('lock_timeout', '7s', false)"
        ).one()
        again = connection.exec_driver_sql("SELECT pg_backend_pid(), current_setting('lock_timeout')").one()
        assert tuple(first) == tuple(again)  # This is the trap.
    with pytest.raises(ConfigurationError) as caught:
        open_session(engine)
    assert "session mode" in (caught.value.remedy or "")


@pytest.mark.parametrize("settings", [{}, {"server_round_robin": 1}, {"default_pool_size": 1}])
def test_busy_pools_are_seen_through_too(through: Through, settings: dict[str, int]) -> None:
    """With several sessions in the pool, in either order, or with one only, they are seen to be handed around."""
    engine = through("transaction", **settings)
    with ExitStack() as stack:
        for _ in range(1 if "default_pool_size" in settings else 4):
            stack.enter_context(engine.connect()).exec_driver_sql("SELECT 1")
    with pytest.raises(ConfigurationError):
        open_session(engine)


def test_nothing_of_emc_stays_in_a_shared_session(through: Through, direct: sa.Engine) -> None:
    """What emc refuses to work in keeps its settings: the next client of the session does not inherit a timeout."""
    engine = through("transaction", default_pool_size=1)
    with pytest.raises(ConfigurationError):
        open_session(engine)
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "row_security")
    query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    with engine.connect() as pooled, direct.connect() as own:
        assert tuple(pooled.exec_driver_sql(query).one()) == tuple(own.exec_driver_sql(query).one())


def test_a_transaction_pool_is_refused_before_anything_is_done(through: Through, direct: sa.Engine) -> None:
    """Expand and contract end with exit code 2 and the remedy, and have written nothing, not even a table of emc's."""
    send(direct, *shop.old_statements())
    before = tables(direct)
    engine, upgrade = through("transaction"), shop.make_upgrade()
    with pytest.raises(ConfigurationError) as caught:
        emc.expand(upgrade, engine)
    assert caught.value.exit_code is ExitCode.ERROR
    assert tables(direct) == before
    emc.expand(upgrade, direct)
    emc.migrate(upgrade, direct)
    steps = [step.id for step in emc.plan(upgrade, direct).plan.contract]
    history = emc.history(direct)
    with pytest.raises(ConfigurationError):
        emc.contract(upgrade, engine, old_code_gone=True)
    assert [step.id for step in emc.plan(upgrade, direct).plan.contract] == steps != []
    assert emc.history(direct) == history


def test_what_needs_no_session_works_in_a_transaction_pool(through: Through, direct: sa.Engine) -> None:
    """Plan and status read in one transaction, and each batch of migrate is one: they work behind any such pool."""
    send(direct, *shop.old_statements())
    engine, upgrade = through("transaction"), shop.make_upgrade()
    assert [step.id for step in emc.plan(upgrade, engine).plan.expand] == [
        step.id for step in emc.plan(upgrade, direct).plan.expand
    ]
    emc.expand(upgrade, direct)
    # More often than psycopg waits before it prepares a statement on the server.
    for _ in range(7):
        assert emc.status(upgrade, engine).next == "emc migrate"
    assert emc.migrate(upgrade, engine).exit_code is ExitCode.DONE
    assert emc.status(upgrade, engine).next.startswith("emc contract")


@pytest.mark.parametrize("reach", [PgBouncer.url, PgBouncer.socket_url])
def test_a_session_pool_will_do(
    through: Through, direct: sa.Engine, reach: Callable[[PgBouncer, str], str]
) -> None:
    """Where each client has a session of its own the whole upgrade works, by TCP and by Unix socket."""
    send(direct, *shop.old_statements())
    shop.run_all(through("session", reach))
    assert emc.plan(shop.make_upgrade(), direct).plan.is_empty


def test_a_statement_pool_is_refused(through: Through) -> None:
    """Where not even a transaction is possible every command says so, with the remedy and exit code 2."""
    engine, upgrade = through("statement"), shop.make_upgrade()
    for command in (emc.plan, emc.status, emc.expand, emc.migrate, emc.contract):
        with pytest.raises(DatabaseUnavailableError) as caught:
            command(upgrade, engine)
        assert caught.value.exit_code is ExitCode.ERROR
        assert "session mode" in (caught.value.remedy or "")


def test_what_the_pooler_does_not_pass_on_is_named(pg_server: PostgresServer, postgresql_url: str) -> None:
    """A startup parameter that PgBouncer refuses is answered with ignore_startup_parameters, which settles it."""
    options = {"connect_args": {"options": "-c search_path=public"}}
    with pooler(pg_server, "session") as bouncer:
        engine = sa.create_engine(bouncer.url(postgresql_url), **options)
        with pytest.raises(DatabaseUnavailableError) as caught:
            emc.plan(shop.make_upgrade(), engine)
        assert "ignore_startup_parameters" in (caught.value.remedy or "")
    with pooler(pg_server, "session", ignore_startup_parameters="options") as bouncer:
        engine = sa.create_engine(bouncer.url(postgresql_url), **options)
        assert emc.plan(shop.make_upgrade(), engine).plan.expand
        engine.dispose()


def test_without_a_pooler_nothing_is_tried(direct: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a connection to the server itself no second one is made, so a role's connection limit is no hindrance."""
    monkeypatch.setattr(pooling, "create_engine", lambda *_, **__: pytest.fail("a second connection"))
    with POSTGRESQL.open(direct, Transaction.AUTOCOMMIT, LockPolicy.SHORT, 0.1) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_no_statement_is_prepared(direct: sa.Engine) -> None:
    """What was sent often does not fail after a change of type, and the application's statements may be prepared."""
    send(direct, "CREATE TABLE t (a varchar(5))")
    with direct.connect() as connection:
        usual = connection.connection.driver_connection.prepare_threshold  # type: ignore[union-attr]
    for _ in range(8):
        with POSTGRESQL.open(direct, Transaction.TOGETHER, LockPolicy.SHORT, 0.1) as connection:
            connection.exec_driver_sql("SELECT a FROM t").all()
    with POSTGRESQL.open(direct, Transaction.TOGETHER, LockPolicy.SHORT, 0.1) as connection:
        connection.exec_driver_sql("ALTER TABLE t ALTER a TYPE text")
        assert connection.exec_driver_sql("SELECT a FROM t").all() == []
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
    with direct.connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold == usual  # type: ignore[union-attr]
