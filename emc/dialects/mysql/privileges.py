"""What may the role not do that the steps need?

``SHOW GRANTS`` tells what the session may do, with the roles that are active in it. What is needed for which statement
was tried on MariaDB 10.11.19: ALTER alone is enough for all that ALTER TABLE does, foreign keys and indexes included;
MySQL asks for REFERENCES on the parent besides (8.4 manual, "FOREIGN KEY Constraints").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from alembic.operations import ops
from sqlalchemy import Connection, text

from emc.dialects.mysql.flavour import Flavour
from emc.names import EMC_PREFIX, ElementKind, TableKey
from emc.operations import Kind, ReplaceOp, constraint_kind, table_of
from emc.phases import Phase
from emc.steps import Step

_NAME = r"\*|`(?:[^`]|``)+`"
_GRANT = re.compile(
    rf"GRANT (?P<privileges>.+?) ON (?:TABLE )?(?P<schema>{_NAME})\.(?P<table>{_NAME}) TO "
    r"(?P<user>`(?:[^`]|``)*`)(?:@(?P<host>`(?:[^`]|``)*`))?",
    re.DOTALL,
)
_COLUMNS = re.compile(r"\([^)]*\)")
_TRIGGERS = frozenset({Kind.INSTALL_SYNC, Kind.DROP_SYNC})
_LOST = frozenset({Kind.DROP_COLUMN, Kind.DROP_TABLE})
"""Kinds that are guarded by triggers and end under LOCK TABLES."""


def missing(connection: Connection, steps: Sequence[Step], flavour: Flavour) -> Sequence[str]:
    """What the role of *connection* lacks to run *steps*, one clause per privilege."""
    if not steps:
        return ()
    default = connection.exec_driver_sql("SELECT DATABASE()").scalar()
    granted = [_parsed(str(row[0])) for row in connection.exec_driver_sql("SHOW GRANTS")]
    if any(one is None for one in granted):
        return ()  # A grant that is not understood may be the one that is needed; the server will say.
    lacking = {
        f"{privilege} on table {key}"
        for step in steps
        for privilege, key in _needed(step, flavour)
        if not _has(granted, privilege, key.schema or default, key.name)
    }
    if flavour.is_mariadb:
        lacking |= _lacking_of_definer(connection, steps, granted, default)
    trusted = any(_has(granted, privilege, "*", "*") for privilege in ("SUPER", "BINLOG ADMIN"))
    if not trusted and any(_is_guarded(step) for step in steps) and _logs_triggers(connection):
        # 1419, in the middle of contract (seen with MariaDB 10.11.19).
        lacking.add(
            "SUPER, to create triggers while the binary log is on "
            "(or somebody who has it says SET GLOBAL log_bin_trust_function_creators = 1)"
        )
    if not _own_tables_there(connection) and not _has(granted, "CREATE", default, f"{EMC_PREFIX}ledger"):
        lacking.add(f"CREATE on database {default}")
    return sorted(lacking)


def _needed(step: Step, flavour: Flavour) -> Iterator[tuple[str, TableKey]]:
    kind, key = step.operation.kind, step.operation.element.table
    if kind == Kind.CREATE_TABLE:
        yield "CREATE", key
    elif kind == Kind.DROP_TABLE:
        yield "DROP", key
    elif kind not in _TRIGGERS:
        yield "ALTER", key
    if _is_guarded(step):
        yield from (("TRIGGER", key), ("LOCK TABLES", key), ("SELECT", key))
    if kind == Kind.INSTALL_SYNC:
        yield "UPDATE", key
    if flavour.needs_references:
        yield from (("REFERENCES", parent) for parent in _parents(step.operation.directive))


def _is_guarded(step: Step) -> bool:
    """Whether triggers are made for it, and its tables locked."""
    kind = step.operation.kind
    return kind in _TRIGGERS or (kind in _LOST and step.operation.phase is Phase.CONTRACT)


def _lacking_of_definer(
    connection: Connection, steps: Sequence[Step], granted: Sequence[_Grant | None], default: str | None
) -> set[str]:
    """What our account needs of its own, and not by a role, while the triggers that it makes stand.

    They run as whoever made them, and no role is active then: every write to the table would fail (1142, 1143; seen
    with MariaDB 10.11.19). On MySQL the default roles are (8.4 manual, "Using Roles").
    """
    keys = {step.operation.element.table for step in steps if step.operation.kind == Kind.INSTALL_SYNC}
    if not keys:
        return set()
    account = connection.exec_driver_sql("SELECT CURRENT_USER()").scalar_one()
    user, _, host = str(account).rpartition("@")
    own = [one for one in granted if one is not None and one[3] == (user, host)]
    return {
        f"{privilege} on table {key}, granted to {user}@{host} itself and not to a role, which triggers do not use"
        for key in keys
        for privilege in ("TRIGGER", "SELECT", "UPDATE")
        if _has(granted, privilege, key.schema or default, key.name)
        and not _has(own, privilege, key.schema or default, key.name)
    }


def _logs_triggers(connection: Connection) -> bool:
    """Whether the server takes triggers only from those whom it trusts with its binary log."""
    logs, trusts = connection.exec_driver_sql("SELECT @@log_bin, @@log_bin_trust_function_creators").one()
    return bool(logs) and not trusts


def _parents(directive: Any) -> Sequence[TableKey]:
    """The tables that foreign keys of *directive* refer to."""
    if isinstance(directive, ReplaceOp):
        return _parents(directive.create)
    if isinstance(directive, ops.CreateTableOp):
        parents = [key.target_fullname.rpartition(".")[0] for key in table_of(directive).foreign_keys]
        return [TableKey(parent.rpartition(".")[0] or None, parent.rpartition(".")[2]) for parent in parents]
    if isinstance(directive, ops.AddConstraintOp) and constraint_kind(directive) is ElementKind.FOREIGN_KEY:
        parent: Any = directive.to_constraint().elements[0].column.table  # type: ignore[attr-defined]
        return [TableKey(parent.schema, parent.name)]
    return []


# -- grants ------------------------------------------------------------------------------------------------------------

_Grant = tuple[frozenset[str], str, str, tuple[str, str]]
"""Privileges, pattern of the database, table (``*`` for all), and the user and host that have them; a role has none."""


def _parsed(grant: str) -> _Grant | None:
    """One line of SHOW GRANTS; ``None`` for one that takes privileges away again (MySQL's partial revokes)."""
    if grant.startswith("REVOKE "):
        return None
    match = _GRANT.match(grant)
    if match is None:  # a role, PROXY, SET DEFAULT ROLE, a privilege on a routine
        return frozenset(), "*", "*", ("", "")
    # SELECT (`name`) is for that column alone.
    whole = [one for one in _split(match["privileges"]) if not _COLUMNS.search(one)]
    account = _plain(match["user"]), _plain(match["host"] or "``")
    return frozenset(whole), _plain(match["schema"]), _plain(match["table"]), account


def _split(privileges: str) -> list[str]:
    """The privileges, those for single columns with their parentheses."""
    marked = _COLUMNS.sub(lambda match: match[0].replace(",", ";"), privileges)
    return [one.strip().upper() for one in marked.split(",")]


def _plain(name: str) -> str:
    return name if name == "*" else name[1:-1].replace("``", "`")


def _has(granted: Sequence[_Grant | None], privilege: str, schema: str | None, table: str) -> bool:
    return any(
        one is not None
        and bool(one[0] & {privilege, "ALL PRIVILEGES", "ALL"})
        and _matches(one[1], schema or "", wild=one[2] == "*")
        and one[2].casefold() in ("*", table.casefold())
        for one in granted
    )


def _matches(pattern: str, schema: str, *, wild: bool) -> bool:
    """Whether a grant for *pattern* is one for *schema*: ``%`` and ``_`` are wild there, unless it is for one table."""
    if pattern == "*":
        return True
    if not wild:
        return pattern.casefold() == schema.casefold()
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join(
        ".*" if part == "%" else "." if part == "_" else re.escape(part[-1:] if part[0] == "\\" else part)
        for part in parts
    )
    return re.fullmatch(regex, schema, re.IGNORECASE | re.DOTALL) is not None


def _own_tables_there(connection: Connection) -> bool:
    found = connection.execute(
        text(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE :own"
        ),
        {"own": EMC_PREFIX.replace("_", "\\_") + "%"},
    )
    return bool(found.scalar())
