"""What does psql have to be told by a script that proves for itself what emc would prove?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import ClauseElement

from emc.dialects.postgresql.naming import DIALECT, literal, table_name
from emc.dialects.postgresql.sessions import timeouts
from emc.dialects.scripting import Demanding, Scripting
from emc.names import TableKey
from emc.steps import LockPolicy, Transaction


class Psql(Scripting):
    """A script for psql, whose literals are as the server reads them by default."""

    runs_with = "psql -X -f"

    def opening(self, schema: str | None) -> Sequence[str]:
        """Stop at the first error, whatever the caller's options and .psqlrc say."""
        lines = [
            r"\set ON_ERROR_STOP on",
            r"\set AUTOCOMMIT on",
            "SET client_encoding = 'UTF8';",
            "SET standard_conforming_strings = on;",
            "SET application_name = 'emc';",
            # A proof from those of the rows that a policy lets through is none: the query fails instead.
            "SET row_security = off;",
        ]
        if schema is not None:
            message = f"names without a schema have to lead to {schema}, and do not in this session"
            remedy = f"SET search_path to begin with {schema}, as for the role that made this script."
            lines.append(f"{self.demand(f'current_schema() = {literal(schema)}', message, remedy)};")
        return lines

    def waiting(self, transaction: Transaction, locks: LockPolicy, lock_timeout: float) -> Sequence[str]:
        """The timeouts of emc's own sessions."""
        return [
            f"SET {name} = '{round(seconds * 1000)}ms'"
            for name, seconds in timeouts(transaction, locks, lock_timeout).items()
        ]

    def render(self, statement: ClauseElement) -> str:
        """Without a driver's doubling of per cent signs."""
        return str(statement.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))

    def demand(self, condition: str, message: str, remedy: str, otherwise: Sequence[str] = ()) -> str:
        """By a block that raises; what it has done before, it commits."""
        undone = "".join(f"    {statement};\n" for statement in otherwise)
        if undone:
            undone += "    COMMIT;\n"
        body = (
            f"  IF ({condition}) IS NOT TRUE THEN\n{undone}"
            f"    RAISE EXCEPTION USING MESSAGE = {literal(f'emc: {message}')}, HINT = {literal(remedy)};\n  END IF;\n"
        )
        tag = "$emc$"
        while tag in body:
            tag = f"{tag[:-1]}_$"
        return f"DO {tag}\nBEGIN\n{body}END\n{tag}"

    def said(self, setting: str) -> str:
        """A setting of a made-up name, which anybody may set for the session."""
        return f"coalesce(current_setting({literal(setting)}, true), '') <> ''"

    def lock(self, keys: Sequence[TableKey]) -> str:
        """In the mode of the drop."""
        return f"LOCK TABLE {', '.join(map(table_name, keys))} IN ACCESS EXCLUSIVE MODE"


class PsqlDemands(Demanding):
    """What a script of Alembic's says to psql."""

    def __init__(self) -> None:
        self._script = Psql()

    def beginning(self) -> Sequence[str]:
        """As for emc's own."""
        return [
            f"-- Run it with: {self._script.runs_with} FILE",
            *self._script.opening(None),
            "SET client_min_messages = warning;",  # What is there already is nothing to worry about.
        ]

    def patience(self) -> Sequence[str]:
        """As long as emc itself waits for a lock at most."""
        waiting = self._script.waiting(Transaction.TOGETHER, LockPolicy.SHORT, _LOCK_TIMEOUT)
        return [one.replace("SET ", "SET LOCAL ", 1) for one in waiting]

    def waiting(self, text: str) -> Sequence[str]:
        """As in emc's own sessions: what stalls nobody may take its time, and all else may not."""
        if not _CHANGES.match(text):
            return ()
        locks = LockPolicy.WEAK if _STALLS_NOBODY.search(text) else LockPolicy.SHORT
        return self._script.waiting(Transaction.AUTOCOMMIT, locks, _LOCK_TIMEOUT)

    def once(self, text: str) -> str:
        """Constraints and triggers have no IF NOT EXISTS; that of indexes is content with what a failed build left."""
        if found := _ADDS_CONSTRAINT.match(text):
            table, name = found["table"], _unquoted(found["name"])
            there = f"conrelid = to_regclass({literal(table)}) AND conname = {literal(name)}"
            return _unless(f"EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE {there})", text)
        if found := _CREATES_TRIGGER.match(text):
            table, name = found["table"], _unquoted(found["name"])
            there = f"tgrelid = to_regclass({literal(table)}) AND tgname = {literal(name)}"
            return _unless(f"EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE {there})", text)
        if found := _DROPS_CONSTRAINT.match(text):
            return f"{found[0]}IF EXISTS {text[found.end() :]}"
        if found := _BUILDS_INDEX.match(text):
            schema = _SCHEMA.match(found["table"])
            name = f"{schema['schema']}.{found['name']}" if schema else found["name"]
            index = f"SELECT FROM pg_catalog.pg_index WHERE indexrelid = to_regclass({literal(name)})"
            again = _unless(f"NOT EXISTS ({index} AND NOT indisvalid)", f"DROP INDEX CONCURRENTLY {name};")
            return f"{again}\n{_unless(f'EXISTS ({index})', text)}"
        return text

    def render(self, statement: ClauseElement) -> str:
        """As for emc's own."""
        return self._script.render(statement)

    def refuse(self, condition: str, message: str, remedy: str) -> Sequence[str]:
        """By a block that raises."""
        return [self._script.demand(condition, message, remedy)]

    def keep_out(self, keys: Sequence[TableKey]) -> Sequence[str]:
        """In the mode of the drop, which is in the same transaction."""
        return [self._script.lock(keys)]

    def saying(self, setting: str, value: str) -> str:
        """A setting of a made-up name, which anybody may set for the session."""
        return f"SET {setting} = {literal(value)}"

    def has_said(self, setting: str, word: str | None = None) -> str:
        """Words have blanks between them."""
        if word is None:
            return self._script.said(setting)
        said = f"coalesce(current_setting({literal(setting)}, true), '')"
        return f"position({literal(f' {word} ')} in ' ' || {said} || ' ') > 0"


def _unless(condition: str, text: str) -> str:
    """Lines of psql that send *text* unless *condition* is true."""
    return f"SELECT {condition} AS emc_is_so \\gset\n\\if :emc_is_so\n\\else\n{text}\n\\endif"


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


_LOCK_TIMEOUT = 1.0
"""Seconds; a script does not try again, as emc does."""
_NAME = r'(?:"(?:[^"]|"")+"|\w+)'
_PATH = rf"(?:{_NAME}\.)?{_NAME}"
_CHANGES = re.compile(r"\s*(?:ALTER|COMMENT|CREATE|DO|DROP)\b")
_STALLS_NOBODY = re.compile(r"\bCONCURRENTLY\b|\bVALIDATE CONSTRAINT\b")
_ADDS_CONSTRAINT = re.compile(rf"\s*ALTER TABLE (?P<table>{_PATH}) ADD CONSTRAINT (?P<name>{_NAME}) ")
_DROPS_CONSTRAINT = re.compile(rf"\s*ALTER TABLE {_PATH} DROP CONSTRAINT (?!IF )")
_CREATES_TRIGGER = re.compile(rf"\s*CREATE TRIGGER (?P<name>{_NAME}) .*? ON (?P<table>{_PATH})", re.DOTALL)
_BUILDS_INDEX = re.compile(
    rf"\s*CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?(?P<name>{_NAME}) ON (?P<table>{_PATH})"
)
_SCHEMA = re.compile(rf"(?P<schema>{_NAME})\.")
