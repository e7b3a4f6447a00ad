"""How does SQL look with its values in it, as a person reads it and pastes it into a client?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement, Dialect


def literally(element: ClauseElement, dialect: Dialect, **options: Any) -> str:
    """*element* without parameters, as the server gets it.

    :param dialect: SQLAlchemy's dialect object, of an engine that has connected: it knows whether a backslash counts.
    :param options: for the compiler, e.g. ``include_table=False``.
    :raises sqlalchemy.exc.CompileError: a value has no literal (bytes); ``NotImplementedError`` too.
    """
    written_by: Any = dialect.statement_compiler

    class Literally(written_by):  # type: ignore[misc]
        # MySQL's and SQLite's forget in IS DISTINCT FROM that they were told to (seen with SQLAlchemy 2.1.9).
        def visit_bindparam(self, bindparam: Any, **kw: Any) -> str:
            return str(super().visit_bindparam(bindparam, **{**kw, "literal_binds": True}))

    written = str(Literally(dialect, element, compile_kwargs={"literal_binds": True, **options}))
    # What is written for a driver that takes % for a parameter is doubled; no parameter is left here.
    return written.replace("%%", "%") if dialect.paramstyle in {"format", "pyformat"} else written
