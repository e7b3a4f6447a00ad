"""What does the release say to the database that still runs while the next one is rolled out?

Its models are given as they are, or as a name in the source of a git revision or in a wheel; those are imported by a
process of their own, so that two versions of one package never meet.
"""

from __future__ import annotations

import abc
import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, MetaData, inspect
from sqlalchemy.schema import CreateSchema

from emc.testing.failures import CheckFailedError
from emc.testing.statements import Attempt, store, try_out

Rows = Callable[[Connection], object]
"""Writes rows that the release may have stored."""

__tracebackhide__ = True

NEW: Final = "new"
"""In the place of an interpreter: an environment is made, and the release installed in it."""

_HOME = Path(__file__).parents[2]
"""Where emc is imported from."""

_PROGRAM = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); sys.path += sys.argv[2].split(os.pathsep);"
    " from emc.testing.old_models import main; main(sys.argv[1], sys.argv[3])"
)


class OldRelease(abc.ABC):
    """The release that still runs.

    :param rows: writes the rows that it has stored; without it they are made from the models.
    """

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows = rows

    def build(self, engine: Engine) -> None:
        """Make the database that it works on, with rows.

        :param engine: an empty database.
        """
        empty = self._build(engine, made_up=self.rows is None)
        if self.rows is not None:
            with engine.begin() as connection:
                self.rows(connection)
        elif empty:
            listed = "\n".join(f"  {one}" for one in empty)
            raise CheckFailedError(
                "No row could be made for some tables of the old release, so nothing would be shown of them:\n"
                + listed,
                facts=empty,
                remedy="Write the rows yourself: a fixture emc_rows that answers a function of the connection, or "
                "rows=… of the old release.",
            )

    @abc.abstractmethod
    def _build(self, engine: Engine, *, made_up: bool) -> list[str]:
        """Create the tables, with made-up rows if asked for; why a table is empty, one line each."""

    @abc.abstractmethod
    def attempts(self, engine: Engine) -> list[Attempt]:
        """Send its statements, and leave no trace."""


class _Here(OldRelease):
    """A release whose models can be imported beside the new ones."""

    def __init__(self, metadata: MetaData, rows: Rows | None = None) -> None:
        super().__init__(rows)
        self._metadata = metadata

    def _build(self, engine: Engine, *, made_up: bool) -> list[str]:
        return build(engine, self._metadata, made_up=made_up)

    def attempts(self, engine: Engine) -> list[Attempt]:
        return try_out(engine, self._metadata)


