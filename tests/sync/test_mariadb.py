"""What MariaDB adds to the rules: statements of its own, users' triggers, sql_mode, cascades, accounts, DDL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymysql.err import OperationalError
from sqlalchemy import (
    Column,
    Computed,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects.mysql import TIMESTAMP, TINYINT, VARCHAR
from sqlalchemy.exc import DBAPIError

import emc
from emc.dialects import dialect_of
from emc.dialects.mysql import MySQL
from emc.errors import PlanRefusedError, PrivilegeError
from emc.execute import RetryPolicy
from emc.names import TableKey
from emc.sync import Sync
from emc.upgrade import Upgrade
from tests.mariadb_server import MariaDBPool, execute, make_account
from tests.sync.keeping import (
    backfill,
    install,
    kept,
    live,
    operation,
    out_of_step,
    rows,
    run,
    send,
    stands,
    steps,
    sync_of,
    table,
    writing,
)

USERS = TableKey(None, "users")


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[Engine]:
    """An engine on a fresh MariaDB database."""
    engine = create_engine(mariadb_url)
    yield engine
    engine.dispose()


def renamed(*more: Column[Any]) -> tuple[Table, Sync]:
    """users.name has become users.full_name."""
    row = table(Column("name", String(50)), Column("full_name", String(50)), *more)
    return row, sync_of(row, ["name"], ["full_name"])


# -- statements ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO users (id, name) VALUES (1, 'Bob') ON DUPLICATE KEY UPDATE name = VALUES(name)", "Bob"),
        (
            "INSERT INTO users (id, full_name) VALUES (1, 'Bob') ON DUPLICATE KEY UPDATE full_name = 'Cid'",
            "Cid",
        ),
        ("INSERT INTO users (id, name) VALUES (1, 'Bob') ON DUPLICATE KEY UPDATE full_name = 'Cid'", "Cid"),
        ("INSERT IGNORE INTO users (id, name) VALUES (1, 'Bob')", "Ann"),
        ("REPLACE INTO users (id, name) VALUES (1, 'Bob')", "Bob"),
        ("REPLACE INTO users (id, full_name) VALUES (1, 'Bob')", "Bob"),
        ("UPDATE users JOIN others ON others.id = users.id SET users.name = others.word", "Eve"),
        ("UPDATE users, others SET users.full_name = others.word, others.word = 'x'", "Eve"),
        ("UPDATE IGNORE users SET name = 'Bob'", "Bob"),
    ],
)
def test_statements_of_its_own(engine: Engine, statement: str, expected: str) -> None:
    """Upserts, REPLACE and updates of several tables keep each row that they write in step."""
    row, sync = renamed()
    Table("others", row.metadata, Column("id", Integer, primary_key=True), Column("word", String(50)))
    kept(engine, row, sync, [{"id": 1, "name": "Ann", "full_name": "Ann"}])
    with writing(engine) as write:
        write("INSERT INTO others (id, word) VALUES (1, 'Eve')")
        write(statement)
    assert rows(engine, row) == [(expected, expected)]


def test_load_data(engine: Engine, tmp_path: Path) -> None:
    """Rows that are loaded from a file are in step, whichever columns it has."""
    row, sync = renamed()
    kept(engine, row, sync)
    tmp_path.chmod(0o755)
    for side in ("name", "full_name"):
        at = 1 if side == "name" else 3
        file = tmp_path / side
        file.write_text(f"{at}\tAnn\n{at + 1}\t\\N\n")
        with writing(engine) as write:
            write(f"LOAD DATA INFILE '{file}' INTO TABLE users (id, {side})")
    assert rows(engine, row) == [("Ann", "Ann"), (None, None)] * 2


def test_not_null_without_a_default(engine: Engine) -> None:
    """The new release need not name an old column that is NOT NULL and has no default: the trigger comes first."""
    row = table(Column("name", String(50), nullable=False), Column("full_name", String(50)))
    kept(engine, row, sync_of(row, ["name"], ["full_name"]))
    with writing(engine) as write:
        write("INSERT INTO users (id, full_name) VALUES (1, 'Bob')")
        with pytest.raises(DBAPIError, match="1364"):
            write("INSERT INTO users (id) VALUES (2)")
    assert rows(engine, row) == [("Bob", "Bob")]


@pytest.mark.parametrize("ignore", ["", "IGNORE "])
@pytest.mark.parametrize("sql_mode", ["", "STRICT_ALL_TABLES"])
def test_a_value_that_the_conversion_cannot_take(engine: Engine, ignore: str, sql_mode: str) -> None:
    """It is refused, and never bent into another one, however lenient the session is that writes it."""
    row = table(Column("price", Integer), Column("cents", TINYINT))
    kept(engine, row, sync_of(row, ["price"], ["cents"], lambda old: old * 100, lambda new: new / 100))
    with engine.connect() as connection:
        connection.execute(text("SET SESSION sql_mode = :modes"), {"modes": sql_mode})
        with pytest.raises(DBAPIError, match="1264"):
            send(connection, f"INSERT {ignore}INTO users (id, price) VALUES (1, 2)")
    assert rows(engine, row) == []


def test_letters_and_spaces_count(engine: Engine) -> None:
    """A change that the column's collation takes for none comes over, also between columns of two collations."""
    row = table(
        Column("name", VARCHAR(50, charset="latin1", collation="latin1_german1_ci")),
        Column("full_name", VARCHAR(50, charset="utf8mb4", collation="utf8mb4_unicode_ci")),
    )
    sync = sync_of(row, ["name"], ["full_name"])
    kept(engine, row, sync, [{"id": 1, "name": "Bäcker", "full_name": "Bäcker"}])
    assert out_of_step(engine, sync) == 0
    for value in ("bäcker", "backer", "backer ", "BACKER ", "Bäcker"):
        with engine.begin() as connection:
            connection.execute(row.update().values(name=value))
        assert rows(engine, row) == [(value, value)]


