"""What do the snippets of a document do when a reader follows it from top to bottom?

A Python block is run in one module per document, in an empty directory; a text block right behind it is what it
prints. One with a ``:caption:`` is a file of that name instead, like a block of any other language with one. Where a
document writes a ``pyproject.toml`` its console blocks are run too: every ``alembic …``,
``emc …`` and ``python …``, with the output and the ``[exit code …]`` that are shown.

``python -m tests.snippets FILE…`` runs documents, and writes down what their commands answer.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.rst",
    *(path for path in sorted((ROOT / "docs").rglob("*.rst")) if "changes" not in path.parts),
]
_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. (?:code-block|code|sourcecode):: (?P<language>\S+)\n"
    r"(?P<options>(?:(?P=indent) +:.*\n)*)"
    r"(?P<code>(?:\n|(?P=indent)   .*\n)+)",
    re.MULTILINE,
)
_CAPTION = re.compile(r":caption: (\S+)$", re.MULTILINE)
_EXIT_CODE = re.compile(r"\[exit code (\d+)\]")
_CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?"), "TIME"),
    (re.compile(r"\d+\.\d+s\b( \(\d+:\d\d:\d\d\))?"), "DURATION"),  # pytest's
    (re.compile(r"\d+(\.\d+)? (ms|s|seconds?)\b"), "DURATION"),
    (re.compile(r"\d+:\d\d:\d\d"), "DURATION"),
    (re.compile(r"\b[\w.-]+@[\w.-]+:\d+"), "RUNNER"),
    (re.compile(r"SQLite 3[\d.]+|sqlite 3[\d.]+"), "SERVER"),
    (re.compile(r"[ ─━═-]+"), " "),
)


@dataclass(frozen=True)
class Block:
    """One code block of a document."""

    language: str
    caption: str | None
    """The file that it is, if it is one."""
    code: str
    """Without its indentation."""
    line: int
    """Where the code begins in the document, counted from 0."""
    start: int
    end: int
    indent: str


@dataclass(frozen=True)
class Command:
    """One command of a console block, with what the document says that it answers."""

    words: str
    shown: tuple[str, ...]
    """Lines of output; empty where the document shows none."""
    code: int


def blocks(text: str) -> list[Block]:
    """The code blocks of a document, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        caption = _CAPTION.search(match["options"])
        found.append(
            Block(
                language=match["language"],
                caption=caption[1] if caption else None,
                code=textwrap.dedent(match["code"]).strip("\n") + "\n",
                line=text.count("\n", 0, match.start("code"))
                + len(match["code"])
                - len(match["code"].lstrip("\n")),
                start=match.start("code"),
                end=match.end("code"),
                indent=match["indent"] + "   ",
            )
        )
    return found


def commands(code: str) -> Iterator[Command]:
    """The commands of a console block."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        words, *lines = part.rstrip("\n").split("\n")
        wanted = _EXIT_CODE.fullmatch(lines[-1]) if lines else None
        shown = lines[:-1] if wanted else lines
        while shown and not shown[-1]:
            shown.pop()
        yield Command(words.partition("  #")[0].strip(), tuple(shown), int(wanted[1]) if wanted else 0)


def is_run(command: Command) -> bool:
    """Whether a command is run; one that installs something, for instance, is not."""
    return command.words.split()[0] in ("alembic", "emc", "python")


Ran = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Done:
    """What came of one block."""

    block: Block
    ran: tuple[tuple[Command, Ran], ...] = ()
    """The commands of a console block that were run."""
    printed: tuple[str, ...] = ()
    """For a text block: what the Python block before it has printed."""


@dataclass
class Reader:
    """Somebody who follows a document in an empty directory."""

    path: Path
    directory: Path
    module: ModuleType

    def follow(self) -> Iterator[Done]:
        """Do what each block says."""
        every = blocks(self.path.read_text())
        is_project = any(block.caption == "pyproject.toml" for block in every)
        printed: tuple[str, ...] = ()
        for block in every:
            done = Done(block, printed=printed if block.language == "text" else ())
            printed = ()
            if block.caption is not None:
                self.directory.joinpath(block.caption).write_text(block.code)
            elif block.language == "python":
                code = "\n" * block.line + block.code  # for the line numbers of tracebacks
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    exec(compile(code, str(self.path), "exec"), self.module.__dict__)
                printed = tuple(line.rstrip() for line in output.getvalue().splitlines())
            elif block.language == "console" and is_project:
                ran = [(command, self._run(command)) for command in commands(block.code) if is_run(command)]
                done = Done(block, tuple(ran))
            yield done

    def _run(self, command: Command) -> Ran:
        program, *arguments = command.words.split()
        given = arguments if program == "python" else ["-m", program, *arguments]
        return subprocess.run(
            [sys.executable, *given],
            cwd=self.directory,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def alike(lines: list[str] | tuple[str, ...]) -> list[str]:
    """*lines* without what differs from run to run: times, durations, processes, versions, widths of tables."""
    cleaned = []
    for line in lines:
        plain = line
        for pattern, word in _CHANGING:
            plain = pattern.sub(word, plain)
        cleaned.append(plain.strip())
    return [line for line in cleaned if line]


def record(path: Path, directory: Path) -> str:
    """The text of a document with what its code and commands answer now.

    :raises SystemExit: a command ended with another code than the document says.
    """
    text = path.read_text()
    parts, position = [], 0
    for done in Reader(path, directory, ModuleType("snippets")).follow():
        block, lines = done.block, list(done.printed) or _answers(done)
        if lines:
            parts.append(text[position : block.start] + "\n")
            parts += [f"{block.indent}{line}".rstrip() + "\n" for line in lines]
            parts.append("\n")
            position = block.end
    return "".join([*parts, text[position:]])


def _answers(done: Done) -> list[str]:
    """A console block, anew."""
    if not done.ran:
        return []
    answers, lines = dict(done.ran), []
    written = [line for line in done.block.code.split("\n") if line.startswith("$ ")]
    for command, line in zip(commands(done.block.code), written, strict=True):
        lines.append(line)
        ran = answers.get(command)
        if ran is None:
            lines += command.shown
            continue
        if ran.returncode != command.code:
            raise SystemExit(f"{command.words}: exit code {ran.returncode}\n{ran.stdout}")
        lines += ran.stdout.rstrip("\n").split("\n") if ran.stdout.strip() else []
        lines += [f"[exit code {command.code}]"] if command.code else []
    return lines


def main() -> None:
    """Write down what the commands of documents answer."""
    for name in sys.argv[1:]:
        path = Path(name).absolute()
        with TemporaryDirectory() as directory, contextlib.chdir(directory):
            sys.path.insert(0, directory)
            path.write_text(record(path, Path(directory)))


if __name__ == "__main__":
    main()
