"""Pairs of models that meet what MariaDB (and MySQL) do in their own way: keys, rules and names."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

import emc
from emc.operations import beside_name
from tests.lifecycle.pairs import MARIADB, Pair, Row, add, discarding, key, remove, retiring
from tests.lifecycle.pairs_mariadb import ix, new_things, on_mariadb, retiring_kind, things

# -- keys and indexes --------------------------------------------------------------------------------------------------


def family(*more: Any, tied: Any = None, name: str | None = "fk", column: str = "parent_id") -> Any:
    """Tables parents and children, which may be tied together by a foreign key to the table *tied*."""

    def build(m: MetaData) -> None:
        Table("parents", m, key())
        foreign_key = [ForeignKey(f"{tied}.id", name=name)] if tied else []
        columns = [
            Column(one, Integer, *(foreign_key if one == column else [])) for one in ("parent_id", "other_id")
        ]
        Table("children", m, key(), *columns, *(one() for one in more))

    return build


FAMILY: dict[str, list[Row]] = {
    "parents": [{"id": 1}, {"id": 2}],
    "children": [{"id": 1, "parent_id": 1, "other_id": 2}, {"id": 2, "parent_id": None, "other_id": None}],
}


def old_family(t: Any, n: int) -> Any:
    """What a release does that has parents and children."""
    return [
        add(t.parents, id=n),
        add(t.children, id=n, parent_id=n, other_id=n),
        add(t.parents, id=n + 1),
        remove(t.parents, n + 1),
    ]


def prefix(length: Any) -> Any:
    """How much of a column is in an index, whichever name the URL gives the dialect."""
    return {"mysql_length": length, "mariadb_length": length}


def _family(name: str, promise: str, old: Any, new: Any, **more: Any) -> Pair:
    known = {"rows": FAMILY, "old_work": old_family, "new_work": old_family, **more}
    return Pair(name, promise, old, new, databases=[MARIADB], **known)


def _billing(*, new: bool) -> Any:
    def build(m: MetaData) -> None:
        Table("accounts", m, key(), Column("name", String(20)), schema="billing")
        account = ForeignKey("billing.accounts.id", name="fk_account")
        Table("users", m, key(), *([Column("account_id", account)] if new else []))
        if new:
            account = ForeignKey("billing.accounts.id", name="fk_invoices_account")
            label = Column("label", String(20), index=True)
            Table("invoices", m, key(), Column("account_id", account), label, schema="billing")

    return build


def _no_parents(m: MetaData) -> None:
    Table("children", m, key(), Column("parent_id", Integer), Column("other_id", Integer))


def _only_children(t: Any, n: int) -> Any:
    return [add(t.children, id=n, parent_id=99)]


KEYS = (
    on_mariadb(
        "composite-keys-of-a-retired-column",
        "Keys over a retired column and others go with it; none is left that has only the other columns.",
        things(
            Column("nick", String(20)),
            Column("code", Integer),
            ix("name", "nick", name="ix_two"),
            ix("code", "nick", "id", name="ix_three"),
            lambda: UniqueConstraint("nick", "code", name="uq_two"),
        ),
        things(Column("code", Integer), ix("code", name="ix_code")),
        declare=discarding("things.nick", reason="nobody used it"),
        old_work=lambda t, n: [add(t.things, id=n, name="Same", nick=str(n), code=1)],
        new_work=lambda t, n: [add(t.things, id=n, name="Same", code=1)],
        expand=["create-index:things.ix_code"],
        contract=["drop-column:things.nick"],
    ),
    on_mariadb(
        "composite-index-narrowed-on-purpose",
        "An index that the models narrow, as they lose a column of it, is built beside and takes the old one's place.",
        things(Column("nick", String(20)), ix("name", "nick")),
        things(ix("name")),
        declare=discarding("things.nick", reason="nobody used it"),
        expand=["create-index:things.emc_new_ix"],
        contract=["replace-index:things.ix", "drop-column:things.nick"],
    ),
    on_mariadb(
        "prefix-index",
        "An index over the beginning of a text is built in expand.",
        things(Column("body", Text)),
        things(
            Column("body", Text),
            ix("body", name="ix_body", **prefix(20)),
            ix("name", "body", name="ix_both", **prefix({"body": 10})),
        ),
        new_work=new_things(body="x" * 40),
        expand=["create-index:things.ix_body", "create-index:things.ix_both"],
    ),
    on_mariadb(
        "prefix-index-redefined",
        "An index over a longer beginning is built beside the old one and takes its place in contract.",
        things(Column("body", Text), ix("body", **prefix(20))),
        things(Column("body", Text), ix("body", **prefix(30))),
        new_work=new_things(body="x" * 40),
        expand=["create-index:things.emc_new_ix"],
        contract=["replace-index:things.ix"],
    ),
    on_mariadb(
        "unnamed-unique-added",
        "A unique rule that the models leave unnamed is called like its column, and is told apart from it.",
        things(Column("code", String(10))),
        things(Column("code", String(10), unique=True)),
        rows={"things": [{"id": 1, "name": "Ann", "code": "a"}, {"id": 2, "name": "Bob", "code": "a"}]},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code="a")],
        new_work=lambda t, n: [add(t.things, id=n, name="New", code=str(n))],
        migrate=["deduplicate:things.code"],
        contract=["add-unique:things.code"],
        shut={"no-duplicates:things.code": 3},
        lost={"things": [2]},
    ),
    on_mariadb(
        "unnamed-unique-retired",
        "A unique rule that is called like its column is named by its kind, and the column stays.",
        things(Column("code", String(10), unique=True)),
        things(Column("code", String(10))),
        declare=retiring_kind("things.code", "unique"),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code=str(n))],
        contract=["drop-unique:things.code"],
    ),
    on_mariadb(
        "unnamed-unique-goes-with-its-column",
        "The name of a column that also names its unique rule means the column.",
        things(Column("code", String(10), unique=True)),
        things(),
        declare=discarding("things.code", reason="nobody used it"),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code=str(n))],
        contract=["drop-column:things.code"],
    ),
    on_mariadb(
        "index-becomes-a-unique-rule",
        "An index that is a unique constraint from now on, under its name, gives way when no value is there twice.",
        things(Column("code", String(10)), ix("code", name="key")),
        things(Column("code", String(10)), lambda: UniqueConstraint("code", name="key")),
        rows={"things": [{"id": 1, "name": "Ann", "code": "a"}, {"id": 2, "name": "Bob", "code": "a"}]},
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code="a")],
        new_work=lambda t, n: [add(t.things, id=n, name="New", code=str(n))],
        migrate=["deduplicate:things.code"],
        contract=["add-unique:things.key"],
        shut={"no-duplicates:things.key": 3},
        lost={"things": [2]},
    ),
    on_mariadb(
        "unique-rule-becomes-an-index",
        "A unique constraint that is a mere index from now on, under its name, stays until the old release is gone.",
        things(Column("code", String(10)), lambda: UniqueConstraint("code", name="key")),
        things(Column("code", String(10)), ix("code", name="key")),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code=str(n))],
        new_work=lambda t, n: [add(t.things, id=n, name="New", code=str(n))],
        expand=["create-index:things.emc_new_key"],
        contract=["replace-index:things.key"],
    ),
    on_mariadb(
        "unique-index-becomes-a-unique-constraint",
        "A unique index that the models call a constraint from now on is the same key, and nothing is done.",
        things(Column("code", String(10)), ix("code", name="key", unique=True)),
        things(Column("code", String(10)), lambda: UniqueConstraint("code", name="key")),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code=str(n))],
        new_work=lambda t, n: [add(t.things, id=n, name="New", code=str(n))],
    ),
    on_mariadb(
        "unique-under-a-collation",
        "What the collation takes for equal is a duplicate: case, and blanks at the end.",
        things(Column("code", String(10, collation="utf8mb4_general_ci"))),
        things(
            Column("code", String(10, collation="utf8mb4_general_ci")),
            lambda: UniqueConstraint("code", name="uq_code"),
        ),
        rows={
            "things": [
                {"id": 1, "name": "Ann", "code": "a"},
                {"id": 2, "name": "Bob", "code": "A"},
                {"id": 3, "name": "Cyd", "code": "a "},
                {"id": 4, "name": "Dan", "code": "ä"},
                {"id": 5, "name": "Eve", "code": "b"},
            ]
        },
        declare=lambda upgrade, t: upgrade.deduplicate(t.things.c.code, keep=t.things.c.id.asc()),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", code="B ")],
        new_work=lambda t, n: [add(t.things, id=n, name="New", code=str(n))],
        migrate=["deduplicate:things.code"],
        contract=["add-unique:things.uq_code"],
        shut={"no-duplicates:things.uq_code": 5},
        lost={"things": [2, 3, 4]},
    ),
    _family(
        "foreign-key-on-an-indexed-column",
        "A foreign key finds the index of the models, and makes none of its own.",
        family(lambda: Index("ix_parent", "parent_id")),
        family(lambda: Index("ix_parent", "parent_id"), tied="parents"),
        contract=["add-foreign-key:children.fk"],
    ),
    _family(
        "foreign-key-and-its-index-added",
        "A foreign key and the index that serves it come both, whichever is first.",
        family(),
        family(lambda: Index("ix_parent", "parent_id"), tied="parents"),
        expand=["create-index:children.ix_parent"],
        contract=["add-foreign-key:children.fk"],
    ),
    _family(
        "index-under-a-kept-foreign-key-retired",
        "An index that a kept foreign key needs gives way to one that the server would have made for it.",
        family(lambda: Index("ix_parent", "parent_id"), tied="parents"),
        family(tied="parents"),
        declare=retiring("children.ix_parent"),
        contract=["drop-index:children.ix_parent"],
    ),
    _family(
        "foreign-key-retired-over-an-index",
        "The index of the models stays when the foreign key that used it goes.",
        family(lambda: Index("ix_parent", "parent_id"), tied="parents"),
        family(lambda: Index("ix_parent", "parent_id")),
        declare=retiring("children.fk"),
        expand=["drop-foreign-key:children.fk"],
    ),
    _family(
        "foreign-key-gives-way-to-an-index",
        "The index that the server made for a foreign key gives way to one of the models.",
        family(tied="parents"),
        family(lambda: Index("ix_parent", "parent_id"), tied="parents"),
        expand=["create-index:children.ix_parent"],
    ),
    _family(
        "foreign-key-unnamed-retired",
        "The index of an unnamed foreign key, which is called like the column, goes in contract too.",
        family(tied="parents", name=None),
        family(),
        declare=retiring("children.children_ibfk_1"),
        expand=["drop-foreign-key:children.children_ibfk_1"],
        contract=["drop-index:children.children_ibfk_1"],
    ),
    _family(
        "foreign-key-retired-by-kind",
        "Whoever names a foreign key by its kind has named the index that the server made for it.",
        family(tied="parents"),
        family(),
        declare=retiring_kind("children.fk", "foreign-key"),
        expand=["drop-foreign-key:children.fk"],
        contract=["drop-index:children.fk"],
    ),
    _family(
        "foreign-key-moved-to-another-column",
        "A foreign key of the same name over another column does not trip over the index that the old one left.",
        family(tied="parents"),
        family(tied="parents", column="other_id"),
        expand=["drop-foreign-key:children.fk"],
        contract=["add-foreign-key:children.fk"],
    ),
    _family(
        "foreign-key-unnamed-added",
        "A foreign key that the models leave unnamed gets the server's name.",
        family(),
        family(tied="parents", name=None),
        contract=["add-foreign-key:children.(parent_id)"],
    ),
    Pair(
        "tables-in-another-database",
        "A schema is a database: new tables and columns refer to tables of their own one, and of another.",
        _billing(new=False),
        _billing(new=True),
        rows={"users": [{"id": 1}], "billing.accounts": [{"id": 1, "name": "a"}]},
        schemas=["billing"],
        old_work=lambda t, n: [add(t.users, id=n), add(t["billing.accounts"], id=n, name="b")],
        new_work=lambda t, n: [
            add(t["billing.accounts"], id=n, name="b"),
            add(t.users, id=n, account_id=n),
            add(t["billing.invoices"], id=n, account_id=n, label="x"),
        ],
        expand=[
            "create-table:billing.invoices",
            "add-column:users.account_id",
            "create-index:billing.invoices.ix_billing_invoices_label",
            "add-foreign-key:users.fk_account",
        ],
        databases=[MARIADB],
    ),
    _family(
        "parents-retired",
        "The index of a foreign key to a retired table goes in contract, since its column stays.",
        family(tied="parents"),
        _no_parents,
        declare=discarding("parents", reason="all are orphans now"),
        new_work=_only_children,
        expand=["drop-foreign-key:children.fk"],
        contract=["drop-index:children.fk", "drop-table:parents"],
    ),
)

# -- checks ------------------------------------------------------------------------------------------------------------

CHECKS = (
    on_mariadb(
        "check-with-its-new-column",
        "A CHECK that is written with its new column comes with it in expand.",
        things(),
        lambda m: Table(
            "things",
            m,
            key(),
            Column("name", String(50), nullable=False),
            Column("age", Integer, CheckConstraint("age > 0")),
        ),
        new_work=new_things(age=1),
        expand=["add-column:things.age", "add-check:things.age"],
    ),
    on_mariadb(
        "check-named-on-a-new-column",
        "A CHECK with a name on a new column comes in expand where the table is small enough to be copied.",
        things(),
        things(Column("age", Integer), lambda: CheckConstraint("age > 0", name="ck_age")),
        new_work=new_things(age=1),
        expand=["add-column:things.age", "add-check:things.ck_age"],
    ),
    on_mariadb(
        "check-goes-with-its-column",
        "A CHECK that is written with its column, and called like it, goes with it.",
        lambda m: Table(
            "things",
            m,
            key(),
            Column("name", String(50), nullable=False),
            Column("age", Integer, CheckConstraint("age > 0")),
        ),
        things(),
        declare=discarding("things.age", reason="none of our business"),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", age=1)],
        contract=["drop-column:things.age"],
    ),
    on_mariadb(
        "check-of-its-column-retired",
        "A CHECK that is written with its column, and called like it, is named by its kind, and the column stays.",
        lambda m: Table(
            "things",
            m,
            key(),
            Column("name", String(50), nullable=False),
            Column("age", Integer, CheckConstraint("age > 0"), comment="kept"),
        ),
        things(Column("age", Integer, comment="kept")),
        declare=retiring_kind("things.age", "check"),
        old_work=lambda t, n: [add(t.things, id=n, name="Old", age=1)],
        new_work=new_things(age=-1),
        expand=["drop-check:things.age"],
    ),
)

# -- names ------------------------------------------------------------------------------------------------------------


def long(name: str) -> str:
    """*name*, as long as a name may be."""
    return name.ljust(64, "x")


def _long_names(*, new: bool) -> Any:
    def build(m: MetaData) -> None:
        Table(long("parents"), m, key())
        kept, old_only, new_only = Column(long("kept"), String(20)), long("old_only"), long("new_only")
        Table(
            long("things"),
            m,
            key(),
            kept,
            Column(long("parent"), Integer),
            Column(new_only if new else old_only, String(20), nullable=False),
            *([UniqueConstraint(new_only, name=long("uq"))] if new else []),
            *([CheckConstraint(f"{long('parent')} > 0", name=long("ck"))] if new else []),
            Index(long("ix"), kept, *([long("parent")] if new else [])),
            *([foreign_key_to(long("parents"))] if new else []),
        )

    return build


def foreign_key_to(table: str) -> Any:
    """A foreign key with a name as long as a name may be."""
    return ForeignKeyConstraint([long("parent")], [f"{table}.id"], name=long("fk"))


def _declare_long_names(upgrade: emc.Upgrade, t: Any) -> None:
    table = t[long("things")]
    upgrade.fill(table.c[long("new_only")], lambda row: f"n{row.id}")
    upgrade.discard(f"{long('things')}.{long('old_only')}", reason="too long")


def _odd(name: str, *more: Any) -> Any:
    return lambda m: Table(
        name, m, key(), *(one._copy() if isinstance(one, Column) else one() for one in more)
    )


def _declare_odd_names(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.fill(t["ta`ble"].c["col`umn"], "`")
    upgrade.discard("ta`ble.old:100%", reason="odd")


_T, _N = long("things"), long("new_only")

NAMES = (
    Pair(
        "long-names",
        "Names may have 64 characters, one more than elsewhere.",
        _long_names(new=False),
        _long_names(new=True),
        rows={
            long("parents"): [{"id": 1}],
            _T: [
                {"id": 1, long("kept"): "a", long("parent"): 1, long("old_only"): "x"},
                {"id": 2, long("kept"): "b", long("parent"): None, long("old_only"): "y"},
            ],
        },
        declare=_declare_long_names,
        old_work=lambda t, n: [t[_T].insert().values({"id": n, long("parent"): 1, long("old_only"): "z"})],
        new_work=lambda t, n: [t[_T].insert().values({"id": n, long("parent"): 1, _N: str(n)})],
        expand=[
            f"drop-not-null:{_T}.{long('old_only')}",
            f"add-column:{_T}.{_N}",
            f"create-index:{_T}.{beside_name(long('ix'))}",
            f"add-unique:{_T}.{long('uq')}",
        ],
        migrate=[f"fill:{_T}.{_N}"],
        contract=[
            f"set-not-null:{_T}.{_N}",
            f"add-check:{_T}.{long('ck')}",
            f"add-foreign-key:{_T}.{long('fk')}",
            f"replace-index:{_T}.{long('ix')}",
            f"drop-column:{_T}.{long('old_only')}",
        ],
        databases=[MARIADB],
    ),
    Pair(
        "odd-names",
        "Backticks, percent signs, colons and reserved words in names are quoted wherever they go.",
        _odd("ta`ble", Column("col`umn", String(20)), Column("order", Integer), Column("old:100%", Integer)),
        _odd(
            "ta`ble",
            Column("col`umn", String(30), nullable=False),
            Column("order", Integer, server_default="1"),
            Column("new:100%", Integer, comment="`it's`"),
            lambda: Index("in`dex", "col`umn"),
            lambda: UniqueConstraint("new:100%", name="uni`que"),
        ),
        rows={"ta`ble": [{"id": 1, "col`umn": None}]},
        declare=_declare_odd_names,
        old_work=lambda t, n: [t["ta`ble"].insert().values({"id": n, "old:100%": 1})],
        new_work=lambda t, n: [t["ta`ble"].insert().values({"id": n, "col`umn": "x", "new:100%": n})],
        expand=[
            "add-column:ta`ble.new:100%",
            "alter-type:ta`ble.col`umn",
            "set-default:ta`ble.order",
            "create-index:ta`ble.in`dex",
            "add-unique:ta`ble.uni`que",
        ],
        migrate=["fill:ta`ble.col`umn"],
        contract=["set-not-null:ta`ble.col`umn", "drop-column:ta`ble.old:100%"],
        shut={"no-nulls:ta`ble.col`umn": 3, "migrate-done:ta`ble.old:100%": None},
        rewritten=["ta`ble.col`umn"],
        databases=[MARIADB],
    ),
)

PAIRS = (*KEYS, *CHECKS, *NAMES)
