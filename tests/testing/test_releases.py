"""Is the old release taken from wherever it is, in a process of its own?"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect

from emc.errors import ConfigurationError
from emc.testing import (
    CheckFailedError,
    check_old_release_works,
    release_in_git,
    release_in_wheel,
    release_of,
)
from emc.testing.databases import configured_release
from tests.testing import shop
from tests.testing.shop import rows, upgrade

SHOP = Path(shop.__file__).read_text()
MODELS = "from shop_tables import old_metadata\n\nmetadata = old_metadata()\n"


@pytest.fixture
def old_package(tmp_path: Path) -> Path:
    """A directory with the old release's modules, whose names nothing else here has."""
    package = tmp_path / "old" / "src"
    package.mkdir(parents=True)
    package.joinpath("shop_tables.py").write_text(SHOP)
    package.joinpath("shop_models.py").write_text(MODELS)
    return package


def test_release_in_git(engine: Engine, old_package: Path, tmp_path: Path) -> None:
    """The old release at a git revision builds the database and sends its statements, in a process of its own."""
    top = old_package.parent

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", top, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "The old release")
    git("tag", "v1")
    old_package.joinpath("shop_models.py").write_text("raise SystemExit('not this one')\n")
    unpacked = tmp_path / "unpacked"
    old = release_in_git("v1", "shop_models:metadata", unpacked, repository=top, source="src", rows=rows)
    check_old_release_works(engine, upgrade(), old)
    assert "shop_models" not in sys.modules
    with pytest.raises(CheckFailedError, match="git archive"):
        release_in_git("v9", "shop_models:metadata", unpacked, repository=top)


@pytest.mark.parametrize("python", [None, "new"])
def test_release_in_wheel(sqlite_url: str, old_package: Path, tmp_path: Path, python: str | None) -> None:
    """The old release in a wheel does so too, with rows made from its models; installed by itself, if asked for."""
    wheel = tmp_path / "shop-1-py3-none-any.whl"
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: shop\nVersion: 1\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as files:
        for module in old_package.iterdir():
            files.write(module, module.name)
        for name, content in about.items():
            files.writestr(f"shop-1.dist-info/{name}", content)
    old = release_in_wheel(wheel, "shop_models:metadata", tmp_path / "unpacked", python=python)
    assert list(tmp_path.glob("unpacked/shop_models.py")) == (
        [] if python else [tmp_path / "unpacked/shop_models.py"]
    )
    engine = create_engine(sqlite_url)
    old.build(engine)
    assert inspect(engine).get_table_names() == ["teams", "users"]
    attempts = old.attempts(engine)
    names = [one.name for one in attempts]
    assert "UPDATE users SET name" in names
    assert len(names) == len(set(names))
    assert [one for one in attempts if one.error] == []
    engine.dispose()


def test_release_that_is_not_there(tmp_path: Path, sqlite_url: str) -> None:
    """A wheel that is none, and models that the old release does not have, are told as such."""
    with pytest.raises(CheckFailedError, match=r"cannot be installed in an environment of its own: ERROR: "):
        release_in_wheel(tmp_path / "none.whl", "shop:metadata", tmp_path / "new", python="new")
    with pytest.raises(CheckFailedError, match="pip download"):
        release_in_wheel(tmp_path / "none.whl", "shop:metadata", tmp_path)
    wheel = tmp_path / "empty.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("shop_models.py", "")
    old = release_in_wheel(wheel, "shop_models:metadata", tmp_path / "unpacked")
    engine = create_engine(sqlite_url)
    with pytest.raises(CheckFailedError, match="has no attribute 'metadata'"):
        old.build(engine)
    # A module of this environment is not the old release.
    old = release_in_wheel(wheel, "emc.state.tables:METADATA", tmp_path / "unpacked")
    with pytest.raises(CheckFailedError, match="which is not the old release"):
        old.build(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("models", "git", "wheel", "python", "said"),
    [
        ("a:b", "v1", "a.whl", None, "Keep one of the two"),
        ("a:b", None, None, "new", "nothing says where that is"),
        (None, "v1", None, None, "emc_old_models = myapp.models"),
    ],
)
def test_mistakes(
    tmp_path: Path, models: str | None, git: str | None, wheel: str | None, python: str | None, said: str
) -> None:
    """Two places for one old release, or none, are a mistake in the configuration, and told as such."""
    with pytest.raises(ConfigurationError, match=said):
        configured_release(models, git, wheel, python=python, rows=None, project=tmp_path, directory=tmp_path)


def test_models_that_cannot_be_had() -> None:
    """A path to models that leads nowhere, or to something else, is told with how to write it."""
    with pytest.raises(CheckFailedError, match=r"No module named 'no_shop'.*\n.*module:attribute"):
        release_of("no_shop:metadata")
    with pytest.raises(CheckFailedError, match="is no MetaData but str"):
        release_of("tests.testing.test_releases:MODELS")
