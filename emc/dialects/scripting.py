"""What does a database have to be told by a script that proves for itself what emc would prove?"""

from __future__ import annotations

import abc
from collections.abc import Sequence

from sqlalchemy import ClauseElement

from emc.names import TableKey
from emc.steps import LockPolicy, Transaction

OLD_CODE_GONE = "emc.old_code_gone"
"""The setting by which a person says in a script what ``--old-code-gone`` says to emc."""


class Scripting(abc.ABC):
    """The statements of a script besides those of its steps. None of them ends with a semicolon but for *opening*."""

    runs_with: str
    """The command that a person runs a script with."""

    @abc.abstractmethod
    def opening(self, schema: str | None) -> Sequence[str]:
        """The first lines: what makes the session one of its own, and ends the script where a statement fails.

        :param schema: where names without a schema have to lead to.
        """

    @abc.abstractmethod
    def waiting(self, transaction: Transaction, locks: LockPolicy, lock_timeout: float) -> Sequence[str]:
        """How long the statements that follow may wait."""

    @abc.abstractmethod
    def render(self, statement: ClauseElement) -> str:
        """*statement* with its values written out.

        :raises CompileError: one of them cannot be.
        """

    @abc.abstractmethod
    def demand(self, condition: str, message: str, remedy: str, otherwise: Sequence[str] = ()) -> str:
        """A statement that ends the script unless *condition* is true.

        :param otherwise: what is done, and stays done, before it ends; not within a transaction.
        """

    @abc.abstractmethod
    def said(self, setting: str) -> str:
        """The condition that a person has set *setting* to anything."""

    @abc.abstractmethod
    def lock(self, keys: Sequence[TableKey]) -> str:
        """Keep everybody out of tables *keys* until the transaction ends."""


class Demanding(abc.ABC):
    """How a script of Alembic's is stopped by a gate, by whoever runs it with the client of the database.

    Statements do not end with a semicolon.
    """

    @abc.abstractmethod
    def beginning(self) -> Sequence[str]:
        """The first lines of the script, as they stand."""

    def patience(self) -> Sequence[str]:
        """What each transaction begins with, so that it waits for no lock for long."""
        return ()

    def waiting(self, text: str) -> Sequence[str]:
        """What the session is told before *text*, a statement outside any transaction, about how long it may wait."""
        return ()

    def whole(self, text: str, terminator: str) -> str:
        """*text*, a statement with its *terminator*, so that the client does not cut it at a semicolon inside."""
        return text

    def once(self, text: str) -> str:
        """*text*, a statement, so that it does no harm in a script that is run again after it was ended midway."""
        return text

    @abc.abstractmethod
    def render(self, statement: ClauseElement) -> str:
        """*statement* with its values written out.

        :raises CompileError: one of them cannot be.
        """

    @abc.abstractmethod
    def refuse(self, condition: str, message: str, remedy: str) -> Sequence[str]:
        """What ends the script unless *condition* is true."""

    def keep_out(self, keys: Sequence[TableKey]) -> Sequence[str]:
        """What keeps everybody out of tables *keys* until the operation has run, where that can be said."""
        return ()

    @abc.abstractmethod
    def saying(self, setting: str, value: str) -> str:
        """What a person sends to say *value*."""

    @abc.abstractmethod
    def has_said(self, setting: str, word: str | None = None) -> str:
        """The condition that a person has said *word*, or anything."""
