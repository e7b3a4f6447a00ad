"""Which elements of the schema does a statement of a revision ask to change?

A statement is a request: what it asks for is looked up in emc's plan, by element. So what a revision spells in one way
and the plan in another is the same request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlparse

from emc.dialects.lexis import Lexis
from emc.execute.plain import UnreadableError, plain
from emc.execute.words import CARRIED_OUT, Words, statements_of
from emc.names import dotted
from emc.operations import Kind, Operation

_ADDED = {
    "UNIQUE": {Kind.ADD_UNIQUE, Kind.CREATE_INDEX},
    "CHECK": {Kind.ADD_CHECK},
    "FOREIGN": {Kind.ADD_FOREIGN_KEY},
    "EXCLUDE": {Kind.ADD_EXCLUSION},
    "INDEX": {Kind.CREATE_INDEX},
    "KEY": {Kind.CREATE_INDEX},
    "FULLTEXT": {Kind.CREATE_INDEX},
    "SPATIAL": {Kind.CREATE_INDEX},
}
_NO_COLUMN = frozenset({*_ADDED, "CONSTRAINT", "PRIMARY", "LIKE"})
"""How parts of CREATE TABLE begin that are no columns."""
_CONSTRAINTS_DROPPED = {
    Kind.DROP_UNIQUE,
    Kind.DROP_CHECK,
    Kind.DROP_FOREIGN_KEY,
    Kind.DROP_EXCLUSION,
    Kind.REPLACE_CONSTRAINT,
}
_INDEX_DROPPED = {Kind.DROP_INDEX, Kind.DROP_UNIQUE, Kind.REPLACE_INDEX}
_COLUMN_CHANGED = {
    Kind.ALTER_TYPE,
    Kind.DROP_NOT_NULL,
    Kind.SET_NOT_NULL,
    Kind.SET_DEFAULT,
    Kind.DROP_DEFAULT,
    Kind.SET_COMMENT,
    Kind.ADD_ENUM_VALUE,
    Kind.REMOVE_ENUM_VALUE,
}
"""What MySQL's MODIFY and CHANGE may be about: they spell the whole column."""
_READS = frozenset({"SELECT", "SHOW", "VALUES", "EXPLAIN", "DESCRIBE", "DESC", "PRAGMA", "WITH"})
_TRANSACTION = frozenset({"SAVEPOINT", "RELEASE", "ROLLBACK"})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "INTO"})


@dataclass(frozen=True)
class Request:
    """One element that a statement asks to change."""

    kinds: frozenset[str]
    """What it may be, in emc's words; the first that the plan holds counts."""
    table: tuple[str, ...] | None
    """The table or type, by schema and name or by name alone; ``None`` where the statement does not say it."""
    name: str | None
    takes: bool
    """Whether the element goes."""
    schema: str | None = None
    """Where the table is not said: the schema, if that is."""
    columns: frozenset[str] = frozenset()
    """Where a table is made: the names of its columns, in small letters."""

    @property
    def target(self) -> str:
        """The dotted name."""
        return dotted(*(self.table or (self.schema,)), self.name)

    @property
    def is_whole_table(self) -> bool:
        """Whether the element is the table itself."""
        return self.name is None

    def matches(self, operation: Operation, default_schema: str | None) -> bool:
        """Whether *operation* of a plan is what is asked for.

        :param default_schema: the schema that goes without saying.
        """
        element = operation.element
        # What has no name yet gets one from the server, and the plan knows it by that.
        if operation.kind not in self.kinds or not (self.name == "" or same(element.name, self.name)):
            return False
        if not same(element.table.schema, self.schema_where(default_schema)):
            return False
        return self.table is None or same(element.table.name, self.table[-1])

    def is_about(self, other: Request) -> bool:
        """Whether both are about the same element, or *other* about an index of any table."""
        if not same(self.name, other.name):
            return False
        if other.table is None or self.table is None:
            return True
        ours, theirs = self.table[-1], other.table[-1]
        return same(ours, theirs) and same(self.schema_where(None), other.schema_where(None))

    def schema_where(self, default_schema: str | None) -> str | None:
        """The schema; ``None`` for *default_schema*, which goes without saying."""
        said = self.schema
        if self.table is not None:
            said = self.table[-2] if len(self.table) > 1 else None
        return None if same(said, default_schema) else said


def same(one: str | None, other: str | None) -> bool:
    """Whether two names may be the same: whether their case counts depends on quotes, and on the server."""
    return one == other or (one is not None and other is not None and one.casefold() == other.casefold())


