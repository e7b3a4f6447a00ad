"""What scripts say to the clients of MariaDB and MySQL."""

import pytest

from emc.dialects.mysql import MariaDB, MySQL
from tests.mariadb_server import execute

STATEMENTS = (
    "ALTER TABLE users ADD COLUMN team INTEGER, ADD COLUMN `the name` VARCHAR(20) DEFAULT 'ADD COLUMN x'",
    "ALTER TABLE users ADD INDEX ix_users_team (team)",
    "ALTER TABLE users ADD CONSTRAINT uq_users_name UNIQUE (`the name`)",
    "ALTER TABLE users ADD CONSTRAINT fk_users_team FOREIGN KEY(team) REFERENCES teams (id)",
    "ALTER TABLE users ADD CONSTRAINT ck_users_team CHECK (team > 0)",
    "ALTER TABLE users DROP COLUMN old",
)


@pytest.mark.parametrize("dialect", [MySQL(), MariaDB()], ids=["mysql", "mariadb"])
def test_statements_can_be_sent_twice(mariadb_url: str, dialect: MySQL) -> None:
    """A script that was cut off can be run again, whichever of the two the URL says that the server is."""
    demanding = dialect.demanding
    assert demanding is not None
    teams = "CREATE TABLE teams (id integer PRIMARY KEY)"
    users = "CREATE TABLE users (id integer PRIMARY KEY, old integer)"
    said = [demanding.once(statement) for statement in STATEMENTS]
    (shown,) = execute(mariadb_url, teams, users, *said, *said, "SHOW CREATE TABLE users")
    for name in (
        "`team` int",
        "KEY `uq_users_name`",
        "CONSTRAINT `fk_users_team`",
        "CONSTRAINT `ck_users_team`",
    ):
        assert shown[1].count(name) == 1, shown[1]
    assert "`old`" not in shown[1]
    assert "DEFAULT 'ADD COLUMN x'" in shown[1]
