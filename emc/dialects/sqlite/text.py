"""What does a CREATE TABLE text in SQLite's catalog say, and where in the text does it say so?

SQLite keeps the text that created a table and little else: names of inline constraints, CHECKs, ON CONFLICT clauses
and DEFERRABLE are only there. So the text is parsed by SQLite's own grammar
(https://sqlite.org/lang_createtable.html), and every part remembers its place, so that
:mod:`emc.dialects.sqlite.edits` can change one part and keep all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from emc.dialects.sqlite.tokens import Token, UnreadableTextError, closing, tokens
from emc.names import ElementKind

_COLUMN_CONSTRAINTS = frozenset(
    {"CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES", "AS"}
    | {"GENERATED", "DEFERRABLE"}
)
_TABLE_CONSTRAINTS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})


@dataclass(frozen=True)
class Clause:
    """One constraint or property, of a column or of the table, with its place in the text."""

    kind: str
    """``null``, ``not-null``, ``default``, ``collate``, ``generated``, or a value of :class:`ElementKind`."""
    name: str | None
    start: int
    end: int
    text: str
    """Without the name of the constraint."""
    columns: tuple[str, ...] = ()
    """The columns of the table that a key, a unique constraint or a foreign key is about."""
    argument: str = ""
    """The expression, default or collation; the parent table of a foreign key."""
    parents: tuple[str, ...] = ()
    """The columns that a foreign key refers to; empty for the primary key of the parent."""
    inline: bool = False

    @property
    def element_kind(self) -> ElementKind | None:
        """The kind of constraint, ``None`` for a mere property of a column."""
        return ElementKind(self.kind) if self.kind in _ELEMENTS else None


_ELEMENTS = frozenset(kind.value for kind in ElementKind)


@dataclass(frozen=True)
class ColumnText:
    """The definition of one column, with its place in the text."""

    name: str
    start: int
    end: int
    name_end: int
    type: str
    type_end: int
    """Where the type ends; the end of the name for a column without type."""
    clauses: tuple[Clause, ...]

    def clause(self, kind: str) -> Clause | None:
        """The last clause of a kind: of several collations or defaults, SQLite takes the last one."""
        return next((clause for clause in reversed(self.clauses) if clause.kind == kind), None)


@dataclass(frozen=True)
class TableText:
    """A parsed CREATE TABLE text."""

    sql: str
    columns: tuple[ColumnText, ...]
    constraints: tuple[Clause, ...]
    commas: tuple[int, ...]
    """Where the commas between the definitions are."""
    options: str
    """What follows the definitions, in upper case."""

    @property
    def places(self) -> list[tuple[int, int]]:
        """Where the definitions start and end."""
        columns = [(column.start, column.end) for column in self.columns]
        return sorted([*columns, *((clause.start, clause.end) for clause in self.constraints)])

    @property
    def clauses(self) -> Iterator[Clause]:
        """The clauses of all columns, then those of the table."""
        for column in self.columns:
            yield from column.clauses
        yield from self.constraints

    @property
    def without_rowid(self) -> bool:
        """Whether the table has no rowid."""
        return "WITHOUT ROWID" in self.options

    def column(self, name: str) -> ColumnText | None:
        """The column called *name*; SQLite does not tell upper case from lower case."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)


