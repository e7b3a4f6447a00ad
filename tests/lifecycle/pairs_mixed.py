"""Pairs of models in which much happens at once, names are odd, or elements are left alone."""

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
    UniqueConstraint,
    column,
    func,
    text,
)

import emc
from tests.lifecycle.pairs import MARIADB, POSTGRESQL, SQLITE, Pair, add, change, key, remove


def _old_shop(m: MetaData) -> None:
    Table("countries", m, key(), Column("code", String(2)))
    Table(
        "customers",
        m,
        key(),
        Column("name", String(20), nullable=False),
        Column("email", String(40)),
        Column("fax", String(20), nullable=False),
        Column("country_id", Integer),
        Column("old_country_id", ForeignKey("countries.id", name="fk_customers_old_country")),
        Column("points", Integer, server_default="0"),
        Column("note", String(100)),
        CheckConstraint("points < 1000", name="ck_customers_points"),
        CheckConstraint("points >= 0 OR fax <> ''", name="ck_customers_fax"),
        UniqueConstraint("fax", name="uq_customers_fax"),
        Index("ix_customers_name", "name"),
        Index("ix_customers_fax", "fax"),
        Index(
            "ix_customers_email",
            "email",
            postgresql_where=text("email IS NOT NULL"),
            sqlite_where=text("email IS NOT NULL"),
        ),
    )
    Table(
        "orders",
        m,
        key(),
        Column("customer_id", ForeignKey("customers.id", name="fk_orders_customer", ondelete="CASCADE")),
        Column("amount", Integer),
    )
    Table(
        "faxes",
        m,
        key(),
        Column("customer_id", ForeignKey("customers.id", name="fk_faxes_customer"), nullable=False),
    )


def _new_shop(m: MetaData) -> None:
    Table("countries", m, key(), Column("code", String(2)))
    Table(
        "customers",
        m,
        key(),
        Column("name", String(60), nullable=False),
        Column("email", String(40), nullable=False),
        Column("country_id", Integer),
        Column("points", Integer, nullable=False, server_default="1"),
        Column("note", String(100), server_default="-"),
        Column("slug", String(20), nullable=False),
        Column("tier", Integer, nullable=False),
        Column("invited_by", Integer),
        Column("badge", String(9)),
        CheckConstraint("points < 500", name="ck_customers_points"),
        CheckConstraint("tier > 0", name="ck_customers_tier"),
        UniqueConstraint("email", name="uq_customers_email"),
        UniqueConstraint("badge", name="uq_customers_badge"),
        ForeignKeyConstraint(["country_id"], ["countries.id"], name="fk_customers_country"),
        ForeignKeyConstraint(["invited_by"], ["customers.id"], name="fk_customers_invited_by"),
        Index("ix_customers_name", "name", "country_id"),
        Index(
            "ix_customers_email",
            "email",
            postgresql_where=text("email IS NOT NULL"),
            sqlite_where=text("email IS NOT NULL"),
        ),
        Index("ix_customers_points", "points"),
    )
    Table(
        "orders",
        m,
        key(),
        Column("customer_id", ForeignKey("customers.id", name="fk_orders_customer", ondelete="CASCADE")),
        Column("amount", Integer),
    )
    Table(
        "visits",
        m,
        key(),
        Column("customer_id", ForeignKey("customers.id", name="fk_visits_customer"), index=True),
    )


def declare_shop(upgrade: emc.Upgrade, t: Any) -> None:
    """All that has to be said about the shop."""
    customers = t.customers
    upgrade.fill(customers.c.email, func.lower(customers.c.name).concat("@example.org"))
    upgrade.fill(customers.c.points, 1)
    upgrade.fill(customers.c.slug, lambda row: row.name.lower())
    upgrade.fill(customers.c.tier, 1)
    upgrade.deduplicate(customers.c.email, keep=customers.c.id.asc())
    upgrade.orphans(customers.c.country_id, action="set null")
    upgrade.data_migration(
        customers, name="cap_points", where=customers.c.points >= 500, values={customers.c.points: 499}
    )
    upgrade.discard("customers.fax", reason="nobody has one")
    upgrade.discard("customers.old_country_id", reason="copied long ago")
    upgrade.retire("customers.ck_customers_fax")
    upgrade.discard("faxes", reason="nobody has one")