# -- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql_mode",
    ["", "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES", "PAD_CHAR_TO_FULL_LENGTH"],
)
def test_made_the_same_by_every_session(engine: Engine, mariadb_url: str, sql_mode: str) -> None:
    """The triggers do not depend on the modes of the session that makes them, which it has again afterwards."""
    row, _ = renamed()
    sync = sync_of(row, ["name"], ["full_name"], lambda old: old + " \\ 'ä'", lambda new: func.left(new, 3))
    row.metadata.create_all(engine)
    other = create_engine(mariadb_url, connect_args={"init_command": f"SET sql_mode = '{sql_mode}'"})
    install(other, sync)
    assert stands(other, sync)
    assert stands(engine, sync)
    with other.connect() as connection:
        before = send(connection, f"SELECT @@sql_mode, (SELECT @@GLOBAL.sql_mode), '{sql_mode}'").one()
        connection.execute(text("INSERT INTO users (id, name) VALUES (1, 'Ann')"))
        connection.commit()
    other.dispose()
    assert set(sql_mode.split(",")) <= set(before[0].split(","))
    assert rows(engine, row) == [("Ann", "Ann \\ 'ä'")]


# -- columns that the server sets -----------------------------------------------------------------------------------


def test_the_backfill_touches_no_time_of_change(engine: Engine) -> None:
    """A column that every UPDATE sets stays as it is when rows are copied, and moves when an application writes."""
    with engine.begin() as connection:
        send(
            connection,
            "CREATE TABLE users (id int PRIMARY KEY, name varchar(50), "
            "changed datetime NOT NULL DEFAULT '2020-01-01' ON UPDATE current_timestamp())",
        )
        send(connection, "INSERT INTO users (id, name) VALUES (1, 'Ann'), (2, 'Bob')")
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("full_name", String(50)),
        Column(
            "changed",
            DateTime,
            nullable=False,
            server_default=text("'2020-01-01' ON UPDATE current_timestamp()"),
        ),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.rename("users.name", to=users.c.full_name)
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    with engine.begin() as connection:
        send(connection, "UPDATE users SET full_name = 'Cid' WHERE id = 2")
        found = send(
            connection, "SELECT name, full_name, changed < '2020-01-02' FROM users ORDER BY id"
        ).all()
    assert [tuple(one) for one in found] == [("Ann", "Ann", 1), ("Cid", "Cid", 0)]


