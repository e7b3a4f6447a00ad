"""Pairs of models that meet what MariaDB (and MySQL) do in their own way: columns and their types."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Enum,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects import mysql

import emc
from tests.lifecycle.pairs import MARIADB, Pair, Row, add, change, discarding, key, remove


def things(*more: Any) -> Any:
    """Table things with *more*; each call makes the columns anew."""

    def build(m: MetaData) -> Table:
        made = [one._copy() if isinstance(one, Column) else one() for one in more]
        return Table("things", m, key(), Column("name", String(50), nullable=False), *made)

    return build


THINGS: list[Row] = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]


def old_things(t: Any, n: int) -> Any:
    """What an old release does that knows of nothing new."""
    return [
        add(t.things, id=n, name="Old"),
        change(t.things, n, name="Older"),
        add(t.things, id=n + 1, name="Brief"),
        remove(t.things, n + 1),
    ]


def new_things(**values: Any) -> Any:
    """What the new release does, writing *values* too."""
    return lambda t, n: [add(t.things, id=n, name="New", **values), change(t.things, n, name="Newer")]


def ix(*columns: str, name: str = "ix", **options: Any) -> Any:
    """An index of things, to be made with them."""
    return lambda: Index(name, *columns, **options)


def retiring_kind(target: str, kind: str) -> Any:
    """A person who retires *target*, which is of that kind."""

    def declare(upgrade: emc.Upgrade, _: Any) -> None:
        upgrade.retire(target, kind=kind)

    return declare


def on_mariadb(name: str, promise: str, old: Any, new: Any, **more: Any) -> Pair:
    """A pair that only makes sense on this database."""
    rows = {"rows": {"things": THINGS}, "old_work": old_things, "new_work": new_things(), **more}
    return Pair(name, promise, old, new, databases=[MARIADB], **rows)


# -- columns ---------------------------------------------------------------------------------------------------------


def _fill_everything(upgrade: emc.Upgrade, t: Any) -> None:
    columns = t.things.c
    upgrade.fill(columns.amount, func.char_length(columns.name))
    upgrade.fill(columns.label, lambda row: row.name.upper())
    upgrade.fill(columns.mood, lambda _: "calm")
    upgrade.fill(columns.born, lambda _: _LONG_AGO)
    upgrade.fill(columns.flag, lambda row: row.name == "Ann")
    upgrade.fill(columns.data, lambda row: {"name": row.name})


_EVERYTHING = ("amount", "born", "data", "flag", "label", "mood")
_UPDATED = text("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP")
_LONG_AGO = dt.datetime.fromisoformat("2001-02-03 04:05:06")
_WITH_FRACTION = dt.datetime.fromisoformat("2001-02-03 04:05:06.789012")


def _cut_fractions(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.data_migration(
        t.things,
        name="cut_fractions",
        where=func.microsecond(t.things.c.at) > 0,
        values={
            t.things.c.at: func.timestampadd(
                text("MICROSECOND"), -func.microsecond(t.things.c.at), t.things.c.at
            )
        },
    )


COLUMNS = (
    on_mariadb(
        "filled-every-type",
        "New NOT NULL columns of every kind are filled by emc, and never by the zeros and empty texts of the server.",
        things(),
        things(
            Column("amount", Integer, nullable=False),
            Column("label", String(50), nullable=False),
            Column("mood", Enum("merry", "calm"), nullable=False),
            Column("born", DateTime, nullable=False),
            Column("flag", Boolean, nullable=False),
            Column("data", mysql.JSON, nullable=False),
        ),
        declare=_fill_everything,
        new_work=new_things(amount=1, label="x", mood="merry", born=_LONG_AGO, flag=True, data=[1]),
        expand=[f"add-column:things.{name}" for name in _EVERYTHING],
        migrate=[f"fill:things.{name}" for name in ("amount", "label", "mood", "born", "flag", "data")],
        contract=[f"set-not-null:things.{name}" for name in _EVERYTHING],
        shut={f"no-nulls:things.{name}": 4 for name in _EVERYTHING},
    ),
    on_mariadb(
        "columns-of-every-type",
        "New columns of the server's own types come in expand in their final form.",
        things(),
        things(
            Column("flag", Boolean, nullable=False, server_default=text("1")),
            Column("data", mysql.JSON),
            Column("at", mysql.DATETIME(fsp=6), nullable=False, server_default=text("CURRENT_TIMESTAMP(6)")),
            Column("stamp", mysql.TIMESTAMP(fsp=3), nullable=True),
            Column("tags", mysql.SET("a", "b"), server_default="a"),
            Column("size", mysql.INTEGER(unsigned=True), nullable=False, server_default="7"),
            Column("code", String(20, collation="utf8mb4_bin"), server_default="it's 100%"),
            Column("body", Text, server_default="none", comment="it's text"),
            Column("bits", mysql.BIT(3), server_default=text("b'101'")),
            Column("token", String(36), server_default=func.uuid()),
        ),
        new_work=new_things(flag=False, data={"a": [1]}, tags={"a", "b"}, size=2**32 - 1, code="x", body="y"),
        expand=[
            f"add-column:things.{name}"
            for name in ("at", "bits", "body", "code", "data", "flag", "size", "stamp", "tags", "token")
        ],
        untold=[f"nothing-lost:things.{name}" for name in ("at", "bits", "token")],
    ),
    on_mariadb(
        "updated-at",
        "A fill changes no column that the server sets at every update, and changes to its column keep that.",
        things(
            Column("nick", String(20)),
            Column("updated", mysql.TIMESTAMP, nullable=False, server_default=_UPDATED),
            Column("touched", mysql.DATETIME, server_default=_UPDATED),
        ),
        things(
            Column("nick", String(20), nullable=False),
            Column("updated", mysql.TIMESTAMP, nullable=False, server_default=_UPDATED),
            Column("touched", mysql.DATETIME, nullable=False, server_default=_UPDATED, comment="when"),
        ),
        rows={
            "things": [
                {"id": 1, "name": "Ann", "updated": _LONG_AGO, "touched": _LONG_AGO},
                {"id": 2, "name": "Bob", "nick": "b", "updated": _LONG_AGO, "touched": _LONG_AGO},
            ]
        },
        declare=lambda upgrade, t: upgrade.fill(t.things.c.nick, func.lower(t.things.c.name)),
        new_work=new_things(nick="n"),
        expand=["set-comment:things.touched"],
        migrate=["fill:things.nick"],
        contract=["set-not-null:things.nick", "set-not-null:things.touched"],
        shut={"no-nulls:things.nick": 3},
        rewritten=["things.nick"],
    ),
    on_mariadb(
        "updated-at-dropped",
        "That updates set a column stays until the old release, which relies on it, is gone.",
        things(Column("updated", mysql.DATETIME, server_default=_UPDATED)),
        things(Column("updated", mysql.DATETIME, server_default=text("CURRENT_TIMESTAMP"))),
        new_work=new_things(),
        contract=["set-default:things.updated"],
    ),
    on_mariadb(
        "column-keeps-the-rest",
        "What is repeated to change one thing of a column (comment, default, collation) stays as it is.",
        things(
            Column(
                "relaxed",
                String(20, collation="utf8mb4_bin"),
                nullable=False,
                server_default="r",
                comment="it's",
            ),
            Column(
                "widened", mysql.SMALLINT(unsigned=True), nullable=False, server_default="3", comment="small"
            ),
            Column("tightened", Text(collation="utf8mb4_bin"), server_default="t", comment="50%"),
            Column("commented", mysql.DECIMAL(6, 2, unsigned=True), nullable=False, comment="a"),
            Column("defaulted", Enum("a", "b"), nullable=False, server_default="a", comment="c"),
        ),
        things(
            Column("relaxed", String(20, collation="utf8mb4_bin"), server_default="r", comment="it's"),
            Column(
                "widened", mysql.INTEGER(unsigned=True), nullable=False, server_default="3", comment="small"
            ),
            Column(
                "tightened", Text(collation="utf8mb4_bin"), nullable=False, server_default="t", comment="50%"
            ),
            Column("commented", mysql.DECIMAL(6, 2, unsigned=True), nullable=False, comment="b"),
            Column("defaulted", Enum("a", "b"), nullable=False, server_default="b", comment="c"),
        ),
        rows={"things": [{"id": 1, "name": "Ann", "relaxed": "R", "tightened": "T", "commented": 1}]},
        old_work=lambda t, n: [add(t.things, id=n, name="Old", commented=2)],
        new_work=new_things(commented=3, relaxed=None, widened=70000),
        expand=[
            "drop-not-null:things.relaxed",
            "alter-type:things.widened",
            "set-default:things.defaulted",
            "set-comment:things.commented",
        ],
        contract=["set-not-null:things.tightened"],
    ),
    on_mariadb(
        "generated-new",
        "New generated columns, kept or computed at each look, come in expand.",
        things(),
        things(
            Column("shout", String(60), Computed("upper(name)", persisted=False)),
            Column("size", Integer, Computed("char_length(name)", persisted=True)),
        ),
        expand=["add-column:things.shout", "add-column:things.size"],
    ),
    on_mariadb(
        "generated-retired",
        "A retired generated column goes before the column that it is computed from.",
        things(
            Column("nick", String(20)),
            Column("shout", String(60), Computed("upper(nick)", persisted=False)),
        ),
        things(),
        declare=discarding("things.shout", "things.nick", reason="nobody looked"),
        contract=["drop-column:things.shout", "drop-column:things.nick"],
    ),
)

# -- types -----------------------------------------------------------------------------------------------------------


def _moods(*labels: str) -> Any:
    return things(Column("mood", Enum(*labels), server_default="calm"))


def _typed(old: Any, new: Any) -> tuple[Any, Any]:
    return things(Column("it", old)), things(Column("it", new))


def _calm_down(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.data_migration(
        t.things, name="calm_down", where=lambda live: live.c.mood == "gone", values={"mood": "calm"}
    )


TYPES = (
    on_mariadb(
        "varchar-within-a-length-byte",
        "A VARCHAR that its length byte suffices for grows in expand.",
        *_typed(String(60), String(63)),
        new_work=new_things(it="x" * 63),
        expand=["alter-type:things.it"],
    ),
    on_mariadb(
        "varchar-across-the-length-byte",
        "A VARCHAR that needs another length byte grows in expand where the table is small enough to be copied.",
        *_typed(String(60), String(100)),
        new_work=new_things(it="ö" * 100),
        expand=["alter-type:things.it"],
    ),
    on_mariadb(
        "text-to-longtext",
        "TEXT holds 65,535 bytes, LONGTEXT more, so the change is applied in expand.",
        *_typed(Text, mysql.LONGTEXT),
        new_work=new_things(it="x" * 70000),
        expand=["alter-type:things.it"],
    ),
    on_mariadb(
        "longtext-to-text",
        "A LONGTEXT that becomes TEXT waits until no value is too long for it.",
        *_typed(mysql.LONGTEXT, Text),
        rows={
            "things": [{"id": 1, "name": "Ann", "it": "ö" * 40000}, {"id": 2, "name": "Bob", "it": "ö" * 9}]
        },
        declare=lambda upgrade, t: upgrade.data_migration(
            t.things,
            name="shorten",
            where=func.octet_length(t.things.c.it) > 65535,
            values={"it": func.left(t.things.c.it, 9)},
        ),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", it="x" * 70000)],
        new_work=new_things(it="x"),
        migrate=["shorten"],
        contract=["alter-type:things.it"],
        shut={"fits-type:things.it": 3},
        rewritten=["things.it"],
    ),
    on_mariadb(
        "unsigned-widened",
        "An unsigned integer becomes one that is wider, or signed and wider, in expand.",
        things(Column("a", mysql.INTEGER(unsigned=True)), Column("b", mysql.SMALLINT(unsigned=True))),
        things(Column("a", mysql.BIGINT(unsigned=True)), Column("b", Integer)),
        new_work=new_things(a=2**64 - 1, b=-1),
        expand=["alter-type:things.a", "alter-type:things.b"],
    ),
    on_mariadb(
        "integer-narrowed",
        "A narrower or unsigned integer waits until every value fits.",
        things(Column("a", BigInteger), Column("b", Integer)),
        things(Column("a", SmallInteger), Column("b", mysql.SMALLINT(unsigned=True))),
        rows={"things": [{"id": 1, "name": "Ann", "a": 2**40, "b": 1}, {"id": 2, "name": "Bob", "a": 5}]},
        declare=lambda upgrade, t: upgrade.data_migration(
            t.things, name="cap", where=t.things.c.a > 2**15 - 1, values={"a": 2**15 - 1}
        ),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", a=2**40)],
        new_work=new_things(a=1, b=1),
        migrate=["cap"],
        contract=["alter-type:things.a", "alter-type:things.b"],
        rewritten=["things.a"],
    ),
    on_mariadb(
        "datetime-widened",
        "A DATETIME with more digits is applied in expand.",
        *_typed(mysql.DATETIME, mysql.DATETIME(fsp=6)),
        rows={"things": [{"id": 1, "name": "Ann", "it": _LONG_AGO}]},
        new_work=new_things(it=_WITH_FRACTION),
        expand=["alter-type:things.it"],
    ),
    on_mariadb(
        "datetime-narrowed",
        "A DATETIME with fewer digits waits until no value has a fraction, which the server would round away.",
        things(Column("at", mysql.DATETIME(fsp=6))),
        things(Column("at", mysql.DATETIME)),
        rows={
            "things": [
                {"id": 1, "name": "Ann", "at": _WITH_FRACTION},
                {"id": 2, "name": "Bob", "at": _LONG_AGO},
            ]
        },
        declare=_cut_fractions,
        old_work=lambda t, n: [add(t.things, id=n, name="Old", at=_WITH_FRACTION)],
        new_work=new_things(at=_LONG_AGO),
        migrate=["cut_fractions"],
        contract=["alter-type:things.at"],
        shut={"fits-type:things.at": 3},
        rewritten=["things.at"],
    ),
    on_mariadb(
        "enum-inserted",
        "A label in the middle of the list is added in expand where the table is small enough to be copied.",
        _moods("calm", "merry"),
        _moods("brisk", "calm", "grave", "merry"),
        rows={"things": [{"id": 1, "name": "Ann", "mood": "merry"}, {"id": 2, "name": "Bob"}]},
        old_work=lambda t, n: [add(t.things, id=n, name="Old", mood="merry")],
        # The old release could not read a label that it does not know; writing it is for after contract.
        new_work=lambda t, n: [*new_things(mood="grave")(t, n), change(t.things, n, mood="calm")],
        expand=["alter-type:things.mood"],
    ),
    on_mariadb(
        "enum-labels-come-and-go",
        "New labels are added in expand; those that the models no longer have go when no row has them.",
        _moods("calm", "gone"),
        _moods("calm", "brisk"),
        rows={"things": [{"id": 1, "name": "Ann", "mood": "gone"}, {"id": 2, "name": "Bob", "mood": None}]},
        declare=_calm_down,
        old_work=lambda t, n: [add(t.things, id=n, name="Old", mood="gone")],
        new_work=lambda t, n: [*new_things(mood="brisk")(t, n), change(t.things, n, mood="calm")],
        expand=["alter-type:things.mood"],
        migrate=["calm_down"],
        contract=["alter-type:things.mood"],
        shut={"fits-type:things.mood": 3},
        rewritten=["things.mood"],
        unreadable=True,
    ),
    on_mariadb(
        "set-grown",
        "A label that a SET gains is added in expand.",
        *_typed(mysql.SET("a", "b"), mysql.SET("a", "b", "c")),
        rows={"things": [{"id": 1, "name": "Ann", "it": {"a", "b"}}, {"id": 2, "name": "Bob", "it": set()}]},
        new_work=new_things(it={"a", "c"}),
        expand=["alter-type:things.it"],
    ),
    on_mariadb(
        "enum-to-text",
        "An enumeration that becomes a text holds what the old release writes.",
        *_typed(Enum("a", "b"), String(9)),
        rows={"things": [{"id": 1, "name": "Ann", "it": "b"}]},
        new_work=lambda t, n: [*new_things(it="anything")(t, n), change(t.things, n, it="a")],
        expand=["alter-type:things.it"],
    ),
)


PAIRS = (*COLUMNS, *TYPES)

SPELLED = tuple(
    pair
    for pair in PAIRS
    if pair.name in ("filled-every-type", "columns-of-every-type", "column-keeps-the-rest")
)
"""Pairs in which the drivers, or SQLAlchemy's two dialects for MariaDB, might differ."""
