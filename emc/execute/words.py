"""Which words does a statement consist of, once its literals and comments are out of the way?"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlparse import lexer
from sqlparse import tokens as T  # noqa: N812  # sqlparse's own name for it.

CARRIED_OUT = "/*!"
"""Stands for a comment that MySQL or MariaDB carries out."""


@dataclass(frozen=True)
class Word:
    """One word: a keyword or a plain name, a quoted name, a literal or a mark."""

    text: str
    """As written, without quotes; empty for a literal, unless it is dollar-quoted."""
    plain: bool
    """Whether it can be a keyword: it is not quoted, and no literal."""

    @property
    def keyword(self) -> str:
        """In capitals; empty where it cannot be a keyword."""
        return self.text.upper() if self.plain else ""


class Words:
    """The words of one statement, read from the left."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = tuple(words)
        self._at = 0

    def fresh(self) -> Words:
        """The same words, from the beginning."""
        return Words(self._words)

    @property
    def _left(self) -> tuple[Word, ...]:
        return self._words[self._at :]

    @property
    def replaces(self) -> bool:
        """Whether the statement begins with ``CREATE OR REPLACE``."""
        return [word.keyword for word in self._words[1:3]] == ["OR", "REPLACE"]

    def next(self) -> str:
        """Take one word, in capitals; empty at the end, or where it cannot be a keyword."""
        if self._at == len(self._words):
            return ""
        self._at += 1
        return self._words[self._at - 1].keyword

    def skip(self, *keywords: str) -> None:
        """Take words as long as they are among *keywords*."""
        while self._left and self._left[0].keyword in keywords:
            self._at += 1

    def skip_past(self, keyword: str) -> None:
        """Take words up to the first *keyword*, and that too."""
        while self._left and self.next() != keyword:
            pass

    def name(self) -> str | None:
        """Take a name, and answer its last part: ``users`` of ``"billing".users``."""
        name: str | None = None
        while self._left:
            name = self._left[0].text or None
            self._at += 1
            if not (self._left and self._left[0].keyword == "."):
                break
            self._at += 1
        return name

    def path(self) -> tuple[str, ...]:
        """Take a name, and answer all of its parts: ``("billing", "users")`` of ``"billing".users``."""
        parts: list[str] = []
        while self._left and self._left[0].text:
            parts.append(self._left[0].text)
            self._at += 1
            if not (self._left and self._left[0].keyword == "."):
                break
            self._at += 1
        return tuple(parts)

    def program(self) -> str:
        """What is in the dollar-quoted literal that comes next; nothing where there is none."""
        text = self._left[0].text if self._left else ""
        match = re.fullmatch(r"(\$\w*\$)(.*)\1", text, re.DOTALL)
        return match.group(2) if match is not None else ""

    def body(self) -> str | None:
        """Take a dollar-quoted literal, and answer what is between ``BEGIN`` and ``END`` in it."""
        text = self._left[0].text if self._left else ""
        match = re.fullmatch(r"(\$\w*\$)\s*BEGIN\s(.*)\sEND\s*;?\s*\1", text, re.IGNORECASE | re.DOTALL)
        if match is None:
            return None
        self._at += 1
        return match.group(2)

    def begins(self, *keywords: str) -> bool:
        """Whether the words that are left begin with *keywords*."""
        return tuple(word.keyword for word in self._left[: len(keywords)]) == keywords

    def begins_one_of(self, keywords: Collection[str]) -> bool:
        """Whether the next word is among *keywords*."""
        return bool(self._left) and self._left[0].keyword in keywords

    def holds(self, keywords: Collection[str]) -> bool:
        """Whether any word that is left is among *keywords*."""
        return any(word.keyword in keywords for word in self._left)

    def holds_in_a_row(self, *keywords: str) -> bool:
        """Whether *keywords* stand side by side somewhere among the words that are left."""
        left = [word.keyword for word in self._left]
        return any(tuple(left[at : at + len(keywords)]) == keywords for at in range(len(left)))

    def split(self, mark: str) -> Iterator[Words]:
        """The words that are left, parted at every *mark* outside parentheses."""
        depth, part = 0, list[Word]()
        for word in self._left:
            depth += {"(": 1, ")": -1}.get(word.keyword, 0)
            if word.keyword == mark and depth == 0:
                yield Words(part)
                part = []
            else:
                part.append(word)
        yield Words(part)

    def behind(self, keywords: Collection[str]) -> Iterator[Words]:
        """The words from each of *keywords* on."""
        for at, word in enumerate(self._left):
            if word.keyword in keywords:
                yield Words(self._left[at:])

    def within(self) -> Words:
        """What is between the parentheses that come next; nothing where none come."""
        if not self.begins("("):
            return Words(())
        depth = 0
        for at, word in enumerate(self._left):
            depth += {"(": 1, ")": -1}.get(word.keyword, 0)
            if depth == 0:
                return Words(self._left[1:at])
        return Words(self._left[1:])

    def outside(self) -> Words:
        """The words that are left outside all parentheses."""
        depth, found = 0, list[Word]()
        for word in self._left:
            depth -= word.keyword == ")"
            if depth == 0 and word.keyword not in {"(", ")"}:
                found.append(word)
            depth += word.keyword == "("
        return Words(found)

    def __bool__(self) -> bool:
        return bool(self._left)

    def __str__(self) -> str:
        return " ".join(word.text or "…" for word in self._left)


