"""Projects that live in Alembic, made with ``alembic init`` and the lines that emc's documentation gives."""

from __future__ import annotations

import contextlib
import io
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import emc


class Project:
    """A directory with ``alembic.ini`` and ``env.py``, whose upgrade can be exchanged like a release.

    :param env: a template of Alembic's.
    """

    def __init__(self, directory: Path, url: str, *, env: str = "generic") -> None:
        self.url = url
        self.directory = directory
        self.output = io.StringIO()
        self.config = Config(
            str(directory / "alembic.ini"), toml_file=str(directory / "pyproject.toml"), stdout=self.output
        )
        with contextlib.redirect_stdout(io.StringIO()):
            command.init(self.config, str(directory / "migrations"), template=env)
        self.config.attributes["url"] = url
        self.env = directory / "migrations" / "env.py"
        self.upgrade: emc.Upgrade | None = None

    def hook(self) -> None:
        """Change ``env.py`` as the documentation says, and let it read its URL and upgrade from here."""
        text = self.env.read_text()
        for old, new in (
            ("from alembic import context\n", "import emc.alembic\nfrom alembic import context\n"),
            (
                "context.configure(\n",
                'emc.alembic.configure(\n            context, config.attributes["upgrade"],\n',
            ),
            ("fileConfig(config.config_file_name)", "pass"),
            ('config.get_main_option("sqlalchemy.url")', 'config.attributes["url"]'),
            (
                "config.get_section(config.config_ini_section, {})",
                '{"sqlalchemy.url": config.attributes["url"]}',
            ),
        ):
            assert old in text, old
            text = text.replace(old, new)
        self.env.write_text(text)

    def release(self, upgrade: emc.Upgrade) -> None:
        """What the models are from now on."""
        self.upgrade = upgrade
        self.config.attributes["upgrade"] = upgrade

    @property
    def scripts(self) -> ScriptDirectory:
        """Its revisions."""
        return ScriptDirectory.from_config(self.config)

    def autogenerate(self, message: str) -> list[Script]:
        """``alembic revision --autogenerate``."""
        with contextlib.redirect_stdout(io.StringIO()):
            found: Any = command.revision(self.config, message, autogenerate=True)
        if found is None:
            return []
        return list(found) if isinstance(found, list) else [found]

    def by_hand(self, message: str, **options: Any) -> Script:
        """``alembic revision``, which writes an empty one."""
        with contextlib.redirect_stdout(io.StringIO()):
            found = command.revision(self.config, message, **options)
        assert isinstance(found, Script)
        return found

    def upgrade_to(self, revision: str, *said: str, sql: bool = False) -> str:
        """``alembic upgrade``, with ``-x`` for everything *said*; answers what it prints."""
        self.config.cmd_opts = _options(said)
        buffer = io.StringIO()
        self.config.output_buffer = buffer
        command.upgrade(self.config, revision, sql=sql)
        return buffer.getvalue()

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """A connection that commits by itself."""
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection
        engine.dispose()


def _options(said: tuple[str, ...]) -> Namespace:
    return Namespace(x=list(said) or None)