def _old_shopping(t: Any, n: int) -> Any:
    return [
        add(t.customers, id=n, name="Old", email="ann@example.org", fax=str(n), country_id=99, points=900),
        add(t.customers, id=n + 1, name=f"Old{n}", fax=str(n + 1), old_country_id=1, points=None),
        change(t.customers, n + 1, note="x"),
        add(t.orders, id=n, customer_id=n + 1, amount=5),
        add(t.customers, id=n + 2, name="Brief", fax=str(n + 2)),
        add(t.orders, id=n + 2, customer_id=n + 2),
        remove(t.customers, n + 2),
        add(t.faxes, id=n, customer_id=n + 1),
    ]


def _new_shopping(t: Any, n: int) -> Any:
    return [
        add(t.customers, id=n, name="New" * 10, email=f"{n}@example.org", slug="new", tier=2, badge=str(n)),
        add(t.customers, id=n + 1, name="Newer", email=f"{n}@example.com", slug="new", tier=3, invited_by=n),
        change(t.customers, n, country_id=1),
        add(t.orders, id=n, customer_id=n, amount=5),
        add(t.visits, id=n, customer_id=n),
        remove(t.visits, n),
        remove(t.customers, n + 1),
    ]


SHOP_ROWS: dict[str, list[dict[str, Any]]] = {
    "countries": [{"id": 1, "code": "AT"}, {"id": 2, "code": "DE"}],
    "customers": [
        {"id": 1, "name": "Ann", "email": "ann@example.org", "fax": "1", "country_id": 1, "points": 10},
        {"id": 2, "name": "Bob", "email": None, "fax": "2", "country_id": None, "old_country_id": 2},
        {"id": 3, "name": "Cyd", "email": "ann@example.org", "fax": "3", "country_id": 7, "points": 700},
        {"id": 4, "name": "Dan", "email": "dan@example.org", "fax": "4", "country_id": 8, "points": None},
    ],
    "orders": [
        {"id": 1, "customer_id": 1, "amount": 1},
        {"id": 2, "customer_id": 2, "amount": 2},
        {"id": 3, "customer_id": 4, "amount": 3},
    ],
    "faxes": [{"id": 1, "customer_id": 1}, {"id": 2, "customer_id": 2}],
}

