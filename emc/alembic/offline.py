"""What does a gate become in a script that a DBA runs (``alembic upgrade --sql``)?

A statement that ends the script when the gate is shut. What rows tell, the script looks at itself; what only a person
or emc's ledger can tell, a person has to say in the session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from emc.alembic.scripted import SCRIPTED, Scripted, listen
from emc.dialects import DIALECTS
from emc.dialects.scripting import OLD_CODE_GONE, Demanding
from emc.names import TableKey, split_dotted

VERIFIED = "emc.verified"
"""The setting by which a person says in a script which gates were seen to be open."""


def begin(context: MigrationContext) -> None:
    """Make the script that *context* writes end at the first failure, wait for no lock for long, and bear a second run.

    :raises CommandError: emc cannot write a script for the database.
    """
    impl: Any = context.impl
    words = _words(context)
    scripted = listen(context)
    write, told = impl.static_output, list[str]()
    for line in words.beginning():
        write(line)
    is_inside = False

    def static_output(text: str) -> None:
        body = text.removesuffix(impl.command_terminator)
        scripted.look_at(body)
        if not is_inside:
            waiting = [*words.waiting(body)]
            if waiting and waiting != told:
                told[:] = waiting
                write("\n".join(f"{line};" for line in waiting))
        write(words.whole(words.once(text), impl.command_terminator))

    emit_begin: Callable[[], None] = impl.emit_begin
    emit_commit: Callable[[], None] = impl.emit_commit

    def begin_patiently() -> None:
        nonlocal is_inside
        with scripted.ours():
            emit_begin()
        is_inside = True
        if lines := words.patience():
            write("\n".join(f"{line};" for line in lines))

    def commit() -> None:
        nonlocal is_inside
        is_inside = False
        with scripted.ours():
            emit_commit()

    impl.static_output, impl.emit_begin, impl.emit_commit = static_output, begin_patiently, commit


def _words(context: MigrationContext) -> Demanding:
    for dialect in DIALECTS:
        if context.dialect.name == dialect.name and dialect.demanding is not None:
            return dialect.demanding
    raise CommandError(
        f"emc writes no scripts for {context.dialect.name}: nothing in one could stop at a gate.\n"
        "alembic upgrade without --sql, or emc contract"
    )


def step(operations: Operations, named: Sequence[str]) -> AbstractContextManager[None]:
    """The block of the statements of the operations *named*."""
    remark(operations, ", ".join(named))
    return _scripted(operations).step(tuple(named))


def remark(operations: Operations, text: str) -> None:
    """A comment."""
    _impl(operations).static_output("\n".join(f"-- {line}" for line in text.splitlines()))


def gate(
    operations: Operations,
    operation: str,
    name: str,
    nobody: str | None,
    table: str | None,
    because: str | None,
) -> None:
    """A statement that ends the script unless gate *name* of *operation* is open."""
    _scripted(operations).gated.add(operation)
    _gate(operations, name, nobody, table, because)


def _gate(
    operations: Operations, name: str, nobody: str | None, table: str | None, because: str | None
) -> None:
    if because is not None:
        remark(operations, f"gate {name}: {because}")
        return
    words = _words(operations.migration_context)
    if nobody is not None:
        if table is not None:
            parts = split_dotted(table)
            key = TableKey(parts[-2] if len(parts) > 1 else None, parts[-1])
            _send(operations, words.keep_out([key]))
        message, remedy = f"gate {name} is shut: there are rows in the way", f"{nobody};  -- finds them"
        _send(operations, words.refuse(f"NOT EXISTS ({nobody})", message, remedy))
    elif name.startswith("old-code-gone:"):
        remedy = f"{words.saying(OLD_CODE_GONE, 'who says so')}   -- before the script"
        message = f"gate {name} is shut: nobody has said that the old release is gone"
        _send(operations, words.refuse(words.has_said(OLD_CODE_GONE), message, remedy))
    else:
        remedy = f"{words.saying(VERIFIED, name)}   -- before the script; several, with blanks between them"
        message = f"gate {name} is shut: a script cannot tell, and nobody has said that it was verified"
        _send(operations, words.refuse(words.has_said(VERIFIED, name), message, remedy))


def migrated(operations: Operations, name: str, nobody: str | None) -> None:
    """A statement that ends the script unless data migration *name* is complete."""
    words = _words(operations.migration_context)
    if nobody is None:
        _gate(operations, f"migrated:{name}", None, None, None)
        return
    message = f"data migration {name} has rows left"
    _send(operations, words.refuse(f"NOT EXISTS ({nobody})", message, f"emc migrate --only {name}"))


def _impl(operations: Operations) -> Any:
    return operations.migration_context.impl


def _scripted(operations: Operations) -> Scripted:
    scripted: Scripted = operations.migration_context.opts[SCRIPTED]
    return scripted


def _send(operations: Operations, statements: Any) -> None:
    scripted = _scripted(operations)
    with scripted.ours():
        for statement in statements:
            _impl(operations).static_output(f"{statement};")
