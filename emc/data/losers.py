"""How do rows go because others like them stay, without a look at the whole table for each batch?

To tell which rows lose takes a look at the whole table. So it is taken once for many of them, and the keys of each
loser and of the row that beats it are kept in memory. Whether they still are what they were is judged again by the
database when the batch has locked both rows, and by these rows alone: whoever loses to a row that is locked loses for
certain, and what it loses to is still there when the batch is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    delete,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError

from emc.data.apply import Applied, RowError, by_column
from emc.data.reading import UnreadableError, seen_columns, typed_rows
from emc.data.walk import Key, Walk, Way, walk_of, way_of
from emc.dialects.base import Dialect
from emc.errors import DeclarationError, EmcError
from emc.work import Merge, Rivalry, Work

PAGE = 100_000
"""Losers that are looked for at once; some 20 MB of keys, however many rows there are."""
_CHUNK, _CHUNK_OF_SEVERAL = 500, 100
"""Losers of one statement, which names as many winners besides: by an IN where the key is one column, and where it has
several by an OR, which takes a planner long. Databases limit the number of parameters."""


@dataclass(frozen=True)
class Pair:
    """The keys of a row that has to go, and of one that beats it."""

    loser: Key
    winner: Key


@dataclass
class _Page:
    """Losers in the order of their keys, as they were when somebody looked."""

    pairs: list[Pair] = field(default_factory=list)
    behind: Key | None = None
    """They begin behind this key."""
    is_there: bool = False
    is_last: bool = False
    """Whether there are none behind them."""
    at: dict[Key, int] = field(default_factory=dict)
    chosen: Sequence[Pair] = ()
    """Those of the present batch."""

    def position(self, lower: Key | None) -> int | None:
        """Where the losers behind *lower* begin; ``None`` where another look has to tell."""
        if not self.is_there:
            return None
        if lower == self.behind:
            return 0
        at = self.at.get(lower) if lower is not None else None
        if at is None or (at == len(self.pairs) - 1 and not self.is_last):
            return None
        return at + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Losers(Walk):
    """A way along the rows that have to go because others like them stay."""

    rivals: tuple[tuple[Rivalry, Way], ...]
    """With the way along the table under the name that the rivalry gives it."""
    page: _Page = field(default_factory=_Page)

    @property
    def divides(self) -> bool:
        """They cannot: who has to go is found by looking at all rows that are alike."""
        return False

    def knows(self, lower: Key | None) -> bool:
        """Whether the losers behind *lower* are known from an earlier look."""
        return self.page.position(lower) is not None

    def look(self, connection: Connection, lower: Key | None, ceiling: Key) -> None:
        """Find the losers behind *lower*, in a transaction of its own: nobody's locks wait for that."""
        found = [self._losers(rivalry, way) for rivalry, way in self.rivals]
        source = union_all(*found).cte("emc_losers") if len(found) > 1 else found[0].subquery()
        keys = _numbered(source, "emc_key", self.columns)
        along = Way(table=self.table, columns=keys, by_rows=self.by_rows)
        query = select(*source.c).where(and_(along.after(lower), along.up_to(ceiling)))
        if len(found) > 1:
            # What beats a row by one rule may have to go by another. Once it has, the row may be nobody's duplicate.
            beaten = source.alias("emc_beaten")
            best, theirs = (_numbered(source, "emc_best", keys), _numbered(beaten, "emc_key", keys))
            same = and_(*(mine == other for mine, other in zip(best, theirs, strict=True)))
            query = query.outerjoin_from(source, beaten, same).where(theirs[0].is_(None))
        rows = connection.execute(query.order_by(*keys).limit(PAGE)).all()
        # By more than one rule a row may lose more than once.
        pairs = {pair.loser: pair for pair in map(self._pair, rows)}
        page = self.page
        page.pairs, page.behind, page.is_there, page.chosen = list(pairs.values()), lower, True, ()
        page.is_last = len(rows) < PAGE
        page.at = {pair.loser: at for at, pair in enumerate(page.pairs)}

    def forget(self) -> None:
        """Forget what was found: another pass begins."""
        self.page.is_there = False

    def bound(self, connection: Connection, lower: Key | None, ceiling: Key, size: int, reach: int) -> Key:
        """The key up to which the next batch goes; see :class:`Walk`."""
        self.page.chosen = self._behind(lower, size)
        is_end = len(self.page.chosen) < size and self.page.is_last
        return ceiling if is_end or not self.page.chosen else self.page.chosen[-1].loser

    def first_pending(self, connection: Connection, rows: ColumnElement[bool]) -> Key | None:
        """The key of the first row of the batch that :meth:`bound` has chosen."""
        return self.page.chosen[0].loser if self.page.chosen else None

    def _behind(self, lower: Key | None, size: int) -> Sequence[Pair]:
        at = self.page.position(lower)
        return self.page.pairs[at : at + size] if at is not None else ()

    def _losers(self, rivalry: Rivalry, way: Way, among: ColumnElement[bool] | None = None) -> Select[Any]:
        return rivalry.losers(way.columns, among)

    def _pair(self, row: Any) -> Pair:
        middle = len(self.columns)
        return Pair(tuple(row[:middle]), tuple(row[middle : 2 * middle]))

    # -- one batch ---------------------------------------------------------------------------------------

    def sure(self, connection: Connection, pairs: Sequence[Pair]) -> dict[Key, Key]:
        """Lock the rows of *pairs*; answers which losers lose then, each with the key of a row that beats it and stays.

        A row that loses by one rule to what has to go by another is not among them: the next pass tells whether it
        still loses.
        """
        losers = [pair.loser for pair in pairs]
        winners = [key for key in dict.fromkeys(pair.winner for pair in pairs) if key not in set(losers)]
        # Rows may come to refer to a winner meanwhile, and not to a loser: what refers to that has to be seen.
        self._lock(connection, losers, harmless=False)
        self._lock(connection, winners, harmless=True)
        found = [
            self._pair(row)
            for rivalry, way in self.rivals
            for row in connection.execute(self._losers(rivalry, way, way.among([*losers, *winners])))
        ]
        going = {pair.loser for pair in found}
        beaten_by = {pair.loser: pair.winner for pair in found if pair.winner not in going}
        return {key: beaten_by[key] for key in losers if key in beaten_by}

    def _lock(self, connection: Connection, keys: Sequence[Key], *, harmless: bool) -> None:
        if not keys:
            return
        query = select(*self.labelled()).select_from(self.table).where(self.among(keys))
        connection.execute(query.order_by(*self.columns).with_for_update(key_share=harmless)).all()