@dataclass(frozen=True)
class Statement:
    """One statement of a revision."""

    sql: str
    """As it is sent."""
    text: str
    """What is left of it without comments and literals; the same where emc cannot read it."""
    requests: tuple[Request, ...]
    """What it asks for; empty where emc does not know such a statement, or cannot read it."""
    reads: bool
    """Whether it changes nothing that lasts."""
    hidden: tuple[Request, ...] = ()
    """What it takes away in a way that no plan has: by another name, with a whole schema, or within a program of which
    more is not understood."""
    is_whole: bool = True
    """Whether the requests are all that it asks for."""


def parted(sql: str, lexis: Lexis) -> list[Statement]:
    """The statements in *sql*.

    :raises UnreadableError: it is not certain where one of them ends.
    """
    text = plain(sql, lexis)
    if len(statements_of(text, once=True)) <= 1:
        return [read(sql, text)]
    pieces = [piece for piece in sqlparse.split(text) if statements_of(piece, once=True)]
    together = [str(words) for piece in pieces for words in statements_of(piece, once=True)]
    whole = [str(words) for words in statements_of(text, once=True)]
    if together != whole or any(len(statements_of(piece, once=True)) > 1 for piece in pieces):
        raise UnreadableError("its statements cannot be told from each other")
    found: list[Statement] = []
    at = 0
    for piece in pieces:
        begin = text.index(piece, at)
        at = begin + len(piece)
        found.append(read(sql[begin:at], piece))
    return found


def read(sql: str, text: str | None = None) -> Statement:
    """What one statement asks for.

    :param text: what is left of it without comments and literals; ``None``: emc cannot tell, so that what it would be
        in any reading counts.
    """
    readings = statements_of(sql) if text is None else statements_of(text, once=True)
    text = sql if text is None else text
    if not readings:
        return Statement(sql, text, (), reads=True)  # A comment, or nothing.
    requests = dict.fromkeys(request for words in readings for request in _requests(words))
    hidden = dict.fromkeys(request for words in readings for request in _hidden(words))
    reads, is_whole = all(map(_only_reads, readings)), all(map(_is_whole, readings))
    return Statement(sql, text, tuple(requests), reads, tuple(hidden), is_whole)


def _is_whole(words: Words) -> bool:
    """Whether :func:`_requests` says all that a statement asks for."""
    words = words.fresh()
    verb = words.next()
    if verb == "CREATE":
        return not _fills(words)
    if verb == "DO":
        inner = statements_of(_body(words) or "")
        return bool(inner) and all(_is_whole(one) and any(True for _ in _requests(one)) for one in inner)
    if verb == "ALTER" and (path := _table_altered(words)):
        how = {"ALGORITHM", "LOCK"}  # What MySQL is told besides.
        return all(
            action.begins_one_of(how) or any(True for _ in _altered(path, action))
            for action in words.split(",")
        )
    return True


def _fills(words: Words) -> bool:
    """Whether CREATE TABLE puts rows into the table as well."""
    words.skip("TEMP", "TEMPORARY", "UNLOGGED", "OR", "REPLACE")
    if words.next() != "TABLE":
        return False
    words.skip("IF", "NOT", "EXISTS")
    words.path()
    query = {"SELECT", "WITH", "VALUES", "TABLE"}
    if words.within().begins_one_of(query):
        return True
    return words.outside().holds({"AS", "SELECT"})


def _body(words: Words) -> str | None:
    """The body of a DO."""
    _skip_language(words)
    return words.body()


def _skip_language(words: Words) -> None:
    """Take what may stand before the program of a DO."""
    if words.begins("LANGUAGE"):
        words.next()
        words.path()


def _table_altered(words: Words) -> tuple[str, ...]:
    """Take what is between ALTER and the first action, and answer the name of the table; nothing if it is not one."""
    words.skip("ONLINE", "OFFLINE", "IGNORE")
    if words.next() != "TABLE":
        return ()
    words.skip("IF", "EXISTS", "ONLY")
    path = words.path()
    words.skip("*", "NOWAIT")
    if words.begins("WAIT"):  # WAIT 5
        words.next()
        words.next()
    return path


def _hidden(words: Words) -> Iterator[Request]:
    """What is taken away by a statement that :func:`_requests` does not know."""
    words = words.fresh()
    replaces, verb = words.replaces, words.next()
    if verb == "DO":
        yield from _hidden_in_program(words)
    elif verb == "CREATE" and replaces:
        words.skip("OR", "REPLACE")
        if words.next() == "TABLE":
            yield _gone(words.path())
    elif verb == "RENAME":
        words.skip("TABLE", "TABLES", "IF", "EXISTS")
        yield from (_gone(each.path()) for each in words.split(","))
    elif verb == "DROP" and words.begins_one_of({"SCHEMA", "DATABASE", "OWNED"}):
        words.next()
        words.skip("BY", "IF", "EXISTS")
        yield _gone(words.path())
    elif verb == "ALTER" and (path := _table_altered(words)):
        for action in words.split(","):
            yield from _renamed(path, action)


