"""The last line of defence of the phase rule, without a database."""

from typing import Any

import pytest
from alembic.operations import ops

from emc.errors import ExitCode
from emc.execute import SubtractiveStatementError, refuse_subtractive
from emc.names import Element, ElementKind, TableKey
from emc.operations import SUBTRACTIVE, Kind, Operation
from emc.phases import Phase
from emc.steps import Probe, Step, Transaction

USERS = TableKey(None, "users")


def step(
    *statements: str,
    kind: str = Kind.ADD_COLUMN,
    element: tuple[ElementKind, str | None] = (ElementKind.COLUMN, "tz"),
    **more: Any,
) -> Step:
    """A step that sends *statements*."""
    operation = Operation(
        ops.ExecuteSQLOp("SELECT 1"),
        kind,
        Element(element[0], USERS, element[1]),
        Phase.EXPAND,
        "something with users",
    )
    return Step(operation, statements, Probe("SELECT 1", "it is so"), unit="1", **more)


SUBTRACTIVE_SQL = [
    "DROP TABLE users",
    "drop table if exists users",
    "/* harmless */ DROP -- really\n TABLE users",
    'DROP TABLE "emc", users',
    "DROP TABLE emc_probe, users",
    "DROP TABLE emc_probe CASCADE",
    "DROP INDEX CONCURRENTLY IF EXISTS ix_users_name",
    "DROP VIEW active",
    "DROP TYPE mood",
    "DROP TRIGGER t ON users",
    "ALTER TABLE users DROP COLUMN name",
    "ALTER TABLE users DROP name",
    'ALTER TABLE users DROP "emc_name"',
    "ALTER TABLE users ADD COLUMN a INTEGER, DROP COLUMN name",
    "ALTER TABLE users ADD COLUMN a numeric(3, 1), DROP COLUMN name",
    "ALTER TABLE users ADD COLUMN a INTEGER NOT NULL",
    'ALTER TABLE users ADD "default" INTEGER NOT NULL',
    "ALTER TABLE users ALTER COLUMN name SET NOT NULL",
    "ALTER TABLE users ALTER name SET NOT NULL",
    "ALTER TABLE users ALTER COLUMN name DROP DEFAULT",
    "ALTER TABLE users ALTER COLUMN name TYPE varchar(3)",
    "ALTER TABLE users ALTER COLUMN name SET DATA TYPE varchar(3)",
    "ALTER TABLE users ALTER COLUMN name DROP IDENTITY",
    "ALTER TABLE users MODIFY name varchar(3) NOT NULL",
    "ALTER TABLE users CHANGE name full_name text",
    "ALTER TABLE users DROP CONSTRAINT uq_users_name",
    "ALTER TABLE users DROP CONSTRAINT emc_check CASCADE",
    "ALTER TABLE users DROP PRIMARY KEY",
    "ALTER TABLE users DROP INDEX ix_users_name",
    "ALTER TABLE users RENAME TO people",
    "ALTER TABLE users RENAME people",
    "ALTER TABLE users RENAME emc_people",
    "ALTER TABLE users RENAME AS people",
    "ALTER TABLE users RENAME COLUMN name TO full_name",
    "ALTER TABLE users RENAME name TO full_name",
    "ALTER TABLE users RENAME CONSTRAINT uq TO emc_uq",
    "ALTER TABLE users SET SCHEMA other",
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE users OWNER TO nobody",
    "ALTER TABLE users DISABLE TRIGGER ALL",
    "ALTER TABLE users DETACH PARTITION users_2020",
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
    "ALTER TYPE mood DROP ATTRIBUTE a",
    "ALTER INDEX ix_users_name RENAME TO ix",
    "ALTER SEQUENCE s RESTART",
    "ALTER ROLE app NOLOGIN",
    "SET STATEMENT foreign_key_checks=0 FOR ALTER TABLE users DROP COLUMN name",
    "SET STATEMENT max_statement_time=1 FOR DROP TABLE users",
    "SET GLOBAL foreign_key_checks = 0",
    "ANALYZE DELETE FROM users",
    "ANALYZE FORMAT=JSON UPDATE users SET name = NULL",
    "ALTER TABLE users NOWAIT DROP COLUMN name",
    "ALTER TABLE users WAIT 5 DROP COLUMN name",
    "ALTER TABLE users ADD (a INT NOT NULL, b INT DEFAULT 1)",
    "ALTER TABLE users ADD COLUMN IF NOT EXISTS (a INT NOT NULL, b INT DEFAULT 1)",
    "ALTER IGNORE TABLE users ADD UNIQUE (name)",
    "ALTER TABLE users CONVERT TO CHARACTER SET latin1",
    "RENAME TABLE users TO people",
    "ALTER TABLE `users` DROP COLUMN `name`",
    "DROP INDEX `ix_users_name` ON `users`",
    "ALTER TABLE users ADD `not``null` INT, DROP `name`",
    "TRUNCATE users",
    "TRUNCATE TABLE ONLY users",
    "DELETE FROM users",
    'DELETE FROM ONLY "users" WHERE false',
    "UPDATE users SET name = NULL",
    "INSERT INTO users VALUES (1)",
    "REPLACE INTO users VALUES (1)",
    "MERGE INTO users USING x ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM users RETURNING 1) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM users",
    "SELECT * INTO copy FROM users",
    "CREATE RULE r AS ON INSERT TO users DO INSTEAD NOTHING",
    "CREATE OR REPLACE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE TABLE users (id int)",
    "REVOKE ALL ON users FROM app",
    "DO $$ BEGIN DROP TABLE users; END $$",
    "DO $$ BEGIN ALTER TABLE users ADD a int; DROP TABLE users; END $$",
    "DO $$ BEGIN EXECUTE 'DROP TABLE users'; END $$",
    "DO $$ BEGIN IF true THEN DROP TABLE users; END IF; END $$",
    "DO $$ DECLARE x int; BEGIN DROP TABLE users; END $$",
    "DO LANGUAGE plpgsql 'BEGIN DROP TABLE users; END'",
    "CALL cleanup()",
    "COPY users FROM '/tmp/x'",
    "COMMIT",
    "ROLLBACK",
    "VACUUM FULL users",
    "PRAGMA writable_schema = 1",
    "ALTER TABLE users ADD a int; DROP TABLE users",
    "CREATE TABLE t (id int); TRUNCATE users",
    "CREATE TRIGGER t AFTER INSERT ON users BEGIN UPDATE x SET a = CASE WHEN b THEN 1 END; END; DROP TABLE users",
    # A backslash ends no string on PostgreSQL and SQLite, and does in E'…' and on MySQL.
    "COMMENT ON TABLE users IS 'C:\\'; DROP TABLE users; --'",
    "COMMENT ON TABLE users IS E'it\\'s'; DROP TABLE users",
    # A backslash that escapes another one does not escape the quote behind it.
    "ALTER TABLE users ADD a varchar(9) DEFAULT '\\\\', DROP name, ADD b varchar(9) DEFAULT 'x'",
    "ALTER TABLE users ADD a varchar(9) DEFAULT 'x\\'', ADD b varchar(9) DEFAULT '\\\\', DROP name",
    'ALTER TABLE users ADD a varchar(9) DEFAULT "\\"", DROP name, ADD b varchar(9) DEFAULT "x"',
    # On MySQL -- begins a comment only before white space.
    "ALTER TABLE users ADD a INT DEFAULT 1--1, DROP name",
    "ALTER TABLE users ADD a int, DROP --name\n name",
    # An operator on PostgreSQL, a comment on MySQL.
    "SELECT 1 # 2; DROP TABLE users",
    "/*! DROP TABLE users */",
    "ALTER TABLE users ADD a int /*!50000 , DROP name */",
    "ALTER TABLE users ADD a int /*M!100100 , DROP name */",
    "'DROP TABLE users'",
    "FROBNICATE users",
]


