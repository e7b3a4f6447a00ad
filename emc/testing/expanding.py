"""Does expand keep its promises: nothing is taken away, and once is enough?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, MetaData

import emc
from emc.execute.words import statements_of
from emc.names import is_own
from emc.testing.failures import CheckFailedError, UnprovedWarning, told
from emc.testing.releases import OldRelease, Rows, failed, release_of
from emc.testing.snapshots import live
from emc.testing.wire import writes
from emc.upgrade import Upgrade

__tracebackhide__ = True


def check_expand_twice(engine: Engine, upgrade: Upgrade) -> None:
    """Expand, run once more, writes nothing.

    :param engine: a database as the old release has it.
    :raises CheckFailedError: the second run wrote.
    """
    with told("emc expand fails"):
        emc.expand(upgrade, engine)
        with writes(engine) as written:
            emc.expand(upgrade, engine)
    if written:
        raise CheckFailedError(
            "Running emc expand again writes, so that it cannot be repeated without harm after a crash:\n"
            + "\n".join(f"  {' '.join(one.split())}" for one in written),
            facts=written,
            remedy="It is a bug in emc, or a server default that the database shows otherwise than the models say it: "
            "emc plan says what it finds.",
        )


def check_expand_is_additive(engine: Engine, upgrade: Upgrade) -> None:
    """Expand sends nothing subtractive: what the old release knows is there, and asks no more of it than before.

    Looks at what is sent, and at the schema before and after.

    :param engine: a database as the old release has it.
    :raises CheckFailedError: a table, a column or room for NULL is gone, or a column demands a value.
    """
    before = live(engine, upgrade.schema_names)
    with told("emc expand fails"), writes(engine) as written:
        emc.expand(upgrade, engine)
    after = live(engine, upgrade.schema_names)
    tables: list[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]] = []
    for key, table in before.tables.items():
        found = after.tables.get(key)
        tables.append((str(key), table.columns, found.columns if found is not None else None))
    taken = [line for name, old, new in tables for line in _taken(name, old, new)]
    # SQLite makes a table anew to change it, and what is compared above says whether something was lost.
    if not taken and engine.dialect.supports_alter:
        taken = [" ".join(one.split()) for one in written if _takes_away(one)]
    if taken:
        raise CheckFailedError(
            "Expand takes away what the old release may still use, so its statements fail from now on:\n"
            + "\n".join(f"  {one}" for one in taken),
            facts=taken,
            remedy="Leave it to contract. If emc planned it for expand, it is a bug in emc: please report it.",
        )


def _taken(table: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> Iterator[str]:
    if new is None:
        yield f"table {table} is gone"
        return
    for name, column in old.items():
        if name not in new:
            yield f"column {table}.{name} is gone"
        elif column["nullable"] and not new[name]["nullable"]:
            yield f"column {table}.{name} does not take NULL any more"
    for name, column in new.items():
        supplied = column.get("default") is not None or column.get("computed") or column.get("identity")
        if name not in old and not column["nullable"] and not supplied:
            yield f"column {table}.{name} is new, and every INSERT has to name it"


def _takes_away(sql: str) -> bool:
    """Whether a statement drops or empties a table, a column or a schema of the user."""
    for words in statements_of(sql):
        verb, kind = words.next(), words.next()
        if verb == "TRUNCATE":
            return True
        if kind == "FROM" and verb == "DELETE" and not is_own(words.name()):
            return True
        if verb == "DROP" and kind in {"TABLE", "SCHEMA", "DATABASE", "VIEW", "TYPE"}:
            words.skip("IF", "EXISTS")
            if not is_own(words.name()):
                return True
        if verb == "ALTER" and kind == "TABLE" and words.holds_in_a_row("DROP", "COLUMN"):
            return True
    return False


def check_old_release_works(
    engine: Engine, upgrade: Upgrade, old: OldRelease | MetaData | str, *, rows: Rows | None = None
) -> None:
    """Whatever the old release can send before the upgrade, it can send after expand, and after migrate.

    Its statements are made from its models; those that the database refuses before the upgrade do not count.

    :param engine: a database as the old release has it, with rows; an empty one is made such.
    :param old: the old release, see :func:`emc.testing.release_of`.
    :param rows: as for :func:`emc.testing.release_of`.
    :raises CheckFailedError: one of them fails.
    """
    release = release_of(old, rows=rows)
    if not live(engine, upgrade.schema_names).tables:
        release.build(engine)
    attempts = release.attempts(engine)
    refused = failed(attempts)
    unproved = [f"{name}: {one.error}" for name, one in refused.items() if name.startswith("INSERT")]
    if unproved:
        warnings.warn(
            "The database refuses these statements already before the upgrade, so nothing is shown of them: "
            + "; ".join(unproved),
            UnprovedWarning,
            stacklevel=2,
        )
    for command, run in (("expand", emc.expand), ("migrate", emc.migrate)):
        with told(f"emc {command} fails"):
            run(upgrade, engine)
        broken = {name: one for name, one in failed(release.attempts(engine)).items() if name not in refused}
        if broken:
            listed = "\n".join(f"  {name}: {one.error}\n    {one.statement}" for name, one in broken.items())
            raise CheckFailedError(
                f"The old release breaks once emc {command} has run, while it still serves requests:\n{listed}",
                facts=list(broken),
                remedy="What breaks it belongs into contract. If it is a trigger of a rename or convert, let up "
                "and down of its declaration take every value that the old release may write.",
            )