def test_a_time_of_change_under_another_name(engine: Engine) -> None:
    """Triggers see what ON UPDATE makes of a column, so that the column itself can be renamed."""
    with engine.begin() as connection:
        send(
            connection,
            "CREATE TABLE users (id int PRIMARY KEY, changed datetime(6) ON UPDATE current_timestamp(6), "
            "modified datetime(6), n int)",
        )
        send(connection, "INSERT INTO users VALUES (1, '2020-01-01', '2020-01-01', 1)")
    row = Table("users", MetaData(), autoload_with=engine)
    sync = sync_of(row, ["changed"], ["modified"])
    assert dialect_of(engine).cannot_sync(sync, live(engine)) is None
    install(engine, sync)
    with writing(engine) as write:
        for statement in ("n = 1", "n = 2", "modified = '2021-01-01'", "changed = '2022-01-01'"):
            write(f"UPDATE users SET {statement}")
            assert out_of_step(engine, sync) == 0
    refusal = MySQL().cannot_sync(sync, live(engine))
    assert refusal is not None
    assert "ON UPDATE" in refusal.reason


def refused(engine: Engine, row: Table, sync: Sync) -> str:
    """Why the dialect does not keep *sync*."""
    row.metadata.create_all(engine)
    refusal = dialect_of(engine).cannot_sync(sync, live(engine))
    assert refusal is not None
    assert refusal.remedy
    return refusal.reason


def test_generated_columns(engine: Engine) -> None:
    """A generated column is refused: a BEFORE trigger neither sees nor sets it."""
    row = table(Column("a", Integer), Column("b", Integer, Computed("a + 1")), Column("c", Integer))
    assert "users.b is generated" in refused(engine, row, sync_of(row, ["b"], ["c"]))


def test_numbers_that_the_server_gives(engine: Engine) -> None:
    """An AUTO_INCREMENT column is refused: its number is not there yet when the triggers run."""
    row = Table("users", MetaData(), Column("id", Integer, primary_key=True), Column("number", Integer))
    assert "users.id is AUTO_INCREMENT" in refused(engine, row, sync_of(row, ["id"], ["number"]))


def test_what_is_not_of_the_row(engine: Engine) -> None:
    """A conversion whose answer depends on the clock, on other columns or on the time zone is refused."""
    row = table(
        Column("a", String(50)),
        Column("b", String(50)),
        Column("c", String(50)),
        Column("t", TIMESTAMP, nullable=True),
    )
    up = {
        "now()": sync_of(row, ["a"], ["b"], lambda a: a + func.now()),
        "reads c": sync_of(row, ["a"], ["b"], lambda a: a + row.c.c),
        "time zone": sync_of(row, ["t"], ["b"], func.concat),
        "(TIMESTAMP)": sync_of(row, ["a"], ["t"]),
    }
    for said, sync in up.items():
        assert said in refused(engine, row, sync)


# -- foreign keys ---------------------------------------------------------------------------------------------------


def family(action: str, column: str) -> tuple[Table, Sync]:
    """users.boss has become users.manager; *column* refers to other rows, with *action*."""
    row = table(Column("boss", Integer), Column("manager", Integer))
    Table("people", row.metadata, Column("id", Integer, primary_key=True, autoincrement=False))
    what = action.removeprefix("ON DELETE ").removeprefix("ON UPDATE ")
    options: dict[str, Any] = {"ondelete" if "DELETE" in action else "onupdate": what}
    row.c[column].append_foreign_key(ForeignKey("people.id", name="fk_people", **options))
    return row, sync_of(row, ["boss"], ["manager"])


