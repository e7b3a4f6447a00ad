"""How do tests get many copies of one database, quickly?"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url
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
    admin = create_engine(original.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    made: list[str] = []

    def copy_database() -> str:
        name = f"{original.database}_copy{next(numbers)}"
        with admin.connect() as connection:
            for other in made:
                connection.exec_driver_sql(f"DROP DATABASE {other} WITH (FORCE)")
            made.clear()
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {original.database}")
        made.append(name)
        return original.set(database=name).render_as_string(hide_password=False)

    try:
        yield copy_database
    finally:
        with admin.connect() as connection:
            for name in made:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