def _numbered(source: FromClause, name: str, key: Sequence[Any]) -> tuple[ColumnElement[Any], ...]:
    return tuple(source.c[f"{name}_{at}"] for at, _ in enumerate(key))


def way(dialect: Dialect, work: Work, *, by_address: bool = False) -> Walk:
    """The way along the table of *work*, or along those of its rows that lose.

    :param by_address: not to go by the key, which not all rows have.
    :raises EmcError: there is nothing to walk by.
    """
    plain = walk_of(dialect, work, by_address=by_address)
    if not work.rivalries:
        return plain
    rivals = tuple((one, way_of(dialect, one.source, work.walk)) for one in work.rivalries)
    return Losers(table=plain.table, columns=plain.columns, by_rows=plain.by_rows, work=work, rivals=rivals)


def settle(
    connection: Connection, walk: Losers, skipped: Collection[Key], dialect: Dialect, merge: Merge | None
) -> Applied:
    """Delete the losers of the batch that *walk* has chosen, as far as they still lose.

    :param skipped: keys of rows that are not given to *merge* again.
    :param merge: called for each of them first.
    :raises RowError: *merge* raised, or could not be given the rows.
    """
    applied = Applied(found=len(walk.page.chosen))
    # Without a function they are tried again: what refers to them may have gone meanwhile.
    chosen = [
        (at, pair) for at, pair in enumerate(walk.page.chosen) if merge is None or pair.loser not in skipped
    ]
    size = _CHUNK if len(walk.columns) == 1 else _CHUNK_OF_SEVERAL
    for begin in range(0, len(chosen), size):
        chunk = chosen[begin : begin + size]
        sure = walk.sure(connection, [pair for _, pair in chunk])
        applied.lost += len(chunk) - len(sure)
        if merge is None:
            if sure:
                gone = connection.execute(delete(walk.work.table).where(walk.among(list(sure))))
                applied.written += gone.rowcount
            continue
        positions = {pair.loser: at for at, pair in chunk}
        for loser, winner in sure.items():
            _merge(connection, walk, merge, Pair(loser, winner), positions[loser], dialect)
            applied.written += 1
    applied.deleted = applied.written
    return applied


def _merge(
    connection: Connection, walk: Losers, merge: Merge, pair: Pair, position: int, dialect: Dialect
) -> None:
    table = walk.work.table
    keys = [pair.winner, pair.loser]
    try:
        rows = _rows(connection, walk, keys)
    except UnreadableError as error:
        raise RowError(pair.loser, position, error.located(connection, walk, keys)) from error
    try:
        answer = merge.answer(rows[pair.winner], rows[pair.loser], connection, table)
    except EmcError:
        raise
    except Exception as error:
        # The rows before it are merged, and not committed.
        raise RowError(pair.loser, position, error) from error
    if merge.takes_connection:
        _demand_undisturbed(connection, walk, pair, dialect)
    try:
        connection.execute(delete(table).where(walk.is_at(pair.loser)))
        if answer:
            connection.execute(
                update(table).where(walk.is_at(pair.winner)).values(by_column(walk.work, answer))
            )
    except DBAPIError as error:
        raise RowError(pair.loser, position, error) from error


def _rows(connection: Connection, walk: Losers, keys: Sequence[Key]) -> dict[Key, Row[Any]]:
    query = select(*seen_columns(walk.work.table), *walk.labelled()).where(walk.among(keys))
    return {key: row for row, key in typed_rows(connection, walk, query)}


def _demand_undisturbed(connection: Connection, walk: Losers, pair: Pair, dialect: Dialect) -> None:
    """Make sure that the transaction, and with it the locks, and the row that stays are still there."""
    place = [walk.work.place]
    if not dialect.renew(connection):
        raise DeclarationError(
            f"The merge of {walk.work.name} ended the transaction of its batch, which holds what it wrote and how far "
            "it is.",
            places=place,
            remedy="Let the function use the connection without COMMIT and ROLLBACK; emc commits each batch.",
        )
    if connection.execute(select(*walk.labelled()).where(walk.is_at(pair.winner))).first() is None:
        raise DeclarationError(
            f"The merge of {walk.work.name} deleted the row that stays, {pair.winner}.",
            places=place,
            remedy="Let the function leave the winner there; emc deletes the loser.",
        )
