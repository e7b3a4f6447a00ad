"""Do Alembic's revisions make of an empty database what the models say?"""

from __future__ import annotations

import contextlib
import logging
import sys
import tomllib
import unittest
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

import emc
from emc.alembic import CONNECTION, StoppedError
from emc.testing.comparing import what_is_left
from emc.testing.failures import CheckFailedError, told
from emc.upgrade import Upgrade

__tracebackhide__ = True

_URL = "sqlalchemy.url"


def check_revisions_match(
    engine: Engine, upgrade: Upgrade, config: Config | Path | str = "alembic.ini"
) -> None:
    """``alembic upgrade heads`` on an empty database leaves nothing to do, and nothing that the models do not have.

    Revisions run as Alembic's command runs them, by ``env.py`` and through every gate, with the word that no old
    release is there. Where ``env.py`` calls ``emc.alembic.configure`` they run on *engine*, whatever it connects
    to; the option ``sqlalchemy.url`` is set to it besides.

    :param engine: an empty database.
    :param config: Alembic's, or its file: ``alembic.ini``, or ``pyproject.toml``.
    :raises CheckFailedError: they do not agree, a revision fails, or would run on another database.
    """
    found = config if isinstance(config, Config) else _read(Path(config))
    with engine.connect() as connection, _kept(found, connection):
        version_table = _demand_this_database(found, connection)
        _upgrade(found)
    with told("The plan after alembic upgrade heads cannot be derived"):
        plan = emc.plan(upgrade, engine).plan
    missing = what_is_left(plan)
    extra = [one for one in plan.unmanaged if one.element.table.name != version_table]
    if missing or extra:
        listed = [*missing, *(f"not in the models: {one.element.kind} {one.element}" for one in extra)]
        remedies = ["Write the revision that is missing: alembic revision --autogenerate -m '…'"] * bool(
            missing
        )
        remedies += [
            "Say what becomes of what the models do not have:",
            *(f"  {one.declare}" for one in extra),
        ] * bool(extra)
        raise CheckFailedError(
            "Alembic's revisions do not make what the models say, so that the release meets another schema wherever "
            "they have run:\n" + "\n".join(f"  {one}" for one in listed),
            facts=listed,
            remedy="\n".join(remedies),
        )


def alembic_config(project: Path, named: str | None = None) -> Path:
    """Where Alembic's configuration is.

    :param project: the project's directory.
    :param named: a path from there on; ``None``: where Alembic looks.
    :raises unittest.SkipTest: nobody named it, and there is none.
    """
    if named:
        return project / named
    for path in (project / "alembic.ini", project / "pyproject.toml"):
        if path.is_file() and (path.suffix == ".ini" or _in_pyproject(path)):
            return path
    raise unittest.SkipTest(f"no alembic.ini in {project}: emc_alembic_config names it where it is elsewhere")


def _in_pyproject(path: Path) -> bool:
    return "alembic" in tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})


def _read(path: Path) -> Config:
    if not path.is_file():
        raise CheckFailedError(
            f"Alembic has no configuration {path}.",
            facts=[str(path)],
            remedy="Name it: emc_alembic_config = path/to/alembic.ini in pytest's configuration.",
        )
    pyproject = path.with_name("pyproject.toml")
    toml = str(pyproject) if pyproject.is_file() else None
    return Config(toml_file=toml) if path == pyproject else Config(str(path), toml_file=toml)


def _upgrade(config: Config) -> None:
    try:
        command.upgrade(config, "heads")
    except StoppedError as stopped:
        raise CheckFailedError(
            f"alembic upgrade heads stops on an empty database, as it would for whoever sets a new one up: "
            f"{stopped.error.message}",
            facts=[stopped.error.name],
            remedy=stopped.error.remedy,
        ) from None
    except CommandError as error:
        raise CheckFailedError(f"alembic upgrade heads: {error}", facts=[str(error)]) from None
    except Exception as error:
        raise CheckFailedError(
            f"alembic upgrade heads fails on an empty database: {type(error).__name__}: {_brief(error)}",
            facts=[type(error).__name__],
            remedy="Let the revision run without rows, and without anything that no revision before it has made.",
        ) from error


