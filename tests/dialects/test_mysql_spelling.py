"""The MariaDB server's spelling of the models: what it says, and that nothing is left of how it was asked."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.dialects import mysql as my

from emc.dialects.base import CannotSpellError
from emc.dialects.mysql import MariaDB, spelling
from emc.dialects.mysql.spelling import SCRATCH_PREFIX
from emc.diff.facts import same_table
from emc.names import TableKey
from emc.schema import LiveTable
from tests.mariadb_server import CONFIGURATION, SPELLINGS, MariaDBPool, execute, make_account, spelled

MARIADB = MariaDB()


@pytest.fixture
def server(mariadb_url: str) -> Iterator[sa.Engine]:
    """A fresh MariaDB database."""
    engine = sa.create_engine(mariadb_url)
    yield engine
    engine.dispose()


def models(*tables: str) -> MetaData:
    """Tables with what only the server can spell."""
    metadata = MetaData()
    for name in tables or ("things",):
        Table(
            name,
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("name", sa.String(20), server_default=sa.text("(lower('ABC'))")),
            Column("doc", sa.JSON, nullable=False),
            Column("at", my.DATETIME(fsp=6), server_default=sa.text("now(6) on update now(6)")),
            Column("up", sa.ForeignKey(f"{name}.id"), index=True),
            sa.CheckConstraint("name <> 'x' AND (up > 5 OR up < 3)"),
            sa.CheckConstraint("name <> 'y'", name="ck_name"),
            sa.UniqueConstraint("name"),
        )
    return metadata


def spell(engine: sa.Engine, metadata: MetaData) -> dict[TableKey, LiveTable]:
    """The spelling of *metadata* beside what there is."""
    with MARIADB.reading(engine) as connection:
        live = MARIADB.read(connection, [None])
        return dict(MARIADB.spell(connection, list(metadata.tables.values()), live))


def scratch_databases(engine: sa.Engine) -> list[str]:
    """Databases that bear the prefix."""
    return [name for name in sa.inspect(engine).get_schema_names() if name.startswith(SCRATCH_PREFIX)]


@pytest.mark.parametrize("drivername", SPELLINGS)
def test_models_are_spelled_as_the_server_shows_them(mariadb_url: str, drivername: str) -> None:
    """After create_all, the spelling of the models and the live schema are the same; before it, the spelling is too."""
    engine = sa.create_engine(spelled(mariadb_url, drivername))
    metadata = models("things", "odd `name` %")
    before = spell(engine, metadata)
    metadata.create_all(engine)
    with MARIADB.reading(engine) as connection:
        live = MARIADB.read(connection, [None]).tables
    after = spell(engine, metadata)
    assert before.keys() == after.keys() == live.keys()
    for key, table in live.items():
        assert same_table(after[key], table, engine.dialect)
        assert same_table(before[key], table, engine.dialect)
    assert scratch_databases(engine) == []
    engine.dispose()


def test_the_snapshot_stays_as_it_was(server: sa.Engine) -> None:
    """Spelling within a snapshot neither commits it nor ends it."""
    metadata = models()
    metadata.create_all(server)
    count = sa.text("SELECT count(*) FROM things")
    with MARIADB.reading(server) as connection:
        assert connection.scalar(count) == 0
        with server.begin() as other:
            other.exec_driver_sql("INSERT INTO things (doc) VALUES ('1')")
        live = MARIADB.read(connection, [None])
        assert MARIADB.spell(connection, list(metadata.tables.values()), live)
        assert connection.scalar(count) == 0
    with server.connect() as connection:
        assert connection.scalar(count) == 1


def test_the_session_does_not_go_back_to_the_pool(server: sa.Engine) -> None:
    """What the scratch session has set is seen by nobody else."""
    variables = sa.text("SELECT @@sql_log_bin, @@lock_wait_timeout, @@sql_mode")
    with server.connect() as connection:
        before = connection.execute(variables).one()
    spell(server, models())
    for _ in range(3):
        with server.connect() as connection:
            assert connection.execute(variables).one() == before


def test_tables_of_one_name_are_spelled_each_for_itself(server: sa.Engine) -> None:
    """Tables of one name in several schemas do not get mixed up."""
    metadata = MetaData()
    for schema, length in ((None, 5), ("one", 6), ("two", 7)):
        Table("users", metadata, Column("name", sa.String(length), index=True), schema=schema)
    found = spell(server, metadata)
    assert {key.schema: table.columns["name"]["type"].length for key, table in found.items()} == {  # type: ignore[attr-defined]
        None: 5,
        "one": 6,
        "two": 7,
    }


def test_what_cannot_be_created_is_left_out(server: sa.Engine) -> None:
    """A table that the server refuses is not spelled; the others are, and nothing is left of either."""
    metadata = models("good", "better")
    Table("bad_default", metadata, Column("id", sa.Integer, server_default=sa.text("unheard_of()")))
    Table("bad_type", metadata, Column("id", sa.String()))
    Table("bad_size", metadata, Column("id", sa.String(16383)), Column("more", sa.String(16383)))
    Table("long" * 17, metadata, Column("id", sa.Integer))
    assert [key.name for key in spell(server, metadata)] == ["better", "good"]
    assert scratch_databases(server) == []


def test_a_failure_leaves_nothing_either(server: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is dropped whatever happens while it is there."""

    def fail(*_: object) -> None:
        assert scratch_databases(server) != []
        raise LookupError

    monkeypatch.setattr(spelling, "read_scratch", fail)
    with pytest.raises(LookupError):
        spell(server, models())
    assert scratch_databases(server) == []