@pytest.mark.parametrize("column", ["boss", "manager"])
@pytest.mark.parametrize("action", ["ON DELETE SET NULL", "ON UPDATE CASCADE", "ON UPDATE SET NULL"])
def test_cascades_are_refused(engine: Engine, action: str, column: str) -> None:
    """A foreign key that writes either side behind the triggers is named, with what to do about it."""
    row, sync = family(action, column)
    reason = refused(engine, row, sync)
    assert "fk_people" in reason
    assert action in reason


def test_cascades_of_the_models_are_refused(engine: Engine) -> None:
    """So is one that the models have and the database does not yet."""
    _, sync = family("ON DELETE SET NULL", "manager")
    with engine.begin() as connection:
        send(connection, "CREATE TABLE users (id int PRIMARY KEY, boss int)")
    refusal = dialect_of(engine).cannot_sync(sync, live(engine))
    assert refusal is not None
    assert refusal.target == "users.manager"


def test_cascades_do_write_behind_triggers(engine: Engine) -> None:
    """The server fires no trigger for them, which is why they are refused; rows deleted along harm nobody."""
    row, sync = family("ON DELETE SET NULL", "boss")
    row.metadata.create_all(engine)
    with writing(engine) as write:
        write("INSERT INTO people VALUES (1)")
        write("INSERT INTO users VALUES (1, 1, 1)")
        install(engine, sync)
        write("DELETE FROM people")
    assert rows(engine, row) == [(None, 1)]
    row, sync = family("ON DELETE CASCADE", "boss")
    assert dialect_of(engine).cannot_sync(sync, live(engine)) is not None
    execute(engine.url.render_as_string(hide_password=False), "DROP TABLE users, people")
    row.metadata.create_all(engine)
    assert dialect_of(engine).cannot_sync(sync, live(engine)) is None


def test_a_plan_refuses_cascades(engine: Engine) -> None:
    """The plan itself says so, before anything is touched."""
    with engine.begin() as connection:
        send(connection, "CREATE TABLE people (id int PRIMARY KEY)")
        send(
            connection,
            "CREATE TABLE users (id int PRIMARY KEY, boss int, "
            "CONSTRAINT fk_boss FOREIGN KEY (boss) REFERENCES people (id) ON DELETE SET NULL)",
        )
    metadata = MetaData()
    Table("people", metadata, Column("id", Integer, primary_key=True, autoincrement=False))
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("manager", ForeignKey("people.id", name="fk_manager", ondelete="SET NULL")),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.rename("users.boss", to=users.c.manager)
    with pytest.raises(PlanRefusedError, match="fires no trigger"):
        emc.expand(upgrade, engine)
    assert not live(engine).tables[USERS].syncs


# -- users' triggers --------------------------------------------------------------------------------------------------


def test_users_triggers_that_were_there(engine: Engine) -> None:
    """What they make of a row comes over: ours run behind them."""
    row, sync = renamed()
    row.metadata.create_all(engine)
    with writing(engine) as write:
        for event in ("INSERT", "UPDATE"):
            write(
                f"CREATE TRIGGER tidy_{event} BEFORE {event} ON users FOR EACH ROW SET NEW.name = TRIM(NEW.name)"
            )
        install(engine, sync)
        write("INSERT INTO users (id, name) VALUES (1, ' Ann ')")
        assert rows(engine, row) == [("Ann", "Ann")]
        write("UPDATE users SET name = ' Bob '")
        assert rows(engine, row) == [("Bob", "Bob")]
    assert stands(engine, sync)