class _Elsewhere(OldRelease):
    """A release whose models are imported by a process of its own."""

    def __init__(self, directory: Path, models: str, python: str | None, rows: Rows | None) -> None:
        super().__init__(rows)
        self._directory = directory
        self._models = models
        self._python = python or sys.executable

    def _build(self, engine: Engine, *, made_up: bool) -> list[str]:
        answer: list[str] = self._ask("build", engine.url, made_up=made_up)
        return answer

    def attempts(self, engine: Engine) -> list[Attempt]:
        return [Attempt(**one) for one in self._ask("attempts", engine.url)]

    def _ask(self, what: str, url: URL, **more: Any) -> Any:
        order = {"do": what, "url": url.render_as_string(hide_password=False), **more}
        # What the other environment lacks (emc, a driver) is taken from this one.
        here = os.pathsep.join([str(_HOME), *(one for one in sys.path if one.endswith("-packages"))])
        ran = subprocess.run(  # noqa: S603  # The release that its own developers test.
            [self._python, "-c", _PROGRAM, str(self._directory), here, self._models],
            input=json.dumps(order),  # Not an argument: it may hold a password.
            capture_output=True,
            text=True,
            check=False,
            cwd=self._directory,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        if ran.returncode:
            said = ran.stderr.strip().splitlines()
            raise CheckFailedError(
                f"The models {self._models} of the old release cannot be used: {said[-1] if said else 'no answer'}",
                facts=[self._models],
                remedy="They are imported with the packages of this environment; if the old release needs others, give "
                'it an environment of its own: python="new", or emc_old_python = new in pytest\'s configuration.',
            )
        return json.loads(ran.stdout.splitlines()[-1])


def build(engine: Engine, metadata: MetaData, *, made_up: bool) -> list[str]:
    """Create the tables of *metadata*, with rows if they are to be *made_up*; why a table is empty, one line each."""
    create_all(engine, metadata)
    if not made_up:
        return []
    with engine.begin() as connection:
        return store(connection, metadata)


def create_all(engine: Engine, metadata: MetaData) -> None:
    """Create the tables of *metadata*, and on PostgreSQL the schemas that they are in.

    :raises CheckFailedError: a schema is not there and would be a database of its own, not of this test alone.
    """
    there = inspect(engine).get_schema_names()
    named = {table.schema for table in metadata.tables.values() if table.schema is not None}
    lacking = sorted(named.difference(there))
    if lacking and engine.dialect.name != "postgresql":
        raise CheckFailedError(
            f"The models name schemas that this database does not have: {', '.join(lacking)}. On {engine.dialect.name}"
            " these are databases, which other tests would see, so none is made.",
            facts=lacking,
            remedy="Test these models on PostgreSQL: emc_databases = postgresql. Or make them before, on a server that"
            " is there for one test at a time.",
        )
    with engine.begin() as connection:
        for schema in lacking:
            connection.execute(CreateSchema(schema, if_not_exists=True))
        metadata.create_all(connection)


def release_of(old: OldRelease | MetaData | str, *, rows: Rows | None = None) -> OldRelease:
    """The old release, however it is given.

    :param old: its MetaData, or ``module:attribute`` of it, in this environment.
    :param rows: as for :class:`OldRelease`.
    """
    if isinstance(old, OldRelease):
        return old
    return _Here(old if isinstance(old, MetaData) else metadata_of(old), rows)


def release_in_git(
    revision: str,
    models: str,
    directory: Path,
    *,
    repository: Path | str = ".",
    source: str = ".",
    python: str | None = None,
    rows: Rows | None = None,
) -> OldRelease:
    """The release at a revision of a git repository.

    :param revision: a tag, branch or commit.
    :param models: ``module:attribute`` of its MetaData, as that revision calls it.
    :param directory: an empty directory to unpack it in.
    :param repository: a directory in the repository.
    :param source: where modules are, from the top of the repository: ``src``.
    :param python: the interpreter of an environment that has what the release needs; by default this one. ``new``: one
        is made, and the release installed in it by pip. What it lacks is taken from this one.
    :param rows: as for :class:`OldRelease`.
    :raises CheckFailedError: there is no such revision, or it cannot be installed.
    """
    top = _git(repository, "rev-parse", "--show-toplevel").decode().strip()
    archive = _git(top, "archive", "--format=tar", revision)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(directory, filter="data")
    if python == NEW:
        python = _environment(directory / ".emc_environment", directory)
    return _Elsewhere(directory / source, models, python, rows)


def release_in_wheel(
    wheel: Path | str,
    models: str,
    directory: Path,
    *,
    python: str | None = None,
    rows: Rows | None = None,
) -> OldRelease:
    """The release in a wheel.

    :param wheel: the file.
    :param models: ``module:attribute`` of its MetaData.
    :param directory: an empty directory to unpack it in.
    :param python: as for :func:`release_in_git`.
    :param rows: as for :class:`OldRelease`.
    :raises CheckFailedError: there is no such file, or it cannot be installed.
    """
    if python == NEW:
        return _Elsewhere(directory, models, _environment(directory / ".emc_environment", Path(wheel)), rows)
    try:
        with zipfile.ZipFile(wheel) as files:
            files.extractall(directory)  # noqa: S202  # The project's own release.
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckFailedError(
            f"The wheel of the old release cannot be read: {error}",
            facts=[str(wheel)],
            remedy="Build or download it before: pip download --no-deps --dest dist NAME==VERSION",
        ) from error
    return _Elsewhere(directory, models, python, rows)


def _environment(directory: Path, release: Path) -> str:
    """Make an environment with *release*, a wheel or a project, and what it asks for; its interpreter."""
    has_pip = importlib.util.find_spec("pip") is not None
    # Ours can install elsewhere, which spares the seconds that another pip takes to be unpacked.
    venv.create(directory, with_pip=not has_pip, symlinks=os.name != "nt")
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python)] if has_pip else [str(python), "-m", "pip"]
    ran = subprocess.run(  # noqa: S603
        [*pip, "install", "-q", "--disable-pip-version-check", str(release)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        raise CheckFailedError(
            f"The old release cannot be installed in an environment of its own: {said[-1] if said else 'pip failed'}",
            facts=[str(release)],
            remedy=f"See what keeps it: pip install {release}",
        )
    return str(python)


def metadata_of(name: str) -> MetaData:
    """The MetaData that ``module:attribute`` names; of a declarative base or an Upgrade, its own.

    :raises CheckFailedError: it names none.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in filter(None, attribute.split(".")):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckFailedError(
            f"The models of the old release cannot be had: {error}",
            facts=[name],
            remedy="Name them as module:attribute, e.g. myapp.models:Base.metadata.",
        ) from error
    found = getattr(found, "metadata", found)
    if not isinstance(found, MetaData):
        raise CheckFailedError(
            f"{name} is no MetaData but {type(found).__name__}.",
            facts=[name],
            remedy="Name a MetaData or a declarative base: myapp.models:Base.metadata.",
        )
    return found


def _git(directory: Path | str, *arguments: str) -> bytes:
    ran = subprocess.run(  # noqa: S603
        ["git", "-C", str(directory), *arguments],  # noqa: S607  # Found on the developer's PATH.
        capture_output=True,
        check=False,
    )
    if ran.returncode:
        raise CheckFailedError(
            f"git {arguments[0]} says: {' '.join(ran.stderr.decode(errors='replace').split())}",
            facts=list(arguments),
            remedy="Name a revision that this clone has; a shallow one of a CI may have to fetch it: git fetch --tags.",
        )
    return ran.stdout


def failed(attempts: Sequence[Attempt]) -> dict[str, Attempt]:
    """Those that the database did not carry out, by name."""
    return {one.name: one for one in attempts if one.error is not None}
