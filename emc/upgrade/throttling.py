"""When does the application itself want data migrations to wait?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from emc.errors import DeclarationError
from emc.upgrade.declarations import Declaration
from emc.upgrade.declared import Declared
from emc.upgrade.targets import caller

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Throttle(Declaration):
    """Something that says when data migrations have to wait."""

    verb = "throttle"
    name: str
    signal: str | Callable[..., Any]
    """SQL, or a function."""


class Throttling(Declared):
    """Declares what holds up data migrations."""

    @overload
    def throttle(self, signal: str, *, name: str | None = None) -> str: ...

    @overload
    def throttle(self, signal: _F, *, name: str | None = None) -> _F: ...

    def throttle(self, signal: Any, *, name: str | None = None) -> Any:
        """Let *signal* say when data migrations have to wait: a queue is full, a batch job runs, it is Monday morning.

        It is asked every few seconds before a batch. While it gives a reason no batch begins. If it fails, that is a
        reason too.

        :param signal: a function, without parameters or of a connection that reads, which answers the reason as text,
            or ``None``; or a SELECT, whose first value is the reason, or true where there is one. It can decorate the
            function.
        :param name: what messages call it; by default the name of the function.
        :raises DeclarationError: SQL has no name, the name is taken, or *signal* is neither text nor a function.
        """
        place = caller()
        if not isinstance(signal, str) and not callable(signal):
            raise DeclarationError(
                f"throttle({signal!r}) is neither a SELECT nor a function.",
                places=[place],
                remedy="Give a function that answers a reason or None, or the text of a SELECT.",
            )
        called = name or (None if isinstance(signal, str) else getattr(signal, "__name__", None))
        if called is None:
            raise DeclarationError(
                "A throttle that has no name of its own needs one, for messages.",
                places=[place],
                remedy='Give name="…".',
            )
        declared = Throttle(place, called, signal)
        self._once(declared, called, {one.name: one for one in self.throttles})
        return signal

    @property
    def throttles(self) -> tuple[Throttle, ...]:
        """Every ``throttle``."""
        return tuple(self._of(Throttle))
