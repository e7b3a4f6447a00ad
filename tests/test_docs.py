import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import emc

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.rst",
    *(path for path in sorted((ROOT / "docs").rglob("*.rst")) if "changes" not in path.parts),
]
BLOCK = re.compile(
    r"^(?P<indent> *)\.\. (?:code-block|code|sourcecode):: python\n(?:(?P=indent) +:.*\n)*"
    r"(?P<code>(?:\n|(?P=indent)   .*\n)+)",
    re.MULTILINE,
)


def python_snippets(text: str) -> list[str]:
    """The Python code blocks of a document, in order; each keeps its line numbers, for tracebacks."""
    return [
        "\n" * text.count("\n", 0, match.start("code")) + textwrap.dedent(match["code"])
        for match in BLOCK.finditer(text)
    ]


WITH_SNIPPETS = [path for path in DOCUMENTS if python_snippets(path.read_text())]


@pytest.mark.skipif(not hasattr(emc, "Upgrade"), reason="emc.Upgrade is yet to be written")
@pytest.mark.parametrize("path", WITH_SNIPPETS, ids=lambda path: str(path.relative_to(ROOT)))
def test_snippets(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python snippets of each document run, one after the other, in one module."""
    module = ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # mapped classes look their module up
    monkeypatch.chdir(tmp_path)
    for code in python_snippets(path.read_text()):
        exec(compile(code, path, "exec"), module.__dict__)


def test_every_snippet_is_found() -> None:
    """No Python snippet escapes the tests, however it is written down."""
    mentioned = sum(len(re.findall(r":: *(?:python|py)\b|>>>", path.read_text())) for path in DOCUMENTS)
    assert sum(len(python_snippets(path.read_text())) for path in DOCUMENTS) == mentioned > 0
