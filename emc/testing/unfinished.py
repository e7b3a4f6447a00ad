"""Which rows leave the data of an operation of contract unfinished?

What unfinished means is asked here anew, of the rows themselves: not of the gate that is put to the test.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Engine,
    Enum,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    cast,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.types import TypeEngine

import emc
from emc.gates.rows import as_written
from emc.names import ElementKind, TableKey
from emc.operations import AlterEnumOp, Kind, ReplaceOp
from emc.steps import Step
from emc.testing.rows import NoValueError, row_for, value_of
from emc.upgrade import Removal, Retire, Superseded, Upgrade

_ABSENT: Final = 31_999
"""Makes a value that no row has."""


class OldRows:
    """Makes the rows that the old release would write.

    :param engine: its database, before expand.
    """

    def __init__(self, engine: Engine, upgrade: Upgrade) -> None:
        self._metadata = MetaData()
        for schema in upgrade.schema_names:
            self._metadata.reflect(engine, schema=schema)
        self._numbers = itertools.count(5000)

    def row(self, connection: Connection, key: TableKey) -> dict[str, Any]:
        """The next row of a table; empty where the old release does not have it.

        :raises NoValueError: none can be made.
        """
        table = self._metadata.tables.get(f"{key.schema}.{key.name}" if key.schema else key.name)
        return row_for(connection, table, next(self._numbers), keys=True) if table is not None else {}


def make_unfinished(engine: Engine, upgrade: Upgrade, step: Step, old: OldRows) -> bool | None:
    """Write rows until the data that *step* is about is unfinished.

    :returns: whether it is; ``None`` where it cannot be, since the operation is about no data, or the database itself
        would refuse such rows.
    """
    kind = step.operation.kind
    if kind in _ABOUT_NO_ROWS or not getattr(_added(step), "unique", True):
        return None
    way = _REPLACED.get(step.operation.element.kind) if kind in _REPLACING else _UNFINISHED.get(kind)
    if way is None:
        return False
    shows, given = way
    refused = False
    with suppress(SQLAlchemyError):
        table = _table(engine, step)

        def is_unfinished() -> bool:
            with engine.connect() as connection:
                return shows(connection, table, step, upgrade, engine)

        if is_unfinished():
            return True
        for rows in given(table, step):
            try:
                with engine.begin() as connection:
                    for values in rows:
                        usual = old.row(connection, TableKey(table.schema, table.name))
                        connection.execute(table.insert().values({**usual, **values}))
            except IntegrityError:
                refused = True
            except (NoValueError, SQLAlchemyError):
                continue
            else:
                if is_unfinished():
                    return True
    return None if refused and kind in _REPLACING else False


def removal_of(upgrade: Upgrade, step: Step) -> Removal | None:
    """The declaration that names what *step* takes away."""
    element = step.operation.element
    parts = tuple(
        part for part in (element.table.schema, element.table.name, element.name) if part is not None
    )
    return next((one for one in upgrade.removals if one.parts == parts), None)


def _table(engine: Engine, step: Step) -> Table:
    directive = step.operation.directive
    key = step.operation.element.table
    if isinstance(directive, AlterEnumOp) and directive.columns:
        key = directive.columns[0][0]  # Its element is the type.
    return Table(key.name, MetaData(), schema=key.schema, autoload_with=engine)


# -- by kind of operation: a question, and rows that make the answer yes, one list after the other ---------------------

_Shows = Callable[[Connection, Table, Step, Upgrade, Engine], bool]
_Given = Callable[[Table, Step], Iterator[list[dict[str, Any]]]]


def _any(connection: Connection, table: Table, where: ColumnElement[bool]) -> bool:
    return bool(
        connection.execute(
            select(exists(select(literal_column("1")).select_from(table).where(where)))
        ).scalar()
    )


def _name(step: Step) -> str:
    return str(step.operation.element.name)


def _added(step: Step) -> Any:
    directive: Any = step.operation.directive
    return directive.create if isinstance(directive, ReplaceOp) else directive


def _has_null(connection: Connection, table: Table, step: Step, *_: Any) -> bool:
    return _any(connection, table, table.c[_name(step)].is_(None))


def _null(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    yield [{_name(step): None}]


def _key(step: Step) -> list[str]:
    """The columns of a unique constraint or index; none where it is not of plain columns."""
    columns: list[Any] = list(_added(step).columns)
    return columns if all(isinstance(one, str) for one in columns) else []


def _has_duplicates(connection: Connection, table: Table, step: Step, *_: Any) -> bool:
    columns = [table.c[name] for name in _key(step)]
    groups = select(*columns).where(and_(*(one.is_not(None) for one in columns)))
    doubled = groups.group_by(*columns).having(func.count() > 1).limit(1)
    return bool(columns) and connection.execute(doubled).first() is not None


def _twins(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    values = {name: value_of(table.c[name].type, _ABSENT) for name in _key(step)}
    if values:
        yield [values, values]


def _has_orphans(connection: Connection, table: Table, step: Step, *_: Any) -> bool:
    directive = _added(step)
    parent = Table(
        directive.referent_table,
        MetaData(),
        schema=directive.kw.get("referent_schema"),
        autoload_with=connection,
    ).alias()
    pairs = list(zip(directive.local_cols, directive.remote_cols, strict=True))
    found = exists(
        select(literal_column("1")).where(*(table.c[one] == parent.c[other] for one, other in pairs))
    )
    return _any(connection, table, and_(*(table.c[one].is_not(None) for one, _ in pairs), not_(found)))


def _orphan(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    yield [{name: value_of(table.c[name].type, _ABSENT) for name in _added(step).local_cols}]


def _has_violations(connection: Connection, table: Table, step: Step, *_: Any) -> bool:
    condition = as_written(_added(step).condition, connection.dialect)
    return _any(connection, table, literal_column(f"NOT ({condition})", Boolean))


def _violating(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    """What a CHECK is mostly against: nothing, too little, too much, in one column that it speaks of."""
    condition = str(_added(step).condition)
    for column in table.columns:
        if re.search(rf"(?<!\w){re.escape(column.name)}(?!\w)", condition):
            with suppress(NotImplementedError):
                for value in _EXTREMES.get(column.type.python_type, ()):
                    length = getattr(column.type, "length", None)
                    yield [{column.name: value[:length] if isinstance(value, str) else value}]


_EXTREMES: Final[Mapping[type, tuple[Any, ...]]] = {
    str: ("", "~", "~" * 200),
    int: (-1, 0, 32_767),
    float: (-1.0, 0.0, 32_767.0),
    bool: (False, True),
}


def _has_misfits(connection: Connection, table: Table, step: Step, *_: Any) -> bool:
    directive: Any = step.operation.directive
    values = connection.execute(select(table.c[_name(step)])).scalars()
    return any(_does_not_fit(directive.modify_type, value) for value in values if value is not None)


def _does_not_fit(type_: TypeEngine[Any], value: Any) -> bool:
    if isinstance(type_, Enum):
        return value not in type_.enums
    if isinstance(type_, String):
        return type_.length is not None and len(value) > type_.length
    limit = _limit(type_)
    return limit is not None and abs(value) >= limit


def _limit(type_: TypeEngine[Any]) -> int | None:
    """The first number that is too large for *type_*; ``None``: nobody can tell."""
    if isinstance(type_, BigInteger):
        return None
    if isinstance(type_, Integer):
        return 1 << (15 if isinstance(type_, SmallInteger) else 31)
    if isinstance(type_, Numeric) and type_.precision is not None:
        return int(10 ** (type_.precision - (type_.scale or 0)))
    return None


def _misfit(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    directive: Any = step.operation.directive
    type_ = directive.modify_type
    if isinstance(type_, String):
        yield [{_name(step): "~" * ((type_.length or 0) + 1)}]
    elif (limit := _limit(type_)) is not None:
        yield [{_name(step): limit}]


def _has_removed_label(connection: Connection, table: Table, step: Step, *_: Any) -> bool:
    directive = step.operation.directive
    assert isinstance(directive, AlterEnumOp)
    column = table.c[directive.columns[0][1]]
    as_text = cast(column, Text)
    if isinstance(column.type, ARRAY):
        return _any(
            connection, table, or_(*(as_text.contains(one, autoescape=True) for one in directive.removed))
        )
    return _any(connection, table, as_text.in_(directive.removed))


def _removed_label(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    directive = step.operation.directive
    assert isinstance(directive, AlterEnumOp)
    name = directive.columns[0][1]
    label = directive.removed[0]
    yield [{name: [label] if isinstance(table.c[name].type, ARRAY) else label}]


def _has_data(connection: Connection, table: Table, step: Step, upgrade: Upgrade, engine: Engine) -> bool:
    """While any data migration has rows left nothing goes that it may read; nor does what nobody moves data out of."""
    removal = removal_of(upgrade, step)
    if isinstance(removal, Retire) and not isinstance(removal, Superseded) and not removal.after:
        name = step.operation.element.name
        return _any(connection, table, table.c[name].is_not(None) if name is not None else true())
    return any(not work.complete for work in emc.status(upgrade, engine).work)


def _row(table: Table, step: Step) -> Iterator[list[dict[str, Any]]]:
    yield [{}]


_ABOUT_NO_ROWS: Final = frozenset(
    {
        Kind.DROP_DEFAULT,
        Kind.SET_DEFAULT,
        Kind.DROP_NOT_NULL,
        Kind.SET_COMMENT,
        Kind.DROP_INDEX,
        Kind.DROP_UNIQUE,
        Kind.DROP_CHECK,
        Kind.DROP_FOREIGN_KEY,
        Kind.DROP_EXCLUSION,
        Kind.DROP_ENUM,
    }
)
"""Nothing in the data speaks against these."""
_REPLACING: Final = frozenset({Kind.REPLACE_CONSTRAINT, Kind.REPLACE_INDEX})
_UNFINISHED: Final[Mapping[str, tuple[_Shows, _Given]]] = {
    Kind.SET_NOT_NULL: (_has_null, _null),
    Kind.ADD_UNIQUE: (_has_duplicates, _twins),
    Kind.CREATE_INDEX: (_has_duplicates, _twins),
    Kind.ADD_FOREIGN_KEY: (_has_orphans, _orphan),
    Kind.ADD_CHECK: (_has_violations, _violating),
    Kind.ALTER_TYPE: (_has_misfits, _misfit),
    Kind.REMOVE_ENUM_VALUE: (_has_removed_label, _removed_label),
    Kind.DROP_COLUMN: (_has_data, _row),
    Kind.DROP_TABLE: (_has_data, _row),
    Kind.DROP_SYNC: (_has_data, _row),
}
_REPLACED: Final[Mapping[ElementKind, tuple[_Shows, _Given]]] = {
    ElementKind.INDEX: (_has_duplicates, _twins),
    ElementKind.UNIQUE: (_has_duplicates, _twins),
    ElementKind.FOREIGN_KEY: (_has_orphans, _orphan),
    ElementKind.CHECK: (_has_violations, _violating),
}
"""By what is replaced; where it is an exclusion constraint, nobody can tell which rows would clash."""
