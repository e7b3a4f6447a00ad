"""May this statement be sent before the old release is gone?

The last line of defence of the phase rule: whichever way a statement came, as an operation, through batch
mode or as raw SQL, one that takes something away is refused in expand before it reaches the server. What
the phase rule allows is listed; a statement that this module does not understand is refused as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from emc.errors import EmcError
from emc.execute.words import CARRIED_OUT, Words, statements_of
from emc.names import ElementKind, is_own
from emc.operations import SUBTRACTIVE, Kind
from emc.phases import Phase
from emc.steps import Step, Transaction


class SubtractiveStatementError(EmcError):
    """A statement of the expand phase would take something away from the old release; it was not sent."""

    def __init__(self, message: str, *, step: str, statement: str | None, remedy: str | None = None) -> None:
        self.step: str = step
        self.statement: str | None = statement
        """The statement; ``None`` where the operation itself does not belong into expand."""
        super().__init__(message, remedy=remedy)


class _Refused(Exception):  # noqa: N818  # Never leaves this module.
    """Says what a statement takes away."""


def refuse_subtractive(steps: Sequence[Step], phase: Phase) -> None:
    """Make sure that *steps* of the expand phase take nothing away. Other phases may.

    :raises SubtractiveStatementError: one of them would, or cannot be understood.
    """
    if phase is not Phase.EXPAND:
        return
    for step in steps:
        if step.operation.kind in SUBTRACTIVE:
            raise SubtractiveStatementError(
                f"{step.operation.description} ({step.id}) belongs into contract and was asked for in expand,"
                " while the old release runs; nothing was sent.",
                step=step.id,
                statement=None,
                remedy="Run `emc contract` once the old release is gone.",
            )
    everything = [words for step in steps for sql in _every_way(step) for words in statements_of(sql)]
    for step in steps:
        for sql in _every_way(step):
            try:
                for words in statements_of(sql):
                    _check(words, step, everything)
            except _Refused as refusal:
                raise SubtractiveStatementError(
                    f"{step.operation.description} ({step.id}): {refusal}, which statements of the old release may"
                    f" not survive; nothing was sent.\n  {sql}",
                    step=step.id,
                    statement=sql,
                    remedy="Leave it to `emc contract`.",
                ) from None


def _every_way(step: Step) -> list[str]:
    """What *step* may send, in whichever way."""
    return [*step.statements, *(way.sql for ways in step.instead.values() for way in ways)]


_HARMLESS = frozenset(
    {"ANALYZE", "COMMENT", "EXPLAIN", "GRANT", "LOCK", "PRAGMA", "RESET", "SET", "SHOW", "UNLOCK", "VALUES"}
)
_CREATED = frozenset(
    {"TABLE", "INDEX", "TYPE", "DOMAIN", "TRIGGER", "FUNCTION", "PROCEDURE", "SEQUENCE", "EXTENSION", "VIEW"}
)
_WRITES = frozenset({"DELETE", "TRUNCATE", "UPDATE", "INSERT", "MERGE", "REPLACE"})

_ACTIONS = frozenset({"ALGORITHM", "LOCK", "COMMENT", "VALIDATE"})
"""Of ALTER TABLE, besides ADD."""
_TYPE_CHANGES = frozenset({Kind.ALTER_TYPE, Kind.ADD_ENUM_VALUE})
_RELAXED = frozenset({ElementKind.CHECK, ElementKind.FOREIGN_KEY})
_SPELLED_WHOLE = frozenset(
    {*_TYPE_CHANGES, Kind.DROP_NOT_NULL, Kind.SET_DEFAULT, Kind.SET_COMMENT, Kind.DROP_CHECK}
)
"""Kinds for which MySQL repeats the whole definition of a column (MODIFY)."""


def _check(words: Words, step: Step, everything: Sequence[Words]) -> None:
    """Refuse one statement, or return."""
    rebuild = step.transaction is Transaction.REBUILD
    if words.holds({CARRIED_OUT}):
        raise _Refused("A comment that MySQL carries out hides what is done")
    verb = words.next()
    if verb == "SET" and words.begins("STATEMENT"):
        # MariaDB: SET STATEMENT foreign_key_checks=0 FOR ALTER TABLE …
        words.skip_past("FOR")
        _check(words, step, everything)
        return
    if verb in _HARMLESS:
        if verb in {"EXPLAIN", "ANALYZE"} and words.holds(_WRITES):
            raise _Refused("EXPLAIN ANALYZE (MariaDB: ANALYZE) carries out what it explains")
        if verb == "SET" and words.begins_one_of({"GLOBAL", "PERSIST"}):
            raise _Refused("SET GLOBAL changes the server for everybody")
        if words.holds({"WRITABLE_SCHEMA"}):
            raise _Refused("PRAGMA writable_schema lets the schema be edited by hand")
        return
    if verb == "CREATE":
        words.skip(
            "OR", "REPLACE", "TEMP", "TEMPORARY", "UNIQUE", "CONSTRAINT", "FULLTEXT", "SPATIAL", "UNLOGGED"
        )
        if (kind := words.next()) not in _CREATED:
            raise _Refused(f"CREATE {kind} is not something that emc adds")
        if words.replaces and not is_own(words.name()):
            raise _Refused(f"CREATE OR REPLACE {kind} takes the present one away")
        return
    if verb == "SELECT":
        if words.holds({"INTO"}):
            raise _Refused("SELECT INTO makes a table or a file")
        return
    if verb == "WITH":
        if words.holds(_WRITES - {"REPLACE"}):  # Which is a function too.
            raise _Refused("WITH … changes data")
        return
    if verb == "ALTER":
        _check_alter(words, step, everything, rebuild=rebuild)
        return
    if verb == "DROP":
        _check_drop(words, step, everything, rebuild=rebuild)
        return
    if verb == "DO":
        # One statement after another is understood; whatever decides or builds statements (IF, EXECUTE) is not. But emc
        # looks over the triggers that it has just made, and notes down what they are.
        if step.operation.kind == Kind.INSTALL_SYNC and (program := list(statements_of(words.program()))):
            if any(inner.holds(_WRITES | {"DROP", "ALTER"}) for inner in program):
                raise _Refused("DO runs a program that changes something")
            return
        if (body := words.body()) is None or words:
            raise _Refused("DO runs a program")
        for inner in statements_of(body):
            _check(inner, step, everything)
        return
    if verb in _WRITES:
        words.skip("FROM", "INTO", "ONLY", "TABLE", "OR", "ABORT")
        name = words.name()
        copies = verb == "INSERT" and _is_made("TABLE", name, everything)
        if is_own(name) or (rebuild and (copies or name == "sqlite_sequence")):
            return
        raise _Refused(f"{verb} changes data of {name}, which is for migrate and contract")
    raise _Refused(f"{verb} is not a statement that expand knows")


def _check_drop(words: Words, step: Step, everything: Sequence[Words], *, rebuild: bool) -> None:
    kind = words.next()
    words.skip("CONCURRENTLY", "IF", "EXISTS")
    name = words.name()
    more = len(list(words.split(","))) > 1 or words.holds({"CASCADE"})
    if is_own(name) and not more:
        return
    # A leftover under the name that is about to be given again, be it on a partition: an INVALID index, which serves
    # nobody.
    if kind == "INDEX" and not more and name is not None:
        adds = step.operation.kind in {Kind.CREATE_INDEX, Kind.ADD_UNIQUE, Kind.ADD_EXCLUSION}
        if adds and (step.operation.element.name == name or _is_made(kind, name, everything)):
            return
    if rebuild and name is not None and not more:
        # The old table, whose name its copy takes; the copy that an interrupted batch left; what is made again.
        if kind == "TABLE" and any(_renamed_to(other) == name for other in everything):
            return
        if kind == "TABLE" and name == f"_alembic_tmp_{step.operation.element.table.name}":
            return
        if _is_made(kind, name, everything):
            return
    raise _Refused(f"DROP {kind} takes {name} away")


def _check_alter(words: Words, step: Step, everything: Sequence[Words], *, rebuild: bool) -> None:
    kind = words.next()
    words.skip("IF", "EXISTS", "ONLY")
    name = words.name()
    if is_own(name):
        return
    if kind not in {"TABLE", "TYPE", "INDEX", "SEQUENCE"}:
        raise _Refused(f"ALTER {kind} is not something that expand knows")
    if kind == "TABLE":
        # MariaDB's ALTER TABLE t NOWAIT …, or WAIT 5 …: what follows is the first action.
        words.skip("NOWAIT")
        if words.begins("WAIT"):
            words.next()
            words.next()
    for action in words.split(","):
        if kind == "TABLE":
            # The name is given to the copy, or it is the copy that gets the name.
            renames = rebuild and _is_made("TABLE", name, everything)
            _check_table_action(action, step, name, renames=renames)
        elif kind == "TYPE":
            if not action.begins("ADD", "VALUE"):
                raise _Refused(f"ALTER TYPE {name} {action} changes a type that is in use")
        elif kind == "INDEX":
            if not (action.begins("ATTACH", "PARTITION") or action.begins("SET", "(")):
                raise _Refused(f"ALTER INDEX {name} {action} changes an index that is in use")
        elif not action.begins("OWNED", "BY"):
            raise _Refused(f"ALTER SEQUENCE {name} {action} changes a sequence that is in use")


def _check_table_action(action: Words, step: Step, table: str | None, *, renames: bool) -> None:
    operation, element = step.operation, step.operation.element
    verb = action.next()
    if verb == "ADD":
        _check_add(action)
    elif verb in _ACTIONS or (verb == "SET" and action.begins("(")):
        return
    elif verb == "ALTER":
        action.skip("COLUMN")
        column = action.name()
        if action.begins("SET", "DEFAULT") or action.begins("DROP", "NOT", "NULL"):
            return
        if (action.begins("TYPE") or action.begins("SET", "DATA")) and operation.kind in _TYPE_CHANGES:
            return
        if action.begins("DROP", "DEFAULT") and operation.kind in {*_TYPE_CHANGES, Kind.SET_DEFAULT}:
            return  # PostgreSQL cannot change some types under their default; the same step sets it again.
        if action.begins("SET", "STATISTICS") or action.begins("SET", "STORAGE"):
            return
        raise _Refused(f"ALTER COLUMN {column} {action} tightens a column")
    elif verb == "MODIFY" and operation.kind in _SPELLED_WHOLE:
        return
    elif verb == "ENABLE":
        action.skip("ALWAYS", "TRIGGER")
        name = action.name()
        if not is_own(name):
            raise _Refused(f"ENABLE TRIGGER {name} lets a trigger fire that did not")
    elif verb == "DROP":
        _check_table_drop(action, step)
    elif verb == "RENAME":
        if renames and action.begins("TO"):
            return
        what = action.next() if action.begins_one_of({"CONSTRAINT", "COLUMN", "INDEX", "KEY"}) else ""
        old = action.name()
        if not action.begins("TO"):
            raise _Refused(f"RENAME takes the name {table} away")
        # What a foreign key leaves behind on MySQL is called like it: no statement names it.
        left = operation.kind == Kind.DROP_FOREIGN_KEY and what == "INDEX" and action.next() == "TO"
        if not is_own(old) and not (left and action.name() == element.name):
            raise _Refused(f"RENAME takes the name {old} away")
    else:
        raise _Refused(f"ALTER TABLE … {verb} is not something that expand knows")


def _check_add(action: Words) -> None:
    """A column that every INSERT must name from now on breaks those of the old release."""
    if action.begins_one_of(
        {
            "CONSTRAINT",
            "CHECK",
            "UNIQUE",
            "FOREIGN",
            "PRIMARY",
            "EXCLUDE",
            "INDEX",
            "KEY",
            "FULLTEXT",
            "SPATIAL",
        }
    ):
        return
    action.skip("COLUMN")
    action.skip("IF", "NOT", "EXISTS")
    if action.begins("("):
        raise _Refused("ADD (…) adds several columns in a way that emc does not read")
    if action.holds_in_a_row("NOT", "NULL") and not action.holds(
        {"DEFAULT", "GENERATED", "IDENTITY", "AUTO_INCREMENT", "SERIAL", "BIGSERIAL", "SMALLSERIAL"}
    ):
        raise _Refused(f"ADD {action} makes a column that every INSERT has to name")


def _check_table_drop(action: Words, step: Step) -> None:
    element = step.operation.element
    if action.begins_one_of({"CONSTRAINT", "CHECK", "FOREIGN", "INDEX", "KEY"}):
        what = action.next()
        if what == "FOREIGN":
            action.skip("KEY")
        action.skip("IF", "EXISTS")
        name = action.name()
        if action.holds({"CASCADE"}):
            raise _Refused(f"DROP {what} {name} CASCADE takes away whatever needs it")
        if is_own(name):
            return
        if what not in {"INDEX", "KEY"}:
            # The phase rule: retired or replaced CHECKs and foreign keys go in expand. A leftover of the same name, NOT
            # VALID, is made anew. Who spells an enumerated type as a CHECK replaces it when a value is added.
            if element.kind in _RELAXED and element.name == name:
                return
            if step.operation.kind == Kind.ADD_ENUM_VALUE:
                return
            # One that partitions do not have yet is none: it is made anew.
            if step.operation.kind == Kind.ADD_UNIQUE and element.name == name:
                return
        elif step.operation.kind == Kind.ADD_FOREIGN_KEY and element.name == name:
            return  # What an earlier foreign key of that name has left behind on MySQL.
        raise _Refused(f"DROP {what} takes {name} away")
    raise _Refused(f"DROP {action} takes a part of {element.table} away")


def _renamed_to(words: Words) -> str | None:
    """The new name, where *words* rename a table."""
    words = words.fresh()
    if words.next() != "ALTER" or words.next() != "TABLE":
        return None
    words.skip("IF", "EXISTS")
    words.name()
    return words.name() if words.next() == "RENAME" and words.next() == "TO" else None


def _created(words: Words) -> tuple[str, str | None] | None:
    """Kind and name of what *words* create."""
    words = words.fresh()
    if words.next() != "CREATE":
        return None
    words.skip("TEMP", "TEMPORARY", "UNIQUE")
    kind = words.next()
    words.skip("CONCURRENTLY", "IF", "NOT", "EXISTS")
    return kind, words.name()


def _is_made(kind: str, name: str | None, everything: Sequence[Words]) -> bool:
    """Whether *name* is made in the same unit."""
    return any(_created(words) == (kind, name) for words in everything)
