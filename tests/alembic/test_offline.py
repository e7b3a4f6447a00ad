"""Scripts of ``alembic upgrade --sql``, run by the client of the database."""

import subprocess
from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, make_url, text

import emc
from emc.testing.snapshots import shape
from tests.alembic.project import Project
from tests.alembic.running import Project as ByHand
from tests.alembic.test_writing import first, second

SAID = {
    "postgresql": "SET emc.old_code_gone = 'the test';\n",
    "mariadb": "SET @emc_old_code_gone = 'the test';\n",
}
"""How a person says that the old release is gone."""


def run(url: str, script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Let the client of the database run a script."""
    path = directory / "script.sql"
    path.write_text(script)
    at = make_url(url)
    if at.get_backend_name() == "postgresql":
        given = ["psql", "-X", "-q", "-h", at.host, "-p", at.port, "-U", at.username, "-d", at.database]
    else:
        given = ["mariadb", "--no-defaults", "-h", at.host, "-P", at.port, "-u", at.username, at.database]
    with path.open() as source:
        return subprocess.run(
            [str(one) for one in given], stdin=source, capture_output=True, text=True, check=False
        )


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database whose client is a program."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(url: str) -> Engine:
    """The same, with a first release and a row of it."""
    engine = create_engine(url)
    emc.expand(first(), engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id) VALUES (1)"))
    return engine


def test_script_stops_at_shut_gates(url: str, database: Engine, tmp_path: Path) -> None:
    """A script ends at the first gate that is shut, and leads to the models once none is."""
    kind = make_url(url).get_backend_name()
    project = Project(tmp_path / "project", url)
    project.hook()
    project.release(second())
    start = project.by_hand("start").revision
    command.stamp(project.config, "heads")
    expand, contract = project.autogenerate("names")

    with pytest.raises(CommandError, match="A script cannot take"):
        command.downgrade(project.config, f"{expand.revision}:{start}", sql=True)
    with pytest.raises(CommandError, match="no way down from here"):
        command.downgrade(project.config, f"{contract.revision}:{start}", sql=True)
    done = run(url, project.upgrade_to(f"{start}:expand@head", sql=True), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    script = project.upgrade_to(f"{expand.revision}:contract@head", sql=True)
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET tz = NULL"))
    expanded = shape(database)

    done = run(url, SAID[kind] + script, tmp_path)
    assert done.returncode != 0
    assert "emc: data migration fill:users.tz has rows left" in done.stderr
    assert shape(database) == expanded

    emc.migrate(second(), database)
    done = run(url, script, tmp_path)
    assert done.returncode != 0
    assert "gate old-code-gone:users.tz is shut" in done.stderr
    assert shape(database) == expanded

    with database.begin() as connection:
        connection.execute(text("UPDATE users SET name = 'Ada'"))
    done = run(url, SAID[kind] + script, tmp_path)
    assert done.returncode != 0
    assert "gate data-elsewhere:users.name is shut" in done.stderr
    assert "name" in shape(database)["tables"]["users"]["columns"]

    with database.begin() as connection:
        connection.execute(text("UPDATE users SET name = NULL"))
    left = script if kind == "postgresql" else _from_gate(script, "data-elsewhere:users.name")
    done = run(url, SAID[kind] + left, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    command.check(project.config)
    with database.connect() as connection:
        versions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    assert contract.revision in versions
    assert emc.plan(second(), database).plan.is_empty
    database.dispose()


def _from_gate(script: str, gate: str) -> str:
    """What is left of a script that was ended by *gate*, where DDL commits by itself."""
    at = script.index(f"gate {gate} is shut")
    return script[script.rindex("SET @emc_gate", 0, at) :]


UNGATED = {
    ("expand", "op.drop_column('users', 'name')"): "it takes users.name away while the old release runs",
    (
        "expand",
        "with op.emc_step('drop-column:users.name'):\n    op.execute('ALTER TABLE users DROP name')",
    ): "it takes users.name away while the old release runs",
    ("expand", "op.execute('DELETE FROM users')"): "emc cannot tell that it is harmless",
    (
        "contract",
        "op.drop_column('users', 'name')",
    ): "no line op.emc_gate(...) stands before it that is about users.name",
    (
        "contract",
        "with op.emc_step('drop-column:users.name'):\n    op.execute('ALTER TABLE users DROP name')",
    ): "no line op.emc_gate(...) stands before it that is about users.name",
    ("contract", "op.execute('TRUNCATE users')"): "emc cannot tell that it is harmless",
    (
        "contract",
        "op.rename_table('users', 'people')",
    ): "it takes users away in a way that emc has no gate for",
}


@pytest.mark.parametrize(("branch", "body"), UNGATED)
def test_what_no_gate_stands_before_is_not_written(url: str, tmp_path: Path, branch: str, body: str) -> None:
    """What somebody has written by hand into a revision gets into no script past the gates."""
    project = ByHand(tmp_path / "project", url)
    project.revision("r1", body, label=branch)
    refused = project.run("upgrade", "--sql", f"{branch}@head")
    why = f"Revision r1 has a statement that no script may hold: {UNGATED[branch, body]}"
    assert why in refused.said, refused.said
    project.revision("r1", "op.execute('CREATE TABLE notes (id integer)')", downgrade=body, label=branch)
    assert "CREATE TABLE notes" in project.run("upgrade", "--sql", f"{branch}@head").said
    if "emc_step" not in body:
        refused = project.run("downgrade", "--sql", "r1:base")
        assert "there are no scripts for the way back" in refused.said, refused.said
    project.engine.dispose()


@pytest.mark.parametrize("revision", ["expand@head", "contract@head"])
def test_sqlite_has_no_scripts(sqlite_url: str, tmp_path: Path, revision: str) -> None:
    """Where nothing could stop a script it is refused, whatever it holds."""
    project = Project(tmp_path / "project", sqlite_url)
    project.hook()
    engine = create_engine(sqlite_url)
    emc.expand(first(), engine)
    project.release(second())
    project.autogenerate("names")
    engine.dispose()
    with pytest.raises(CommandError, match="emc writes no scripts for sqlite"):
        project.upgrade_to(revision, sql=True)
