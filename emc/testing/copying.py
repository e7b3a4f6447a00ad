"""How do tests get many copies of one database, quickly?"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, make_url

from emc.testing.servers import admin, drop


@contextmanager
def copies(url: str, directory: Path, *, keep: bool = False) -> Iterator[Callable[[], str]]:
    """A function that answers the URL of a new copy of the database at *url*, to which nobody is connected.

    :param url: SQLAlchemy URL of the original.
    :param directory: where copies of files may be put.
    :param keep: whether a copy outlives the next one; all of them go when the context ends, but for files.
    """
    original = make_url(url)
    backend = original.get_backend_name()
    if backend not in _COPY:
        yield lambda: _copy_file(original, directory / f"copy{uuid.uuid4().hex[:12]}.db")
        return
    engine = admin(original.set(database="postgres") if backend == "postgresql" else original)
    made: list[str] = []

    def copy_database() -> str:
        # A name that nobody else has, so that what is dropped is ours, also if it was made by half.
        name = f"emc_copy_{uuid.uuid4().hex[:12]}"
        while made and not keep:
            drop(engine, made.pop())
        made.append(name)
        with engine.connect() as connection:
            _COPY[backend](connection, str(original.database), name)
        return original.set(database=name).render_as_string(hide_password=False)

    try:
        yield copy_database
    finally:
        for name in made:
            drop(engine, name)


def _copy_file(original: URL, target: Path) -> str:
    shutil.copy(str(original.database), target)
    return f"sqlite:///{target}"


def _clone(connection: Connection, original: str, name: str) -> None:
    """PostgreSQL makes a database of another one, to which nobody is connected, by copying its files."""
    template = _quoted(connection, original)
    connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}", execution_options=_AS_IT_IS)


def _rebuild(connection: Connection, original: str, name: str) -> None:
    """Make *name* of what the server (MariaDB) shows of *original*: it has no templates."""

    def run(sql: str) -> Any:
        return connection.exec_driver_sql(sql, execution_options=_AS_IT_IS)

    def shown(what: str, name: str) -> Any:
        return run(f"SHOW CREATE {what} {_quoted(connection, name)}").one()

    place = _quoted(connection, original)
    run(f"USE {place}")
    kinds = run("SHOW FULL TABLES").all()
    tables = [table for table, kind in kinds if kind == "BASE TABLE"]
    created = [shown("TABLE", table)[1] for table in tables]
    filled = [_insert(connection, place, table) for table in tables]
    triggers = [shown("TRIGGER", row[0])[2] for row in run("SHOW TRIGGERS").all()]
    viewed = [shown("VIEW", view)[1].replace(f"{place}.", "") for view, kind in kinds if kind == "VIEW"]
    run(f"CREATE DATABASE {name}")
    run(f"USE {name}")
    run("SET foreign_key_checks = 0, sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')")
    for statement in [*created, *filled, *triggers, *viewed]:
        run(statement)


def _insert(connection: Connection, place: str, table: str) -> str:
    """What copies the rows of *table* at *place*: every column by name, but for those that the server computes."""
    source = f"{place}.{_quoted(connection, table)}"
    columns = connection.exec_driver_sql(f"SHOW COLUMNS FROM {source}", execution_options=_AS_IT_IS).all()
    # DEFAULT_GENERATED is MySQL's word for a default, with which a column takes values all the same.
    names = ", ".join(_quoted(connection, one[0]) for one in columns if " GENERATED" not in one[5])
    return f"INSERT INTO {_quoted(connection, table)} ({names}) SELECT {names} FROM {source}"


def _quoted(connection: Connection, name: str) -> str:
    """*name*, for a statement that is sent as it is: there a percent sign is not doubled."""
    return connection.dialect.identifier_preparer.quote_identifier(name).replace("%%", "%")


_AS_IT_IS: Final = {"no_parameters": True}
_COPY: Final[Mapping[str, Callable[[Connection, str, str], None]]] = {
    "postgresql": _clone,
    "mysql": _rebuild,
    "mariadb": _rebuild,
}
