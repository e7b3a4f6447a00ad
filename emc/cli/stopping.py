"""What happens when a person or an operator asks a running command to stop?"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click


class StopRequest:
    """Whether somebody has asked to stop. Call it to find out."""

    def __init__(self) -> None:
        self._made = False

    def __call__(self) -> bool:
        """Find out."""
        return self._made

    def make(self) -> None:
        """Ask."""
        self._made = True


@contextmanager
def stop_on_signals(message: str) -> Iterator[StopRequest]:
    """While the block runs, the first SIGTERM or SIGINT asks to stop, and a second SIGINT interrupts at once.

    :param message: shown on stderr when the request has been heard.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        request.make()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        click.echo(message, err=True)

    with _handling(ask):
        yield request


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """While the block runs, SIGTERM interrupts as SIGINT does: transactions roll back, and the lease is given back."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; whoever calls from elsewhere has its own.
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
