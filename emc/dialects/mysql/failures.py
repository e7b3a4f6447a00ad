"""What does an error of MariaDB or MySQL mean?

The numbers are the servers' own (``perror N`` explains each); MariaDB's begin at 1900 and 4000 where the two went
different ways, MySQL 8's at 3000. PyMySQL and mysqlclient both give number and message as the arguments of the error.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError

from emc.dialects.answers import Failure

_CODES = {
    Failure.LOCKED: (
        1205,  # lock wait timeout, of rows and of metadata locks
        1213,  # deadlock
        3572,  # MySQL: NOWAIT is set
        1020,  # MariaDB 11.6: the row has changed since the snapshot
        1412,  # the table was rebuilt since the snapshot
    ),
    Failure.DISCONNECTED: (
        0,  # PyMySQL: the connection is closed
        1040,  # too many connections
        1053,  # shutdown in progress
        1152,  # aborted connection
        1203,  # too many connections of this user
        1927,  # MariaDB: the connection was killed
        2002,  # cannot connect: socket
        2003,  # cannot connect: host
        2005,  # unknown host
        2006,  # server has gone away
        2013,  # lost connection during a query
        2014,  # commands out of sync: an answer got lost
        2045,  # shared memory
        2055,  # lost connection, with the system's error
        4031,  # MySQL: disconnected because of inactivity
    ),
    Failure.FORBIDDEN: (
        1044,  # access to the database
        1045,  # access of the user
        1142,  # privilege on a table
        1143,  # privilege on a column
        1227,  # a global privilege
        1290,  # the server runs with --read-only
        1370,  # privilege on a routine
        1419,  # CREATE TRIGGER without SUPER where the binary log is on
        1698,  # access of the user, by unix_socket
        1792,  # read-only transaction
        1820,  # the password has to be changed first
        1836,  # read-only mode
    ),
    Failure.INTEGRITY: (
        1022,  # duplicate key
        1048,  # column cannot be NULL
        1062,  # duplicate entry
        1138,  # NULL where the new column has none
        1169,  # unique constraint
        1216,  # no parent
        1217,  # has children
        1263,  # NULL in a column that is NOT NULL
        1264,  # out of range
        1265,  # data truncated
        1292,  # incorrect date or number
        1364,  # no default
        1366,  # incorrect value for the column
        1406,  # data too long
        1451,  # has children
        1452,  # no parent
        1557,  # a foreign key's cascade would make a duplicate
        1586,  # duplicate entry, with the key's name
        1644,  # SIGNAL, as a guard trigger sends it
        1761,  # as 1557
        1762,  # as 1557
        1859,  # duplicate entry, in an unknown row of an online build
        3819,  # MySQL: CHECK
        4025,  # MariaDB: CHECK
    ),
    Failure.UNSUPPORTED: (
        1845,  # this ALGORITHM or LOCK, for this operation
        1846,  # the same, with the reason
        4092,  # MySQL: no further row version, so not INSTANT (MariaDB: unknown view, which no ALTER TABLE meets)
    ),
}
_MEANING = {code: failure for failure, codes in _CODES.items() for code in codes}


def code_of(error: DBAPIError) -> int | None:
    """The number by which the server, or the client library, names an error; ``None`` where there is none."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def failure(error: DBAPIError) -> Failure:
    """What *error* means.

    1317 and 1969 (3024 on MySQL) are not in the list: somebody ended the statement, or set a limit for it, on purpose.
    """
    code = code_of(error)
    if code in _MEANING and not (code == 0 and not isinstance(error, InterfaceError)):
        return _MEANING[code]
    if error.connection_invalidated:
        return Failure.DISCONNECTED
    return Failure.INTEGRITY if isinstance(error, IntegrityError) else Failure.OTHER
