"""What emc reads in the statements of revisions."""

import pytest

from emc.alembic.running.requests import parted
from emc.dialects.lexis import Lexis

MARIADB = Lexis(hashes=True, dashes_need_blank=True, backslashes=True, backticks=True)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER ONLINE TABLE users DROP COLUMN name",
        "ALTER IGNORE TABLE users DROP name",
        "ALTER TABLE users NOWAIT DROP COLUMN name",
        "ALTER TABLE users WAIT 5 DROP COLUMN name",
        "ALTER TABLE IF EXISTS `users` ADD a INT, DROP `name`",
    ],
)
def test_drops_are_seen_however_mariadb_lets_them_be_spelled(sql: str) -> None:
    """Words between ALTER and the action hide nothing."""
    [statement] = parted(sql, MARIADB)
    assert [one.target for one in statement.requests if one.takes] == ["users.name"]


def test_several_tables_are_dropped_as_one_is() -> None:
    """MariaDB takes TABLES for TABLE."""
    [statement] = parted("DROP TABLES users, notes", MARIADB)
    assert [one.target for one in statement.requests] == ["users", "notes"]


@pytest.mark.parametrize(
    ("sql", "is_whole"),
    [
        ("ALTER TABLE users ADD tz INT, ALGORITHM=INPLACE, LOCK=NONE", True),
        ("ALTER TABLE users ADD tz INT, CONVERT TO CHARACTER SET utf8mb4", False),
        ("ALTER TABLE users ADD tz INT, ENGINE=InnoDB", False),
        ("CREATE TABLE t (id INT, b INT AS (id + 1)) ENGINE=InnoDB PARTITION BY HASH (id)", True),
        ("CREATE TABLE t (id INT) SELECT 1 AS id", False),
        ("CREATE TABLE t (SELECT 1 AS id)", False),
        ("CREATE TABLE IF NOT EXISTS t LIKE users", True),
        ("CREATE INDEX ix ON users (name)", True),
    ],
)
def test_whether_all_of_a_statement_is_understood(sql: str, is_whole: bool) -> None:
    """Rows, and actions that emc has no word for, are more than the elements that are asked for."""
    [statement] = parted(sql, MARIADB)
    assert statement.requests
    assert statement.is_whole is is_whole
