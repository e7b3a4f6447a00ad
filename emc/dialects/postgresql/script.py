"""What does psql have to be told by a script that proves for itself what emc would prove?"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ClauseElement

from emc.dialects.postgresql.naming import DIALECT, literal, table_name
from emc.dialects.postgresql.sessions import timeouts
from emc.dialects.scripting import Scripting
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
