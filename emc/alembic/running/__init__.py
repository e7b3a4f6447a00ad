"""How do revisions run through emc?

What has to be replaced is replaced on the instance of the context that one command of Alembic works with.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from emc.alembic.batches import without_recreation
from emc.alembic.branches import ancestors, phase_of, refuse_stray
from emc.alembic.running import raw
from emc.alembic.running.asking import Carrier, Operator
from emc.alembic.running.errors import StoppedError
from emc.alembic.running.session import Session
from emc.dialects import Dialect
from emc.errors import ConfigurationError, EmcError, LeaseHeldError
from emc.names import is_own
from emc.phases import Phase
from emc.upgrade import Upgrade

__all__ = ["attach"]

_T = TypeVar("_T")

OWN = "emc_own"
"""The option of emc's own sessions, by which they are told from those of revisions: a thread of emc's renews its lease
while a revision is at work."""


def attach(context: MigrationContext, upgrade: Upgrade, operator: Operator) -> Session:
    """Let what revisions ask *context* for go through emc.

    :param context: online, as Alembic has just made it.
    :param operator: what a person says on the command line.
    :returns: what carries out the lines that generated revisions have besides.
    """
    connection = context.connection
    assert connection is not None
    _demand_no_pool(connection)
    default_schema = connection.dialect.default_schema_name
    engine = connection.engine.execution_options(**{OWN: True})
    session = Session(context, Carrier(upgrade, engine, operator, default_schema))
    run, steps = context.run_migrations, context._migrations_fn  # noqa: SLF001  # There is no other way in.

    def run_migrations(**kw: Any) -> None:
        try:
            _demand_same_standpoint(connection, session.carrier.dialect)
            session.carrier.is_new = _is_empty(context, upgrade)
            with _heard(connection, session), raw.heard(connection.engine, connection, session.hear_raw):
                run(**kw)
        except EmcError as error:
            raise StoppedError(error) from error
        except IntegrityError as error:
            if context.version_table not in (error.statement or ""):
                raise
            raise StoppedError(
                LeaseHeldError(
                    "Another Alembic has recorded a revision on this database while this one ran it.",
                    remedy="Run the command again: it goes on behind what the other one has done.",
                )
            ) from error

    def migrations(heads: Any, of: MigrationContext) -> Iterator[Any]:
        assert steps is not None
        for step in steps(heads, of):
            if isinstance(step, RevisionStep):
                _through(session, step)
            yield step

    context.run_migrations = run_migrations  # type: ignore[method-assign]
    if steps is not None:
        context._migrations_fn = migrations  # noqa: SLF001
    return session


def _demand_no_pool(connection: Connection) -> None:
    """Make sure that each thread of emc gets connections of its own, where the driver is asynchronous.

    :raises StoppedError: a pool would share them.
    """
    if connection.dialect.is_async and not isinstance(connection.engine.pool, NullPool):
        raise StoppedError(
            ConfigurationError(
                "The asynchronous engine in env.py has a pool, so that two event loops would share a connection.",
                remedy="async_engine_from_config(…, poolclass=pool.NullPool), as in Alembic's own template.",
            )
        )


def _demand_same_standpoint(connection: Connection, dialect: Dialect) -> None:
    """Make sure that *connection*, of ``env.py``, works where sessions of emc's own would.

    :raises ConfigurationError: it has been told something that they have not.
    """
    told, otherwise = "schema_translate_map", "none"
    here = connection.get_execution_options().get(told)
    there = connection.engine.get_execution_options().get(told)
    if here == there and dialect.standpoint is not None:
        here = _alone(connection, lambda: connection.exec_driver_sql(str(dialect.standpoint)).scalar())
        with connection.engine.connect() as other:
            there = other.exec_driver_sql(dialect.standpoint).scalar()
        told, otherwise = "work", "nowhere"
    if here != there:
        raise ConfigurationError(
            f"env.py gave Alembic a connection that has been told more than others of its engine ({told}: "
            f"{here or otherwise} instead of {there or otherwise}), so emc, which opens sessions of its own, would "
            "change another schema.",
            remedy="Tell it to the engine, so that every session has it: connect_args={'options': '-csearch_path=…'}, "
            "an event 'connect', the URL; or execution_options of the engine.",
        )


def _alone(connection: Connection, ask: Callable[[], _T]) -> _T:
    """What is to *ask* by *connection*, without a transaction that Alembic would take for the user's."""
    before = connection.in_transaction()
    try:
        return ask()
    finally:
        if not before:
            connection.rollback()


