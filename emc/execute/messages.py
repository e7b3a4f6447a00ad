"""What does a person read when a step could not be carried out?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.exc import DBAPIError

from emc.dialects.answers import Blocker, Failure
from emc.errors import (
    DatabaseUnavailableError,
    EmcError,
    LockBudgetError,
    PostconditionError,
    PrivilegeError,
    StatementFailedError,
)
from emc.steps import Step


def first_line(error: DBAPIError) -> str:
    """What the database said, without the detail and the context that follow."""
    said = str(error.orig)
    match error.orig.args if error.orig else ():
        case (int(number), str(text)):  # As the drivers of MySQL and MariaDB do.
            said = f"{text or type(error.orig).__name__} (error {number})"
    lines = said.strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def refused(failure: Failure, step: Step, statement: str, error: DBAPIError) -> EmcError:
    """The database said no, and will say so again.

    :param statement: the one that it refused.
    """
    said = first_line(error)
    what = f"{step.operation.description} ({step.id})"
    if failure is Failure.FORBIDDEN:
        return PrivilegeError(
            f"{what}: the role that emc connects as may not do that: {said}\n  {statement}",
            remedy="Grant what is missing, or connect as a role that may do it; then run the command again.",
        )
    if failure is Failure.UNSUPPORTED and step.beyond is not None:
        return StatementFailedError(
            f"{what}: the server can do it only in a way that nobody has allowed: {step.beyond.reason}."
            f" It said: {said}\n  {statement}",
            step=step.id,
            statement=statement,
            remedy=step.beyond.remedy,
        )
    if failure is Failure.INTEGRITY:
        remedy = (
            "Some rows do not satisfy it. Correct them, or declare how they are to be corrected (fill, deduplicate,"
            " orphans); then run the command again."
        )
    else:
        remedy = "What was done so far is kept. Remove the cause, then run the command again."
    return StatementFailedError(
        f"{what}: the database refused a statement: {said}\n  {statement}",
        step=step.id,
        statement=statement,
        remedy=remedy,
        violated=failure is Failure.INTEGRITY,
    )


def too_long(step: Step, statement: str, error: DBAPIError) -> EmcError:
    """A statement was cut off, and would be again.

    :param statement: the one that took so long.
    """
    return StatementFailedError(
        f"{step.operation.description} ({step.id}): a statement that may keep everybody out of the table took too long,"
        f" and was cut off, several times: {first_line(error)}\n  {statement}",
        step=step.id,
        statement=statement,
        remedy="Run the command again when the server has less to do. Or let everybody wait for as long as it takes:"
        f' upgrade.allow("{step.id}", reason="who agreed, and when it runs")',
    )


def without_result(step: Step) -> PostconditionError:
    """The statements of *step* ran, and nothing came of it."""
    return PostconditionError(
        f"{step.operation.description} ({step.id}): the statements ran, and yet the catalog does not show that"
        f" {step.postcondition.expects}.",
        step=step.id,
        remedy="Look at the table; something may have undone it at the same time (an event trigger, another tool)."
        " Then run the command again.",
    )


def unreachable(step: Step, reconnects: int, error: DBAPIError) -> DatabaseUnavailableError:
    """The connection was lost, and lost again.

    :param reconnects: how often.
    """
    return DatabaseUnavailableError(
        f"{step.operation.description} ({step.id}): the connection to the database was lost {reconnects} times,"
        f" the last time with: {first_line(error)}",
        remedy="Whether the step was carried out cannot be told from here. When the database is back, run the command"
        " again: it looks first.",
    )


def budget_spent(
    step: Step,
    attempts: int,
    seconds: float,
    blockers: Sequence[Blocker],
    error: DBAPIError,
    built: float | None = None,
) -> LockBudgetError:
    """The lock was not to be had.

    :param seconds: since the first attempt.
    :param built: for how many seconds the build had run that was lost.
    """
    message = (
        f"{step.operation.description} ({step.id}): no lock in {attempts} attempts within {seconds:.0f} s:"
        f" {first_line(error)}. Everything done before is kept."
    )
    if built is not None:
        message += f" The last one built for {built:.0f} s, and met a lock at its end: that work is lost."
    for blocker in blockers:
        doubt = "" if blocker.sure else " (whether it is in the way, the server does not tell)"
        message += f"\n  {described(blocker)}{doubt}"
    # Those who are not sure to be in the way are not to be ended for that.
    named = [blocker for blocker in blockers if blocker.sure] or blockers
    names = " and ".join(f"{one.kind} {one.session}" for one in named)
    remedy = (
        f"Let {names} finish or end it, then run the command again."
        if named
        else "Run the command again when fewer long transactions are open."
    )
    return LockBudgetError(
        message,
        step=step.id,
        attempts=attempts,
        blockers=blockers,
        remedy="\n".join([remedy, *hints(named)]),
    )


def described(blocker: Blocker, in_words: Callable[[float], str] = "{:.0f} s".format) -> str:
    """Who is in the way, and what it does.

    :param in_words: how a length of time in seconds is said.
    """
    since = ""
    if blocker.seconds is not None:
        since = f", {'idle ' if blocker.idle else ''}in a transaction for {in_words(blocker.seconds)}"
    return f"{blocker.kind} {blocker.session} of {blocker.user}{since}: {blocker.query}"


def hints(blockers: Sequence[Blocker]) -> Sequence[str]:
    """What ends *blockers*, or shows more of them: statements to paste."""
    reveal = dict.fromkeys(one.reveal for one in blockers if one.reveal)
    return [*(one.ends for one in blockers if one.ends), *(f"To see what others do: {one}" for one in reveal)]
