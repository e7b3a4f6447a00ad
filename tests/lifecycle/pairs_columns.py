"""Pairs of models in which columns come, go, and are held to other rules."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    text,
)

import emc
from emc.steps import Hazard
from tests.lifecycle.pairs import (
    MARIADB,
    POSTGRESQL,
    SQLITE,
    Pair,
    add,
    change,
    discarding,
    key,
    remove,
    retiring,
)


def users(m: MetaData, *more: Any) -> Table:
    """The table that every pair here has."""
    return Table("users", m, key(), Column("name", String(50), nullable=False), *more)


USERS = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]


def old_users(t: Any, n: int) -> Any:
    """What the old release does with users: one row stays, and is changed; another one goes."""
    return [
        add(t.users, id=n, name="Old"),
        change(t.users, n, name="Older"),
        add(t.users, id=n + 1, name="Brief"),
        remove(t.users, n + 1),
    ]


def new_users(**values: Any) -> Any:
    """What the new release does with users, writing *values* too."""
    return lambda t, n: [add(t.users, id=n, name="New", **values), change(t.users, n, name="Newer")]


def _ages(*, retired: bool, check: str = "age > 0") -> Any:
    def build(m: MetaData) -> None:
        columns: list[Any] = (
            [] if retired else [Column("age", Integer), CheckConstraint(check, name="ck_users_age")]
        )
        users(m, Column("size", Integer), *columns)

    return build


def _grouped(*, retired: bool) -> Any:
    def build(m: MetaData) -> None:
        Table("groups", m, key())
        columns: list[Any] = (
            [] if retired else [Column("group_id", ForeignKey("groups.id", name="fk_users_group"))]
        )
        users(m, *columns)

    return build


def _tied(m: MetaData) -> None:
    Table("groups", m, key())
    users(
        m,
        Column("group_id", ForeignKey("groups.id", name="fk_users_group")),
        Column("code", String(10)),
        UniqueConstraint("code", name="uq_users_code"),
        Index("ix_users_group", "group_id"),
    )


def _modernise(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.fill(t.users.c.modern, lambda row: int(row.legacy))
    upgrade.discard("users.legacy", reason="moved to modern")


def _copy_name(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.data_migration(
        t.users,
        name="copy_nick",
        where=lambda live: live.c.nick.is_not(None) & live.c.alias.is_(None),
        values={t.users.c.alias: text("nick")},
    )
    upgrade.retire("users.nick", after=["copy_nick"])


PAIRS = (
    Pair(
        "column-nullable",
        "A new nullable column is added in expand, and the old release does not notice.",
        users,
        lambda m: users(m, Column("nick", String(20))),
        rows={"users": USERS},
        old_work=old_users,
        new_work=new_users(nick="n"),
        expand=["add-column:users.nick"],
        hazards={
            "add-column:users.nick": {
                SQLITE: [],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK],
                MARIADB: [Hazard.EXCLUSIVE_LOCK],
            }
        },
    ),
    Pair(
        "column-with-default",
        "A new NOT NULL column with a server default is added in expand in its final form.",
        users,
        lambda m: users(m, Column("score", Integer, nullable=False, server_default="0")),
        rows={"users": USERS},
        old_work=old_users,
        new_work=new_users(score=3),
        expand=["add-column:users.score"],
    ),
    Pair(
        "column-tied",
        "New nullable columns bring their unique constraint, foreign key and index along in expand.",
        lambda m: [Table("groups", m, key()), users(m)],
        _tied,
        rows={"groups": [{"id": 1}], "users": USERS},
        old_work=old_users,
        new_work=lambda t, n: [
            add(t.groups, id=n),
            add(t.users, id=n, name="New", group_id=n, code=str(n)),
        ],
        expand=[
            "add-column:users.code",
            "add-column:users.group_id",
            "create-index:users.ix_users_group",
            "add-unique:users.uq_users_code",
            "add-foreign-key:users.fk_users_group",
        ],
    ),
    Pair(
        "column-filled-constant",
        "A constant fill is a temporary server default, so that the old release fills the column too.",
        users,
        lambda m: users(m, Column("tz", String(20), nullable=False)),
        rows={"users": USERS},
        declare=lambda upgrade, t: upgrade.fill(t.users.c.tz, "UTC"),
        old_work=old_users,
        new_work=new_users(tz="CET"),
        expand=["add-column:users.tz"],
        migrate=["fill:users.tz"],
        contract=["set-not-null:users.tz", "drop-default:users.tz"],
    ),
    Pair(
        "column-filled-sql",
        "A fill in SQL is computed from each row; NOT NULL waits until no row is without a value.",
        users,
        lambda m: users(m, Column("slug", String(50), nullable=False)),
        rows={"users": USERS},
        declare=lambda upgrade, t: upgrade.fill(t.users.c.slug, func.lower(t.users.c.name)),
        old_work=old_users,
        new_work=new_users(slug="new"),
        expand=["add-column:users.slug"],
        migrate=["fill:users.slug"],
        contract=["set-not-null:users.slug"],
        shut={"no-nulls:users.slug": 4},
        hazards={
            "set-not-null:users.slug": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE],
                MARIADB: [Hazard.EXCLUSIVE_LOCK, Hazard.SCANS_TABLE, Hazard.LONG_RUNNING],
            }
        },
    ),
    Pair(
        "column-filled-python",
        "A fill in Python is computed from each row; NOT NULL waits until no row is without a value.",
        users,
        lambda m: users(m, Column("initial", String(1), nullable=False)),
        rows={"users": USERS},
        declare=lambda upgrade, t: upgrade.fill(t.users.c.initial, lambda row: row.name[0]),
        old_work=old_users,
        new_work=new_users(initial="N"),
        expand=["add-column:users.initial"],
        migrate=["fill:users.initial"],
        contract=["set-not-null:users.initial"],
        shut={"no-nulls:users.initial": 4},
    ),
    Pair(
        "column-unfilled-empty-table",
        "A new NOT NULL column of an empty table needs no fill, only that the old release is gone.",
        users,
        lambda m: users(m, Column("tz", String(20), nullable=False)),
        old_work=lambda t, n: [add(t.users, id=n, name="Brief"), remove(t.users, n)],
        new_work=new_users(tz="CET"),
        expand=["add-column:users.tz"],
        contract=["set-not-null:users.tz"],
    ),
    Pair(
        "column-retired-nullable",
        "A retired column without data goes in contract.",
        lambda m: users(m, Column("nick", String(20))),
        users,
        rows={"users": USERS},
        declare=retiring("users.nick"),
        old_work=lambda t, n: [
            *old_users(t, n),
            add(t.users, id=n + 2, name="Old", nick="x"),
            remove(t.users, n + 2),
        ],
        new_work=new_users(),
        contract=["drop-column:users.nick"],
    ),
    Pair(
        "column-retired-with-data",
        "A retired column that still holds data stays until somebody says that it may be lost.",
        lambda m: users(m, Column("nick", String(20))),
        users,
        rows={"users": [{"id": 1, "name": "Ann", "nick": "a"}, {"id": 2, "name": "Bob", "nick": None}]},
        declare=retiring("users.nick"),
        decide=discarding("users.nick", reason="nobody used it"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old", nick="x")],
        new_work=new_users(),
        contract=["drop-column:users.nick"],
        shut={"data-elsewhere:users.nick": 3},
        hazards={
            "drop-column:users.nick": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES, Hazard.LOSES_DATA],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA],
                MARIADB: [Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA],
            }
        },
    ),
    Pair(
        "column-retired-moved",
        "A retired column goes once its migration has copied every value.",
        lambda m: users(m, Column("nick", String(20))),
        lambda m: users(m, Column("alias", String(20))),
        rows={"users": [{"id": 1, "name": "Ann", "nick": "a"}, {"id": 2, "name": "Bob", "nick": None}]},
        declare=_copy_name,
        old_work=lambda t, n: [add(t.users, id=n, name="Old", nick="x"), change(t.users, n, nick="y")],
        new_work=new_users(alias="n"),
        expand=["add-column:users.alias"],
        migrate=["copy_nick"],
        contract=["drop-column:users.nick"],
        shut={"data-elsewhere:users.nick": 3, "migrate-done:users.nick": None},
    ),
    Pair(
        "column-retired-not-null",
        "A retired column that inserts must name is relaxed in expand, so that the new release can insert.",
        lambda m: users(m, Column("legacy", String(20), nullable=False)),
        users,
        rows={"users": [{"id": 1, "name": "Ann", "legacy": "a"}]},
        declare=discarding("users.legacy", reason="of no use"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old", legacy="x"), change(t.users, n, legacy="y")],
        new_work=new_users(),
        expand=["drop-not-null:users.legacy"],
        contract=["drop-column:users.legacy"],
    ),
    Pair(
        "column-retired-not-null-default",
        "A retired NOT NULL column with a default needs no relaxing.",
        lambda m: users(m, Column("legacy", String(20), nullable=False, server_default="-")),
        users,
        rows={"users": [{"id": 1, "name": "Ann", "legacy": "a"}]},
        declare=discarding("users.legacy", reason="of no use"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old", legacy="x"), change(t.users, n, legacy="y")],
        new_work=new_users(),
        contract=["drop-column:users.legacy"],
    ),
    Pair(
        "column-retired-foreign-key",
        "The foreign key of a retired column goes in expand, or the new release could not delete what it refers to.",
        _grouped(retired=False),
        _grouped(retired=True),
        rows={"groups": [{"id": 1}], "users": [{"id": 1, "name": "Ann", "group_id": 1}]},
        declare=discarding("users.group_id", reason="groups are gone"),
        old_work=lambda t, n: [add(t.groups, id=n), add(t.users, id=n, name="Old", group_id=n)],
        new_work=lambda t, n: [
            add(t.users, id=n, name="New"),
            t.groups.delete().where(t.groups.c.id >= 1000),
        ],
        expand=["drop-foreign-key:users.fk_users_group"],
        contract=["drop-column:users.group_id"],
    ),
    Pair(
        "column-retired-check-of-its-own",
        "A CHECK that speaks of a retired column alone stays with it, since NULL passes.",
        _ages(retired=False),
        _ages(retired=True),
        rows={"users": [{"id": 1, "name": "Ann", "size": 2, "age": 9}]},
        declare=discarding("users.age", reason="none of our business"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old", size=2, age=9)],
        new_work=new_users(size=1),
        contract=["drop-column:users.age"],
    ),
    Pair(
        "column-retired-check-of-several",
        "A CHECK that ties a retired column to others goes in expand, since the new release would fail it.",
        _ages(retired=False, check="size < 5 OR age IS NOT NULL"),
        _ages(retired=True),
        rows={"users": [{"id": 1, "name": "Ann", "size": 9, "age": 9}]},
        declare=discarding("users.age", reason="none of our business"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old", size=9, age=9)],
        new_work=new_users(size=9),
        expand=["drop-check:users.ck_users_age"],
        contract=["drop-column:users.age"],
    ),
    Pair(
        "column-retired-indexed",
        "What is built on a retired column alone goes with it.",
        lambda m: users(
            m,
            Column("nick", String(20)),
            Column("code", String(20)),
            Index("ix_users_nick", "nick"),
            Index("ix_users_name_nick", "name", "nick"),
            UniqueConstraint("code", name="uq_users_code"),
        ),
        users,
        rows={"users": [{"id": 1, "name": "Ann", "nick": "a", "code": "1"}]},
        declare=discarding("users.nick", "users.code", reason="nobody used it"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old", nick="x", code=str(n))],
        new_work=new_users(),
        contract=["drop-column:users.code", "drop-column:users.nick"],
    ),
    Pair(
        "column-swapped",
        "A retired column and a new one in its table do not get into each other's way.",
        lambda m: users(m, Column("legacy", String(20), nullable=False)),
        lambda m: users(m, Column("modern", Integer, nullable=False)),
        rows={"users": [{"id": 1, "name": "Ann", "legacy": "1"}, {"id": 2, "name": "Bob", "legacy": "2"}]},
        declare=_modernise,
        old_work=lambda t, n: [add(t.users, id=n, name="Old", legacy="7")],
        new_work=new_users(modern=8),
        expand=["drop-not-null:users.legacy", "add-column:users.modern"],
        migrate=["fill:users.modern"],
        contract=["set-not-null:users.modern", "drop-column:users.legacy"],
        # The column is discarded because it has been moved; so it has to be moved first.
        shut={"no-nulls:users.modern": 4, "migrate-done:users.legacy": None},
    ),
    Pair(
        "not-null-dropped",
        "A column that may be NULL from now on is relaxed in expand.",
        lambda m: users(m, Column("nick", String(20), nullable=False)),
        lambda m: users(m, Column("nick", String(20))),
        rows={"users": [{"id": 1, "name": "Ann", "nick": "a"}]},
        old_work=lambda t, n: [add(t.users, id=n, name="Old", nick="x")],
        new_work=new_users(nick=None),
        expand=["drop-not-null:users.nick"],
    ),
    Pair(
        "not-null-added",
        "NOT NULL on an existing column waits until the fill has left no NULL.",
        lambda m: users(m, Column("nick", String(20))),
        lambda m: users(m, Column("nick", String(20), nullable=False)),
        rows={"users": [{"id": 1, "name": "Ann", "nick": "a"}, {"id": 2, "name": "Bob", "nick": None}]},
        declare=lambda upgrade, t: upgrade.fill(t.users.c.nick, "-"),
        old_work=lambda t, n: [add(t.users, id=n, name="Old"), add(t.users, id=n + 1, name="Old", nick="x")],
        new_work=new_users(nick="n"),
        migrate=["fill:users.nick"],
        contract=["set-not-null:users.nick"],
        shut={"no-nulls:users.nick": 3},
        rewritten=["users.nick"],
    ),
    Pair(
        "default-added",
        "A server default is added in expand.",
        lambda m: users(m, Column("nick", String(20))),
        lambda m: users(m, Column("nick", String(20), server_default="-")),
        rows={"users": USERS},
        old_work=old_users,
        new_work=new_users(),
        expand=["set-default:users.nick"],
    ),
    Pair(
        "default-changed",
        "A server default is changed in expand.",
        lambda m: users(m, Column("score", Integer, nullable=False, server_default="0")),
        lambda m: users(m, Column("score", Integer, nullable=False, server_default="1")),
        rows={"users": USERS},
        old_work=old_users,
        new_work=new_users(),
        expand=["set-default:users.score"],
        hazards={
            "set-default:users.score": {
                SQLITE: [Hazard.REWRITES_TABLE, Hazard.BLOCKS_WRITES],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK],
                MARIADB: [Hazard.EXCLUSIVE_LOCK],
            }
        },
    ),
    Pair(
        "default-dropped",
        "A server default stays until the old release, which may rely on it, is gone.",
        lambda m: users(m, Column("score", Integer, nullable=False, server_default="0")),
        lambda m: users(m, Column("score", Integer, nullable=False)),
        rows={"users": USERS},
        old_work=old_users,
        new_work=new_users(score=1),
        contract=["drop-default:users.score"],
    ),
    Pair(
        "comments",
        "Comments on columns and tables are set, changed and taken away in expand.",
        lambda m: [
            users(m, Column("nick", String(20), comment="old"), Column("code", String(20), comment="gone")),
            Table("groups", m, key(), comment="gone too"),
        ],
        lambda m: [
            users(m, Column("nick", String(20), comment="new's"), Column("code", String(20))),
            Table("groups", m, key(), Column("title", String(9), comment="brand new"), comment=None),
            Table("things", m, key(), comment="a 'new' table"),
        ],
        rows={"users": USERS},
        old_work=old_users,
        new_work=new_users(nick="n"),
        expand=[
            "create-table:things",
            "add-column:groups.title",
            "set-comment:groups",
            "set-comment:users.code",
            "set-comment:users.nick",
        ],
        databases=[POSTGRESQL, MARIADB],
    ),
    Pair(
        "column-changed-in-every-way",
        "Several changes of one column go each in its own phase.",
        lambda m: users(m, Column("nick", String(10), server_default="-")),
        lambda m: users(m, Column("nick", String(20), nullable=False)),
        rows={"users": [{"id": 1, "name": "Ann", "nick": None}, {"id": 2, "name": "Bob", "nick": "b"}]},
        declare=lambda upgrade, t: upgrade.fill(t.users.c.nick, func.lower(t.users.c.name)),
        old_work=lambda t, n: [*old_users(t, n), add(t.users, id=n + 2, name="Old", nick=None)],
        new_work=new_users(nick="longer than ten"),
        expand=["alter-type:users.nick"],
        migrate=["fill:users.nick"],
        contract=["set-not-null:users.nick", "drop-default:users.nick"],
        shut={"no-nulls:users.nick": 3},
        rewritten=["users.nick"],
    ),
)