KILLED = """
import sys
import sqlalchemy as sa
from emc.dialects.mysql import MariaDB, spelling
from tests.dialects.test_mysql_spelling import models, spell

def wait(session, scratch, *_):
    print(scratch, flush=True)
    sys.stdin.read()

spelling.read_scratch = wait
spell(sa.create_engine(sys.argv[1]), models())
"""


def test_the_leftover_of_a_killed_run_is_dropped(server: sa.Engine, mariadb_url: str) -> None:
    """A run that is killed leaves its database; the next one drops it, but not that of a run that is still going on.

    Neither does it touch a database that is only called alike.
    """
    alike = f"{SCRATCH_PREFIX}of_somebody"
    command = [sys.executable, "-c", KILLED, mariadb_url]
    runs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        made = [run.stdout.readline().strip() for run in runs]  # type: ignore[union-attr]
        execute(mariadb_url, f"CREATE DATABASE {alike}")
        assert sorted(scratch_databases(server)) == sorted([*made, alike])
        runs[0].kill()
        # The lock is free once the server has seen that the session is gone.
        assert execute(mariadb_url, f"SELECT GET_LOCK('{made[0]}', 60)") == [(1,)]
        assert spell(server, models())
        assert sorted(scratch_databases(server)) == sorted([made[1], alike])
    finally:
        for run in runs:
            run.kill()
            run.communicate()
        execute(mariadb_url, f"DROP DATABASE IF EXISTS {alike}")
    assert execute(mariadb_url, f"SELECT GET_LOCK('{made[1]}', 60)") == [(1,)]
    spell(server, models())
    assert scratch_databases(server) == []


def account(url: str, name: str, *grants: str) -> sa.Engine:
    """An engine of an account with *grants* alone."""
    execute(url, f"CREATE OR REPLACE USER {name}", *(f"GRANT {grant} TO {name}" for grant in grants))
    return sa.create_engine(sa.make_url(url).set(username=name))


@pytest.mark.parametrize("kind", ["owner", "reader"])
def test_who_may_create_no_database_cannot_spell(server: sa.Engine, mariadb_url: str, kind: Any) -> None:
    """Neither who may only read nor who owns nothing but the database itself; the snapshot stays usable."""
    metadata = models()
    metadata.create_all(server)
    engine = sa.create_engine(make_account(mariadb_url, f"emc_spelling_{kind}", kind))
    with MARIADB.reading(engine) as connection:
        live = MARIADB.read(connection, [None])
        with pytest.raises(CannotSpellError):
            MARIADB.spell(connection, list(metadata.tables.values()), live)
        assert connection.scalar(sa.text("SELECT count(*) FROM things")) == 0
    engine.dispose()
    assert scratch_databases(server) == []


def test_a_grant_for_scratch_databases_is_enough(server: sa.Engine, mariadb_url: str) -> None:
    """The privileges on databases of that prefix, and no others, are what spelling needs."""
    metadata = models()
    metadata.create_all(server)
    engine = account(
        mariadb_url,
        "emc_spelling",
        f"SELECT ON `{server.url.database}`.*",
        rf"CREATE, DROP, INDEX, ALTER, SELECT ON `{SCRATCH_PREFIX}%`.*".replace("_", r"\_"),
    )
    assert same_table(
        spell(engine, metadata)[TableKey(None, "things")],
        spell(server, metadata)[TableKey(None, "things")],
        server.dialect,
    )
    engine.dispose()


@pytest.mark.parametrize("privileges", ["CREATE", "CREATE, DROP", "DROP", "CREATE, DROP, SELECT"])
def test_half_a_grant_leaves_nothing(server: sa.Engine, mariadb_url: str, privileges: str) -> None:
    """Who may not drop is not let create; who may not do all of it is told so, and no database stays."""
    pattern = rf"`{SCRATCH_PREFIX}%`.*".replace("_", r"\_")
    engine = account(
        mariadb_url, "emc_spelling", f"SELECT ON `{server.url.database}`.*", f"{privileges} ON {pattern}"
    )
    with pytest.raises(CannotSpellError):
        spell(engine, models())
    engine.dispose()
    assert scratch_databases(server) == []