def _hidden_in_program(words: Words) -> Iterator[Request]:
    """What a program takes away, if not all of its statements ask for something that emc knows."""
    body = words.fresh()
    body.next()
    inside = _body(body)
    if inside is not None and all(any(True for _ in _requests(one)) for one in statements_of(inside)):
        return
    _skip_language(words)
    for statement in statements_of(words.program()):
        for part in statement.behind({"DROP", "ALTER"}):
            yield from (request for request in _requests(part) if request.takes)
            yield from _hidden(part)


def _renamed(table: tuple[str, ...], action: Words) -> Iterator[Request]:
    """What has another name, or is in another schema, after an action of ALTER TABLE."""
    verb = action.next()
    if verb == "RENAME" and not action.begins_one_of({"CONSTRAINT", "INDEX", "KEY"}):
        action.skip("COLUMN")
        action.skip("IF", "EXISTS")
        whole = action.begins_one_of({"TO", "AS", "="})
        name = () if whole else action.path()
        # MySQL and MariaDB have RENAME alone, with the new name of the table.
        yield _gone(table, name) if action.begins("TO") and not whole else _gone(table)
    elif verb == "CHANGE":
        action.skip("COLUMN")
        action.skip("IF", "EXISTS")
        old, new = action.path(), action.path()
        if old and not same(old[-1], new[-1] if new else None):
            yield _gone(table, old)
    elif verb == "SET" and action.begins("SCHEMA"):
        yield _gone(table)


def _gone(table: tuple[str, ...], column: tuple[str, ...] = ()) -> Request:
    kind = Kind.DROP_COLUMN if column else Kind.DROP_TABLE
    return Request(frozenset({kind}), table or None, column[-1] if column else None, takes=True)


def _only_reads(words: Words) -> bool:
    words = words.fresh()
    if words.holds({CARRIED_OUT, "WRITABLE_SCHEMA"}):
        return False
    verb = words.next()
    if verb == "SET":
        # How long to wait is emc's business. Whatever else a session is told would not reach those that emc opens.
        words.skip("LOCAL", "SESSION")
        return words.next().endswith("TIMEOUT")
    return verb in _TRANSACTION or (verb in _READS and not words.holds(_WRITES - {"REPLACE"}))


def _requests(words: Words) -> Iterator[Request]:
    words = words.fresh()
    verb = words.next()
    if verb == "SET" and words.begins("STATEMENT"):
        words.skip_past("FOR")
        verb = words.next()
    if verb == "CREATE":
        yield from _created(words)
    elif verb == "DROP":
        yield from _dropped(words)
    elif verb == "COMMENT":
        yield from _commented(words)
    elif verb == "DO" and (body := _body(words)) is not None:
        for inner in statements_of(body):
            yield from _requests(inner)
    elif verb == "ALTER":
        if words.begins("TYPE"):
            words.next()
            path = words.path()
            if words.begins("ADD", "VALUE"):
                yield Request(frozenset({Kind.ADD_ENUM_VALUE}), path, None, takes=False)
        elif path := _table_altered(words):
            for action in words.split(","):
                yield from _altered(path, action)


def _created(words: Words) -> Iterator[Request]:
    words.skip("TEMP", "TEMPORARY", "FULLTEXT", "SPATIAL", "UNLOGGED")
    unique = {Kind.ADD_UNIQUE} if words.begins("UNIQUE") else set()
    words.skip("UNIQUE")
    kind = words.next()
    words.skip("CONCURRENTLY", "IF", "NOT", "EXISTS")
    path = words.path()
    if kind == "TABLE" and path:
        names = (part.path() for part in words.within().split(",") if not part.begins_one_of(_NO_COLUMN))
        columns = frozenset(name[-1].casefold() for name in names if name)
        yield Request(frozenset({Kind.CREATE_TABLE}), path, None, takes=False, columns=columns)
    elif kind == "TYPE" and path:
        yield Request(frozenset({Kind.CREATE_ENUM}), path, None, takes=False)
    elif kind == "INDEX" and path:
        words.skip_past("ON")
        words.skip("ONLY")
        kinds = {Kind.CREATE_INDEX, Kind.REPLACE_INDEX, *unique}
        yield Request(frozenset(kinds), words.path(), path[-1], takes=False)


