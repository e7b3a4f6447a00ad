"""Pairs of models that only PostgreSQL can have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, DOMAIN, INET, JSONB, TIMESTAMP, VARCHAR

from emc.steps import Hazard
from tests.lifecycle.pairs import POSTGRESQL, Pair, add, change, key

LONG = "a_column_whose_name_leaves_next_to_no_room_for_that_of_its_index"[:60]
PARTITIONS = (
    "CREATE TABLE entries_1 PARTITION OF entries FOR VALUES FROM (0) TO (1000)",
    "CREATE TABLE entries_2 PARTITION OF entries FOR VALUES FROM (1000) TO (3000) PARTITION BY RANGE (id)",
    "CREATE TABLE entries_2a PARTITION OF entries_2 FOR VALUES FROM (1000) TO (2000)",
    "CREATE TABLE entries_2b PARTITION OF entries_2 DEFAULT",
    "CREATE TABLE entries_3 PARTITION OF entries DEFAULT",
    "INSERT INTO entries SELECT n, 'c' || n, 1 FROM generate_series(1, 900) n",
)


def documents(*indexes: Any) -> Any:
    """Table documents with what *indexes* make of it."""

    def build(m: MetaData) -> None:
        table = Table(
            "documents",
            m,
            key(),
            Column("code", String(20)),
            Column("part", Integer),
            Column("body", JSONB),
        )
        for index in indexes:
            index(table)

    return build


def entries(*items: Any, tied: bool = False, **columns: Any) -> Any:
    """A partitioned table and its parents."""

    def build(m: MetaData) -> None:
        Table("owners", m, key())
        Table(
            "entries",
            m,
            Column("id", Integer, nullable=False),
            Column("code", Text, nullable=columns.get("nullable", True)),
            Column("owner_id", Integer),
            PrimaryKeyConstraint("id"),
            *(one() for one in items),
            *([ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_entries_owner")] if tied else []),
            postgresql_partition_by="RANGE (id)",
        )

    return build


def values(**types: Any) -> Any:
    """Table things with a column of each of *types*."""
    return lambda m: Table("things", m, key(), *(Column(name, one) for name, one in types.items()))


def tidy(t: Any, n: int) -> Any:
    """What breaks no rule."""
    return [add(t.documents, id=n, code=str(n), part=n, body={}), change(t.documents, n, code=f"x{n}")]


def tidy_entries(t: Any, n: int) -> Any:
    """Rows in several partitions."""
    return [
        add(t.owners, id=n),
        add(t.entries, id=n, code=str(n), owner_id=n),
        change(t.entries, n, code=f"x{n}"),
    ]


def tidy_things(t: Any, n: int) -> Any:
    """A row without values."""
    return [add(t.things, id=n)]


PAIRS = (
    Pair(
        "index-added-every-form",
        "Indexes of every form that PostgreSQL knows are built in expand, and are what the models say.",
        documents(),
        documents(
            lambda t: Index("ix_order", text("part DESC NULLS LAST"), text("code NULLS FIRST"), _table=t),
            lambda t: Index("ix_collated", text('code COLLATE "C"'), _table=t),
            lambda t: Index("ix_pattern", t.c.code, postgresql_ops={"code": "varchar_pattern_ops"}),
            lambda t: Index("ix_stored", t.c.code, postgresql_with={"fillfactor": 50}),
            lambda t: Index(
                "ix_body", t.c.body, postgresql_using="gin", postgresql_ops={"body": "jsonb_path_ops"}
            ),
            lambda t: Index(
                "ix_block", t.c.part, postgresql_using="brin", postgresql_with={"pages_per_range": 8}
            ),
            lambda t: Index(
                "ix_part", text("lower(code)"), _table=t, postgresql_where=text("part > 1 AND code LIKE 'a%'")
            ),
        ),
        rows={"documents": [{"id": 1, "code": "a", "part": 1, "body": {}}]},
        old_work=tidy,
        new_work=tidy,
        expand=[
            f"create-index:documents.ix_{name}"
            for name in ("block", "body", "collated", "order", "part", "pattern", "stored")
        ],
        databases=[POSTGRESQL],
    ),
    Pair(
        "index-redefined-stored-otherwise",
        "An index that differs in how it is stored alone takes the place of the old one like any other.",
        documents(lambda t: Index("ix_code", t.c.code)),
        documents(lambda t: Index("ix_code", t.c.code, postgresql_with={"fillfactor": 50})),
        rows={"documents": [{"id": 1, "code": "a", "part": 1, "body": {}}]},
        old_work=tidy,
        new_work=tidy,
        expand=["create-index:documents.emc_new_ix_code"],
        contract=["replace-index:documents.ix_code"],
        databases=[POSTGRESQL],
    ),
    Pair(
        "index-added-long-name",
        "An index whose name SQLAlchemy has to cut is built under the name that create_all would give it.",
        lambda m: Table("things", m, key(), Column(LONG, Integer)),
        lambda m: Table("things", m, key(), Column(LONG, Integer, index=True)),
        old_work=tidy_things,
        new_work=tidy_things,
        expand=["create-index:things.ix_things_a_column_whose_name_leaves_next_to_no_room_fo_764f"],
        databases=[POSTGRESQL],
    ),
    Pair(
        "partitioned-table",
        "A partitioned table gets its index, constraints and NOT NULL as any other does, partition by partition.",
        entries(),
        entries(
            lambda: Index("ix_entries_code", "code"),
            lambda: UniqueConstraint("id", "code", name="uq_entries"),
            lambda: CheckConstraint("id > 0", name="ck_entries"),
            tied=True,
            nullable=False,
        ),
        rows={"owners": [{"id": 1}]},
        prepare=PARTITIONS,
        old_work=tidy_entries,
        new_work=tidy_entries,
        expand=["create-index:entries.ix_entries_code"],
        contract=[
            "set-not-null:entries.code",
            "add-unique:entries.uq_entries",
            "add-check:entries.ck_entries",
            "add-foreign-key:entries.fk_entries_owner",
        ],
        hazards={
            "create-index:entries.ix_entries_code": [
                Hazard.EXCLUSIVE_LOCK,
                Hazard.SCANS_TABLE,
                Hazard.LONG_RUNNING,
            ]
        },
        databases=[POSTGRESQL],
    ),
    Pair(
        "types-widened-without-a-copy",
        "Types that only PostgreSQL has are widened in expand; which of them cost nothing the server's rules say.",
        values(
            moment=TIMESTAMP(precision=0),
            network=CIDR,
            names=ARRAY(VARCHAR(10)),
            note=Text,
        ),
        values(
            moment=TIMESTAMP(precision=3),
            network=INET,
            names=ARRAY(VARCHAR(20)),
            note=DOMAIN("note", Text),
        ),
        old_work=tidy_things,
        new_work=tidy_things,
        expand=[f"alter-type:things.{name}" for name in ("moment", "names", "network", "note")],
        hazards={
            "alter-type:things.moment": [Hazard.EXCLUSIVE_LOCK],
            "alter-type:things.network": [Hazard.EXCLUSIVE_LOCK],
            "alter-type:things.note": [Hazard.EXCLUSIVE_LOCK],
            "alter-type:things.names": [Hazard.EXCLUSIVE_LOCK, Hazard.REWRITES_TABLE],
        },
        untold=[f"fits-type:things.{name}" for name in ("moment", "names", "network", "note")],
        databases=[POSTGRESQL],
    ),
    Pair(
        "domain-added",
        "A domain that is not there yet is made with the first column that has it.",
        values(),
        values(
            one=DOMAIN("positive", Integer, check=text("VALUE > 0")),
            two=DOMAIN("positive", Integer, check=text("VALUE > 0")),
        ),
        rows={"things": [{"id": 1}]},
        old_work=tidy_things,
        new_work=lambda t, n: [add(t.things, id=n, one=1, two=2)],
        expand=["add-column:things.one", "add-column:things.two"],
        databases=[POSTGRESQL],
    ),
)