def _is_empty(context: MigrationContext, upgrade: Upgrade) -> bool:
    """Whether no revision has run on the database, and nothing else has made a table in it."""
    connection = context.connection
    assert connection is not None

    def ask() -> bool:
        if context.get_current_heads():
            return False
        inspector = inspect(connection)
        return not any(
            name != context.version_table and not is_own(name)
            for schema in upgrade.schema_names
            if schema is None or inspector.has_schema(schema)
            for name in inspector.get_table_names(schema)
        )

    return _alone(connection, ask)


def _through(session: Session, step: RevisionStep) -> None:
    """Let what the revision of *step* sends be heard."""
    scripts = session.context.script
    assert scripts is not None
    phase = phase_of(step.revision, scripts)
    if phase is None:
        refuse_stray(step.revision, scripts)
        return
    if not step.is_upgrade:
        # What is taken back is what expand has added; what goes down from contract is additive, or does not go.
        phase = Phase.UNDO
    inner: Callable[..., Any] = step.migration_fn
    revision, context = step.revision.revision, session.context

    @functools.wraps(inner)  # Alembic logs its name.
    def migrate(**kw: Any) -> None:
        if context._in_external_transaction:  # noqa: SLF001
            raise ConfigurationError(
                "env.py gave Alembic a connection that is in a transaction already, so emc could commit nothing that "
                f"revision {revision} asks for.",
                remedy="Give context.configure a connection with no transaction begun: engine.connect(), not "
                "engine.begin(); or commit first.",
            )
        later = phase is Phase.CONTRACT and _expands_later(step.revision, session.context, scripts)
        with session.running(revision, phase, expands_later=later), without_recreation(context):
            inner(**kw)

    step.migration_fn = migrate


def _expands_later(script: Script, context: MigrationContext, scripts: ScriptDirectory) -> bool:
    """Whether revisions of expand are still to come, and none of them can before *script* of contract has run."""
    heads = [scripts.get_revision(name) for name in context.get_current_heads()]
    done = {name for head in heads for name in (head.revision, *ancestors(head, scripts))}
    waiting = [
        one
        for one in scripts.walk_revisions()
        if one.revision not in done and phase_of(one, scripts) is Phase.EXPAND
    ]
    return bool(waiting) and all(script.revision in ancestors(one, scripts) for one in waiting)


@contextlib.contextmanager
def _heard(connection: Connection, session: Session) -> Iterator[None]:
    """Let *session* hear what is sent by any connection of the engine, whichever way it was asked for.

    The hooks are those of the dialect, right before the cursor: nothing that SQLAlchemy sends gets past them.
    """
    engine = connection.engine

    doubles = connection.dialect.paramstyle in ("format", "pyformat")

    def hear(sql: str, parameters: Any, context: Any) -> bool | None:
        if context.execution_options.get(OWN):
            return None
        plainly = doubles and parameters is not None and not parameters
        # The driver makes one per cent sign of two, of which SQLAlchemy has made two: "Old%Col".
        asked = sql.replace("%%", "%") if plainly else sql
        if session.hear(context.root_connection, asked, None if plainly else parameters):
            return True
        session.passed = sql
        return None

    def execute(_: Any, sql: str, parameters: Any, context: Any) -> bool | None:
        return hear(sql, parameters, context)

    def execute_plainly(_: Any, sql: str, context: Any) -> bool | None:
        return hear(sql, None, context)

    hooks: dict[str, Callable[..., Any]] = {
        "do_execute": execute,
        "do_executemany": execute,
        "do_execute_no_params": execute_plainly,
    }
    for name, hook in hooks.items():
        event.listen(engine, name, hook)
    try:
        yield
    finally:
        for name, hook in hooks.items():
            event.remove(engine, name, hook)
