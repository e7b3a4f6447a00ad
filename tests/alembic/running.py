"""A project made by ``alembic init`` whose revisions are written by hand."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.config
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool

MODELS = """
import emc
from sqlalchemy import Column, Integer, MetaData, String, Table

metadata = MetaData()
users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("email", String(100)),
    Column("tz", String(40)),
)
upgrade = emc.Upgrade(metadata, release="2")
upgrade.retire("users.name")
"""
OLD = (
    "CREATE TABLE users (id integer NOT NULL PRIMARY KEY, name varchar(20), email varchar(100))",
    "INSERT INTO users (id, name) VALUES (1, 'ann'), (2, NULL)",
)


@dataclass(frozen=True)
class Answer:
    """What a command of Alembic came to."""

    code: int
    said: str

    @property
    def is_done(self) -> bool:
        """Whether it went well."""
        return self.code == 0


class Project:
    """A project with the lines in ``env.py`` that emc asks for.

    :param url: its database, in which the old release has a table.
    :param template: of ``alembic init``.
    :param models: its module ``models``.
    :param env_url: what ``alembic.ini`` says in the place of *url*, for another driver.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        *,
        template: str = "generic",
        models: str = MODELS,
        env_url: str | None = None,
    ) -> None:
        directory.mkdir()
        self._written = 0
        self.directory = directory
        self.url = url
        self.engine: Engine = create_engine(url, poolclass=NullPool)
        self.run("init", "--template", template, "migrations")
        self.models(models)
        ini = directory / "alembic.ini"
        shown = (env_url or url).replace("%", "%%")
        ini.write_text(ini.read_text().replace("driver://user:pass@localhost/dbname", shown))
        self.env = directory / "migrations" / "env.py"
        self.change_env(
            ("from alembic import context", "import emc.alembic\nfrom alembic import context"),
            ("target_metadata = None", "from models import upgrade\n\ntarget_metadata = None"),
            ("context.configure(", "emc.alembic.configure(context, upgrade, "),
        )
        self.send(*OLD)

    def models(self, source: str) -> None:
        """Let the release have these models from now on."""
        self._written += 1
        (self.directory / "models.py").write_text(f"{source}\n{'#' * self._written}\n")

    def change_env(self, *changes: tuple[str, str]) -> None:
        """Change ``env.py``."""
        source = self.env.read_text()
        for old, new in changes:
            assert old in source, old
            source = source.replace(old, new)
        self.env.write_text(source)

    # -- the database -------------------------------------------------------------------------------------------

    def send(self, *statements: str) -> None:
        """Send *statements* as somebody else."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of *query*."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def columns(self, table: str = "users") -> set[str]:
        """The columns that *table* has now."""
        return {column["name"] for column in inspect(self.engine).get_columns(table)}

    @property
    def tables(self) -> set[str]:
        """The tables, those of emc and of Alembic left out."""
        return {
            name
            for name in inspect(self.engine).get_table_names()
            if not name.startswith(("emc_", "alembic_"))
        }

    @property
    def heads(self) -> set[str]:
        """The revisions that Alembic holds to be applied."""
        if not inspect(self.engine).has_table("alembic_version"):
            return set()
        return {row[0] for row in self.ask("SELECT version_num FROM alembic_version")}

    @property
    def ledger(self) -> list[tuple[str, str]]:
        """Event and operation of each entry of emc's ledger, oldest first."""
        return [
            (event, operation)
            for event, operation in self.ask("SELECT event, operation FROM emc_ledger ORDER BY id")
        ]

    # -- revisions ----------------------------------------------------------------------------------------------

    def revision(
        self,
        name: str,
        upgrade: str,
        *,
        downgrade: str = "pass",
        below: str | None = None,
        label: str | None = None,
        depends: str | None = None,
    ) -> None:
        """Write a revision by hand."""
        self._written += 1  # Python goes by size and second when it looks for what it has compiled before.
        up, down = ("\n    ".join(body.splitlines()) for body in (upgrade, downgrade))
        (self.directory / "migrations" / "versions" / f"{name}.py").write_text(
            f"""{"#" * self._written}
import emc.alembic
import sqlalchemy as sa
from alembic import op

revision = {name!r}
down_revision = {below!r}
branch_labels = {label!r}
depends_on = {depends!r}


def upgrade():
    {up}


def downgrade():
    {down}
"""
        )

    def expand(self, upgrade: str, *, downgrade: str = "pass") -> None:
        """Write the first revision on the branch expand."""
        self.revision("e1", upgrade, downgrade=downgrade, label="expand")

    def contract(self, upgrade: str) -> None:
        """Write the first revision on the branch contract."""
        self.revision("c1", upgrade, label="contract")

    # -- Alembic's command line ---------------------------------------------------------------------------------

    def alembic(self, *arguments: str) -> Answer:
        """Run Alembic's command line as a person does, in a process of its own."""
        ran = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Answer(ran.returncode, ran.stdout + ran.stderr)

    def run(self, *arguments: str) -> Answer:
        """Run Alembic's command line in this process, which is quicker."""
        said = io.StringIO()
        code = 0
        with self._here(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                alembic.config.main([*arguments], prog="alembic")
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Answer(code, said.getvalue())

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        before, path = Path.cwd(), list(sys.path)
        os.chdir(self.directory)
        # Alembic puts "." there, and Python remembers which directory that was when it was first asked for.
        sys.path.insert(0, str(self.directory))
        sys.path_importer_cache.pop(".", None)
        # It would switch off the loggers of the other tests.
        env = self.directory / "migrations" / "env.py"
        source = env.read_text() if env.exists() else ""
        if source:
            env.write_text(source.replace("fileConfig(config.config_file_name)", "pass"))
        try:
            yield
        finally:
            if source:
                env.write_text(source)
            os.chdir(before)
            sys.path[:] = path
            sys.modules.pop("models", None)
            sys.path_importer_cache.pop(".", None)
