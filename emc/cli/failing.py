"""How does an error reach a person, and with which exit code?

On stderr: the cause, then what to do about it. Nobody sees a traceback who did not ask for one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from emc.commands.jsonable import error_json
from emc.errors import EmcError, ExitCode, StatementFailedError

_IN_URL = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")


class BugError(EmcError):
    """This is a bug in emc."""


class InterruptError(EmcError):
    """Interrupted; what was done so far is kept."""

    exit_code = ExitCode.PAUSED


class FailingGroup(click.Group):
    """A group of commands whose errors end in the exit codes of :class:`emc.errors.ExitCode`.

    A command answers its exit code as its value.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, show its error if it fails, and exit."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        given = list(sys.argv[1:] if args is None else args)
        # An option that cannot be parsed is an error too, so its own answer is not to be had from click.
        as_json = "--format=json" in given or ("--format", "json") in pairwise(given)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as wrong:
            code = _show_usage(wrong, as_json=as_json)
        except click.ClickException as wrong:
            code = _show_usage(click.UsageError(wrong.format_message()), as_json=as_json)
        except (click.Abort, KeyboardInterrupt) as interrupt:
            error = InterruptError(remedy="Run the command again to go on.")
            for note in (*_notes(interrupt), *_notes(interrupt.__cause__)):
                error.add_note(note)
            code = show(error, as_json=as_json)
        sys.exit(int(code or 0))


def show(error: EmcError, *, as_json: bool, secrets: Sequence[str] = ()) -> ExitCode:
    """Show *error* on stderr, with the notes that were added to it on its way (a guard that could not be taken away).

    :param secrets: what must not appear, e.g. the password of the database.
    :returns: the exit code.
    """
    facts = error_json(error)
    facts["message"] = "\n".join([facts["message"], *_notes(error)])
    facts = {key: _blotted(value, secrets) for key, value in facts.items()}
    if as_json:
        text = json.dumps(facts, ensure_ascii=False)
    else:
        text = f"Error: {facts['message']}" + (f"\n{facts['remedy']}" if facts["remedy"] else "")
    click.echo(text, err=True)
    return error.exit_code


def show_exception(
    error: Exception, *, as_json: bool, wants_traceback: bool, secrets: Sequence[str]
) -> ExitCode:
    """Show any exception on stderr: an error of emc's own, of the database, or a bug.

    :returns: the exit code.
    """
    if wants_traceback or os.environ.get("EMC_DEBUG"):
        click.echo(_blotted("".join(traceback.format_exception(error)), secrets), err=True, nl=False)
    return show(_explained(error), as_json=as_json, secrets=secrets)


def _explained(error: Exception) -> EmcError:
    if isinstance(error, EmcError):
        return error
    explained: EmcError
    if isinstance(error, DBAPIError):
        statement = " ".join((error.statement or "").split())
        explained = StatementFailedError(
            f"The database refused a statement: {' '.join(str(error.orig).split())}",
            step="",
            statement=statement,
            remedy=f"The statement begins: {statement[:200]}" if statement else None,
        )
    else:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        explained = BugError(
            f"This is a bug in emc: {line}",
            remedy="Please report it with what --traceback (or EMC_DEBUG=1) shows.",
        )
    for note in _notes(error):
        explained.add_note(note)
    return explained


def _notes(error: BaseException | None) -> Sequence[str]:
    return getattr(error, "__notes__", ())


def _show_usage(error: click.UsageError, *, as_json: bool) -> ExitCode:
    context = error.ctx
    if as_json:
        remedy = f"{context.command_path} --help" if context is not None else None
        facts: Mapping[str, Any] = {
            "error": "usage-error",
            "message": error.format_message(),
            "remedy": remedy,
        }
        click.echo(json.dumps(facts, ensure_ascii=False), err=True)
    else:
        error.show()
    return ExitCode.ERROR


def _blotted(text: Any, secrets: Sequence[str]) -> Any:
    """*text* without passwords: those that are known, and whatever stands where a URL has one."""
    if not isinstance(text, str):
        return text
    for secret in secrets:
        if secret:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return _IN_URL.sub(r"\1:***@", text)