SHOP = Pair(
    "everything-at-once",
    "Many changes of one table, which has children that cascade, a view and triggers, go together.",
    _old_shop,
    _new_shop,
    rows=SHOP_ROWS,
    declare=declare_shop,
    old_work=_old_shopping,
    new_work=_new_shopping,
    prepare={
        SQLITE: [
            (
                "CREATE VIEW spenders AS SELECT name, sum(amount) AS total FROM customers"
                " JOIN orders ON orders.customer_id = customers.id GROUP BY name"
            ),
            "CREATE TABLE log (id INTEGER PRIMARY KEY, text VARCHAR)",
            (
                "CREATE TRIGGER customers_log AFTER UPDATE OF note ON customers"
                " BEGIN INSERT INTO log (text) VALUES (new.note); END"
            ),
        ],
        POSTGRESQL: [
            # A view keeps PostgreSQL from changing the type of a column that it names.
            "CREATE VIEW spenders AS SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id",
            "CREATE TABLE log (id SERIAL PRIMARY KEY, text VARCHAR)",
            (
                "CREATE FUNCTION log_note() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN INSERT INTO log (text) VALUES (new.note); RETURN new; END'"
            ),
            (
                "CREATE TRIGGER customers_log AFTER UPDATE OF note ON customers"
                " FOR EACH ROW EXECUTE FUNCTION log_note()"
            ),
        ],
        MARIADB: [
            (
                "CREATE VIEW spenders AS SELECT name, sum(amount) AS total FROM customers"
                " JOIN orders ON orders.customer_id = customers.id GROUP BY name"
            ),
            "CREATE TABLE log (id INTEGER PRIMARY KEY AUTO_INCREMENT, text VARCHAR(100))",
            (
                "CREATE TRIGGER customers_log AFTER UPDATE ON customers FOR EACH ROW"
                " BEGIN IF NOT (new.note <=> old.note) THEN INSERT INTO log (text) VALUES (new.note); END IF; END"
            ),
        ],
    },
    expand={
        POSTGRESQL: [
            "drop-foreign-key:customers.fk_customers_old_country",
            "drop-foreign-key:faxes.fk_faxes_customer",
            "drop-check:customers.ck_customers_fax",
            "drop-check:customers.ck_customers_points",
            "drop-not-null:customers.fax",
            "create-table:visits",
            "add-column:customers.badge",
            "add-column:customers.invited_by",
            "add-column:customers.slug",
            "add-column:customers.tier",
            "alter-type:customers.name",
            "set-default:customers.note",
            "set-default:customers.points",
            "create-index:customers.emc_new_ix_customers_name",
            "create-index:customers.ix_customers_points",
            "create-index:visits.ix_visits_customer_id",
            "add-unique:customers.uq_customers_badge",
            "add-foreign-key:customers.fk_customers_invited_by",
        ],
        MARIADB: [
            "drop-foreign-key:customers.fk_customers_old_country",
            "drop-foreign-key:faxes.fk_faxes_customer",
            "drop-check:customers.ck_customers_fax",
            "drop-check:customers.ck_customers_points",
            "drop-not-null:customers.fax",
            "create-table:visits",
            "add-column:customers.badge",
            "add-column:customers.invited_by",
            "add-column:customers.slug",
            "add-column:customers.tier",
            "alter-type:customers.name",
            "set-default:customers.note",
            "set-default:customers.points",
            "create-index:customers.emc_new_ix_customers_name",
            "create-index:customers.ix_customers_points",
            "create-index:visits.ix_visits_customer_id",
            "add-unique:customers.uq_customers_badge",
            "add-foreign-key:customers.fk_customers_invited_by",
        ],
        # One rebuild takes all that concerns a table.
        SQLITE: [
            "create-table:visits",
            "drop-foreign-key:customers.fk_customers_old_country",
            "drop-check:customers.ck_customers_fax",
            "drop-check:customers.ck_customers_points",
            "drop-not-null:customers.fax",
            "add-column:customers.badge",
            "add-column:customers.invited_by",
            "add-column:customers.slug",
            "add-column:customers.tier",
            "alter-type:customers.name",
            "set-default:customers.note",
            "set-default:customers.points",
            "create-index:customers.emc_new_ix_customers_name",
            "create-index:customers.ix_customers_points",
            "add-unique:customers.uq_customers_badge",
            "add-foreign-key:customers.fk_customers_invited_by",
            "drop-foreign-key:faxes.fk_faxes_customer",
            "create-index:visits.ix_visits_customer_id",
        ],
    },
    migrate=[
        "fill:customers.email",
        "fill:customers.points",
        "fill:customers.slug",
        "fill:customers.tier",
        "deduplicate:customers.email",
        "orphans:customers.country_id",
        "cap_points",
    ],
    contract=[
        "set-not-null:customers.email",
        "set-not-null:customers.points",
        "set-not-null:customers.slug",
        "set-not-null:customers.tier",
        "drop-default:customers.tier",
        "add-unique:customers.uq_customers_email",
        "add-check:customers.ck_customers_points",
        "add-check:customers.ck_customers_tier",
        "add-foreign-key:customers.fk_customers_country",
        "replace-index:customers.ix_customers_name",
        "drop-column:customers.fax",
        "drop-column:customers.old_country_id",
        "drop-table:faxes",
    ],
    shut={
        "no-nulls:customers.email": 3,
        "no-nulls:customers.points": 3,
        "no-nulls:customers.slug": 8,
        "no-duplicates:customers.uq_customers_email": 3,
        "no-violations:customers.ck_customers_points": 3,
        "no-orphans:customers.fk_customers_country": 4,
        "migrate-done:customers.fax": None,
        "migrate-done:customers.old_country_id": None,
        "migrate-done:faxes": None,
    },
    lost={"customers": [3]},
    rewritten=["customers.email", "customers.points", "customers.country_id"],
    unmanaged=['upgrade.retire("log")'],
)