def test_users_triggers_that_come_later(engine: Engine) -> None:
    """One that speaks of a column of ours puts us out of force until we are made anew; another one does not."""
    row, sync = renamed(Column("n", Integer))
    kept(engine, row, sync)
    with writing(engine) as write:
        write("CREATE TRIGGER count_up BEFORE UPDATE ON users FOR EACH ROW SET NEW.n = OLD.n + 1")
        write("CREATE TRIGGER note_it AFTER UPDATE ON users FOR EACH ROW SET @name = NEW.name")
        assert stands(engine, sync)
        write("CREATE TRIGGER tidy BEFORE UPDATE ON users FOR EACH ROW SET NEW.name = TRIM(NEW.name)")
        assert not stands(engine, sync)
        install(engine, sync)
        assert stands(engine, sync)
        write("INSERT INTO users (id, name) VALUES (1, 'Ann')")
        write("UPDATE users SET name = ' Bob '")
    assert rows(engine, row) == [("Bob", "Bob", None)]


# -- accounts ---------------------------------------------------------------------------------------------------------


def rename() -> Upgrade:
    """users.name becomes users.full_name."""
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("full_name", String(50)),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.rename("users.name", to=users.c.full_name)
    return upgrade


OLD = "CREATE TABLE users (id int PRIMARY KEY, name varchar(50))"


@pytest.mark.parametrize("privilege", ["TRIGGER", "LOCK TABLES", "UPDATE"])
def test_a_missing_privilege(mariadb_url: str, privilege: str) -> None:
    """What the triggers take is asked for before the first step."""
    execute(mariadb_url, OLD)
    url = make_account(mariadb_url, f"no_{privilege.replace(' ', '_').lower()}", "owner")
    account = f"no_{privilege.replace(' ', '_').lower()}"
    execute(mariadb_url, f"REVOKE {privilege} ON `{database(mariadb_url)}`.* FROM {account}")
    engine = create_engine(url)
    with pytest.raises(PrivilegeError, match=f"{privilege} on table users"):
        emc.expand(rename(), engine)
    assert "full_name" not in live(engine).tables[USERS].columns
    engine.dispose()


def database(url: str) -> str:
    """Its name as a pattern of grants."""
    return url.rpartition("/")[2].replace("_", r"\_")


def test_privileges_of_a_role(mariadb_url: str) -> None:
    """A role is not enough: triggers run as the account alone, and every write would fail."""
    execute(mariadb_url, OLD)
    url = make_account(mariadb_url, "by_role", "reader")
    execute(
        mariadb_url,
        "CREATE ROLE IF NOT EXISTS migrators",
        f"GRANT ALL PRIVILEGES ON `{database(mariadb_url)}`.* TO migrators",
        "GRANT migrators TO by_role",
        "SET DEFAULT ROLE migrators FOR by_role",
    )
    engine = create_engine(url)
    with pytest.raises(PrivilegeError, match="TRIGGER on table users, granted to by_role@% itself"):
        emc.expand(rename(), engine)
    execute(mariadb_url, f"GRANT TRIGGER, SELECT, UPDATE ON `{database(mariadb_url)}`.* TO by_role")
    emc.expand(rename(), engine)
    execute(mariadb_url, "INSERT INTO users (id, name) VALUES (1, 'Ann')")
    assert execute(mariadb_url, "SELECT full_name FROM users") == [("Ann",)]
    engine.dispose()


def test_a_binary_log_that_trusts_nobody(mariadb_pool: MariaDBPool) -> None:
    """Error 1419 is foreseen, with the setting that lets an account without SUPER make triggers."""
    server = mariadb_pool.new({"log-bin": "binlog", "server-id": "1"})
    try:
        with server.database() as url:
            execute(url, OLD)
            engine = create_engine(make_account(url, "deploy", "owner"))
            with pytest.raises(PrivilegeError, match="log_bin_trust_function_creators"):
                emc.expand(rename(), engine)
            assert "full_name" not in live(engine).tables[USERS].columns
            execute(url, "SET GLOBAL log_bin_trust_function_creators = 1")
            emc.expand(rename(), engine)
            engine.dispose()
            execute(url, "INSERT INTO users (id, name) VALUES (1, 'Ann')")
            assert execute(url, "SELECT full_name FROM users") == [("Ann",)]
    finally:
        server.stop()


