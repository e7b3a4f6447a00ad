"""How does a project that lives in Alembic hook emc into its ``env.py``?

Two lines: an import, and :func:`configure` in the place of ``context.configure``. Everything that is replaced is
replaced on the instances that this call makes; Alembic itself is left as it is, and never imports emc.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from sqlalchemy import Connection

from emc.alembic import filters, offline, writing
from emc.alembic.directives import ONLINE
from emc.alembic.running import attach
from emc.alembic.running.asking import Operator
from emc.alembic.running.errors import StoppedError
from emc.alembic.running.reasons import allow
from emc.errors import ConfigurationError
from emc.upgrade import Upgrade

__all__ = ["StoppedError", "allow", "configure"]

CONNECTION = "emc.connection"
"""Attribute of Alembic's ``Config``: a connection that takes the place of the one that ``env.py`` opens.

:func:`emc.testing.check_revisions_match` runs revisions on the database of a test by it.
"""


def configure(
    context: Any, upgrade: Upgrade | str, *, connection: Connection | None = None, **options: Any
) -> None:
    """Configure Alembic's *context*, and let its revisions run through emc.

    :param context: ``alembic.context``, as ``env.py`` imports it.
    :param upgrade: the upgrade, or where it is, as ``"module:name"``.
    :param connection: what ``context.configure`` would be given; ``None`` in offline mode.
    :param options: whatever else ``context.configure`` takes; ``target_metadata`` may be left out.
    :raises ConfigurationError: *upgrade* does not name an upgrade.
    """
    found = _upgrade_of(upgrade)
    if options.get("target_metadata") is None:  # As in a template that nobody has filled in.
        options["target_metadata"] = list(found.metadata)
    found = filters.seen(found, options.get("include_name"), options.get("include_object"))
    options["transaction_per_migration"] = True
    options["process_revision_directives"] = writing.process(
        found, options.get("process_revision_directives")
    )
    options["autogenerate_plugins"] = writing.plugins(options.get("autogenerate_plugins"))
    options["include_object"] = filters.include_object(options.get("include_object"))
    options["include_name"] = filters.include_name(options.get("include_name"))
    connection = context.config.attributes.get(CONNECTION, connection)
    context.configure(connection=connection, **options)
    migration_context = context.get_context()
    if migration_context.as_sql:
        offline.begin(migration_context)
    else:
        writing.attach(migration_context)
        operator = Operator.of(context.get_x_argument())
        migration_context.opts[ONLINE] = attach(migration_context, found, operator)


def _upgrade_of(named: Upgrade | str) -> Upgrade:
    if isinstance(named, Upgrade):
        return named
    try:
        found = pkgutil.resolve_name(named)
    except (ImportError, AttributeError, ValueError) as error:
        raise StoppedError(
            ConfigurationError(
                f"{named!r} in env.py names no upgrade: {error}",
                remedy='Write it as "module:attribute", e.g. emc.alembic.configure(context, "myapp.db:upgrade", …).',
            )
        ) from error
    if callable(found) and not isinstance(found, Upgrade):
        found = found()
    if not isinstance(found, Upgrade):
        raise StoppedError(
            ConfigurationError(
                f"{named!r} in env.py is not an emc.Upgrade but {type(found).__name__}.",
                remedy="Name the upgrade: upgrade = emc.Upgrade(Base.metadata)",
            )
        )
    return found
