"""Does the quickstart show what it promises?"""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import MetaData, create_engine, inspect

from emc.cli import main
from emc.quickstart import QuickstartError, run
from emc.quickstart.story import STORY, Act

FILES = {
    "README.md",
    "new_database.py",
    "new_release.py",
    "old_release.py",
    "pyproject.toml",
    "shop/__init__.py",
    "shop/models_2026_1.py",
    "shop/models_2026_2.py",
    "shop/upgrade.py",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a quickstart that has run, and what it showed."""
    directory = tmp_path_factory.mktemp("quickstart") / "shop project"
    # A configuration of whoever watches must not get in the way.
    environment = {**os.environ, "EMC_URL": "sqlite:///elsewhere.db", "EMC_UPGRADE": "no.such:upgrade"}
    environment.pop("COLUMNS", None)
    result = subprocess.run(
        [sys.executable, "-m", "emc", "quickstart", str(directory)],
        cwd=directory.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return directory, result.stdout


def schema(engine_url: str) -> dict[str, object]:
    """The tables of a database as an inspector shows them, without emc's own and without the order of columns."""
    engine = create_engine(engine_url)
    inspector = inspect(engine)
    found = {
        table: (
            sorted(map(repr, inspector.get_columns(table))),
            inspector.get_pk_constraint(table),
            sorted(map(repr, inspector.get_foreign_keys(table))),
            sorted(map(repr, inspector.get_indexes(table))),
            sorted(repr(unique["column_names"]) for unique in inspector.get_unique_constraints(table)),
        )
        for table in inspector.get_table_names()
        if not table.startswith("emc_")
    }
    engine.dispose()
    return dict(found)


def test_files(shown: tuple[Path, str]) -> None:
    """Everything that the README names is there, and nothing is left of emc's own names for templates."""
    directory, _ = shown
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert FILES | {"shop.db"} == {name for name in found if "__pycache__" not in name}


def test_order_of_commands(shown: tuple[Path, str]) -> None:
    """The commands are shown in the order of an upgrade, each as it was typed."""
    _, text = shown
    assert re.findall(r"^\$ (.*)$", text, re.MULTILINE) == [
        "python new_database.py",
        "emc plan",
        "emc expand",
        "python old_release.py",
        "python new_release.py",
        "emc contract",
        "emc migrate --max-count 20000",
        "emc migrate",
        "emc status",
        "emc contract --old-code-gone",
        "python new_release.py",
        "emc plan",
        "emc history",
    ]


def test_what_is_shown(shown: tuple[Path, str]) -> None:
    """The answers are those of the real commands: gates with their rows, rows left, at last an empty plan."""
    _, text = shown
    for piece in (
        "Blocked by gates",
        "59,001 rows in the way",
        "Exit code 3",
        "Exit code 1",
        "Nothing to do",
    ):
        assert piece in text
    assert "Traceback" not in text


def test_the_database_equals_a_fresh_one(shown: tuple[Path, str], tmp_path: Path) -> None:
    """In the end the database is what create_all makes of the new models, and no row was lost."""
    directory, _ = shown
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    code = (
        "import sqlalchemy, shop.models_2026_2 as models;"
        f"models.Base.metadata.create_all(sqlalchemy.create_engine({url!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True)
    assert schema(f"sqlite:///{directory / 'shop.db'}") == schema(url)
    connection = sqlite3.connect(directory / "shop.db")
    count = "SELECT count(*) FROM {}"
    # Each release has written one of each, the new one twice; of 1,000 subscribers 100 had subscribed twice.
    assert connection.execute(count.format("customers")).fetchone() == (40_003,)
    assert connection.execute(count.format("orders WHERE city IS NOT NULL")).fetchone() == (59_003,)
    assert connection.execute(count.format("subscribers")).fetchone() == (903,)
    connection.close()


def test_a_directory_that_is_not_empty(shown: tuple[Path, str]) -> None:
    """A second run leaves the directory alone, and ends with 2."""
    directory, _ = shown
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    result = CliRunner().invoke(main, ["quickstart", str(directory)])
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert before == {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """A directory that cannot be made is reported with its reason."""
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["quickstart", str(tmp_path / "file" / "below")])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_an_unexpected_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends otherwise than the story says stops it, with the command and both codes."""
    monkeypatch.setattr("emc.quickstart.story.STORY", (Act("It fails.", "python -c 1/0"), *STORY))
    said: list[str] = []

    def say(text: str = "", style: str = "") -> None:
        said.append(text)

    with pytest.raises(QuickstartError, match="exit code 1, not 0"):
        run(tmp_path / "shop", say, live=False, python=sys.executable)
    assert not any("new_database" in line for line in said)


def test_models_are_what_the_files_say(shown: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of the two releases differ, and the upgrade declares something for each difference that needs it."""
    directory, _ = shown
    monkeypatch.syspath_prepend(directory)
    try:
        from shop.models_2026_1 import Base as Old  # type: ignore[import-not-found]
        from shop.upgrade import Base as New  # type: ignore[import-not-found]
        from shop.upgrade import upgrade

        assert isinstance(Old.metadata, MetaData)
        assert set(New.metadata.tables) - set(Old.metadata.tables) == {"coupons"}
        verbs = [declaration.verb for declaration in upgrade.declarations]
        assert verbs == ["fill", "deduplicate", "data_migration", "retire"]
    finally:
        for name in [name for name in sys.modules if name == "shop" or name.startswith("shop.")]:
            del sys.modules[name]
