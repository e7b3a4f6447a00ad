"""How is a script stopped by a gate, in the clients of MariaDB and MySQL?

Seen with MariaDB 10.11: a prepared SIGNAL ends a script that the client reads from a file. Where a server prepares no
SIGNAL (MySQL: "This command is not supported in the prepared statement protocol yet"), that error ends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect

from emc.dialects.mysql.sessions import BUILD_WAIT
from emc.dialects.scripting import Demanding

_CHANGES = re.compile(r"\s*(?:ALTER|CREATE|DROP|RENAME)\b")
_BUILDS = re.compile(
    r"\bADD (?:CONSTRAINT|UNIQUE|INDEX|KEY|FULLTEXT|FOREIGN|CHECK)|\bINDEX\b|\b(?:MODIFY|CHANGE)\b"
)
_SHORT_WAIT = 1
"""Seconds; a script does not try again, as emc does."""
_LONGEST = 500
"""Characters of a message that MariaDB does not cut."""


class ClientDemands(Demanding):
    """What a script of Alembic's says to the clients."""

    def __init__(self) -> None:
        # "named": nothing is doubled for a driver that takes per cent signs for parameters.
        self._dialect = MariaDBDialect(paramstyle="named")

    def beginning(self) -> Sequence[str]:
        """How to run it; the client ends at the first error unless it is told not to."""
        return ["-- Run it with: mariadb DATABASE < FILE"]

    def waiting(self, text: str) -> Sequence[str]:
        """As long as emc itself waits for a lock: builds want theirs at the end, when much has been done."""
        if not _CHANGES.match(text):
            return ()
        return [f"SET SESSION lock_wait_timeout = {BUILD_WAIT if _BUILDS.search(text) else _SHORT_WAIT}"]

    def whole(self, text: str, terminator: str) -> str:
        """With another delimiter, as mysqldump writes triggers."""
        body = text.removesuffix(terminator)
        if ";" not in body or text.startswith("--"):
            return text
        return f"DELIMITER ;;\n{body.rstrip(';')};;\nDELIMITER ;"

    def once(self, text: str) -> str:
        """With conditions that MariaDB reads and MySQL takes for comments: a mysql:// URL leads to either.

        Seen on MariaDB 10.11, through its client; MySQL, which has no such conditions, ends a second run there.
        """
        return _conditional(text, "/*M! {} */".format)

    def render(self, statement: ClauseElement) -> str:
        """As MariaDB has it."""
        return str(statement.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True}))

    def refuse(self, condition: str, message: str, remedy: str) -> Sequence[str]:
        """A statement that is prepared, and is a SIGNAL unless the condition is true."""
        said = f"emc: {message}. {remedy}"[:_LONGEST]
        signal = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {_literal(said)}"
        return [
            f"SET @emc_gate = IF({condition}, 'DO 0', {_literal(signal)})",
            "PREPARE emc_gate FROM @emc_gate",
            "EXECUTE emc_gate",
            "DEALLOCATE PREPARE emc_gate",
        ]

    def saying(self, setting: str, value: str) -> str:
        """A variable of the session."""
        return f"SET {_variable(setting)} = {_literal(value)}"

    def has_said(self, setting: str, word: str | None = None) -> str:
        """Words have blanks between them."""
        said = f"COALESCE({_variable(setting)}, '')"
        if word is None:
            return f"{said} <> ''"
        return f"INSTR(CONCAT(' ', {said}, ' '), {_literal(f' {word} ')}) > 0"


class MariaDBDemands(ClientDemands):
    """The same where the URL says that it is MariaDB."""

    def once(self, text: str) -> str:
        """With IF EXISTS and IF NOT EXISTS, which MariaDB has for indexes and constraints, too (seen with 10.11)."""
        return _conditional(text, str)


def _conditional(text: str, said: Callable[[str], str]) -> str:
    """*text* so that it minds nothing that is done.

    :param said: how a condition is written.
    """
    if not _ALTERS.match(text):
        return text
    for pattern, before, condition, after in _CONDITIONS:
        text = pattern.sub(partial(_outside, f"{before}{said(condition)}{after}"), text)
    return text


def _outside(instead: str, found: re.Match[str]) -> str:
    """What takes the place of *found*, unless it is part of a literal."""
    is_literal = found.string.count("'", 0, found.start()) % 2 == 1
    return found[0] if is_literal else found.expand(instead)


_ALTERS = re.compile(r"\s*(?:SET STATEMENT \w+=\w+ FOR )?ALTER TABLE ")
_NAME = r"(?!IF |/)(`(?:[^`]|``)+`|\w+)"
_CONDITIONS = (
    (
        re.compile(rf"\b(DROP (?:FOREIGN KEY|CONSTRAINT|INDEX|COLUMN)) {_NAME}"),
        r"\1 ",
        "IF EXISTS",
        r" \2",
    ),
    (
        re.compile(rf"\b(ADD (?:UNIQUE |FULLTEXT )?(?:INDEX|COLUMN)) {_NAME}"),
        r"\1 ",
        "IF NOT EXISTS",
        r" \2",
    ),
    (re.compile(rf"\bADD CONSTRAINT {_NAME} UNIQUE "), "ADD UNIQUE INDEX ", "IF NOT EXISTS", r" \1 "),
    (
        re.compile(rf"\bADD CONSTRAINT {_NAME} FOREIGN KEY ?\("),
        r"ADD CONSTRAINT \1 FOREIGN KEY ",
        r"IF NOT EXISTS \1",
        " (",
    ),
    (re.compile(rf"\bADD CONSTRAINT {_NAME} CHECK "), "ADD CONSTRAINT ", "IF NOT EXISTS", r" \1 CHECK "),
)


def _variable(setting: str) -> str:
    return f"@{setting.replace('.', '_')}"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