def _dropped(words: Words) -> Iterator[Request]:
    kind = words.next()
    words.skip("CONCURRENTLY", "IF", "EXISTS")
    if kind == "INDEX":
        for each in words.split(","):
            path = each.path()
            table = each.path() if each.next() == "ON" else None
            if path:
                schema = path[-2] if len(path) > 1 and table is None else None
                yield Request(frozenset(_INDEX_DROPPED), table, path[-1], takes=True, schema=schema)
        return
    whole = {"TABLE": Kind.DROP_TABLE, "TABLES": Kind.DROP_TABLE, "TYPE": Kind.DROP_ENUM}.get(kind)
    if whole is not None:
        for each in words.split(","):
            if path := each.path():
                yield Request(frozenset({whole}), path, None, takes=True)


def _commented(words: Words) -> Iterator[Request]:
    words.skip("ON")
    kind, path = words.next(), words.path()
    if kind == "TABLE" and path:
        yield Request(frozenset({Kind.SET_COMMENT}), path, None, takes=False)
    elif kind == "COLUMN" and len(path) > 1:
        yield Request(frozenset({Kind.SET_COMMENT}), path[:-1], path[-1], takes=False)


def _altered(table: tuple[str, ...], action: Words) -> Iterator[Request]:
    verb = action.next()
    if verb == "ADD":
        yield from _added(table, action)
    elif verb == "DROP":
        yield from _removed(table, action)
    elif verb in {"ALTER", "MODIFY", "CHANGE"}:
        action.skip("COLUMN")
        action.skip("IF", "EXISTS")
        if path := action.path():
            kinds = _changed(action) if verb == "ALTER" else _COLUMN_CHANGED
            takes = bool(kinds & {Kind.SET_NOT_NULL, Kind.DROP_DEFAULT}) and verb == "ALTER"
            yield Request(frozenset(kinds), table, path[-1], takes=takes)
    elif verb == "VALIDATE" and action.next() == "CONSTRAINT" and (path := action.path()):
        kinds = {Kind.ADD_CHECK, Kind.ADD_FOREIGN_KEY, Kind.SET_NOT_NULL}
        yield Request(frozenset(kinds), table, path[-1], takes=False)


def _added(table: tuple[str, ...], action: Words) -> Iterator[Request]:
    name: tuple[str, ...] = ()
    if action.begins("CONSTRAINT"):
        action.next()
        name = action.path()
    if action.begins_one_of(_ADDED):
        kinds = _ADDED[action.next()]
        action.skip("INDEX", "KEY")
        action.skip("IF", "NOT", "EXISTS")
        name = name or (() if action.begins("(") else action.path())
        # The server will give a name to what has none, and the plan knows it by that.
        yield Request(frozenset(kinds), table, name[-1] if name else "", takes=False)
    elif name:
        yield Request(frozenset(), table, name[-1], takes=False)  # A primary key.
    else:
        action.skip("COLUMN")
        action.skip("IF", "NOT", "EXISTS")
        if not action.begins("(") and (path := action.path()):
            yield Request(frozenset({Kind.ADD_COLUMN}), table, path[-1], takes=False)


def _removed(table: tuple[str, ...], action: Words) -> Iterator[Request]:
    kinds: set[str] = {Kind.DROP_COLUMN}
    if action.begins_one_of({"CONSTRAINT", "CHECK", "FOREIGN", "INDEX", "KEY", "PRIMARY"}):
        what = action.next()
        action.skip("KEY")
        kinds = _INDEX_DROPPED if what in {"INDEX", "KEY"} else _CONSTRAINTS_DROPPED
        if what == "CONSTRAINT":
            kinds = kinds | _INDEX_DROPPED
    else:
        action.skip("COLUMN")
    action.skip("IF", "EXISTS")
    if path := action.path():
        yield Request(frozenset(kinds), table, path[-1], takes=True)


def _changed(action: Words) -> set[str]:
    """What PostgreSQL's ALTER COLUMN is about."""
    if action.begins("SET", "NOT", "NULL"):
        return {Kind.SET_NOT_NULL}
    if action.begins("DROP", "NOT", "NULL"):
        return {Kind.DROP_NOT_NULL}
    if action.begins("SET", "DEFAULT"):
        return {Kind.SET_DEFAULT}
    if action.begins("DROP", "DEFAULT"):
        return {Kind.DROP_DEFAULT, Kind.SET_DEFAULT}
    if action.begins("TYPE") or action.begins("SET", "DATA", "TYPE"):
        return {Kind.ALTER_TYPE, Kind.ADD_ENUM_VALUE, Kind.REMOVE_ENUM_VALUE}
    return set()
