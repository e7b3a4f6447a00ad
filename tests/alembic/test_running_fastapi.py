"""The example of an asynchronous FastAPI project, as ``alembic`` runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_async"
ASK = """
import asyncio, sys
from shop import session, users
async def ask():
    async for opened in session():
        sys.stdout.write(", ".join(await users(opened)))
asyncio.run(ask())
"""
"""Asks what the application answers to GET /users."""


@pytest.mark.parametrize("kind", ["postgresql_url", "sqlite_url"])
def test_an_async_fastapi_project_works_as_it_is(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With two lines in its env.py, its revisions are written and run on an asynchronous driver.

    Its application works between expand and contract.
    """
    url: str = request.getfixturevalue(kind)
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    engine = create_engine(url)
    environment = {
        **os.environ,
        "DATABASE_URL": url.replace("+psycopg:", "+asyncpg:").replace("sqlite:", "sqlite+aiosqlite:"),
        "PYTHONPATH": str(project),
    }

    def run(*arguments: str) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def alembic(*arguments: str) -> None:
        code, said = run("-m", "alembic", *arguments)
        assert code == 0, said

    alembic("upgrade", "head")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (email, nickname) VALUES ('ann@example.org', 'ann')"))
    alembic("revision", "--autogenerate", "-m", "release 2")
    alembic("upgrade", "expand@head")
    assert run("-c", ASK) == (0, "ann@example.org (UTC)")
    code, said = run("-m", "alembic", "upgrade", "heads")
    assert code != 0
    assert "shut old-code-gone:users.tz" in said
    code, said = run("-m", "emc", "migrate", "--upgrade", "shop:upgrade", "--url", url)
    assert code == 0, said
    alembic("-x", "old-code-gone", "upgrade", "heads")
    assert {column["name"] for column in inspect(engine).get_columns("users")} == {"id", "email", "tz"}
    assert run("-c", ASK) == (0, "ann@example.org (UTC)")
    engine.dispose()