@pytest.mark.parametrize("sql", SUBTRACTIVE_SQL)
def test_what_takes_away_is_refused(sql: str) -> None:
    """A statement that takes something from the old release is refused in expand, and no other phase's business."""
    with pytest.raises(SubtractiveStatementError) as caught:
        refuse_subtractive([step("SELECT 1"), step(sql)], Phase.EXPAND)
    assert caught.value.statement == sql
    assert caught.value.step == "add-column:users.tz"
    assert caught.value.exit_code is ExitCode.ERROR
    refuse_subtractive([step(sql)], Phase.CONTRACT)


@pytest.mark.parametrize(
    ("action", "name"),
    [("TO people", "users"), ("AS people", "users"), ("people", "users"), ("nick TO name", "nick")],
)
def test_a_refusal_names_what_loses_its_name(action: str, name: str) -> None:
    """Every way to rename a table names the table, and that of a column the column."""
    with pytest.raises(SubtractiveStatementError, match=f"RENAME takes the name {name} away"):
        refuse_subtractive([step(f"ALTER TABLE users RENAME {action}")], Phase.EXPAND)


ADDITIVE_SQL = [
    "CREATE TABLE t (id INTEGER NOT NULL, name text NOT NULL, PRIMARY KEY (id))",
    "CREATE UNIQUE INDEX CONCURRENTLY ix ON users (name)",
    "CREATE TYPE mood AS ENUM ('drop table')",
    'CREATE INDEX "drop table users" ON users (name)',
    "CREATE OR REPLACE FUNCTION emc_sync() RETURNS trigger LANGUAGE plpgsql AS $emc$BEGIN DELETE FROM x; END$emc$",
    "CREATE TRIGGER emc_sync AFTER UPDATE ON users BEGIN UPDATE users SET a = CASE b WHEN 1 THEN 2 END; END",
    "CREATE TRIGGER emc_sync BEFORE UPDATE OF a ON users FOR EACH ROW EXECUTE FUNCTION emc_sync()",
    "DROP TRIGGER IF EXISTS emc_sync ON users",
    "DROP FUNCTION IF EXISTS emc_sync(int, int)",
    "DROP INDEX CONCURRENTLY IF EXISTS public.emc_ix",
    "DROP TABLE emc_copy",
    "DELETE FROM emc_progress",
    "ALTER TABLE users ADD COLUMN tz VARCHAR(40)",
    "ALTER TABLE users ADD COLUMN tz VARCHAR(40) DEFAULT 'UTC' NOT NULL",
    "ALTER TABLE users ADD COLUMN id BIGSERIAL NOT NULL",
    "ALTER TABLE users ADD COLUMN tz text, ALGORITHM=INSTANT, LOCK=NONE",
    "ALTER TABLE users ADD CONSTRAINT emc_nn CHECK (tz IS NOT NULL) NOT VALID",
    "ALTER TABLE users ADD CONSTRAINT fk FOREIGN KEY(o) REFERENCES o (id) ON DELETE CASCADE",
    "ALTER TABLE users VALIDATE CONSTRAINT fk",
    "ALTER TABLE users ALTER COLUMN name DROP NOT NULL",
    "ALTER TABLE users ALTER COLUMN name SET DEFAULT 'drop not null'",
    "ALTER TABLE users DROP CONSTRAINT emc_nn",
    "ALTER TABLE users RENAME CONSTRAINT emc_ck TO ck",
    "ALTER INDEX emc_ix RENAME TO ix",
    "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'so-so' BEFORE 'happy'",
    "ALTER SEQUENCE s OWNED BY users.id",
    "COMMENT ON COLUMN users.name IS 'DROP TABLE users; --'",
    "COMMENT ON COLUMN users.name IS 'it''s # 1 \\ '",
    "SELECT replace(name, 'a', 'b') FROM users FOR UPDATE",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "SET lock_timeout = 100",
    "SET STATEMENT foreign_key_checks=0 FOR ALTER TABLE users ADD FOREIGN KEY(o) REFERENCES o (id), ALGORITHM=INSTANT",
    "PRAGMA foreign_keys = OFF",
    "ALTER TABLE `users` NOWAIT ADD COLUMN `tz` VARCHAR(40) DEFAULT 'a--b', ALGORITHM=INSTANT",
    "ALTER TABLE users WAIT 5 ADD COLUMN IF NOT EXISTS tz VARCHAR(40) NOT NULL DEFAULT 'C:\\\\'",
    "LOCK TABLES users WRITE",
    "UNLOCK TABLES",
    "SELECT 1; SELECT 2;",
    "DO $emc$\nBEGIN\n  DROP INDEX emc_ix;\n  ALTER INDEX emc_new_ix RENAME TO ix;\nEND\n$emc$",
]


