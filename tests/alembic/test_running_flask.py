"""The example of a project with Flask-Migrate, as ``flask db`` runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, inspect, text

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_migrate"


def test_flask_migrate_works_as_it_is(database_url: str, tmp_path: Path) -> None:
    """With two lines in its env.py, ``flask db`` writes both revisions, adds, stops at a gate, and drops in the end.

    The project's tests pass on what was written.
    """
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", "instance"))
    engine = create_engine(database_url)

    def run(*arguments: str) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=project,
            env={**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def db(*arguments: str) -> tuple[int, str]:
        return run("flask", "--app", "shop:create_app", "db", *arguments)

    def columns() -> set[str]:
        return {column["name"] for column in inspect(engine).get_columns("users")}

    code, said = db("upgrade")
    assert code == 0, said
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (email, nickname) VALUES ('ann@example.org', 'ann')"))
    code, said = db("migrate", "-m", "release 2")
    assert code == 0, said
    if engine.dialect.name == "sqlite":
        # Its own tests of the upgrade: every check of emc, turned on by one line.
        code, said = run("pytest", "-q", "-p", "no:cacheprovider", "-o", "emc_moments=1")
        assert code == 0, said
        assert "9 passed" in said
    code, said = db("upgrade", "expand@head")
    assert code == 0, said
    assert columns() == {"id", "email", "nickname", "tz"}
    code, said = db("upgrade", "heads")
    assert code != 0
    assert "shut old-code-gone:users.tz" in said
    assert "Traceback" not in said
    assert "nickname" in columns()
    code, said = run("emc", "migrate", "--upgrade", "shop:upgrade", "--url", database_url)
    assert code == 0, said
    code, said = db("upgrade", "-x", "old-code-gone", "heads")
    assert code == 0, said
    assert columns() == {"id", "email", "tz"}
    if engine.dialect.name != "sqlite":
        engine.dispose()
        return
    code, said = db("check")
    assert code == 0, said
    code, said = db("migrate", "-m", "nothing")
    assert code == 0, said
    assert len(list((project / "migrations" / "versions").glob("*.py"))) == 3
    engine.dispose()