def statements_of(sql: str, *, once: bool = False) -> list[Words]:
    """The statements in *sql*, in every reading of it that a database may have.

    What would be a statement in any reading counts. The readings differ in what a backslash is, what ``#`` is, and
    whether ``--`` begins a comment where no white space follows.

    :param once: there is one reading only (:func:`emc.execute.plain.plain`).
    """
    readings = [sql]
    for differ in () if once else _READINGS:
        readings = list(dict.fromkeys(read for text in readings for read in differ(text)))
    return [words for reading in readings for words in _parted(_words(reading))]


_READINGS: tuple[Callable[[str], tuple[str, str]], ...] = (
    # Takes the next character's meaning on MySQL (unless NO_BACKSLASH_ESCAPES) and in PostgreSQL's E'…'; or nothing.
    lambda text: (re.sub(r"\\.", "//", text, flags=re.DOTALL), text.replace("\\", "/")),
    # A comment on MySQL; or an operator.
    lambda text: (text, text.replace("#", "/")),
    # A comment; or, on MySQL, two signs: https://dev.mysql.com/doc/refman/8.4/en/ansi-diff-comments.html
    lambda text: (text, re.sub(r"--(?=\S)", "- - ", text)),
)


def _words(sql: str) -> list[Word]:
    words: list[Word] = []
    for kind, text in lexer.tokenize(sql):  # type: ignore[no-untyped-call]
        if kind in T.Comment:
            # MySQL and MariaDB carry out comments that begin so.
            if re.match(r"/\*M?!", text):
                words.append(Word(CARRIED_OUT, plain=True))
        elif kind in T.Whitespace:
            continue
        elif kind in T.String.Symbol or (kind in T.Name and text[:1] in {"`", "["}):
            quote = text[-1:]
            words.append(Word(text[1:-1].replace(quote * 2, quote), plain=False))
        elif kind in T.Literal:
            # A dollar-quoted literal may be the body of a DO.
            words.append(Word(text if text.startswith("$") else "", plain=False))
        else:
            words += [Word(part, plain=True) for part in text.split()]
    return words


def _parted(words: Sequence[Word]) -> Iterator[Words]:
    """*words* parted at semicolons, except those within the body of a routine (BEGIN … END)."""
    part: list[Word] = []
    depth = 0
    for at, word in enumerate(words):
        if part and part[0].keyword == "CREATE":
            # A routine may hold CASE … END too. What END IF ends was not counted when it began; END CASE ends one.
            opens = word.keyword == "BEGIN" or (word.keyword == "CASE" and words[at - 1].keyword != "END")
            follows = words[at + 1].keyword if at + 1 < len(words) else ""
            ends = word.keyword == "END" and follows not in {"IF", "LOOP", "REPEAT", "WHILE"}
            depth += 1 if opens else -1 if ends and depth else 0
        if word.keyword == ";" and depth == 0:
            if part:
                yield Words(part)
            part = []
        else:
            part.append(word)
    if part:
        yield Words(part)
