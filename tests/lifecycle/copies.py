"""How do tests get many copies of one database, quickly?"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.pool import NullPool


@contextmanager
def copies(url: str, directory: Path) -> Iterator[Callable[[], str]]:
    """A function that answers the URL of a new copy of the database at *url*, to which nobody is connected.

    Args:
        url: SQLAlchemy URL of the original.
        directory: where copies of files may be put.
    """
    numbers = itertools.count(1)
    original = make_url(url)
    if original.get_backend_name() == "sqlite":

        def copy_file() -> str:
            target = directory / f"copy{next(numbers)}.db"
            shutil.copy(str(original.database), target)
            return f"sqlite:///{target}"

        yield copy_file
        return
    postgresql = original.get_backend_name() == "postgresql"
    home = original.set(database="postgres") if postgresql else original
    admin = create_engine(home, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    force = " WITH (FORCE)" if postgresql else ""
    made: list[str] = []

    def copy_database() -> str:
        name = f"{original.database}_copy{next(numbers)}"
        with admin.connect() as connection:
            for other in made:
                connection.exec_driver_sql(f"DROP DATABASE {other}{force}")
            made.clear()
            made.append(name)
            if postgresql:
                connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {original.database}")
            else:
                _rebuild(connection, str(original.database), name)
        return original.set(database=name).render_as_string(hide_password=False)

    try:
        yield copy_database
    finally:
        with admin.connect() as connection:
            for name in made:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}{force}")


def _rebuild(connection: Connection, original: str, name: str) -> None:
    """Make *name* of what the server (MariaDB) shows of *original*: it has no templates."""

    def run(sql: str) -> Any:
        return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})

    run(f"USE {original}")
    kinds = run("SHOW FULL TABLES").all()
    tables = [table for table, kind in kinds if kind == "BASE TABLE"]
    views = [view for view, kind in kinds if kind == "VIEW"]
    created = [run(f"SHOW CREATE TABLE `{table}`").one()[1] for table in tables]
    triggers = [run(f"SHOW CREATE TRIGGER `{row[0]}`").one()[2] for row in run("SHOW TRIGGERS").all()]
    viewed = [run(f"SHOW CREATE VIEW `{view}`").one()[1] for view in views]
    run(f"CREATE DATABASE {name}")
    run(f"USE {name}")
    run("SET foreign_key_checks = 0, sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')")
    for statement in created:
        run(statement)
    for table in tables:
        run(f"INSERT INTO `{table}` SELECT * FROM {original}.`{table}`")
    for statement in [*triggers, *(view.replace(f"`{original}`.", "") for view in viewed)]:
        run(statement)