class _Reader:
    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.parts = tokens(sql)
        self.at = 0

    def peek(self, offset: int = 0) -> Token:
        position = self.at + offset
        return self.parts[position] if position < len(self.parts) else Token("end", "", len(self.sql), -1)

    def take(self) -> Token:
        token = self.peek()
        if token.kind == "end":
            raise UnreadableTextError("the text ends too early")
        self.at += 1
        return token

    def accept(self, *keywords: str) -> bool:
        if all(self.peek(i).keyword == word for i, word in enumerate(keywords)):
            self.at += len(keywords)
            return True
        return False

    def name(self) -> str:
        token = self.take()
        if not token.is_name:
            raise UnreadableTextError(f"{token.text!r} stands where a name should")
        return token.name

    @property
    def last_end(self) -> int:
        return self.parts[self.at - 1].end

    def group(self) -> tuple[str, tuple[Token, ...]]:
        """A parenthesised group: its inner text, and its inner tokens."""
        if self.peek().text != "(":
            raise UnreadableTextError(f"{self.peek().text!r} stands where a parenthesis should")
        end = closing(self.parts, self.at)
        inner = self.parts[self.at + 1 : end]
        text = self.sql[self.parts[self.at].end : self.parts[end].start].strip()
        self.at = end + 1
        return text, inner

    def names(self) -> tuple[str, ...]:
        """A parenthesised list of columns, each perhaps with COLLATE and an order."""
        _, inner = self.group()
        found: list[str] = []
        fresh = True
        for token in inner:
            if token.text == ",":
                fresh = True
            elif fresh:
                found.append(token.name)
                fresh = False
        return tuple(found)

    def on_conflict(self) -> None:
        if self.accept("ON", "CONFLICT"):
            self.take()

    def references(self) -> tuple[str, tuple[str, ...]]:
        parent = self.name()
        parents = self.names() if self.peek().text == "(" else ()
        while True:
            if self.accept("ON"):
                self.take()
                if not (self.accept("SET") or self.accept("NO")):
                    self.take()
                else:
                    self.take()
            elif self.accept("MATCH"):
                self.take()
            else:
                break
        self.deferrable()
        return parent, parents

    def deferrable(self) -> None:
        if self.peek().keyword == "DEFERRABLE" or (
            self.peek().keyword == "NOT" and self.peek(1).keyword == "DEFERRABLE"
        ):
            self.accept("NOT")
            self.take()
            if self.accept("INITIALLY"):
                self.take()

    def column(self) -> ColumnText:
        start = self.peek().start
        name = self.name()
        name_end = self.last_end
        type_start = self.peek().start
        while self.peek().is_name and self.peek().keyword not in _COLUMN_CONSTRAINTS:
            self.take()
        if self.last_end != name_end and self.peek().text == "(":
            self.group()
        type_end = self.last_end
        type_text = self.sql[type_start:type_end] if type_end != name_end else ""
        clauses: list[Clause] = []
        while self.peek().text not in (",", ")") and self.peek().kind != "end":
            clauses.append(self.column_clause(name))
        return ColumnText(name, start, self.last_end, name_end, type_text, type_end, tuple(clauses))

    def column_clause(self, column: str) -> Clause:
        start = self.peek().start
        label = None
        while self.accept("CONSTRAINT"):
            label = self.name()
        body = self.peek().start
        columns: tuple[str, ...] = ()
        argument = ""
        parents: tuple[str, ...] = ()
        if self.accept("NULL"):
            kind = "null"
            self.on_conflict()
        elif self.accept("NOT", "NULL"):
            kind = "not-null"
            self.on_conflict()
        elif self.accept("PRIMARY", "KEY"):
            kind, columns = ElementKind.PRIMARY_KEY.value, (column,)
            if self.accept("ASC") or self.accept("DESC"):
                pass
            self.on_conflict()
            argument = "AUTOINCREMENT" if self.accept("AUTOINCREMENT") else ""
        elif self.accept("UNIQUE"):
            kind, columns = ElementKind.UNIQUE.value, (column,)
            self.on_conflict()
        elif self.accept("CHECK"):
            kind = ElementKind.CHECK.value
            argument = self.group()[0]
        elif self.accept("DEFAULT"):
            kind = "default"
            begin = self.peek().start
            if self.peek().text == "(":
                self.group()
            else:
                if self.peek().text in ("+", "-"):
                    self.take()
                # A blob literal is the word x followed by a string.
                if self.take().keyword == "X" and self.peek().kind == "string":
                    self.take()
            argument = self.sql[begin : self.last_end]
        elif self.accept("COLLATE"):
            kind, argument = "collate", self.name()
        elif self.accept("REFERENCES"):
            kind, columns = ElementKind.FOREIGN_KEY.value, (column,)
            argument, parents = self.references()
        elif self.peek().keyword in ("GENERATED", "AS"):
            kind = "generated"
            if self.accept("GENERATED"):
                self.accept("ALWAYS")
            self.accept("AS")
            argument = self.group()[0]
            if not self.accept("STORED"):
                self.accept("VIRTUAL")
        else:
            raise UnreadableTextError(
                f"{self.peek().text!r} is not known in the definition of column {column}"
            )
        end = self.last_end
        text = self.sql[body:end]
        return Clause(kind, label, start, end, text, columns, argument, parents, inline=True)

    def table_clause(self) -> Clause:
        start = self.peek().start
        label = None
        while self.accept("CONSTRAINT"):
            label = self.name()
        body = self.peek().start
        columns: tuple[str, ...] = ()
        argument = ""
        parents: tuple[str, ...] = ()
        if self.accept("PRIMARY", "KEY"):
            kind, columns = ElementKind.PRIMARY_KEY.value, self.names()
            self.on_conflict()
        elif self.accept("UNIQUE"):
            kind, columns = ElementKind.UNIQUE.value, self.names()
            self.on_conflict()
        elif self.accept("CHECK"):
            kind = ElementKind.CHECK.value
            argument = self.group()[0]
            self.on_conflict()
        elif self.accept("FOREIGN", "KEY"):
            kind, columns = ElementKind.FOREIGN_KEY.value, self.names()
            if not self.accept("REFERENCES"):
                raise UnreadableTextError("a foreign key refers to nothing")
            argument, parents = self.references()
        else:
            raise UnreadableTextError(f"{self.peek().text!r} is not known as a constraint of a table")
        end = self.last_end
        return Clause(kind, label, start, end, self.sql[body:end], columns, argument, parents)


@lru_cache(maxsize=4096)
def parse(sql: str) -> TableText:
    """Parse a CREATE TABLE text.

    :raises UnreadableTextError: the text holds something that emc does not know.
    """
    reader = _Reader(sql)
    while reader.peek().text != "(":
        reader.take()
    reader.take()
    columns: list[ColumnText] = []
    constraints: list[Clause] = []
    commas: list[int] = []
    while reader.peek().text != ")":
        if reader.peek().text == ",":
            commas.append(reader.take().start)
        elif reader.peek().keyword in _TABLE_CONSTRAINTS:
            constraints.append(reader.table_clause())
        else:
            columns.append(reader.column())
    reader.take()
    options = " ".join(token.text.upper() for token in reader.parts[reader.at :])
    return TableText(sql, tuple(columns), tuple(constraints), tuple(commas), options)
