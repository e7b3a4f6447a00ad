"""What a database holds can be read behind any URL that SQLAlchemy knows for it."""

from sqlalchemy import create_engine, text

from emc.testing.snapshots import shape
from tests.mariadb_server import spelled


def test_mariadb_behind_a_mysql_url(mariadb_url: str) -> None:
    """A mysql:// URL that leads to MariaDB is read as MariaDB, also by an engine that has not connected yet."""
    engine = create_engine(mariadb_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (id integer PRIMARY KEY, name varchar(20))"))
    other = create_engine(spelled(mariadb_url, "mysql+pymysql"))
    assert shape(other) == shape(engine)
    engine.dispose()
    other.dispose()
