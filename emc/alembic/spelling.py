"""How does an operation of the plan look in a revision?

As the operation of Alembic that sends the same, where there is one; else as the SQL of its step, below a line that says
which operation it is. Either way in a block that commits by itself where the step does. Where a table is made anew, as
in Alembic's batch mode: SQLite has no scripts, so nobody needs the SQL.
"""

from __future__ import annotations

import copy
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import SQLAlchemyError

from emc.alembic import directives
from emc.alembic.quiet import quiet
from emc.dialects import Dialect
from emc.operations import OwnOp
from emc.steps import Step, Transaction

_WIDTH = 100
_INDENT = "    "


class Written(OwnOp):
    """What runs together, as a revision has it: one operation of the plan, or several that share their statements.

    :param steps: how the database runs them.
    :param before: the lines that go before them: their gates, by the id of the step.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        dialect: Dialect,
        before: Mapping[str, Sequence[directives.Gate]] | None = None,
    ) -> None:
        self.steps = tuple(steps)
        self.dialect = dialect
        self.before = before or {}

    def to_diff_tuple(self) -> Any:
        """What ``alembic check`` prints."""
        told = [(step.id, step.operation.description) for step in self.steps]
        return told[0] if len(told) == 1 else told


def together(steps: Iterable[Step]) -> Iterator[tuple[Step, ...]]:
    """*steps*, with those that have no statements of their own beside those whose statements do it."""
    for _, unit in itertools.groupby(steps, key=lambda step: step.unit):
        all_ = tuple(unit)
        if sum(bool(step.statements or step.beforehand) for step in all_) <= 1:
            yield all_
        else:
            yield from ((step,) for step in all_)


@renderers.dispatch_for(Written)
def _written(context: AutogenContext, op: Written) -> str:
    remarks = [line for step in op.steps for line in _remarks(step)]
    gates = [
        line for step in op.steps for gate in op.before.get(step.id, ()) for line in render_op(context, gate)
    ]
    prefix = context.opts["alembic_module_prefix"] or ""
    named = _named(prefix, [step.id for step in op.steps])
    blocks = []
    first = op.steps[0]
    if first.transaction is Transaction.AUTOCOMMIT and op.dialect.transactional_ddl:
        blocks.append(f"{prefix}get_context().autocommit_block()")
    calls: Sequence[str] | None = None
    if len(op.steps) == 1 and (same := _same(context, first, op.dialect)) is not None:
        calls = render_op(context, same)
    elif (batch := _batched(context, op.steps)) is not None:
        calls, blocks = batch, [named]
        remarks = remarks if len(op.steps) == 1 else []  # They are within.
    else:
        sent = [one for step in op.steps for part in (*step.beforehand, step) for one in part.statements]
        if sent and first.transaction is Transaction.LOCKED and op.dialect.unlocks:
            sent.append(op.dialect.unlocks)
        calls, blocks = [_execute(prefix, sql) for sql in sent], [named, *blocks]
        if not sent:
            calls, blocks = ["pass  # its statements are among those of what goes along with it"], [named]
    return "\n".join(["", *remarks, *gates, *_block(calls, blocks)])


def _named(prefix: str, ids: Sequence[str]) -> str:
    line = f"{prefix}emc_step({', '.join(map(repr, ids))})"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{prefix}emc_step(", *(f"{_INDENT}{one!r}," for one in ids), ")"])


def _remarks(step: Step) -> Iterator[str]:
    operation = step.operation
    yield from _comment(f"{step.id}: {operation.description}")
    if operation.because:
        yield from _comment(f"because {operation.because}")
    if operation.allowed:
        yield from _comment(f"allowed: {operation.allowed}")


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent="#   ")


def _block(calls: Sequence[str], blocks: Sequence[str]) -> Iterator[str]:
    if blocks:
        yield f"with {', '.join(blocks)}:"
    for call in calls:
        for line in call.splitlines():
            yield f"{_INDENT if blocks else ''}{line}"


def _execute(prefix: str, sql: str) -> str:
    """``op.execute``, whose colons would be parameters."""
    escaped = re.sub(r"(?<![:\w\\]):(?=\w)(?!\w+:)", r"\\:", sql)
    lines = [piece for line in escaped.splitlines(keepends=True) for piece in _wrapped(line)]
    if len(lines) == 1:
        return f"{prefix}execute({escaped!r})"
    # Each line by itself: what goes around the lines of a revision is indented.
    return "\n".join([f"{prefix}execute(", *(f"{_INDENT}{line!r}" for line in lines), ")"])


def _wrapped(text: str) -> list[str]:
    """*text* in pieces that fit on a line, nothing left out."""
    return textwrap.wrap(
        text,
        _WIDTH,
        expand_tabs=False,
        replace_whitespace=False,
        drop_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [text]


# -- the same in Alembic --------------------------------------------------------------------------------------------


def _same(context: AutogenContext, step: Step, dialect: Dialect) -> ops.MigrateOperation | None:
    """The operation of Alembic that sends what *step* sends."""
    wanted = [_plain(sql) for sql in step.statements]
    if not wanted or step.beforehand:
        return None
    for candidate in _candidates(step, dialect):
        sent = _sent(candidate, context)
        if sent is not None and [_plain(sql) for sql in sent] == wanted:
            # Alembic writes expressions down as for a driver that wants per cent signs doubled, which a script is not.
            return None if any("%%" in line for line in render_op(context, candidate)) else candidate
    return None


def _candidates(step: Step, dialect: Dialect) -> Iterator[ops.MigrateOperation]:
    directive: Any = step.operation.directive
    if isinstance(directive, OwnOp):
        return
    conditional = step.operation.kind in dialect.conditional
    for options in ({}, {f"{dialect.name}_concurrently": True}):
        one = copy.copy(directive)
        if options:
            if not isinstance(one, ops.CreateIndexOp | ops.DropIndexOp):
                continue
            one.kw = {**one.kw, **options}
        if conditional and hasattr(one, "if_not_exists"):
            one.if_not_exists = True
        if conditional and hasattr(one, "if_exists"):
            one.if_exists = True
        if isinstance(one, ops.AddColumnOp):
            # A foreign key beside the column would be added once more by a second run.
            one.inline_references = True
        yield one


def _sent(directive: ops.MigrateOperation, context: AutogenContext) -> list[str] | None:
    """The statements that *directive* sends; ``None`` where Alembic cannot tell."""
    online = context.migration_context
    statements: list[str] = []
    with quiet():
        offline = MigrationContext.configure(
            dialect=online.dialect,
            opts={"as_sql": True, "output_buffer": StringIO(), "literal_binds": True},
        )
        impl: Any = offline.impl
        impl.static_output = statements.append
        try:
            Operations(offline).invoke(copy.copy(directive))
        except (SQLAlchemyError, NotImplementedError, TypeError, AttributeError):
            return None
    return [one.removesuffix(impl.command_terminator) for one in statements]


def _batched(context: AutogenContext, steps: Sequence[Step]) -> Sequence[str] | None:
    """The same in batch mode; ``None`` where it has no words for one of them, or they make no table anew."""
    found: list[Any] = [step.operation.directive for step in steps]
    if any(step.transaction is not Transaction.REBUILD for step in steps) or not all(
        map(_is_batchable, found)
    ):
        return None
    if isinstance(found[0], ops.CreateTableOp | ops.DropTableOp):
        return render_op(context, found[0]) if len(found) == 1 else None
    tables = {step.operation.element.table for step in steps}
    if len(tables) > 1:
        return None
    (table,) = tables
    given = dict(context.opts)
    context.opts["render_as_batch"] = True
    block = ""
    lines: list[str] = []
    try:
        for step, directive in zip(steps, found, strict=True):
            begin = ops.ModifyTableOps(table.name, [directive], schema=table.schema)
            block, *calls = render_op(context, begin)
            lines += _remarks(step) if len(steps) > 1 else ()
            lines += [line for call in calls for line in call.splitlines()]
    except ValueError:
        return None
    finally:
        context.opts.clear()
        context.opts.update(given)
    return [block, *(f"{_INDENT}{line}" for line in lines)]


def _is_batchable(directive: Any) -> bool:
    """Whether batch mode has words for it; it asks for the name of what has none."""
    return not isinstance(directive, OwnOp) and getattr(directive, "constraint_name", "named") is not None


_CONDITION = re.compile(r"\bIF (?:NOT )?EXISTS ", re.IGNORECASE)


def _plain(sql: str) -> str:
    """*sql* without what makes no difference: blanks, quotes around names, IF EXISTS and IF NOT EXISTS."""
    text = (
        re.sub(r"\s+", " ", _CONDITION.sub("", sql.replace("%%", "%").replace('"', ""))).strip().rstrip(";")
    )
    return re.sub(r"\s*([(),])\s*", r"\1", text)


# -- lines of our own -----------------------------------------------------------------------------------------------


def _call(context: AutogenContext, name: str, *values: str, **named: str | None) -> str:
    prefix = context.opts["alembic_module_prefix"] or ""
    given = [repr(value) for value in values]
    given += [f"{key}={value!r}" for key, value in named.items() if value is not None]
    line = f"{prefix}{name}({', '.join(given)})"
    if len(line) <= _WIDTH:
        return line
    lines = [f"{_INDENT}{value!r}," for value in values]
    for key, value in named.items():
        if value is not None:
            lines += _argument(key, value)
    return "\n".join([f"{prefix}{name}(", *lines, ")"])


def _argument(key: str, value: str) -> Iterator[str]:
    pieces = _wrapped(value)
    if len(pieces) == 1:
        yield f"{_INDENT}{key}={value!r},"
        return
    yield f"{_INDENT}{key}=("
    for piece in pieces:
        yield f"{_INDENT * 2}{piece!r}"
    yield f"{_INDENT}),"


@renderers.dispatch_for(directives.Gate)
def _gate(context: AutogenContext, op: directives.Gate) -> str:
    return _call(
        context, "emc_gate", op.subject, op.gate, nobody=op.nobody, table=op.table, because=op.because
    )


@renderers.dispatch_for(directives.Migrated)
def _migrated(context: AutogenContext, op: directives.Migrated) -> str:
    return _call(context, "emc_migrated", op.subject, nobody=op.nobody)


@renderers.dispatch_for(directives.Undo)
def _undo(context: AutogenContext, op: directives.Undo) -> str:
    return _call(context, "emc_undo", op.subject)


@renderers.dispatch_for(directives.Contracted)
def _contracted(context: AutogenContext, op: directives.Contracted) -> str:
    return _call(context, "emc_contracted")
