"""Which files make up the project?"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

SUFFIX = ".txt"
"""What templates bear behind their own names, so that no tool takes them for modules of emc."""


def write(directory: Path) -> None:
    """Write the project into *directory*, which exists."""
    _copy(files("emc.quickstart") / "project", directory)


def _copy(source: Traversable, directory: Path) -> None:
    for one in sorted(source.iterdir(), key=lambda entry: entry.name):
        if one.is_dir():
            (directory / one.name).mkdir()
            _copy(one, directory / one.name)
        elif one.name.endswith(SUFFIX):
            text = one.read_text(encoding="utf-8")
            (directory / one.name.removesuffix(SUFFIX)).write_text(text, encoding="utf-8")