def test_the_account_that_made_them_is_gone(engine: Engine, mariadb_url: str) -> None:
    """The triggers of an account that was dropped are not in force, and expand makes them anew."""
    execute(mariadb_url, OLD, "DROP USER IF EXISTS short_lived")
    url = make_account(mariadb_url, "short_lived", "owner")
    theirs = create_engine(url)
    emc.expand(rename(), theirs)
    theirs.dispose()
    assert emc.plan(rename(), engine).plan.expand == ()
    execute(mariadb_url, "DROP USER short_lived")
    with pytest.raises(Exception, match="1449"):
        execute(mariadb_url, "INSERT INTO users (id, name) VALUES (1, 'Ann')")
    assert [step.id for step in emc.plan(rename(), engine).plan.expand] == ["install-sync:users.full_name"]
    emc.expand(rename(), engine)
    execute(mariadb_url, "INSERT INTO users (id, name) VALUES (1, 'Ann')")


# -- the end ----------------------------------------------------------------------------------------------------------


def ready(engine: Engine) -> Upgrade:
    """All rows are copied, and nothing is left but contract."""
    upgrade = rename()
    with engine.begin() as connection:
        send(connection, OLD)
        send(connection, "INSERT INTO users VALUES (1, 'Ann')")
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    return upgrade


def drops(engine: Engine, upgrade: Upgrade) -> list[Any]:
    """The steps that take the sync and the old column away."""
    return [step for step in emc.plan(upgrade, engine).plan.contract if step.unit == "sync:users.full_name"]


def test_triggers_come_back_when_the_column_stays(engine: Engine) -> None:
    """Where the column cannot go the triggers are as they were, within the same statement."""
    upgrade = ready(engine)
    wanted = dict(live(engine).tables[USERS].syncs)
    (first, *_) = drops(engine, upgrade)
    (block,) = [one for one in first.statements if one.startswith("BEGIN NOT ATOMIC")]
    broken = block.replace("DROP COLUMN name", "DROP COLUMN nothing")
    assert broken != block
    with dialect_of(engine).open(engine, first.transaction, first.locks, 5) as connection:
        for statement in first.statements:
            if statement is not block:
                send(connection, statement)
                continue
            with pytest.raises(DBAPIError, match="1091"):
                send(connection, broken)
    assert dict(live(engine).tables[USERS].syncs) == wanted
    assert emc.contract(upgrade, engine, old_code_gone=True).blocked == ()
    assert emc.plan(upgrade, engine).is_empty


def test_nothing_goes_unless_the_triggers_are_ours(engine: Engine) -> None:
    """Somebody who changes a trigger between the gate and the drop is noticed under the lock."""
    upgrade = ready(engine)
    steps_ = drops(engine, upgrade)
    name = next(iter(live(engine).tables[USERS].syncs))
    with engine.begin() as connection:
        send(
            connection,
            f"CREATE OR REPLACE TRIGGER {name} BEFORE UPDATE ON users FOR EACH ROW SET NEW.full_name = NEW.name",
        )
    with pytest.raises(DBAPIError, match="1242"):
        run(engine, *steps_)
    assert "name" in live(engine).tables[USERS].columns
    report = emc.contract(upgrade, engine, old_code_gone=True)
    shut = {verdict.gate for one in report.blocked for verdict in one.verdicts}
    assert "sync-live:users.full_name" in shut


