import re
import tomllib
from pathlib import Path

import emc

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_readme() -> None:
    """CI runs the very command that the README gives for all tests."""
    _, develop = (ROOT / "README.rst").read_text().split("\nDevelop\n", 1)
    [command] = re.findall(r"^   \$ (.+)$", develop, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_python_versions_agree() -> None:
    """The oldest Python of the classifiers is the one that `requires-python`, mypy and ruff name."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = re.findall(r":: Python :: (3\.\d+)", "\n".join(config["project"]["classifiers"]))
    oldest = min(versions, key=lambda version: int(version.split(".")[1]))
    assert config["project"]["requires-python"] == f">={oldest}"
    assert config["tool"]["mypy"]["python_version"] == oldest
    assert config["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


def test_ignored_rules_have_reasons() -> None:
    """Beside every lint rule that is ignored stands why."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    rules = [line for line in lines if re.match(r'    "[A-Z]+\d*", *', line)]
    assert rules
    assert [line for line in rules if not re.search(r", +# \w.+\.$", line)] == []


def test_version() -> None:
    """The package says its version."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", emc.__version__)
