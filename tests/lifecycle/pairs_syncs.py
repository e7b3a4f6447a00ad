"""Pairs of models in which columns are renamed, converted, split and merged."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, Numeric, String, Table, UniqueConstraint

from emc.upgrade import Upgrade
from tests.lifecycle.pairs import POSTGRESQL, SQLITE, Pair, add, change, key, remove


def _rename(upgrade: Upgrade, t: Any) -> None:
    upgrade.rename("users.name", to=t.users.c.full_name)
    upgrade.rename("users.note", to=t.users.c.remark)


def _convert(upgrade: Upgrade, t: Any) -> None:
    cents = t.orders.c.price_cents
    upgrade.convert("orders.price", to=cents, up=lambda old: old * 100, down=lambda new: new / 100)


def _merge(upgrade: Upgrade, t: Any) -> None:
    upgrade.convert(
        ["orders.euros", "orders.cents"],
        to=t.orders.c.amount,
        up=lambda euros, cents: euros * 100 + cents,
        down=lambda amount: (amount // 100, amount % 100),
    )


def _split(upgrade: Upgrade, t: Any) -> None:
    upgrade.convert(
        "orders.amount",
        to=[t.orders.c.euros, t.orders.c.cents],
        up=lambda amount: (amount // 100, amount % 100),
        down=lambda euros, cents: {"amount": euros * 100 + cents},
    )


def _move(upgrade: Upgrade, t: Any) -> None:
    on = {t.addresses.c.user_id: "users.id"}
    upgrade.convert(
        ["users.street", "users.city"],
        to=[t.addresses.c.road, t.addresses.c.town],
        on=on,
        up=lambda street, city: (street, city),
        down=lambda road, town: (road, town),
    )


def _housed(m: MetaData) -> None:
    Table("users", m, key(), Column("street", String(40)), Column("city", String(40), nullable=False))


def _addressed(m: MetaData) -> None:
    Table("users", m, key())
    owner = ForeignKey("users.id", name="fk_addresses_user", ondelete="CASCADE")
    Table(
        "addresses",
        m,
        Column("user_id", Integer, owner, primary_key=True, autoincrement=False),
        Column("road", String(40)),
        Column("town", String(40), nullable=False),
        Column("kind", String(9), server_default="home"),
    )


def _orders(*columns: Any) -> Any:
    return lambda m: Table("orders", m, key(), *(make() for make in columns), Column("kind", String(9)))


def _old_users(m: MetaData) -> None:
    Table("groups", m, key(), Column("code", String(10)))
    Table(
        "users",
        m,
        key(),
        Column("name", String(40), nullable=False),
        Column("group_id", ForeignKey("groups.id", name="fk_users_group")),
        Column("note", String(40)),
        UniqueConstraint("name", name="uq_users_name"),
    )


def _new_users(m: MetaData) -> None:
    Table("groups", m, key(), Column("code", String(10)))
    Table(
        "users",
        m,
        key(),
        Column("group_id", ForeignKey("groups.id", name="fk_users_group")),
        Column("full_name", String(40), nullable=False),
        Column("remark", String(40), server_default="none"),
        UniqueConstraint("full_name", name="uq_users_full_name"),
        Index("ix_users_remark", "remark"),
    )


PAIRS = (
    Pair(
        "columns-renamed",
        "A renamed column is kept in step in both directions and stays unique; then its old name goes.",
        _old_users,
        _new_users,
        declare=_rename,
        rows={
            "groups": [{"id": 1, "code": "a"}],
            "users": [
                {"id": 1, "name": "Ada", "group_id": 1, "note": "x"},
                {"id": 2, "name": "Bob", "group_id": None, "note": None},
            ],
        },
        old_work=lambda t, n: [
            add(t.users, id=n, name=f"old {n}", group_id=1, note="y"),
            change(t.users, n, name=f"older {n}", note=None),
            change(t.users, 1, note=f"by old {n}"),
        ],
        new_work=lambda t, n: [
            add(t.users, id=n, full_name=f"new {n}", group_id=1, remark="z"),
            change(t.users, n, full_name=f"newer {n}", remark=None),
        ],
        expand=[
            "drop-not-null:users.name",
            "add-column:users.full_name",
            "add-column:users.remark",
            "install-sync:users.full_name",
            "install-sync:users.remark",
            "create-index:users.ix_users_remark",
            "add-unique:users.uq_users_full_name",
        ],
        migrate=["copy:users.full_name", "copy:users.remark"],
        contract=[
            "set-not-null:users.full_name",
            "drop-sync:users.full_name",
            "drop-column:users.name",
            "drop-sync:users.remark",
            "drop-column:users.note",
            "set-default:users.remark",
        ],
        shut={
            "in-step:users.full_name": 3,
            "no-nulls:users.full_name": 3,
            "migrate-done:users.name": None,
            "migrate-done:users.note": None,
        },
    ),
    Pair(
        "column-converted",
        "A converted column is kept in step by value, and what the column rounds is in step.",
        _orders(lambda: Column("price", Numeric(10, 2))),
        _orders(lambda: Column("price_cents", Integer, nullable=False, server_default="0")),
        declare=_convert,
        rows={"orders": [{"id": 1, "price": 12, "kind": "a"}, {"id": 2, "price": 0.5, "kind": "b"}]},
        old_work=lambda t, n: [add(t.orders, id=n, price=n), change(t.orders, n, price=n + 1)],
        new_work=lambda t, n: [
            add(t.orders, id=n, price_cents=n),
            change(t.orders, n, price_cents=n + 1),
            remove(t.orders, n),
        ],
        expand=["add-column:orders.price_cents", "install-sync:orders.price_cents"],
        migrate=["copy:orders.price_cents"],
        contract=[
            "set-not-null:orders.price_cents",
            "drop-sync:orders.price_cents",
            "drop-column:orders.price",
            "set-default:orders.price_cents",
        ],
        shut={
            "in-step:orders.price_cents": 3,
            "no-nulls:orders.price_cents": 3,
            "migrate-done:orders.price": None,
        },
    ),
    Pair(
        "columns-merged",
        "Two columns become one, and are kept in step with it until they go together.",
        _orders(lambda: Column("euros", Integer), lambda: Column("cents", Integer)),
        _orders(lambda: Column("amount", Integer)),
        declare=_merge,
        rows={"orders": [{"id": 1, "euros": 1, "cents": 20}, {"id": 2, "euros": 0, "cents": 5}]},
        old_work=lambda t, n: [add(t.orders, id=n, euros=3, cents=4), change(t.orders, n, cents=n % 100)],
        new_work=lambda t, n: [add(t.orders, id=n, amount=n), change(t.orders, n, amount=n + 1)],
        expand=["add-column:orders.amount", "install-sync:orders.amount"],
        migrate=["copy:orders.amount"],
        contract=["drop-sync:orders.amount", "drop-column:orders.cents", "drop-column:orders.euros"],
        shut={
            "in-step:orders.amount": 3,
            "migrate-done:orders.cents": None,
            "migrate-done:orders.euros": None,
        },
    ),
    Pair(
        "column-split",
        "One column becomes two, which are kept in step with it until it goes.",
        _orders(lambda: Column("amount", Integer)),
        _orders(lambda: Column("euros", Integer), lambda: Column("cents", Integer)),
        declare=_split,
        rows={"orders": [{"id": 1, "amount": 120}, {"id": 2, "amount": None}]},
        old_work=lambda t, n: [add(t.orders, id=n, amount=n), change(t.orders, n, amount=n + 1)],
        new_work=lambda t, n: [add(t.orders, id=n, euros=n, cents=1), change(t.orders, n, cents=2)],
        expand=["add-column:orders.cents", "add-column:orders.euros", "install-sync:orders.euros"],
        migrate=["copy:orders.euros"],
        contract=["drop-sync:orders.euros", "drop-column:orders.amount"],
        shut={"in-step:orders.euros": 2, "migrate-done:orders.amount": None},
    ),
    Pair(
        "columns-moved",
        "Columns that move to a new table are kept in step row by row: made, found, emptied and taken along.",
        _housed,
        _addressed,
        declare=_move,
        rows={
            "users": [
                {"id": 1, "street": "x", "city": "a"},
                {"id": 2, "street": None, "city": "b"},
            ]
        },
        old_work=lambda t, n: [
            add(t.users, id=n, street="y", city="c"),
            change(t.users, n, street=f"old {n}"),
            change(t.users, 1, street=f"by old {n}"),
            add(t.users, id=n + 1, city="d"),
            remove(t.users, n + 1),
        ],
        new_work=lambda t, n: [
            add(t.users, id=n),
            t.addresses.insert().values(user_id=n, road="z", town="e"),
            t.addresses.update().where(t.addresses.c.user_id == n).values(town=f"new {n}"),
        ],
        expand={
            SQLITE: ["create-table:addresses", "drop-not-null:users.city", "install-sync:addresses.road"],
            POSTGRESQL: ["drop-not-null:users.city", "create-table:addresses", "install-sync:addresses.road"],
        },
        migrate=["copy:addresses.road"],
        contract=[
            "set-not-null:addresses.town",
            "drop-sync:addresses.road",
            "drop-column:users.city",
            "drop-column:users.street",
        ],
        shut={
            "in-step:addresses.road": 2,
            "migrate-done:users.city": None,
            "migrate-done:users.street": None,
        },
        databases=(SQLITE, POSTGRESQL),
    ),
)
