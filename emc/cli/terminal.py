"""How do texts and tables get to stdout?

On a terminal with colour and as wide as it is; into a pipe or a file without, the same bytes for the same content, and
nothing cut off. What a person may want to copy is never wrapped.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Collection
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 120
"""Columns of a table that does not go to a terminal, unless COLUMNS says otherwise."""


class Terminal:
    """stdout, for one run of a command.

    :param as_json: the command answers one JSON document; everything else keeps silent.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        """For what moves; only on a terminal."""
        self.is_interactive = self.console.is_terminal and not as_json

    @property
    def width(self) -> int:
        """Columns of the terminal, or of what stands for it."""
        if self.console.is_terminal:
            return self.console.width
        columns = os.environ.get("COLUMNS", "")
        return int(columns) if columns.isdecimal() and int(columns) else PIPED_WIDTH

    def say(self, text: str = "", style: str = "") -> None:
        """Write *text* as it is, however long its lines are; nothing in JSON mode."""
        if not self.as_json:
            # Line by line: text that Rich colours is padded to its longest line.
            for line in text.split("\n"):
                self._write(
                    self._rendered(Text(line, style), soft_wrap=True) if style and line else f"{line}\n"
                )

    def show(self, table: Table) -> None:
        """Write *table*; nothing in JSON mode."""
        if not self.as_json:
            # Rich cuts off what does not fit; a terminal that is too narrow for the words wraps them itself.
            needed = Measurement.get(self.console, self.console.options.update(width=1_000), table).minimum
            self._write(self._rendered(table, soft_wrap=False, width=max(self.width, needed)))

    def answer(self, document: Any) -> None:
        """Write the one JSON document; nothing in table mode."""
        if self.as_json:
            self._write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")

    def _rendered(self, what: RenderableType, *, soft_wrap: bool, width: int | None = None) -> str:
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=width or self.width,
            force_terminal=self.console.is_terminal,
            color_system="auto" if self.console.color_system else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        console.print(what, soft_wrap=soft_wrap)
        # Cells are padded; trailing spaces are no use to anybody.
        return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
            sys.stdout.flush()
        except BrokenPipeError:
            # Nobody reads any more (`emc migrate | head`). The work goes on, in silence, and so does its exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def grid(*headers: str, numbers: Collection[int] = (), wraps: int = -1) -> Table:
    """An empty table without lines around its cells.

    :param numbers: which columns hold numbers.
    :param wraps: which column gives way where there is not enough room; it breaks between words only.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for at, header in enumerate(headers):
        table.add_column(
            header,
            overflow="fold",
            justify="right" if at in numbers else "left",
            no_wrap=at != wraps % len(headers),
        )
    return table
