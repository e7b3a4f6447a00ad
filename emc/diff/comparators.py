"""Which differences does Alembic not see?

One function per question. Each takes a :class:`~emc.diff.pairs.Pair` and the live table as Alembic has built it, and
answers the operations that Alembic's own comparison leaves out. A redefinition is a drop and a create, side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Table,
    UniqueConstraint,
    literal_column,
)

from emc.diff import facts, unspelled
from emc.diff.definitions import check_of, drop_of, exclusion_of, is_exclusion
from emc.diff.pairs import Comparison, Pair, final_name
from emc.diff.storage import storage
from emc.diff.text import normal
from emc.names import ElementKind
from emc.operations import UnsupportedDifferenceOp
from emc.schema import LiveTable

Found = Iterator[ops.MigrateOperation]


def primary_key(pair: Pair, live: Table, comparison: Comparison) -> Found:
    """The columns of the primary key."""
    wanted = (
        facts.primary_key(pair.spelled) if pair.spelled is not None else unspelled.primary_key(pair.model)
    )
    have = facts.primary_key(pair.live)
    if wanted != have:
        yield UnsupportedDifferenceOp(
            pair.element(ElementKind.PRIMARY_KEY), "primary key", ", ".join(have), ", ".join(wanted)
        )


def generated_columns(pair: Pair, live: Table, comparison: Comparison) -> Found:
    """Identity, sequences and generation expressions."""
    for column in pair.model.columns:
        if column.name not in pair.live.columns or not _accepts_column(pair, column, live, comparison):
            continue
        element = pair.element(ElementKind.COLUMN, column.name)
        for what, have, wanted in _generation(pair, column):
            if have != wanted:
                yield UnsupportedDifferenceOp(element, what, have, wanted)


def _generation(pair: Pair, column: Column[Any]) -> Iterator[tuple[str, str, str]]:
    """What makes the values of *column* up, in the database and in the models."""
    name = column.name
    have_identity, have_computed = (
        facts.column_identity(pair.live, name),
        facts.column_computed(pair.live, name),
    )
    if pair.spelled is not None and name in pair.spelled.columns:
        identity, computed = (
            facts.column_identity(pair.spelled, name),
            facts.column_computed(pair.spelled, name),
        )
    else:
        identity = pair.database.counting if pair.makes_serial(column) else ""
        if column.identity is not None and pair.dialect.supports_identity_columns:
            identity = have_identity if pair.live.columns[name].get("identity") else "identity"
        computed = ""
        if column.computed is not None:
            computed = str(column.computed.sqltext)
            if have_computed and normal(computed) != normal(have_computed):
                pair.notes.not_compared(pair.element(ElementKind.COLUMN, name), "the generation expression")
            there: Any = pair.live.columns[name].get("computed") or {}
            stored = bool(column.computed.persisted)
            same = bool(there.get("persisted")) is stored
            computed = have_computed if there and same else computed + (" stored" if stored else "")
    if not (facts.draws_from_sequence(pair.live.columns[name]) and not identity):
        # A sequence that the models no longer want is a default that they no longer want.
        yield "identity", have_identity, identity
    yield "computed", have_computed, computed


@dataclass(frozen=True, eq=False)
class _Constraint:
    """A constraint on one side."""

    name: str | None
    definition: object
    make: Callable[[], Any]
    """Makes the object that operations are built from."""
    is_named: bool = True
    """Whether the models chose the name, rather than the server."""


def checks(pair: Pair, live: Table, comparison: Comparison) -> Found:
    """CHECK constraints, those of BOOLEAN and ENUM types included."""
    fact = functools.partial(facts.check, pair.live) if pair.spelled is not None else _text_of
    have = [
        _Constraint(one["name"], fact(one), functools.partial(check_of, pair, one))
        for one in pair.live.checks
    ]
    if pair.spelled is not None:
        wanted = _spelled_checks(pair, pair.spelled)
    else:
        wanted, have = _checks_as_text(pair, have)
    yield from _reconcile(pair, comparison, "check_constraint", wanted, have)


def _spelled_checks(pair: Pair, spelled: LiveTable) -> list[_Constraint]:
    named = {
        name: constraint
        for constraint in _model_checks(pair)
        if (name := final_name(constraint, pair.dialect))
    }
    return [
        _Constraint(
            one["name"],
            facts.check(spelled, one),
            functools.partial(named.__getitem__, one["name"])
            if one["name"] in named
            else functools.partial(check_of, pair, one),
            one["name"] in named,
        )
        for one in spelled.checks
    ]


def _checks_as_text(pair: Pair, have: list[_Constraint]) -> tuple[list[_Constraint], list[_Constraint]]:
    """The models' CHECKs by normalised text, where the server does not spell; names settle what text does not.

    :return: those that can be compared, of the models and of the database.
    """
    wanted: list[_Constraint] = []
    doubtful = 0
    texts = {one.name: one.definition for one in have}
    for constraint in _model_checks(pair):
        name = final_name(constraint, pair.dialect)
        text: object = normal(unspelled.check_text(constraint, pair.dialect))
        if name is None and texts and text not in texts.values():
            pair.notes.not_compared(pair.element(ElementKind.TABLE), f"CHECK ({constraint.sqltext})")
            doubtful += 1
            continue
        if name in texts and texts[name] != text:
            pair.notes.not_compared(pair.element(ElementKind.CHECK, name), "the condition")
            text = texts[name]
        wanted.append(_Constraint(name, text, functools.partial(_itself, constraint), name is not None))
    return wanted, _without(have, wanted, doubtful)


def _without(have: list[_Constraint], wanted: list[_Constraint], doubtful: int) -> list[_Constraint]:
    """*have* without as many as are *doubtful*: those that nothing else in the models can stand for."""
    known = {one.name for one in wanted} | {one.definition for one in wanted}
    strangers = [one for one in have if one.name not in known and one.definition not in known]
    return [one for one in have if one not in strangers[:doubtful]]


def _itself(constraint: Any) -> Any:
    return constraint


def _text_of(reflected: Mapping[str, Any]) -> str:
    return normal(str(reflected["sqltext"]))


def _model_checks(pair: Pair) -> list[CheckConstraint]:
    """The CHECKs of the models that DDL would render, in a fixed order."""
    compiler = pair.dialect.ddl_compiler(pair.dialect, None)  # type: ignore[arg-type]
    constraints = list(pair.model._sorted_constraints) + [  # noqa: SLF001  # the order of DDL; no public way to it
        constraint for column in pair.model.columns for constraint in column.constraints
    ]
    return [
        constraint
        for constraint in dict.fromkeys(constraints)
        if isinstance(constraint, CheckConstraint)
        and (constraint._create_rule is None or constraint._create_rule(compiler))  # noqa: SLF001  # BOOLEAN, ENUM
    ]


def uniques(pair: Pair, live: Table, comparison: Comparison) -> Found:
    """Unnamed unique constraints of the same columns, in another order or with other options.

    Alembic compares the set of columns only.
    """
    if pair.spelled is None:
        return
    have = {facts.unique(pair.live, one) for one in pair.live.uniques}
    for constraint in _unnamed_uniques(pair):
        columns = [column.name for column in constraint.columns]
        spelled = next((one for one in pair.spelled.uniques if one["column_names"] == columns), None)
        if spelled is None or facts.unique(pair.spelled, spelled) in have:
            continue
        twin = next(
            (one for one in pair.live.uniques if sorted(one["column_names"]) == sorted(columns)),
            None,
        )
        if twin is not None:
            old = next(
                one
                for one in live.constraints
                if isinstance(one, UniqueConstraint) and one.name == twin["name"]
            )
            if comparison.accepts_object(constraint, twin["name"], "unique_constraint", False, old):
                yield drop_of(old)
                yield _renamed(ops.AddConstraintOp.from_constraint(constraint), twin["name"])


def _unnamed_uniques(pair: Pair) -> list[UniqueConstraint]:
    return sorted(
        (
            one
            for one in pair.model.constraints
            if isinstance(one, UniqueConstraint) and final_name(one, pair.dialect) is None
        ),
        key=lambda one: [column.name for column in one.columns],
    )


def foreign_keys(pair: Pair, live: Table, comparison: Comparison) -> Found:
    """MATCH, which Alembic does not look at."""
    for constraint in sorted(
        (one for one in pair.model.constraints if isinstance(one, ForeignKeyConstraint)),
        key=lambda one: list(one.column_keys),
    ):
        columns = [column.name for column in constraint.columns]
        for reflected in pair.live.foreign_keys:
            name = str(reflected["name"])
            text = pair.live.definitions.get((ElementKind.FOREIGN_KEY, name))
            if (
                text is None
                or list(reflected["constrained_columns"]) != columns
                or reflected["referred_table"] != constraint.elements[0].column.table.name
                or (" MATCH FULL" in text) == ((constraint.match or "").upper() == "FULL")
            ):
                continue
            old = next(
                one for one in live.constraints if isinstance(one, ForeignKeyConstraint) and one.name == name
            )
            if comparison.accepts_object(constraint, name, "foreign_key_constraint", False, old):
                yield drop_of(old)
                yield _renamed(
                    ops.AddConstraintOp.from_constraint(constraint),
                    final_name(constraint, pair.dialect) or name,
                )


def exclusions(pair: Pair, live: Table, comparison: Comparison) -> Found:
    """Exclusion constraints."""
    models = [
        (final_name(one, pair.dialect), one)
        for one in pair.model._sorted_constraints  # noqa: SLF001  # as above
        if is_exclusion(one)
    ]
    named = dict(models)
    have = [
        _Constraint(name, text, functools.partial(exclusion_of, pair, name, text))
        for name, text in facts.exclusions(pair.live).items()
    ]
    if pair.spelled is not None:
        wanted = [
            _Constraint(
                name,
                text,
                functools.partial(_itself, named[name])
                if name in named
                else functools.partial(exclusion_of, pair, name, text),
                name in named,
            )
            for name, text in facts.exclusions(pair.spelled).items()
        ]
    else:
        texts = {one.name: one.definition for one in have}
        wanted = [
            _Constraint(name, texts.get(name, ""), functools.partial(_itself, one))
            for name, one in models
            if name
        ]
        have = _without(have, wanted, len(models) - len(wanted))
        for name, _ in models:
            if name in texts or name is None:
                pair.notes.not_compared(pair.element(ElementKind.EXCLUSION, name), "the exclusion constraint")
    yield from _reconcile(pair, comparison, "exclude_constraint", wanted, have)


TABLE_COMPARATORS = (
    primary_key,
    generated_columns,
    storage,
    checks,
    uniques,
    foreign_keys,
    exclusions,
)


def _reconcile(
    pair: Pair, comparison: Comparison, kind: str, wanted: list[_Constraint], have: list[_Constraint]
) -> Found:
    """Match constraints by name and definition; answer what is left.

    Those that the models leave unnamed match by definition alone.
    """
    have = [
        one
        for one in have
        if comparison.accepts_name(
            one.name, kind, {"table_name": pair.key.name, "schema_name": pair.key.schema}
        )
    ]
    for by_name in (True, False):
        for mine in list(wanted):
            twin = next(
                (
                    theirs
                    for theirs in have
                    if mine.definition == theirs.definition
                    and (mine.name == theirs.name if by_name else not mine.is_named)
                ),
                None,
            )
            if twin is not None:
                wanted.remove(mine)
                have.remove(twin)
    for mine in wanted:
        old = next((one for one in have if mine.name is not None and one.name == mine.name), None)
        replaced = old.make() if old is not None else None
        if old is not None:
            have.remove(old)
        constraint = mine.make()
        if comparison.accepts_object(constraint, mine.name, kind, False, replaced):
            if replaced is not None:
                yield drop_of(replaced)
            yield _added(pair, constraint, mine.name)
    for theirs in have:
        constraint = theirs.make()
        if comparison.accepts_object(constraint, theirs.name, kind, True, None):
            yield drop_of(constraint)


def _added(pair: Pair, constraint: Any, name: str | None) -> Any:
    """What adds *constraint*; a CHECK may belong to a column, where Alembic does not look for its table."""
    if isinstance(constraint, CheckConstraint):
        options: dict[str, Any] = dict(constraint.dialect_kwargs)
        # In SQL, and not made of the models' own columns: whatever makes a constraint of the operation, Alembic's
        # reverse() for one, would attach it to the table of the models, which then has it twice (seen with 1.20).
        condition: Any = literal_column(unspelled.check_text(constraint, pair.dialect))
        return ops.CreateCheckConstraintOp(name, pair.key.name, condition, schema=pair.key.schema, **options)
    return _renamed(ops.AddConstraintOp.from_constraint(constraint), name)


def _renamed(operation: Any, name: str | None) -> Any:
    """*operation* under the name that the server knows the constraint by."""
    operation.constraint_name = name
    return operation


def _accepts_column(pair: Pair, column: Column[Any], live: Table, comparison: Comparison) -> bool:
    name = column.name
    parents = {"table_name": pair.key.name, "schema_name": pair.key.schema}
    return bool(
        comparison.accepts_name(name, "column", parents)
        and comparison.accepts_object(column, name, "column", False, live.columns[name])
    )
