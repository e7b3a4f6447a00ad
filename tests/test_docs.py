import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.snippets import DOCUMENTS, ROOT, Reader, alike, blocks

WITH_SNIPPETS = [
    path for path in DOCUMENTS if any(one.language == "python" for one in blocks(path.read_text()))
]


@pytest.mark.parametrize("path", WITH_SNIPPETS, ids=lambda path: str(path.relative_to(ROOT)))
def test_snippets(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a document from top to bottom meets what it says: its code runs, its commands answer as shown."""
    module = ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # mapped classes look their module up
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        for done in Reader(path, tmp_path, module).follow():
            if done.printed:
                assert alike(done.printed) == alike(done.block.code.splitlines()), (
                    f"line {done.block.line + 1}"
                )
            for command, ran in done.ran:
                assert ran.returncode == command.code, f"{command.words}\n{ran.stdout}"
                if command.shown:
                    assert alike(ran.stdout.splitlines()) == alike(command.shown), command.words
    finally:
        # What a document wrote and imported is nobody else's.
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]


def test_every_snippet_is_found() -> None:
    """No Python snippet escapes the tests, however it is written down."""
    texts = [path.read_text() for path in DOCUMENTS]
    mentioned = sum(len(re.findall(r":: *(?:python|py)\b|>>>", text)) for text in texts)
    assert sum(one.language == "python" for text in texts for one in blocks(text)) == mentioned > 0


def test_no_command_escapes() -> None:
    """Every emc command that a document shows is in a console block, where the tests can find it."""
    for path in DOCUMENTS:
        text = path.read_text()
        shown = re.findall(r"^ +\$ emc .+$", text, re.MULTILINE)
        found = [line for one in blocks(text) if one.language == "console" for line in one.code.split("\n")]
        assert [line.strip() for line in shown] == [line for line in found if line.startswith("$ emc ")], path