@pytest.mark.parametrize("sql", ADDITIVE_SQL)
def test_what_adds_is_sent(sql: str) -> None:
    """What the phase rule allows passes, whatever words its names and literals hold."""
    refuse_subtractive([step(sql)], Phase.EXPAND)


@pytest.mark.parametrize("kind", sorted(SUBTRACTIVE))
def test_a_subtractive_operation_is_refused_whatever_it_sends(kind: str) -> None:
    """An operation that belongs into contract is refused by its kind, even with harmless statements or none."""
    for transaction in Transaction:
        with pytest.raises(SubtractiveStatementError) as caught:
            refuse_subtractive([step(kind=kind, transaction=transaction)], Phase.EXPAND)
        assert caught.value.statement is None


@pytest.mark.parametrize(
    ("sql", "kind", "element"),
    [
        ("ALTER TABLE users DROP CONSTRAINT ck", Kind.DROP_CHECK, (ElementKind.CHECK, "ck")),
        ("ALTER TABLE users DROP CHECK ck", Kind.DROP_CHECK, (ElementKind.CHECK, "ck")),
        ("ALTER TABLE users DROP CONSTRAINT fk", Kind.DROP_FOREIGN_KEY, (ElementKind.FOREIGN_KEY, "fk")),
        ("ALTER TABLE users DROP FOREIGN KEY fk", Kind.DROP_FOREIGN_KEY, (ElementKind.FOREIGN_KEY, "fk")),
        ("ALTER TABLE users DROP CONSTRAINT fk", Kind.ADD_FOREIGN_KEY, (ElementKind.FOREIGN_KEY, "fk")),
        ("ALTER TABLE users DROP CONSTRAINT ck", Kind.REPLACE_CONSTRAINT, (ElementKind.CHECK, "ck")),
        ("ALTER TABLE users DROP CONSTRAINT mood", Kind.ADD_ENUM_VALUE, (ElementKind.COLUMN, "mood")),
        ("DROP INDEX CONCURRENTLY ix", Kind.CREATE_INDEX, (ElementKind.INDEX, "ix")),
        ("DROP INDEX CONCURRENTLY uq", Kind.ADD_UNIQUE, (ElementKind.UNIQUE, "uq")),
        ("ALTER TABLE users ALTER a TYPE text", Kind.ALTER_TYPE, (ElementKind.COLUMN, "a")),
        ("ALTER TABLE users ALTER a DROP DEFAULT", Kind.ALTER_TYPE, (ElementKind.COLUMN, "a")),
        ("ALTER TABLE users MODIFY a text", Kind.DROP_NOT_NULL, (ElementKind.COLUMN, "a")),
    ],
)
def test_some_drops_are_what_the_operation_is_about(
    sql: str, kind: str, element: tuple[ElementKind, str]
) -> None:
    """What an operation of expand has to drop passes with that operation, and with no other."""
    refuse_subtractive([step(sql, kind=kind, element=element)], Phase.EXPAND)
    with pytest.raises(SubtractiveStatementError):
        refuse_subtractive([step(sql)], Phase.EXPAND)
    if kind not in {Kind.ADD_ENUM_VALUE, Kind.ALTER_TYPE, Kind.DROP_NOT_NULL}:
        with pytest.raises(SubtractiveStatementError):
            refuse_subtractive([step(sql, kind=kind, element=(element[0], "other"))], Phase.EXPAND)