def _demand_this_database(config: Config, connection: Connection) -> str:
    """Make sure, before anything is written, that revisions will run on the database of *connection*.

    :returns: what Alembic's own table is called there.
    :raises CheckFailedError: they would not.
    """
    seen: list[MigrationContext] = []

    def look(revision: Any, context: MigrationContext) -> list[Any]:
        seen.append(context)
        return []

    try:
        scripts = ScriptDirectory.from_config(config)
        with EnvironmentContext(config, scripts, fn=look, dont_mutate=True):
            scripts.run_env()
    except (StoppedError, CommandError) as error:
        raise CheckFailedError(f"Alembic cannot begin: {error}", facts=[str(error)]) from None
    except Exception as error:
        raise CheckFailedError(
            f"Alembic's env.py cannot be run: {type(error).__name__}: {_brief(error)}",
            facts=[type(error).__name__],
            remedy="It has to reach a database, be it another one. Set what it asks for (say, a variable of the "
            "environment) in a fixture emc_alembic_config, or let it connect to sqlalchemy.url.",
        ) from error
    connection.rollback()  # Alembic has read, and SQLAlchemy begun a transaction for it.
    urls = [one.connection.engine.url for one in seen if one.connection is not None]
    if not urls or not all(_is_same(url, connection.engine.url) for url in urls):
        where = [url.render_as_string() for url in urls]
        raise CheckFailedError(
            f"Alembic's revisions would run on {' and '.join(where) or 'no database'} and not on that of the test, so "
            "none was run.",
            facts=where,
            remedy="In env.py: emc.alembic.configure(context, upgrade, connection=connection, …) in the place of "
            "context.configure(…).",
        )
    return str(seen[0].version_table)


def _is_same(one: URL, other: URL) -> bool:
    def place(url: URL) -> tuple[Any, ...]:
        backend = url.get_backend_name().replace("mariadb", "mysql")
        database = str(Path(url.database or "").resolve()) if backend == "sqlite" else url.database
        return (backend, url.host, url.port, database)

    return place(one) == place(other)


@contextlib.contextmanager
def _kept(config: Config, connection: Connection) -> Iterator[None]:
    """Let *config* be about the database of *connection*; leave everything in this process as it was.

    ``env.py`` configures logging, and Alembic puts the project's directory into ``sys.path``.
    """
    file, section, path, options = (
        config.file_config,
        config.config_ini_section,
        list(sys.path),
        config.cmd_opts,
    )
    before = file.get(section, _URL, raw=True, fallback=None)
    said = vars(options) if options is not None else {}
    config.cmd_opts = Namespace(**{**said, "x": [*(said.get("x") or []), "old-code-gone"]})
    config.attributes[CONNECTION] = connection
    config.set_main_option(_URL, _spelled(connection.engine.url, before).replace("%", "%%"))
    try:
        with _logging_kept():
            yield
    finally:
        del config.attributes[CONNECTION]
        config.cmd_opts = options
        sys.path[:] = path
        file.remove_option(section, _URL)
        if before is not None:
            file.set(section, _URL, before)


def _spelled(url: URL, configured: str | None) -> str:
    """*url*, with the driver that the project uses: that of an asynchronous ``env.py`` has to be such."""
    with contextlib.suppress(ArgumentError, ValueError):
        theirs = make_url(configured or "")
        if theirs.get_backend_name() == url.get_backend_name():
            url = url.set(drivername=theirs.drivername)
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """Undo what ``fileConfig`` does to loggers that are there: it switches them off, and drops pytest's handlers."""
    root = logging.getLogger()
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.disabled, one.level, one.propagate, list(one.handlers)) for one in loggers]
    try:
        yield
    finally:
        for one, disabled, level, propagate, handlers in before:
            one.disabled, one.propagate, one.handlers[:] = disabled, propagate, handlers
            one.setLevel(level)


def _brief(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())
