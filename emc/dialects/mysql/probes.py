"""How does information_schema tell that a step is done?

Each probe looks at structure and not at names alone. Every SELECT names its schema and its table: then the server looks
at that table and at no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emc.dialects.mysql.algorithms import parsed
from emc.dialects.mysql.wording import shown_type
from emc.dialects.mysql.writing import Writer
from emc.names import TableKey
from emc.steps import Probe

_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TEXTS = ("char", "varchar", "binary", "varbinary")
_TIMES = ("time", "datetime", "timestamp")


@dataclass(frozen=True)
class Catalog:
    """Asks about one table."""

    writer: Writer
    key: TableKey

    # -- tables -------------------------------------------------------------------------------------------------

    def table_exists(self, columns: Sequence[str]) -> Probe:
        """The table is there, with all of *columns*."""
        names = ", ".join(self._literal(name) for name in columns)
        count = f"(SELECT COUNT(*) FROM {self.rows('COLUMNS')} AND COLUMN_NAME IN ({names}))"
        return Probe(f"SELECT {count} = {len(columns)}", f"table {self.key} exists")

    def table_gone(self) -> Probe:
        """Nothing bears the name of the table."""
        return Probe(f"SELECT NOT EXISTS (SELECT 1 FROM {self.rows('TABLES')})", f"table {self.key} is gone")

    def table_comment(self, comment: str) -> Probe:
        """The comment of the table; empty for none."""
        same = self._same("TABLE_COMMENT", comment)
        return Probe(
            f"SELECT EXISTS (SELECT 1 FROM {self.rows('TABLES')} AND {same})",
            f"the comment of table {self.key} is that of the models",
        )

    # -- columns ------------------------------------------------------------------------------------------------

    def column(self, name: str, expects: str, *conditions: str) -> Probe:
        """The column is there, and *conditions* on its row in COLUMNS hold."""
        return Probe(
            f"SELECT EXISTS ({self._column(name, *conditions)})", f"column {self.key}.{name} {expects}"
        )

    def column_gone(self, name: str) -> Probe:
        """The table is there, and the column is not."""
        return Probe(
            f"SELECT EXISTS (SELECT 1 FROM {self.rows('TABLES')}) AND NOT EXISTS ({self._column(name)})",
            f"column {self.key}.{name} is gone",
        )

    def has_type(self, text: str) -> str:
        """The condition that a column is of type *text*, as COLUMN_TYPE or SQLAlchemy spells it.

        The display width of integers says nothing, and JSON is a LONGTEXT on MariaDB.
        """
        type_ = parsed(shown_type(text.removeprefix("NATIONAL ")))
        if type_.name in ("enum", "set"):
            return self._same(
                "COLUMN_TYPE", f"{type_.name}({type_.arguments.replace(chr(39) + ', ', chr(39) + ',')})"
            )
        name = "double" if type_.name == "real" else type_.name
        if name == "json":
            return "DATA_TYPE IN ('json', 'longtext')"
        if name in ("text", "blob") and type_.arguments:
            return f"DATA_TYPE LIKE '%{name}'"  # The server takes the smallest that holds so many.
        conditions = [f"DATA_TYPE = {self._literal(name)}"]
        numbers = [number.strip() for number in type_.arguments.split(",") if number.strip().isdigit()]
        if name in _INTEGERS:
            conditions.append(f"(COLUMN_TYPE LIKE '%unsigned%') = {int(type_.unsigned)}")
        elif name in _TEXTS:
            conditions.append(f"CHARACTER_MAXIMUM_LENGTH = {numbers[0] if numbers else 1}")
        elif name == "decimal":
            precision, scale = (*numbers, *("10", "0")[len(numbers) :])
            conditions += [f"NUMERIC_PRECISION = {precision}", f"NUMERIC_SCALE = {scale}"]
        elif name == "bit":
            conditions.append(f"NUMERIC_PRECISION = {numbers[0] if numbers else 1}")
        elif name in _TIMES:
            conditions.append(f"DATETIME_PRECISION = {numbers[0] if numbers else 0}")
        return " AND ".join(conditions)

    def nullable(self, *, is_nullable: bool) -> str:
        """The condition that a column may, or may not, be NULL."""
        return f"IS_NULLABLE = '{'YES' if is_nullable else 'NO'}'"

    def has_collation(self, collation: str | None) -> str | None:
        """The condition that a column sorts by *collation*; ``None`` where that is not known."""
        return None if collation is None else f"COLLATION_NAME = {self._literal(collation)}"

    def has_default(self, default: str, before: str | None) -> str:
        """The condition that a column has a default, and another one than *before*.

        :param default: as it stands behind DEFAULT. How the server shows it is left to the server, but for a literal.
        """
        there = "COALESCE(COLUMN_DEFAULT, 'NULL') <> 'NULL'"
        if self._is_literal(default):
            there += f" AND ({self._shows(default)} OR DATA_TYPE NOT IN ('char', 'varchar', 'enum', 'set'))"
        if before is not None and before != default:
            there += f" AND NOT ({self._shows(before)})"
        return there

    def without_default(self) -> str:
        """The condition that a column has no default but NULL."""
        return "COALESCE(COLUMN_DEFAULT, 'NULL') = 'NULL'"

    def bumped(self, *, is_bumped: bool) -> str:
        """The condition that an UPDATE sets a column to the time, or leaves it."""
        return f"(EXTRA LIKE '%on update%') = {int(is_bumped)}"

    def has_comment(self, comment: str) -> str:
        """The condition that a column has this comment; empty for none."""
        return self._same("COLUMN_COMMENT", comment)

    # -- indexes ------------------------------------------------------------------------------------------------

    def index(
        self,
        name: str | None,
        columns: Sequence[str | None],
        *,
        unique: bool,
        lengths: Mapping[str, int | None] | None = None,
        descending: frozenset[str] = frozenset(),
        method: str | None = None,
        gone: str | None = None,
    ) -> Probe:
        """The index is there with these columns, and index *gone* is not.

        :param name: ``None``: whatever its name is.
        :param columns: ``None`` for an expression.
        :param lengths: of the prefixes of columns; ``None`` where it cannot be known.
        :param method: ``FULLTEXT`` or ``SPATIAL``; ``None`` for an ordinary one.
        """
        lengths = lengths or {}
        elements = []
        for position, column in enumerate(columns, 1):
            if column is None:
                elements.append(f"(SEQ_IN_INDEX = {position} AND COLUMN_NAME IS NULL)")
                continue
            one = f"SEQ_IN_INDEX = {position} AND COLUMN_NAME = {self._literal(column)}"
            if method is None:
                length = lengths.get(column, 0)
                if length is not None:
                    one += f" AND COALESCE(SUB_PART, 0) = {length}"
                one += f" AND COALESCE(COLLATION, 'A') = '{'D' if column in descending else 'A'}'"
            elements.append(f"({one})")
        kind = f" AND INDEX_TYPE = '{method}'" if method else " AND INDEX_TYPE NOT IN ('FULLTEXT', 'SPATIAL')"
        named = (
            f" AND INDEX_NAME = {self._literal(name)}" if name is not None else " AND INDEX_NAME <> 'PRIMARY'"
        )
        rows = f"{self.rows('STATISTICS')}{named}{kind} AND NON_UNIQUE = {int(not unique)}"
        sql = (
            f"SELECT EXISTS (SELECT INDEX_NAME FROM {rows} GROUP BY INDEX_NAME"
            f" HAVING COUNT(*) = {len(columns)} AND SUM({' OR '.join(elements)}) = {len(columns)})"
        )
        if gone is not None:
            sql += f" AND NOT EXISTS (SELECT 1 FROM {self.rows('STATISTICS')} AND INDEX_NAME = {self._literal(gone)})"
        return Probe(
            sql, f"index {name or '(' + ', '.join(map(str, columns)) + ')'} of table {self.key} is complete"
        )

    def index_gone(self, name: str) -> Probe:
        """The table has no index of that name."""
        return Probe(
            f"SELECT NOT EXISTS (SELECT 1 FROM {self.rows('STATISTICS')} AND INDEX_NAME = {self._literal(name)})",
            f"index {name} of table {self.key} is gone",
        )

    # -- constraints --------------------------------------------------------------------------------------------

    def foreign_key(
        self,
        name: str | None,
        columns: Sequence[str],
        parent: TableKey,
        parent_columns: Sequence[str],
        on_delete: str | None,
        on_update: str | None,
    ) -> Probe:
        """The foreign key is there, to a table that is there too; ``None``: whatever its name is, but emc's own."""
        schema = self._schema(parent.schema or self.key.schema)
        pairs = " OR ".join(
            f"(k.ORDINAL_POSITION = {position} AND k.COLUMN_NAME = {self._literal(column)}"
            f" AND k.REFERENCED_COLUMN_NAME = {self._literal(other)})"
            for position, (column, other) in enumerate(zip(columns, parent_columns, strict=True), 1)
        )
        own = self._schema(self.key.schema)
        table = self._literal(self.key.name)
        named = (
            f"k.CONSTRAINT_NAME = {self._literal(name)}"
            if name is not None
            else "LEFT(k.CONSTRAINT_NAME, 4) <> 'emc_'"
        )
        found = (
            "SELECT k.CONSTRAINT_NAME FROM information_schema.KEY_COLUMN_USAGE k"
            # Not a plain join, see information.py.
            " JOIN (SELECT DISTINCT CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE"
            " FROM information_schema.REFERENTIAL_CONSTRAINTS"
            f" WHERE CONSTRAINT_SCHEMA = {own} AND TABLE_NAME = {table}) r ON r.CONSTRAINT_NAME = k.CONSTRAINT_NAME"
            f" WHERE k.TABLE_SCHEMA = {own} AND k.TABLE_NAME = {table} AND k.CONSTRAINT_SCHEMA = {own}"
            f" AND {named} AND k.REFERENCED_TABLE_SCHEMA = {schema}"
            f" AND k.REFERENCED_TABLE_NAME = {self._literal(parent.name)}"
            f" AND {_rule('r.DELETE_RULE', on_delete)} AND {_rule('r.UPDATE_RULE', on_update)}"
            f" GROUP BY k.CONSTRAINT_NAME HAVING COUNT(*) = {len(columns)} AND SUM({pairs}) = {len(columns)}"
        )
        # A foreign key that was added unchecked may speak of a table that is not there.
        home = TableKey(parent.schema or self.key.schema, parent.name)
        there = f"SELECT 1 FROM {Catalog(self.writer, home).rows('TABLES')}"
        return Probe(
            f"SELECT EXISTS ({found}) AND EXISTS ({there})",
            f"foreign key {name or '(' + ', '.join(columns) + ')'} of table {self.key} is there",
        )

    def check(self, name: str | None, at_least: int) -> Probe:
        """The CHECK is there and enforced; without a name, there are *at_least* so many CHECKs of the table."""
        rows = f"{self.rows('TABLE_CONSTRAINTS')} AND CONSTRAINT_TYPE = 'CHECK'"
        if not self.writer.flavour.is_mariadb:
            rows += " AND ENFORCED = 'YES'"
        if name is None:
            return Probe(
                f"SELECT COUNT(*) >= {at_least} FROM {rows}", f"table {self.key} has {at_least} checks"
            )
        return Probe(
            f"SELECT EXISTS (SELECT 1 FROM {rows} AND CONSTRAINT_NAME = {self._literal(name)})",
            f"check {name} of table {self.key} is there",
        )

    def constraint_gone(self, name: str, kind: str) -> Probe:
        """The table has no constraint of that name and kind (``CHECK``, ``FOREIGN KEY``)."""
        return Probe(
            f"SELECT NOT EXISTS (SELECT 1 FROM {self.rows('TABLE_CONSTRAINTS')}"
            f" AND CONSTRAINT_TYPE = '{kind}' AND CONSTRAINT_NAME = {self._literal(name)})",
            f"{kind.lower()} {name} of table {self.key} is gone",
        )

    # -- parts of them ------------------------------------------------------------------------------------------

    def rows(self, view: str) -> str:
        """The rows of *view* that are about the table."""
        return (
            f"information_schema.{view} WHERE TABLE_SCHEMA = {self._schema(self.key.schema)}"
            f" AND TABLE_NAME = {self._literal(self.key.name)}"
        )

    def _column(self, name: str, *conditions: str) -> str:
        more = "".join(f" AND {condition}" for condition in conditions)
        return f"SELECT 1 FROM {self.rows('COLUMNS')} AND COLUMN_NAME = {self._literal(name)}{more}"

    def _schema(self, schema: str | None) -> str:
        return "DATABASE()" if schema is None else self._literal(schema)

    def _literal(self, value: str) -> str:
        return self.writer.literal(value)

    def _same(self, expression: str, value: str) -> str:
        """To the letter: information_schema itself takes ``a`` and ``A`` for the same."""
        return f"CAST({expression} AS BINARY) = CAST({self._literal(value)} AS BINARY)"

    def _shows(self, default: str) -> str:
        """That COLUMN_DEFAULT is *default*, as SQL (MariaDB) or bare (MySQL)."""
        texts = dict.fromkeys((default, self._unquoted(default)))
        return " OR ".join(self._same("COLUMN_DEFAULT", text) for text in texts)

    def _is_literal(self, default: str) -> bool:
        return default.startswith("'") and default.endswith("'")

    def _unquoted(self, default: str) -> str:
        """A literal as MySQL shows it."""
        if not self._is_literal(default):
            return default
        text = default[1:-1].replace("''", "'")
        return text.replace("\\\\", "\\")


def _rule(column: str, rule: str | None) -> str:
    rule = (rule or "NO ACTION").upper()
    if rule in ("NO ACTION", "RESTRICT"):  # which are the same to InnoDB
        return f"{column} IN ('NO ACTION', 'RESTRICT')"
    return f"{column} = '{rule}'"