@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute"])
@pytest.mark.parametrize(
    "beginning", ["LOCK TABLES", "SELECT CASE WHEN", "BEGIN NOT ATOMIC", "SET SESSION sql_mode"]
)
def test_a_connection_that_is_lost(engine: Engine, mariadb_url: str, beginning: str, moment: str) -> None:
    """Wherever the session of contract ends, triggers and column are both there or both gone, and contract finishes."""
    upgrade = ready(engine)
    between: list[tuple[bool, bool]] = []

    def cut(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if statement.startswith(beginning) and not between:
            with suppress(OperationalError):
                execute(mariadb_url, f"KILL {connection.connection.dbapi_connection.thread_id()}")
            between.append(_both(engine.url.render_as_string(hide_password=False)))

    event.listen(engine, moment, cut)
    report = emc.contract(upgrade, engine, old_code_gone=True, retry=RetryPolicy(sleep=lambda _: None))
    assert report.blocked == ()
    assert between
    assert between[0][0] == between[0][1]
    assert emc.plan(upgrade, engine).is_empty
    assert rows(engine, Table("users", MetaData(), autoload_with=engine)) == [("Ann",)]


def _both(url: str) -> tuple[bool, bool]:
    """Whether the triggers are there, and whether the old column is."""
    ((triggers, columns),) = execute(
        url,
        "SELECT (SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE()), (SELECT COUNT(*)"
        " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'users'"
        " AND column_name = 'name')",
    )
    return triggers == 2, columns == 1


def test_of_several_columns(engine: Engine) -> None:
    """Columns that have become one go in one statement, with their indexes."""
    row = table(
        Column("first", String(50), index=True), Column("last", String(50)), Column("name", String(50))
    )
    metadata = MetaData()
    users = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(50), server_default="nobody"),
    )
    upgrade = Upgrade(metadata, release="2")
    upgrade.convert(
        ["users.first", "users.last"],
        to=users.c.name,
        up=lambda first, last: first + " " + last,
        down=lambda name: (func.substring_index(name, " ", 1), func.substring_index(name, " ", -1)),
    )
    upgrade.retire("users.ix_users_first")
    row.metadata.create_all(engine)
    with engine.begin() as connection:
        send(connection, "ALTER TABLE users DROP COLUMN name")
        send(connection, "INSERT INTO users VALUES (1, 'Ann', 'Lee')")
    emc.expand(upgrade, engine)
    emc.migrate(upgrade, engine)
    unit = [step for step in emc.plan(upgrade, engine).plan.contract if step.unit == "sync:users.name"]
    assert [step.id for step in unit] == [
        "drop-sync:users.name",
        "drop-column:users.first",
        "drop-column:users.last",
        "set-default:users.name",
    ]
    assert sum("DROP COLUMN" in one for step in unit for one in step.statements) == 1
    assert emc.contract(upgrade, engine, old_code_gone=True).blocked == ()
    assert emc.plan(upgrade, engine).is_empty
    with writing(engine) as write:
        write("INSERT INTO users (id) VALUES (2)")
    assert rows(engine, users) == [("Ann Lee",), ("nobody",)]


def test_nobody_sees_them(engine: Engine) -> None:
    """Triggers of ours are in no plan, and stand in the way of no column and table."""
    upgrade = ready(engine)
    now = live(engine)
    assert now.tables[USERS].syncs
    assert not now.tables[USERS].guards
    assert now.dependents == {}
    plan = emc.plan(upgrade, engine).plan
    assert plan.expand == ()
    assert plan.unmanaged == ()


def test_a_second_copy_of_a_row_that_was_taken_over(engine: Engine) -> None:
    """A batch of the backfill that meets a row which the new release has written meanwhile leaves it alone."""
    row, sync = renamed()
    kept(engine, row, sync, [{"id": at, "name": "Ann", "full_name": None} for at in (1, 2)])
    with engine.begin() as batch:
        batch.execute(text("SELECT * FROM users LIMIT 1"))
        with writing(engine) as write:
            write("UPDATE users SET full_name = 'Bob' WHERE id = 1")
        assert backfill(batch, sync, dialect_of(engine), row.c.id > 0) == 1
    assert rows(engine, row) == [("Bob", "Bob"), ("Ann", "Ann")]


def test_made_and_taken_away_alone(engine: Engine) -> None:
    """A sync can go by itself, as undo has it, and leaves nothing."""
    row, sync = renamed()
    kept(engine, row, sync)
    (step,) = steps(engine, operation(sync, install=False))
    run(engine, step)
    assert live(engine).tables[USERS].syncs == {}