def test_emc_looks_over_its_own_triggers() -> None:
    """Where triggers are put in place, a program may look at them and say what they are, and change nothing."""
    body = "DECLARE a text;\nBEGIN\n  EXECUTE 'EXPLAIN UPDATE users SET a = b';\n  IF a THEN NULL; END IF;\nEND\n"
    looks = f"DO $emc$\n{body}$emc$"
    refuse_subtractive([step(looks, kind=Kind.INSTALL_SYNC)], Phase.EXPAND)
    for sql in (looks.replace("NULL", "DELETE FROM users"), looks.replace("NULL", "DROP TABLE users")):
        with pytest.raises(SubtractiveStatementError):
            refuse_subtractive([step(sql, kind=Kind.INSTALL_SYNC)], Phase.EXPAND)
    with pytest.raises(SubtractiveStatementError):
        refuse_subtractive([step(looks)], Phase.EXPAND)


def test_only_triggers_of_emc_are_switched_on() -> None:
    """A trigger of the user's that is switched on may refuse what the old release writes."""
    refuse_subtractive([step('ALTER TABLE users ENABLE ALWAYS TRIGGER "~emc_sync_u"')], Phase.EXPAND)
    with pytest.raises(SubtractiveStatementError):
        refuse_subtractive([step("ALTER TABLE users ENABLE ALWAYS TRIGGER theirs")], Phase.EXPAND)


