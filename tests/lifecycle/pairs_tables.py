"""Pairs of models in which tables come and go."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    insert,
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


USERS = [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}]


def old_users(t: Any, n: int) -> Any:
    """What the old release does with users."""
    return [add(t.users, id=n, name="old"), change(t.users, n, name="older"), remove(t.users, n)]


def _new_table(m: MetaData) -> None:
    users(m)
    Table(
        "orders",
        m,
        key(),
        Column("user_id", ForeignKey("users.id", name="fk_orders_user"), nullable=False),
        Column("code", String(20), nullable=False),
        Column("amount", Integer, nullable=False, server_default="1"),
        UniqueConstraint("user_id", "code", name="uq_orders_code"),
        CheckConstraint("amount > 0", name="ck_orders_amount"),
        Index("ix_orders_code", "code"),
    )


def _cycle(m: MetaData) -> None:
    users(m)
    Table(
        "teams",
        m,
        key(),
        Column("lead_id", Integer),
        ForeignKeyConstraint(["lead_id"], ["people.id"], name="fk_teams_lead"),
    )
    Table(
        "people",
        m,
        key(),
        Column("team_id", Integer),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_people_team"),
    )


def _tree(m: MetaData) -> None:
    users(m)
    Table("nodes", m, key(), Column("parent_id", ForeignKey("nodes.id", name="fk_nodes_parent")))


def _billing(m: MetaData, *, invoices: bool) -> None:
    Table("accounts", m, key(), Column("name", String(20)), schema="billing")
    users(m)
    if invoices:
        Table(
            "invoices",
            m,
            key(),
            Column("account_id", ForeignKey("billing.accounts.id", name="fk_invoices_account")),
            Column("user_id", ForeignKey("users.id", name="fk_invoices_user")),
            Column("label", String(20), index=True),
            schema="billing",
        )


def _moods(m: MetaData) -> None:
    users(m)
    Table("moods", m, key(), Column("mood", Enum("calm", "merry", name="mood"), nullable=False))


def _audit(m: MetaData) -> None:
    users(m)
    Table("audit", m, key(), Column("text", String(50)))


def _events(m: MetaData) -> None:
    users(m)
    Table("events", m, key(), Column("text", String(50)))


def _move_audit(upgrade: emc.Upgrade, t: Any) -> None:
    @upgrade.data_migration("audit")
    def move_audit(row: Any, connection: Connection) -> Any:
        connection.execute(insert(t.events).values(id=row.id, text=row.text))
        return emc.DELETE

    upgrade.retire("audit", after=[move_audit])


def _comments(m: MetaData, ondelete: str | None = None) -> None:
    users(m)
    Table(
        "comments",
        m,
        key(),
        Column("user_id", ForeignKey("users.id", name="fk_comments_user", ondelete=ondelete), nullable=False),
    )


def _invoices(m: MetaData) -> None:
    users(m)
    Table("invoices", m, key())
    Table("lines", m, key(), Column("invoice_id", ForeignKey("invoices.id", name="fk_lines_invoice")))


def _plans(m: MetaData) -> None:
    Table("plans", m, key(), Column("title", String(20)))
    users(m, Column("plan_id", ForeignKey("plans.id", name="fk_users_plan")))


def _retire_plans(upgrade: emc.Upgrade, t: Any) -> None:
    upgrade.discard("plans", reason="everything is free now")
    upgrade.discard("users.plan_id", reason="everything is free now")


PAIRS = (
    Pair(
        "table-new",
        "A new table comes with its index and constraints in expand.",
        users,
        _new_table,
        rows={"users": USERS},
        old_work=old_users,
        new_work=lambda t, n: [
            add(t.users, id=n, name="new"),
            add(t.orders, id=n, user_id=n, code="c"),
            change(t.orders, n, amount=7),
        ],
        expand=["create-table:orders", "create-index:orders.ix_orders_code"],
    ),
    Pair(
        "table-new-cycle",
        "Two new tables that refer to each other are created, and then tied together.",
        users,
        _cycle,
        rows={"users": USERS},
        old_work=old_users,
        new_work=lambda t, n: [
            add(t.teams, id=n),
            add(t.people, id=n, team_id=n),
            change(t.teams, n, lead_id=n),
        ],
        expand={
            POSTGRESQL: [
                "create-table:people",
                "create-table:teams",
                "add-foreign-key:people.fk_people_team",
                "add-foreign-key:teams.fk_teams_lead",
            ],
            MARIADB: [
                "create-table:people",
                "create-table:teams",
                "add-foreign-key:people.fk_people_team",
                "add-foreign-key:teams.fk_teams_lead",
            ],
            # A new table's text holds its foreign keys, to tables that are yet to come as well.
            SQLITE: [
                "create-table:people",
                "add-foreign-key:people.fk_people_team",
                "create-table:teams",
                "add-foreign-key:teams.fk_teams_lead",
            ],
        },
    ),
    Pair(
        "table-new-self-reference",
        "A new table that refers to itself is created in one piece.",
        users,
        _tree,
        rows={"users": USERS},
        old_work=old_users,
        new_work=lambda t, n: [add(t.nodes, id=n), add(t.nodes, id=n + 1, parent_id=n)],
        expand=["create-table:nodes"],
    ),
    Pair(
        "table-new-schemas",
        "A new table in another schema refers to tables of both schemas.",
        lambda m: _billing(m, invoices=False),
        lambda m: _billing(m, invoices=True),
        rows={"users": USERS, "billing.accounts": [{"id": 1, "name": "a"}]},
        schemas=["billing"],
        old_work=lambda t, n: [*old_users(t, n), add(t["billing.accounts"], id=n, name="b")],
        new_work=lambda t, n: [
            add(t["billing.accounts"], id=n, name="b"),
            add(t["billing.invoices"], id=n, account_id=n, user_id=1, label="x"),
        ],
        expand=["create-table:billing.invoices", "create-index:billing.invoices.ix_billing_invoices_label"],
        # On MariaDB, REFERENCES users in billing means billing.users, so create_all fails too.
        databases=[POSTGRESQL],
    ),
    Pair(
        "table-new-enum",
        "An enumerated type that only a new table uses is created first, where types exist apart from columns.",
        users,
        _moods,
        rows={"users": USERS},
        old_work=old_users,
        new_work=lambda t, n: [add(t.moods, id=n, mood="merry")],
        expand={
            SQLITE: ["create-table:moods"],
            POSTGRESQL: ["create-enum:mood", "create-table:moods"],
            MARIADB: ["create-table:moods"],
        },
    ),
    Pair(
        "table-retired-enum",
        "The enumerated type that only a retired table used goes with it.",
        _moods,
        users,
        rows={"users": USERS, "moods": [{"id": 1, "mood": "calm"}]},
        declare=discarding("moods", reason="nobody looked"),
        old_work=lambda t, n: [add(t.moods, id=n, mood="merry")],
        new_work=old_users,
        contract=["drop-table:moods"],
    ),
    Pair(
        "table-retired-empty",
        "A retired table without rows is dropped in contract.",
        _audit,
        users,
        rows={"users": USERS},
        declare=retiring("audit"),
        old_work=lambda t, n: [
            add(t.audit, id=n, text="x"),
            change(t.audit, n, text="y"),
            remove(t.audit, n),
        ],
        new_work=lambda t, n: [add(t.users, id=n, name="new")],
        contract=["drop-table:audit"],
    ),
    Pair(
        "table-retired-with-rows",
        "A retired table with rows stays until somebody says that they may be lost.",
        _audit,
        users,
        rows={"users": USERS, "audit": [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]},
        declare=retiring("audit"),
        decide=discarding("audit", reason="older than the law asks for"),
        old_work=lambda t, n: [add(t.audit, id=n, text="x")],
        new_work=lambda t, n: [add(t.users, id=n, name="new")],
        contract=["drop-table:audit"],
        shut={"data-elsewhere:audit": 4},
        hazards={
            "drop-table:audit": {
                SQLITE: [Hazard.BLOCKS_WRITES, Hazard.LOSES_DATA],
                POSTGRESQL: [Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA],
                MARIADB: [Hazard.EXCLUSIVE_LOCK, Hazard.LOSES_DATA],
            }
        },
    ),
    Pair(
        "table-retired-moved",
        "A retired table stays until its migration has moved every row.",
        _audit,
        _events,
        rows={"users": USERS, "audit": [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]},
        declare=_move_audit,
        old_work=lambda t, n: [add(t.audit, id=n, text="x")],
        new_work=lambda t, n: [add(t.events, id=n, text="new")],
        expand=["create-table:events"],
        migrate=["move_audit"],
        contract=["drop-table:audit"],
        shut={"data-elsewhere:audit": 4, "migrate-done:audit": None},
    ),
    Pair(
        "table-retired-child",
        "A retired table lets go of kept tables in expand, or the new release could not delete their rows.",
        _comments,
        users,
        rows={"users": USERS, "comments": [{"id": 1, "user_id": 1}]},
        declare=discarding("comments", reason="moved to the forum"),
        old_work=lambda t, n: [
            add(t.users, id=n, name="short-lived"),
            add(t.comments, id=n, user_id=n),
            remove(t.comments, n),
            add(t.comments, id=n, user_id=n),
        ],
        new_work=lambda t, n: [
            add(t.users, id=n, name="new"),
            t.users.delete().where(t.users.c.name == "short-lived"),
        ],
        expand=["drop-foreign-key:comments.fk_comments_user"],
        contract=["drop-table:comments"],
    ),
    Pair(
        "table-retired-cascading",
        "A retired table whose rows go with their parents keeps its foreign key until it is dropped.",
        lambda m: _comments(m, "CASCADE"),
        users,
        rows={"users": USERS, "comments": [{"id": 1, "user_id": 1}]},
        declare=discarding("comments", reason="moved to the forum"),
        old_work=lambda t, n: [
            add(t.users, id=n, name="short-lived"),
            add(t.comments, id=n, user_id=n),
        ],
        new_work=lambda t, n: [
            add(t.users, id=n, name="new"),
            t.users.delete().where(t.users.c.name == "short-lived"),
        ],
        contract=["drop-table:comments"],
    ),
    Pair(
        "tables-retired-together",
        "Of two retired tables the child is dropped first.",
        _invoices,
        users,
        rows={"users": USERS, "invoices": [{"id": 1}], "lines": [{"id": 1, "invoice_id": 1}]},
        declare=discarding("invoices", "lines", reason="kept by the accountant"),
        old_work=lambda t, n: [add(t.invoices, id=n), add(t.lines, id=n, invoice_id=n)],
        new_work=old_users,
        contract=["drop-table:lines", "drop-table:invoices"],
    ),
    Pair(
        "table-retired-parent",
        "A retired table that a retired column of a kept table refers to is let go in expand and dropped after it.",
        _plans,
        users,
        rows={"plans": [{"id": 1, "title": "gold"}], "users": [{"id": 1, "name": "ann", "plan_id": 1}]},
        declare=_retire_plans,
        old_work=lambda t, n: [
            add(t.plans, id=n, title="silver"),
            add(t.users, id=n, name="old", plan_id=n),
        ],
        new_work=lambda t, n: [add(t.users, id=n, name="new")],
        expand=["drop-foreign-key:users.fk_users_plan"],
        contract=["drop-column:users.plan_id", "drop-table:plans"],
    ),
)
