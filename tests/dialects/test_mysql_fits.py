"""Do the values of one MariaDB type fit into another, and does the server see it the same way?"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Connection, MetaData, Table, create_engine, select
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import NullType, TypeEngine

from emc.dialects.mysql.fits import fit
from emc.fit import Fit

Values = Sequence[Any]


def moment(*parts: int) -> dt.datetime:
    """A moment without a time zone, as these servers keep it."""
    return dt.datetime(*parts, tzinfo=dt.UTC).replace(tzinfo=None)  # type: ignore[misc, arg-type]


LADDERS: dict[str, Sequence[tuple[TypeEngine[Any], Values]]] = {
    "signed": [
        (mysql.TINYINT(), [-128, 127]),
        (mysql.SMALLINT(), [-(2**15), 2**15 - 1]),
        (mysql.MEDIUMINT(), [-(2**23), 2**23 - 1]),
        (mysql.INTEGER(), [-(2**31), 2**31 - 1]),
        (mysql.BIGINT(), [-(2**63), 2**63 - 1]),
    ],
    "unsigned": [
        (mysql.TINYINT(unsigned=True), [255]),
        (mysql.SMALLINT(unsigned=True), [2**16 - 1]),
        (mysql.MEDIUMINT(unsigned=True), [2**24 - 1]),
        (mysql.INTEGER(unsigned=True), [2**32 - 1]),
        (mysql.BIGINT(unsigned=True), [2**64 - 1]),
    ],
    "unsigned into signed": [
        (mysql.TINYINT(unsigned=True), [255]),
        (mysql.SMALLINT(), [-1, 2**15 - 1]),
    ],
    "models' integers": [
        (sa.Boolean(), [True]),
        (sa.SmallInteger(), [2**15 - 1]),
        (sa.Integer(), [2**31 - 1]),
        (sa.BigInteger(), [2**63 - 1]),
    ],
    "decimal": [
        (mysql.DECIMAL(5, 2, unsigned=True), [Decimal("999.99")]),
        (mysql.DECIMAL(5, 2), [Decimal("-999.99")]),
        (mysql.DECIMAL(6, 2), [Decimal("9999.99")]),
        (mysql.DECIMAL(7, 3), [Decimal("9999.999")]),
        (mysql.DECIMAL(10, 3), [Decimal("9999999.999")]),
    ],
    "integer into decimal": [
        (mysql.TINYINT(), [-128]),
        (mysql.DECIMAL(3, 0), [999]),
        (mysql.DECIMAL(5, 2), [Decimal("999.99")]),
    ],
    "float": [(mysql.FLOAT(), [0.5]), (mysql.DOUBLE(), [1e300])],
    "models' float": [(sa.Float(), [0.5]), (sa.Float(53), [1e300])],
    "varchar": [
        (mysql.VARCHAR(5), ["ö" * 5]),
        (mysql.VARCHAR(60), ["ö" * 60]),
        (mysql.TINYTEXT(), ["o" * 255]),
        (mysql.VARCHAR(255), ["ö" * 255]),
        (mysql.TEXT(), ["o" * 65535]),
        (mysql.MEDIUMTEXT(), ["o" * 65536]),
        (mysql.LONGTEXT(), []),
    ],
    "char": [(mysql.CHAR(5), ["ö" * 5]), (mysql.CHAR(6), ["ö" * 6]), (mysql.VARCHAR(6), ["ö " * 3])],
    "models' text": [
        (sa.String(5), ["ö" * 5]),
        (sa.Text(), ["o" * 65535]),
        (mysql.LONGTEXT(), ["o" * 2**17]),
    ],
    "varbinary": [
        (mysql.VARBINARY(5), [b"\x00" * 5]),
        (mysql.VARBINARY(255), [b"\xff" * 255]),
        (mysql.TINYBLOB(), [b"\xff" * 255]),
        (mysql.BLOB(), [b"\xff" * 65535]),
        (mysql.MEDIUMBLOB(), [b"\xff" * 65536]),
        (mysql.LONGBLOB(), []),
    ],
    "models' bytes": [(sa.LargeBinary(), [b"\xff" * 65535]), (mysql.LONGBLOB(), [b"\xff" * 2**17])],
    "binary": [(mysql.BINARY(5), [b"\xff" * 5]), (mysql.VARBINARY(5), [b"\xff" * 4])],
    "enum": [
        (mysql.ENUM("b", "a"), ["a", "b"]),
        (mysql.ENUM("a", "b", "c"), ["c"]),
        (mysql.ENUM("c", "a", "x", "b"), ["x"]),
        (mysql.VARCHAR(3), ["abc"]),
    ],
    "set": [(mysql.SET("a", "b"), ["a,b"]), (mysql.SET("a", "c", "b"), ["c,b"])],
    "datetime": [
        (mysql.DATETIME(), [moment(2000, 1, 2, 3, 4, 5)]),
        (mysql.DATETIME(fsp=3), [moment(2000, 1, 2, 3, 4, 5, 678000)]),
        (mysql.DATETIME(fsp=6), [moment(2000, 1, 2, 3, 4, 5, 678901)]),
    ],
    "timestamp": [
        (mysql.TIMESTAMP(), [moment(2000, 1, 2, 3, 4, 5)]),
        (mysql.TIMESTAMP(fsp=6), [moment(2000, 1, 2, 3, 4, 5, 678901)]),
    ],
    "time": [(mysql.TIME(), [dt.timedelta(1)]), (mysql.TIME(fsp=2), [dt.timedelta(1, microseconds=120000)])],
    "bit": [(mysql.BIT(1), [1]), (mysql.BIT(8), [255]), (mysql.BIT(64), [2**64 - 1])],
}
"""Types that hold more and more, each with values that it holds and the one before it does not; none where they
would be larger than max_allowed_packet."""

SAME = {"varbinary": {(1, 2)}}
"""Rungs, by position, that hold the same values."""
UNLIKE = {"char": {(1, 2)}, "binary": {(0, 1)}}
"""Rungs of which the upper one does not become the lower one: that would lose what is at the end of values."""


@pytest.mark.parametrize("name", LADDERS)
def test_ladders(name: str) -> None:
    """Each rung holds the values of those below it, and none holds those of one above."""
    types = [type_ for type_, _ in LADDERS[name]]
    for low, lower in enumerate(types):
        assert fit(lower, lower) is Fit.WIDER
        for high, higher in enumerate(types[low + 1 :], low + 1):
            assert fit(lower, higher) is Fit.WIDER, (lower, higher)
            unlike = any(low <= a and b <= high for a, b in UNLIKE.get(name, ()))
            same = (low, high) in SAME.get(name, ())
            expected = Fit.DIFFERENT if unlike else Fit.WIDER if same else Fit.NARROWER
            assert fit(higher, lower) is expected, (higher, lower)


class Subject:
    """A table with one column of one type."""

    def __init__(self, connection: Connection, type_: TypeEngine[Any], values: Values) -> None:
        self.connection = connection
        self.table = Table("t", MetaData(), Column("id", sa.Integer, primary_key=True), Column("v", type_))
        self.table.drop(connection, checkfirst=True)
        self.table.create(connection)
        # From 1: zero would ask AUTO_INCREMENT for a number.
        for position, value in enumerate(values, 1):
            connection.execute(self.table.insert().values(id=position, v=value))
        connection.commit()

    def read(self) -> list[Any]:
        """The values, as the driver has them."""
        value: sa.ColumnElement[Any] = sa.type_coerce(self.table.c.v, NullType())
        if isinstance(self.table.c.v.type, mysql.BIT):
            value = value + sa.literal_column("0")
        return list(self.connection.scalars(select(value).order_by(self.table.c.id)))

    def become(self, type_: TypeEngine[Any]) -> None:
        """Change the type of the column."""
        spelled = CreateColumn(Column("v", type_)).compile(dialect=self.connection.dialect)
        self.connection.exec_driver_sql(f"ALTER TABLE t MODIFY {spelled}")


@pytest.mark.parametrize("name", LADDERS)
def test_ladders_on_the_server(name: str, mariadb_url: str) -> None:
    """The server keeps every value when its column gets a wider type, and refuses or loses some of a narrower one."""
    engine = create_engine(mariadb_url)
    rungs = LADDERS[name]
    for low, high in itertools.combinations(range(len(rungs)), 2):
        (lower, values), (higher, more) = rungs[low], rungs[high]
        with engine.connect() as connection:
            subject = Subject(connection, lower, values)
            before = subject.read()
            subject.become(higher)
            assert subject.read() == before, (lower, higher)
            if fit(higher, lower) is not Fit.NARROWER or not more:
                continue
            subject = Subject(connection, higher, more)
            before = subject.read()
            try:
                subject.become(lower)
            except DBAPIError:
                continue
            # Fractions are rounded without an error, even in strict mode: all the more a gate is needed.
            assert subject.read() != before, (higher, lower)
    engine.dispose()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (mysql.TINYINT(), mysql.TINYINT(unsigned=True)),
        (mysql.DECIMAL(5, 2, unsigned=True), mysql.DECIMAL(4, 2)),
        (mysql.VARCHAR(10), mysql.CHAR(10)),
        (mysql.VARCHAR(100), mysql.TINYTEXT()),
        (mysql.VARBINARY(5), mysql.BINARY(5)),
        (mysql.BINARY(5), mysql.BINARY(6)),
        (mysql.VARCHAR(10), mysql.VARCHAR(10, collation="utf8mb4_bin")),
        (mysql.VARCHAR(10, charset="latin1"), mysql.VARCHAR(10)),
        (mysql.ENUM("a", "b"), mysql.ENUM("a", "c")),
        (mysql.ENUM("a"), mysql.SET("a")),
        (mysql.ENUM("a"), mysql.CHAR(1)),
        (mysql.DATETIME(), mysql.TIMESTAMP()),
        (mysql.DATETIME(), sa.Date()),
        (mysql.FLOAT(7, 4), mysql.FLOAT()),
        (mysql.JSON(), sa.Text()),
        (mysql.DECIMAL(5, 2), mysql.DOUBLE()),
        (mysql.YEAR(), mysql.INTEGER()),
    ],
    ids=repr,
)
def test_different(old: TypeEngine[Any], new: TypeEngine[Any]) -> None:
    """Types that cannot share a column are told apart."""
    assert fit(old, new) is Fit.DIFFERENT