REBUILDS = {
    "old table aside": (
        "DROP TABLE IF EXISTS emc_users",
        "DROP TABLE IF EXISTS _alembic_tmp_users",
        "SELECT CASE WHEN 1 THEN 1 ELSE abs(-9223372036854775808) END",
        "ALTER TABLE users RENAME TO emc_users",
        "CREATE TABLE users (id INTEGER, name TEXT)",
        "INSERT OR ABORT INTO users (id, name) SELECT id, name FROM emc_users",
        "DELETE FROM main.sqlite_sequence WHERE name = 'users'",
        "DROP TABLE emc_users",
        "CREATE INDEX ix ON users (name)",
    ),
    "copy takes the name": (
        "DROP TABLE IF EXISTS _alembic_tmp_users",
        "CREATE TABLE _alembic_tmp_users (id INTEGER)",
        "INSERT INTO _alembic_tmp_users (id) SELECT users.id FROM users",
        "DROP TRIGGER t",
        "DROP TABLE users",
        "ALTER TABLE _alembic_tmp_users RENAME TO users",
        "CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END",
    ),
}


@pytest.mark.parametrize("statements", REBUILDS.values(), ids=REBUILDS)
def test_a_rebuild_may_replace_its_table(statements: tuple[str, ...]) -> None:
    """A rebuild drops a table whose copy takes its name; the same statements outside a rebuild are refused."""
    refuse_subtractive([step(*statements, transaction=Transaction.REBUILD)], Phase.EXPAND)
    with pytest.raises(SubtractiveStatementError):
        refuse_subtractive([step(*statements)], Phase.EXPAND)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE orders",
        "ALTER TABLE orders RENAME TO old_orders",
        "DELETE FROM users",
        "INSERT OR IGNORE INTO users SELECT * FROM emc_users",
        "INSERT INTO orders SELECT 1",
        "DROP INDEX gone",
        "DROP VIEW gone",
        "ALTER TABLE users DROP COLUMN name",
    ],
)
@pytest.mark.parametrize("statements", REBUILDS.values(), ids=REBUILDS)
def test_a_rebuild_may_do_nothing_else(statements: tuple[str, ...], sql: str) -> None:
    """Under cover of a rebuild nothing else may go."""
    with pytest.raises(SubtractiveStatementError) as caught:
        refuse_subtractive([step(*statements, sql, transaction=Transaction.REBUILD)], Phase.EXPAND)
    assert caught.value.statement == sql