def test_a_read_only_session_cannot_spell(server: sa.Engine) -> None:
    """Whoever made the session read-only meant it, although another one could write."""
    engine = sa.create_engine(server.url, connect_args={"init_command": "SET SESSION TRANSACTION READ ONLY"})
    with pytest.raises(CannotSpellError):
        spell(engine, models())
    engine.dispose()


def binlogged(url: str) -> Sequence[str]:
    """The statements of the binary log that name a scratch database."""
    [(log, *_)] = execute(url, "SHOW BINARY LOGS")[-1:]
    return [row[5] for row in execute(url, f"SHOW BINLOG EVENTS IN '{log}'") if SCRATCH_PREFIX in row[5]]


def test_replicas_need_not_follow(mariadb_pool: MariaDBPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the privilege for it nothing of the scratch database is in the binary log; without it all of it is.

    A read-only server does not let anybody spell who has no privilege to write there.
    """
    monkeypatch.setitem(CONFIGURATION, "log-bin", "binary")
    server = mariadb_pool.new()
    try:
        with server.database() as url:
            engine = sa.create_engine(url)
            spell(engine, models())
            assert binlogged(url) == []
            pattern = rf"`{SCRATCH_PREFIX}%`.*".replace("_", r"\_")
            plain = account(url, "emc_spelling", f"SELECT ON `{engine.url.database}`.*", f"ALL ON {pattern}")
            spell(plain, models())
            statements = binlogged(url)
            assert "CREATE DATABASE" in statements[1]
            assert "DROP DATABASE" in statements[-1]
            execute(url, "SET GLOBAL read_only = 1")
            with pytest.raises(CannotSpellError):
                spell(plain, models())
            plain.dispose()
            engine.dispose()
    finally:
        server.stop()


def test_operators_choices_are_kept(server: sa.Engine) -> None:
    """What models leave unsaid is spelled as the live table has it, for the table and for each column."""
    metadata = MetaData()
    Table(
        "plain",
        metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("a", sa.String(9)),
        Column("b", sa.Text),
    )
    with server.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(9) COLLATE latin1_bin, b TEXT)"
            " ENGINE=Aria CHARSET=latin1 ROW_FORMAT=PAGE"
        )
    with MARIADB.reading(server) as connection:
        live = MARIADB.read(connection, [None]).tables[TableKey(None, "plain")]
    assert same_table(spell(server, metadata)[TableKey(None, "plain")], live, server.dialect)


@pytest.mark.parametrize("drivername", ["mariadb+pymysql", "mysql+pymysql"])
def test_options_of_the_other_name_count(mariadb_url: str, drivername: str) -> None:
    """An index whose options are said for the other kind of URL is made with them, or as create_all() makes it."""
    engine = sa.create_engine(spelled(mariadb_url, drivername))
    other = "mysql" if drivername.startswith("mariadb") else "mariadb"
    options: dict[str, Any] = {f"{other}_length": 10}
    metadata = MetaData()
    for name in ("made_by_either", "made_without", "lengthy"):
        Table(
            name,
            metadata,
            Column("id", sa.Integer, primary_key=True),
            Column("a", sa.Text if name == "lengthy" else sa.String(50)),
            sa.Index(f"ix_{name}", "a", **options),
        )
    with engine.begin() as connection:
        for name, index in (("made_by_either", "a(10)"), ("made_without", "a"), ("lengthy", "a(10)")):
            type_ = "TEXT" if name == "lengthy" else "VARCHAR(50)"
            connection.exec_driver_sql(
                f"CREATE TABLE {name} (id INT AUTO_INCREMENT PRIMARY KEY, a {type_}, INDEX ix_{name} ({index}))"
            )
    with MARIADB.reading(engine) as connection:
        live = MARIADB.read(connection, [None]).tables
    found = spell(engine, metadata)
    for key, table in live.items():
        assert same_table(found[key], table, engine.dialect)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE made_by_either DROP INDEX ix_made_by_either, ADD INDEX ix_made_by_either (a(11))"
        )
    with MARIADB.reading(engine) as connection:
        changed = MARIADB.read(connection, [None]).tables[TableKey(None, "made_by_either")]
    again = spell(engine, metadata)[TableKey(None, "made_by_either")]
    assert not same_table(again, changed, engine.dialect)
    assert again.indexes[0]["dialect_options"] == {f"{engine.dialect.name}_length": {"a": 10}}
    engine.dispose()
