"""What do all commands need before they can begin?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from emc.dialects import Dialect, dialect_of
from emc.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    EmcError,
    PrivilegeError,
    UnknownOperationError,
)
from emc.execute import StepEvent, first_line
from emc.planning import Plan, derive
from emc.state.lease import LOCK_TIMEOUT
from emc.steps import LockPolicy, Step, Transaction
from emc.upgrade import Upgrade

_T = TypeVar("_T")

Report = Callable[[StepEvent], None]
"""Hears what happens to each step."""


def nobody(event: object) -> None:
    """Hears nothing."""


def reach(engine: Engine, *, may_create: bool = False) -> Dialect:
    """The dialect of *engine*, once it is known that the database answers.

    :param may_create: whether a database that connecting makes is welcome, as it is to whoever creates its tables.
    :raises UnsupportedDatabaseError: emc does not know the database.
    :raises DatabaseUnavailableError: it cannot be reached, or is not there.
    :raises ConfigurationError: the driver refuses what the URL says.
    """
    dialect = dialect_of(engine)
    shown = engine.url.render_as_string(hide_password=True)
    absent = None if may_create else dialect.absent(engine)
    remedy: str | None = None
    cause: DBAPIError | None = None
    if absent is None:
        try:
            with engine.connect() as connection:
                # A mysql:// URL may lead to MariaDB; now the server has said which it is.
                dialect = dialect_of(engine)
                absent = dialect.no_database(connection)
                remedy = "Write the name of the database into the URL, after the server's."
        except DBAPIError as error:
            # The URL hides its password; the driver's message names host, port and reason.
            absent, remedy, cause = first_line(error), dialect.entry_remedy(error), error
        except (EmcError, SQLAlchemyError):
            raise
        except Exception as error:
            # Drivers are given what the URL says after its question mark, and fail in their own ways.
            raise ConfigurationError(
                f"The driver cannot connect to {shown}: {type(error).__name__}: {error}",
                remedy="Correct what follows the question mark of the URL, or install what the driver asks for.",
            ) from error
        if absent is None:
            return dialect
    raise DatabaseUnavailableError(
        f"Cannot reach the database {shown}: {absent}",
        remedy=remedy or "Check the URL, that the server runs, and that this host may connect to it.",
    ) from cause


Derive = Callable[[Connection, Upgrade, Dialect], Plan]
"""Makes a plan: :func:`emc.planning.derive`, or that of the way back."""


def planned(
    upgrade: Upgrade,
    engine: Engine,
    dialect: Dialect,
    look: Callable[[Connection, Plan], _T],
    derive: Derive = derive,
) -> _T:
    """What *look* sees in the plan as of now and, by the same snapshot, in the database; it only reads."""
    return dialect.ask(engine, lambda connection: look(connection, derive(connection, upgrade, dialect)))


def check_names(only: Sequence[str], known: Iterable[str]) -> None:
    """Make sure that every name is known.

    :raises UnknownOperationError: one is not.
    """
    names = sorted(set(known))
    for name in only:
        if name not in names:
            raise UnknownOperationError(
                f"The plan holds nothing called {name!r}.",
                known=names,
                remedy="It holds: "
                + (", ".join(names) if names else "nothing; models and database agree")
                + ".",
            )


def units(steps: Iterable[Step]) -> list[tuple[Step, ...]]:
    """Steps that run together."""
    return [tuple(group) for _, group in groupby(steps, key=lambda step: step.unit)]


def demand_sessions(engine: Engine, dialect: Dialect) -> None:
    """Make sure that a session keeps its timeouts from one statement to the next, before anything is written.

    :raises ConfigurationError: a pooler or proxy hands sessions around.
    """
    if dialect.concurrent_sessions:
        with dialect.open(engine, Transaction.AUTOCOMMIT, LockPolicy.SHORT, LOCK_TIMEOUT):
            pass


def demand_privileges(dialect: Dialect, connection: Connection, steps: Sequence[Step]) -> None:
    """Make sure that nothing will fail for want of a privilege, before the first step.

    :raises PrivilegeError: something is missing.
    """
    missing = dialect.missing_privileges(connection, steps)
    if missing:
        grants = "\n".join(dict.fromkeys(filter(None, missing.values())))
        remedy = f"Let an administrator send, then run the command again:\n{grants}" if grants else None
        raise PrivilegeError(
            f"The role that emc connects as lacks: {'; '.join(missing)}. Nothing was changed.",
            remedy=remedy or "Grant what is missing, or connect as the role that owns the tables.",
        )
