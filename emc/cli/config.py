"""Which upgrade and which database are meant?

Options come first, then the environment, then ``[tool.emc]`` of the nearest ``pyproject.toml`` that has it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from emc.dialects import DIALECTS
from emc.errors import ConfigurationError, UnsupportedDatabaseError

KEYS = ("upgrade", "url")
TABLES = ("throttle",)
"""What of ``[tool.emc]`` is read by whoever needs it."""

_DRIVERS = {
    "postgresql": ("postgresql", "psycopg"),
    "mysql": ("mysql", "pymysql"),
    "mariadb": ("mysql", "pymysql"),
}
"""By database: the extra of the package that brings a driver, and the driver."""

_PACKAGES = {"MySQLdb": "mysqlclient"}
"""Drivers whose package is not called like what is imported, by the latter."""

_MEANT = {
    "postgres": "postgresql+psycopg",
    "maria": "mariadb+pymysql",
    "mysql2": "mysql+pymysql",
    "mysqlclient": "mysql+mysqldb",
    "mysqldb": "mysql+mysqldb",
    "pymysql": "mysql+pymysql",
}
"""What was probably meant by the beginning of a URL that other tools know, or that names the driver alone."""


@dataclass(frozen=True)
class Setting:
    """A value, and who gave it."""

    value: str
    source: str
    """``--url``, ``EMC_URL``, ``url in /path/pyproject.toml``."""
    directory: Path
    """What a relative path in it is relative to, and where modules are looked for first."""


@dataclass(frozen=True)
class Settings:
    """What was configured; nothing is loaded or opened yet."""

    upgrade: Setting | None
    url: Setting | None
    directories: tuple[Path, ...]
    """Where modules are looked for, before anything else."""


def settings(
    upgrade: str | None, url: str | None, *, environment: Mapping[str, str], directory: Path
) -> Settings:
    """Gather the settings.

    :param upgrade: value of ``--upgrade``.
    :param url: value of ``--url``.
    :param environment: where ``EMC_UPGRADE`` and ``EMC_URL`` are looked up.
    :param directory: where the search for a ``pyproject.toml`` begins.
    :raises ConfigurationError: a ``pyproject.toml`` cannot be read, or its ``[tool.emc]`` is not as it should be.
    """
    found: dict[str, Setting] = {}
    for key, option in (("upgrade", upgrade), ("url", url)):
        variable = f"EMC_{key.upper()}"
        if option:
            found[key] = Setting(option, f"--{key}", directory)
        elif environment.get(variable):
            found[key] = Setting(environment[variable], variable, directory)
    configured = None if len(found) == len(KEYS) else project(directory)
    directories = [directory]
    if configured is not None:
        path, table = configured
        for key, value in table.items():
            if key in TABLES:
                continue
            found.setdefault(key, Setting(value, f"{key} in {path}", path.parent))
        directories.append(path.parent)
    named = found.get("upgrade")
    if named is not None:
        directories.insert(0, named.directory)
    return Settings(named, found.get("url"), tuple(dict.fromkeys(directories)))


def project(directory: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """The nearest ``pyproject.toml`` with ``[tool.emc]``, and that table.

    :raises ConfigurationError: it cannot be read, or is not as it should be.
    """
    for parent in (directory, *directory.parents):
        path = parent / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("emc")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error}", remedy="Correct the file, or give --upgrade and --url."
            ) from error
        if table is not None:
            return path, _checked(path, table)
    return None


def _checked(path: Path, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"tool.emc in {path} is not a table.", remedy="Write it as [tool.emc].")
    for key, value in table.items():
        if key in TABLES:
            continue
        if key not in KEYS:
            raise ConfigurationError(
                f"[tool.emc] in {path} has a key {key!r}, which emc does not know.",
                remedy=f"It knows {', '.join([*KEYS, *TABLES])}.",
            )
        if not isinstance(value, str):
            raise ConfigurationError(
                f"{key} in {path} is not a text.", remedy=f'Write it in quotes: {key} = "…".'
            )
    return table


def url_of(setting: Setting | None, environment: Mapping[str, str]) -> URL:
    """The URL of the database.

    :raises ConfigurationError: there is none, its variable is not set, or it cannot be parsed. What was given is never
        repeated: it may hold a password.
    """
    if setting is None:
        raise ConfigurationError(
            "No database is configured.",
            remedy='Give --url, set EMC_URL, or write url = "env:DATABASE_URL" below [tool.emc] in pyproject.toml.',
        )
    value = setting.value
    variable = value.removeprefix("env:") if value.startswith("env:") else None
    if variable is not None:
        value = environment.get(variable, "")
        if not value:
            raise ConfigurationError(
                f"The environment variable {variable} is not set, and {setting.source} asks for it.",
                remedy=f"Set {variable} to the URL of the database, or give --url.",
            )
    try:
        url = make_url(value)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"The URL of the database, given by {variable or setting.source}, cannot be parsed.",
            remedy="Write it like postgresql+psycopg://user:password@host:5432/name, "
            "mariadb+pymysql://user:password@host:3306/name or sqlite:///path/to/file.db, with special characters of "
            "the password percent-encoded.",
        ) from error
    if variable is None and url.get_backend_name() == "sqlite" and url.database and setting.source != "--url":
        # Written in a file, a relative path is relative to that file, wherever the command is run.
        path = Path(url.database)
        if url.database != ":memory:" and not url.database.startswith("file:") and not path.is_absolute():
            url = url.set(database=os.path.normpath(setting.directory / path))
    return url


def engine_of(url: URL, **options: Any) -> Engine:
    """An engine for *url*; does not connect yet.

    :param options: for ``create_engine``.
    :raises UnsupportedDatabaseError: emc does not know the database.
    :raises ConfigurationError: the driver is not installed or asynchronous, or refuses the URL.
    """
    backend = url.get_backend_name()
    shown = url.render_as_string(hide_password=True)
    known = [dialect.name for dialect in DIALECTS]
    if backend not in known:
        hint = f" Write {_MEANT[backend]}://…" if backend in _MEANT else ""
        raise UnsupportedDatabaseError(
            f"emc does not know the database {backend!r} of {shown}.",
            remedy=f"It knows {', '.join(known)}.{hint}",
        )
    extra, driver = _DRIVERS.get(backend, ("", ""))
    try:
        if url.get_dialect().is_async:
            raise ConfigurationError(
                f"The driver of {shown} is asynchronous; emc works with the ordinary ones.",
                remedy=f"Write {backend}+{driver}://…, for emc alone." if driver else f"Write {backend}://…",
            )
        engine = create_engine(url, **options)
        engine.dialect.create_connect_args(engine.url)
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"SQLAlchemy does not know the driver of {shown}.",
            remedy=f"Write {backend}+{driver}://…" if driver else f"Write {backend}://…",
        ) from error
    except ImportError as error:
        package = _PACKAGES.get(error.name or "", error.name or "its package")
        remedy = f"pip install {package}"
        if extra:
            own = f"   # or pip install {package}" if error.name in _PACKAGES else ""
            remedy = (
                f"pip install emc-migrations[{extra}]   # and write the URL as {backend}+{driver}://…{own}"
            )
        raise ConfigurationError(
            f"The driver of {shown} is not installed: {error}.", remedy=remedy
        ) from error
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"The driver refuses the URL {shown}: {error}.", remedy="Correct what follows the question mark."
        ) from error
    return engine
