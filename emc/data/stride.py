"""Where does the next batch end, and how much has to be read to know it?

Where most rows are pending, a batch takes the next rows of the key as they come: along an integer key that is
arithmetic, and along any other one step of its index. Where few are, it looks for them within a window that follows how
many the last batches found. Either way no batch has more pending rows than it is allowed.
"""

from __future__ import annotations

from sqlalchemy import Connection

from emc.data.walk import Key, Walk


class Stride:
    """Follows how many rows had to be read for each one that was pending."""

    def __init__(self, walk: Walk, window: int) -> None:
        """:param window: rows that may be read in search of each row that is pending."""
        self._walk = walk
        self._window = window
        self._stretch = window

    def bound(self, connection: Connection, lower: Key | None, ceiling: Key, size: int) -> Key:
        """The key up to which a batch goes that may have *size* pending rows.

        :param lower: the key of the last row that was done.
        :param ceiling: the key at which the pass ends.
        """
        if self._stretch == 1 and self._walk.divides:
            return self._walk.next(connection, lower, ceiling, size)
        return self._walk.bound(connection, lower, ceiling, size, size * self._stretch)

    def record(self, size: int, found: int) -> None:
        """A batch that was allowed *size* rows found so many."""
        if found >= size:
            self._stretch = max(1, self._stretch // 2)
        elif 2 * found < size:
            self._stretch = min(self._window, self._stretch * 2)
