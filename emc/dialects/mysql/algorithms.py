"""Which algorithm does the server have for a change, and which may be asked for in its place?

What is expected here decides what is asked for first, and what a plan says of the step. It is never relied upon: each
statement names its ALGORITHM and LOCK, and the server refuses (1845, 1846) rather than do something slower unasked.
Expectations were seen with MariaDB 10.11.19, with rows in the table; MySQL's are from its manual, "Online DDL
Operations".
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from emc.dialects.mysql.flavour import Flavour
from emc.dialects.mysql.live import ColumnText, MySQLTable
from emc.steps import Hazard


class Algorithm(enum.Enum):
    """From the one that nobody notices to the one that stops every write."""

    INSTANT = "instant"
    """The catalog alone, whatever the number of rows."""
    NOCOPY = "nocopy"
    """An index is built beside the traffic; the rows stay where they are."""
    INPLACE = "inplace"
    """The table is built anew beside the traffic."""
    SHARED = "shared"
    """In place, but writers wait until it is done."""
    COPY = "copy"
    """Every row is copied, and writers wait until it is done."""

    @property
    def blocks(self) -> bool:
        """Whether writers wait in proportion to the rows."""
        return self in (Algorithm.SHARED, Algorithm.COPY)

    @property
    def takes_long(self) -> bool:
        """Whether it takes the longer the more rows there are."""
        return self is not Algorithm.INSTANT

    def how(self, flavour: Flavour) -> str:
        """The end of an ALTER TABLE that asks for it.

        INSTANT goes without LOCK: MySQL takes none with it but DEFAULT (its manual, "ALTER TABLE Statement").
        """
        if self is Algorithm.INSTANT:
            return "ALGORITHM=INSTANT"
        if self is Algorithm.COPY:
            return "ALGORITHM=COPY, LOCK=SHARED"
        if self is Algorithm.SHARED:
            return "ALGORITHM=INPLACE, LOCK=SHARED"
        word = "NOCOPY" if self is Algorithm.NOCOPY and flavour.knows_nocopy else "INPLACE"
        return f"ALGORITHM={word}, LOCK=NONE"

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """What it does to a running system."""
        if self is Algorithm.INSTANT:
            return (Hazard.EXCLUSIVE_LOCK,)
        if self.blocks:
            return (Hazard.BLOCKS_WRITES, Hazard.LONG_RUNNING)
        return (Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING)


def ladder(expected: Algorithm, flavour: Flavour, *, may_block: bool) -> list[Algorithm]:
    """The ways to ask for, best first, beginning with the one that is expected to be had.

    :param may_block: whether writers may be kept waiting: the table is small, or a person allows it. Otherwise the last
        one leaves them alone, and the server refuses where it cannot do that.
    """
    order = list(Algorithm)
    ways = [one for one in order[order.index(expected) :] if may_block or not one.blocks]
    ways = ways or [Algorithm.INPLACE]
    found: dict[str, Algorithm] = {}
    for one in ways:
        found.setdefault(one.how(flavour), one)
    return list(found.values())


# -- tables ------------------------------------------------------------------------------------------------------------


def of_row_layout(table: MySQLTable | None, *, drops: bool = False) -> Algorithm:
    """How a table gets or loses a column that is not stored anywhere yet.

    :param drops: whether the column goes.
    """
    if table is None:
        return Algorithm.INSTANT
    if table.engine.upper() != "INNODB":
        return Algorithm.COPY
    if table.fulltext:
        return Algorithm.COPY if drops else Algorithm.SHARED
    if (table.row_format or "").upper() == "COMPRESSED":
        return Algorithm.INPLACE
    return Algorithm.INSTANT


def of_rebuild(table: MySQLTable | None) -> Algorithm:
    """How a table is built anew: for NOT NULL, or without it."""
    if table is None:
        return Algorithm.INPLACE
    if table.engine.upper() != "INNODB" or any(text.stored for text in table.texts.values()):
        return Algorithm.COPY
    return Algorithm.SHARED if table.fulltext else Algorithm.INPLACE


def of_index(table: MySQLTable | None, method: str | None) -> Algorithm:
    """How an index is built or dropped.

    :param method: ``FULLTEXT`` or ``SPATIAL``; ``None`` for an ordinary one.
    """
    if table is not None and table.engine.upper() != "INNODB":
        return Algorithm.COPY
    return Algorithm.SHARED if method else Algorithm.NOCOPY


def of_definition(column: ColumnText) -> Algorithm:
    """How the definition of a column is repeated with another default or comment."""
    return Algorithm.COPY if column.stored else Algorithm.INSTANT


# -- types -------------------------------------------------------------------------------------------------------------

_TYPE = re.compile(
    r"(?P<name>[a-z]+)\s*(?:\((?P<arguments>.*?)\))?(?P<rest>[a-z ]*)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_SYNONYMS = {
    "integer": "int",
    "numeric": "decimal",
    "dec": "decimal",
    "bool": "tinyint",
    "boolean": "tinyint",
}
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_BYTES = {"ascii": 1, "latin1": 1, "latin2": 1, "cp1252": 1, "ucs2": 2, "utf8": 3, "utf8mb3": 3, "utf8mb4": 4}
"""Bytes that a character takes at most, by character set."""
_SHORT, _ONE_BYTE = 127, 255
_ONE_BYTE_LABELS = 255


@dataclass(frozen=True)
class Parsed:
    """A type as COLUMN_TYPE or SQLAlchemy spells it."""

    name: str
    arguments: str
    unsigned: bool
    zerofill: bool

    @property
    def length(self) -> int:
        """The only argument, as a number; 0 where there is none."""
        return int(self.arguments) if self.arguments.strip().isdigit() else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of an enumeration or set, as written."""
        return tuple(_LABEL.findall(self.arguments))


