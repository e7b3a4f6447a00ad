"""Do the statements of a plan work, and do they leave everything else as it was?

They are run in memory, on a copy of the schema without its rows, before anything is touched. What SQLite itself
finds wrong there (a view that names a dropped column, a CHECK that no longer compiles) is a refusal, and not a
failure halfway.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emc.dialects.sqlite.catalog import Attached, run_tolerantly
from emc.dialects.sqlite.draft import Draft, in_schema, qualified
from emc.dialects.sqlite.edits import literal, quoted
from emc.dialects.sqlite.tokens import UnreadableTextError
from emc.names import TableKey
from emc.steps import Transaction


class RehearsalError(Exception):
    """A statement does not work on a copy of the schema, or breaks something else there."""


class Rehearsal:
    """A copy of the schema, in memory, on which statements can be tried."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def run(self, statements: Sequence[str], transaction: Transaction) -> None:
        """Run the statements of one unit.

        :raises RehearsalError: one of them fails, or a view or trigger that worked before does not work after.
        """
        broken = self._broken()
        self._raw.execute(f"PRAGMA legacy_alter_table={int(transaction is Transaction.REBUILD)}")
        try:
            for statement in statements:
                try:
                    run_tolerantly(self._raw, statement)
                except (sqlite3.Error, UnreadableTextError) as error:
                    raise RehearsalError(f"{error} (in: {statement})") from error
        finally:
            self._raw.execute("PRAGMA legacy_alter_table=0")
        if broken is None and (now := self._broken()) is not None:
            raise RehearsalError(now)

    def _broken(self) -> str | None:
        """What SQLite says of the first view or trigger that does not work; renaming a table looks at all of them."""
        self._raw.execute("SAVEPOINT emc_rehearsal")
        try:
            self._raw.execute("CREATE TABLE emc_rehearsal (x)")
            self._raw.execute("ALTER TABLE emc_rehearsal RENAME TO emc_rehearsed")
        except sqlite3.Error as error:
            return str(error)
        finally:
            self._raw.execute("ROLLBACK TO emc_rehearsal")
            self._raw.execute("RELEASE emc_rehearsal")
        return None

    def column(self, key: TableKey, name: str) -> Mapping[str, Any] | None:
        """A row of ``PRAGMA table_xinfo``."""
        cursor = self._raw.execute(
            f"SELECT * FROM pragma_table_xinfo({literal(key.name)}, {literal(key.schema or 'main')})"
            f" WHERE name = {literal(name)} COLLATE NOCASE"
        )
        row = cursor.fetchone()
        return None if row is None else dict(zip([one[0] for one in cursor.description], row, strict=True))

    def sql(self, kind: str, schema: str | None, name: str) -> str | None:
        """The text that the catalog keeps of an element."""
        row = self._raw.execute(
            f"SELECT sql FROM {quoted(schema or 'main')}.sqlite_master WHERE type = ? AND name = ? COLLATE NOCASE",
            (kind, name),
        ).fetchone()
        return None if row is None else str(row[0])


@contextmanager
def rehearse(
    tables: Sequence[Draft], views: Mapping[str | None, Sequence[Attached]], leftovers: Sequence[TableKey]
) -> Iterator[Rehearsal]:
    """A copy of a schema, in memory.

    :raises RehearsalError: the texts of the schema do not work even there.
    """
    raw = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for name in sorted({key for key in views if key is not None}):
            raw.execute(f"ATTACH ':memory:' AS {quoted(name)}")
        try:
            for draft in tables:
                run_tolerantly(raw, in_schema(draft.sql, draft.key.schema))
            for key in leftovers:
                run_tolerantly(raw, f"CREATE TABLE {qualified(key)} (x)")
            for draft in tables:
                for sql in (*draft.indexes.values(), *draft.triggers.values()):
                    run_tolerantly(raw, in_schema(sql, draft.key.schema))
            for schema, ones in views.items():
                for one in ones:
                    run_tolerantly(raw, in_schema(one.sql, schema))
        except (sqlite3.Error, UnreadableTextError) as error:
            raise RehearsalError(f"the schema as it is does not work on a copy: {error}") from error
        yield Rehearsal(raw)
    finally:
        raw.close()
