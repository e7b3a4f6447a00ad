"""In what do MariaDB and MySQL differ, as far as emc has to know?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_INTRODUCED = re.compile(r"(?<![\w`'])_[a-z0-9]+('(?:[ -&(-~]|'')*')")
"""A literal of ASCII with its character set before it."""


@dataclass(frozen=True)
class Flavour:
    """One of the two servers. Each field says which of them does what, and where that was read or seen."""

    title: str
    """How people call it."""
    escapes_expressions: bool = False
    """Whether ``information_schema`` escapes the quotes in an expression as if it were a literal itself, and puts a
    character set before literals: MySQL (rails/rails #42424, bytebase/bytebase #20576)."""
    is_mariadb: bool = True
    """Which of SQLAlchemy's two it is."""
    recent_version: tuple[int, ...] = (10, 11)
    """What to go by where the server's version is not known."""
    knows_nocopy: bool = True
    """Whether an in-place change can be asked for that leaves the rows where they are (``ALGORITHM=NOCOPY``); MySQL has
    no such word, its INPLACE stands for both (its manual, "Online DDL Operations")."""
    sets_for_statement: bool = True
    """Whether a variable can be set for one statement (``SET STATEMENT … FOR …``); MySQL's hint ``SET_VAR`` is for
    queries only (its manual, "Variable-Setting Hint Syntax")."""
    grows_short_text: bool = True
    """Whether text of at most 127 bytes grows to any length at once (10.11.19: 31 → 100 characters of utf8mb4 INSTANT,
    32 → 100 COPY). MySQL: only while the length takes one byte before and after (its manual, "Online DDL
    Operations")."""
    changes_collation_in_place: bool = True
    """Whether a column gets another collation of its character set without a copy (seen with 10.11.19)."""
    quotes_now: bool = False
    """Whether ``SET DEFAULT`` takes CURRENT_TIMESTAMP only in parentheses, as an expression, which is then not shown as
    the plain one (MySQL manual, "ALTER TABLE Statement")."""
    forgets_prepared: bool = True
    """Whether a prepared transaction that its session has left holds no metadata lock (seen with 10.11.19). MySQL's
    does (8.4 manual, "XA Transaction States")."""
    needs_references: bool = False
    """Whether a foreign key asks for the privilege REFERENCES on its parent: MySQL (its manual, "FOREIGN KEY
    Constraints"); MariaDB 10.11.19 does not."""
    shortest_lock_wait: int = 0
    """The least ``lock_wait_timeout``, in seconds: MariaDB's is 0, which is not to wait (since 10.3, seen with
    10.11.19); MySQL's is 1 (its manual, "Server System Variables")."""
    session_settings: Mapping[str, int] = field(default_factory=dict)
    """Variables of its own that a session of emc sets. A limit for every statement, meant for a whole server, would
    kill a build or a proof."""
    data_modes: frozenset[str] = frozenset()
    """What emc adds to ``sql_mode``, besides what makes the server strict."""
    runs_blocks: bool = True
    """Whether statements are taken as one, in a block outside of any stored program (``BEGIN NOT ATOMIC``): MariaDB
    (knowledge base, "Using Compound Statements Outside of Stored Programs")."""
    bumps_before_triggers: bool = True
    """Whether BEFORE triggers see what ON UPDATE CURRENT_TIMESTAMP makes of a column (10.11.19; MySQL's manual does
    not say)."""
    checks_name_tables: bool = True
    """Whether ``CHECK_CONSTRAINTS`` names the table of a CHECK. MySQL's has no such column (its manual)."""
    quotes_defaults: bool = True
    """Whether ``COLUMN_DEFAULT`` is SQL: ``'a'`` for a literal, ``NULL`` for none where NULL is allowed (MariaDB since
    10.2.7, seen with 10.11.19). MySQL shows the bare value, and marks expressions by ``DEFAULT_GENERATED`` in
    ``EXTRA`` (its manual, "The INFORMATION_SCHEMA COLUMNS Table")."""
    read_only_variable: str = "tx_read_only"
    """What says that a session may only read. MariaDB 10.11 knows no other name, MySQL 8.0.3 dropped it (its
    manual)."""
    statistics_expiry: str | None = None
    """What says for how long ``information_schema`` repeats what it knew of sizes: a day, on MySQL (its manual,
    "Optimizing INFORMATION_SCHEMA Queries")."""
    knows_srids: bool = False
    """Whether a column may be bound to a spatial reference system, told in ``COLUMNS.SRS_ID``: MySQL 8 (its
    manual)."""
    indexes_expressions: bool = False
    """Whether an index may be over an expression, told in ``STATISTICS.EXPRESSION``: MySQL since 8.0.13 (its
    manual)."""
    shows_replicas: str = "SHOW REPLICA HOSTS"
    """What lists the replicas that have registered. MySQL 8.4 knows ``SHOW REPLICAS`` alone (its manual)."""
    privilege_to_see_replicas: str = "REPLICATION MASTER ADMIN"
    """What :attr:`shows_replicas` takes."""
    shows_lag: str = "SHOW ALL REPLICAS STATUS"
    """What a replica answers about itself, a row for each of its primaries."""
    lag_column: str = "Seconds_Behind_Master"
    """Where the answer to :attr:`shows_lag` has its lag."""

    def expression(self, shown: str) -> str:
        """An expression that ``information_schema`` has *shown*, as SQL.

        The character set before a literal is that of the session which made the expression. It says nothing where the
        literal is plain ASCII, and would make the same expression look like another one.
        """
        if not shown or not self.escapes_expressions:
            return shown
        return _INTRODUCED.sub(r"\1", shown.replace("\\'", "'"))


MARIADB = Flavour(
    title="MariaDB",
    session_settings={"max_statement_time": 0, "check_constraint_checks": 1},
    # Else SET a = b, b = a puts the new a into b. MySQL has no such mode.
    data_modes=frozenset({"SIMULTANEOUS_ASSIGNMENT"}),
)
MYSQL = Flavour(
    title="MySQL",
    escapes_expressions=True,
    is_mariadb=False,
    recent_version=(8, 4),
    knows_nocopy=False,
    sets_for_statement=False,
    grows_short_text=False,
    changes_collation_in_place=False,
    quotes_now=True,
    forgets_prepared=False,
    needs_references=True,
    shortest_lock_wait=1,
    session_settings={"max_execution_time": 0},
    runs_blocks=False,
    bumps_before_triggers=False,
    checks_name_tables=False,
    quotes_defaults=False,
    read_only_variable="transaction_read_only",
    statistics_expiry="information_schema_stats_expiry",
    knows_srids=True,
    indexes_expressions=True,
    shows_replicas="SHOW REPLICAS",
    privilege_to_see_replicas="REPLICATION SLAVE",
    shows_lag="SHOW REPLICA STATUS",
    lag_column="Seconds_Behind_Source",
)