def _quoted(*, new: bool) -> Any:
    def build(m: MetaData) -> None:
        Table(
            "Order Items",
            m,
            Column("ID", Integer, primary_key=True),
            Column("select", String(10), nullable=not new),
            *([] if new else [Column("Old%Col", String(10), nullable=False)]),
            *([Column("group", Integer, nullable=False, server_default="7")] if new else []),
            *([UniqueConstraint("select", name="UQ Select")] if new else []),
            *([Index("Ix.Group", "group")] if new else []),
            CheckConstraint(column("select") != "it's", name="Ck Select")
            if new
            else UniqueConstraint("Old%Col"),
        )

    return build


def _declare_quoted(upgrade: emc.Upgrade, t: Any) -> None:
    items = t["Order Items"]
    upgrade.fill(items.c.select, lambda row: f"s{row.ID}")
    upgrade.discard('"Order Items".Old%Col', reason="it's odd")


def _unmanaged(*, new: bool) -> Any:
    def build(m: MetaData) -> None:
        Table(
            "users",
            m,
            key(),
            Column("name", String(20)),
            *([Column("tz", String(10))] if new else [Column("their_code", String(5))]),
            *([] if new else [Index("ix_theirs", "name")]),
            *([] if new else [UniqueConstraint("name", name="uq_theirs")]),
            *([] if new else [CheckConstraint("name <> ''", name="ck_theirs")]),
        )
        if not new:
            Table("their_table", m, key(), Column("user_id", ForeignKey("users.id", name="fk_theirs")))

    return build


def _not_theirs(_object: object, name: str, *_: object) -> bool:
    return name != "theirs"


PAIRS = (
    SHOP,
    Pair(
        "quoted-names",
        "Mixed case, reserved words, blanks and signs in names are quoted wherever they go.",
        _quoted(new=False),
        _quoted(new=True),
        rows={
            "Order Items": [
                {"ID": 1, "select": "a", "Old%Col": "x"},
                {"ID": 2, "select": None, "Old%Col": "y"},
            ]
        },
        declare=_declare_quoted,
        old_work=lambda t, n: [
            t["Order Items"].insert().values({"ID": n, "select": None, "Old%Col": str(n)})
        ],
        new_work=lambda t, n: [t["Order Items"].insert().values({"ID": n, "select": f"n{n}"})],
        expand=[
            'drop-not-null:"Order Items".Old%Col',
            'add-column:"Order Items".group',
            'create-index:"Order Items"."Ix.Group"',
        ],
        migrate=['fill:"Order Items".select'],
        contract=[
            'set-not-null:"Order Items".select',
            'add-unique:"Order Items"."UQ Select"',
            'add-check:"Order Items"."Ck Select"',
            'drop-column:"Order Items".Old%Col',
        ],
        shut={'no-nulls:"Order Items".select': 3},
        rewritten=["Order Items.select"],
    ),
    Pair(
        "unmanaged",
        "What the models do not have and nobody has named is listed and left alone.",
        _unmanaged(new=False),
        _unmanaged(new=True),
        rows={
            "users": [{"id": 1, "name": "Ann", "their_code": "x"}],
            "their_table": [{"id": 1, "user_id": 1}],
        },
        old_work=lambda t, n: [add(t.users, id=n, name=f"Old{n}", their_code="y"), add(t.their_table, id=n)],
        new_work=lambda t, n: [add(t.users, id=n, name=f"New{n}", tz="UTC")],
        expand=["add-column:users.tz"],
        unmanaged=[
            'upgrade.retire("their_table")',
            'upgrade.retire("users.ck_theirs")',
            'upgrade.retire("users.their_code")',
            'upgrade.retire("users.ix_theirs")',
            'upgrade.retire("users.uq_theirs")',
        ],
        notes=["looks-like-rename"],
    ),
    Pair(
        "filtered",
        "Elements that include_object leaves out are neither changed nor listed.",
        lambda m: Table("users", m, key(), Column("name", String(20)), Column("theirs", String(5))),
        lambda m: Table("users", m, key(), Column("name", String(20)), Column("tz", String(5))),
        rows={"users": [{"id": 1, "name": "Ann", "theirs": "x"}]},
        old_work=lambda t, n: [add(t.users, id=n, name=f"Old{n}", theirs="y")],
        new_work=lambda t, n: [add(t.users, id=n, name=f"New{n}", tz="UTC")],
        options={"include_object": _not_theirs},
        expand=["add-column:users.tz"],
    ),
)