def parsed(text: str) -> Parsed:
    """*text* in its parts, without character set and collation; synonyms are resolved."""
    text = re.sub(r"\s+(?:CHARACTER SET|COLLATE)\s+\w+", "", text, flags=re.IGNORECASE)
    name, arguments, rest = text, "", ""
    if (match := _TYPE.match(text)) is not None:
        name, arguments = match["name"].lower(), match["arguments"] or ""
        if name in ("enum", "set"):
            arguments = text[text.index("(") + 1 : text.rindex(")")]
        rest = match["rest"].lower()
    return Parsed(_SYNONYMS.get(name, name), arguments, "unsigned" in rest, "zerofill" in rest)


def of_type(old: ColumnText, new: ColumnText, flavour: Flavour, *, indexed: bool) -> Algorithm:
    """How a column gets another type.

    :param indexed: whether an index sorts by it, and has to be built anew for another collation.
    """
    before, after = parsed(old.type), parsed(new.type)
    if before.name != after.name or (before.unsigned, before.zerofill) != (after.unsigned, after.zerofill):
        return Algorithm.COPY
    if not _same_letters(old.charset, new.charset):
        return Algorithm.COPY
    if before.name in ("varchar", "varbinary"):
        grows = _grows(before.length * _width(old), after.length * _width(new), flavour)
        if after.length < before.length or not grows:
            return Algorithm.COPY
    elif before.name in ("enum", "set"):
        if after.labels[: len(before.labels)] != before.labels or _storage(before) != _storage(after):
            return Algorithm.COPY
    elif before.name not in _INTEGERS and before.arguments.replace(" ", "") != after.arguments.replace(
        " ", ""
    ):
        return Algorithm.COPY
    if old.collation != new.collation:
        if not flavour.changes_collation_in_place:
            return Algorithm.COPY
        return Algorithm.NOCOPY if indexed else Algorithm.INSTANT
    return Algorithm.INSTANT


def _same_letters(old: str | None, new: str | None) -> bool:
    """Whether what is stored stays as it is: utf8mb3 is a part of utf8mb4."""
    three, four = ("utf8", "utf8mb3"), "utf8mb4"
    return old == new or (old in three and new in (*three, four))


def _width(column: ColumnText) -> int:
    """Bytes of a character; an unknown character set is taken for the widest, for which the border comes first."""
    return 1 if column.charset is None else _BYTES.get(column.charset, 4)


def _grows(before: int, after: int, flavour: Flavour) -> bool:
    """Whether a text of at most *before* bytes may become one of *after* bytes without a copy."""
    if (before <= _ONE_BYTE) == (after <= _ONE_BYTE):
        return True
    return flavour.grows_short_text and before <= _SHORT


def _storage(type_: Parsed) -> int:
    """Bytes that an enumeration or set takes in a row."""
    count = len(type_.labels)
    if type_.name == "enum":
        return 1 if count <= _ONE_BYTE_LABELS else 2
    return next(size for size in (1, 2, 3, 4, 8) if count <= 8 * size)
