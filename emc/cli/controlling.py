"""How are pause, resume and stop asked for, and what do they answer?"""

from __future__ import annotations

from emc import commands
from emc.cli.options import Session, command
from emc.commands import Asked
from emc.commands.controlling import MIGRATE
from emc.commands.jsonable import asked_json
from emc.errors import ExitCode
from emc.state.control import State, Wish


@command("pause", short_help="Hold up a running migrate or undo, from anywhere.")
def pause(session: Session) -> ExitCode:
    """Let the emc migrate that is at work on this database, wherever it runs, begin no batch until emc resume.

    An emc undo begins no step either. It keeps its lease, so nobody else gets in between. Needs no upgrade, only the
    database.

    Exit code: 0; 2 if neither is at work.
    """
    return _said(session, commands.pause(session.engine))


@command("resume", short_help="Let a paused migrate or undo go on.")
def resume(session: Session) -> ExitCode:
    """Let the emc migrate or emc undo go on that emc pause holds up. One that is throttled goes on by itself.

    Needs no upgrade, only the database.

    Exit code: 0; 2 if neither is at work.
    """
    return _said(session, commands.resume(session.engine))


@command("stop", short_help="End a running migrate or undo after its current batches.")
def stop(session: Session) -> ExitCode:
    """End the emc migrate that is at work on this database, wherever it runs, after the batches that are under way.

    An emc undo ends after its step. Either ends with exit code 5, and the next one goes on where it was. Needs no
    upgrade, only the database.

    Exit code: 0; 2 if neither is at work.
    """
    return _said(session, commands.stop(session.engine))


def _said(session: Session, asked: Asked) -> ExitCode:
    session.terminal.answer(asked_json(asked))
    session.terminal.say(f"{asked.runner} runs {asked.command} since {asked.since:%Y-%m-%d %H:%M:%S} UTC.")
    session.terminal.say(_follows(asked))
    return ExitCode.DONE


def _follows(asked: Asked) -> str:
    what = "batch" if asked.command == MIGRATE else "batch or step"
    if asked.is_new:
        return {
            Wish.PAUSE: f"It begins no {what} any more, and keeps its lease. To let it go on: emc resume",
            Wish.RESUME: "It goes on.",
            Wish.STOP: f"It ends after what is under way, with exit code 5. To go on: {asked.command}",
        }[asked.wish]
    if asked.before is not None and asked.wish is not Wish.RESUME:
        return f"{asked.before.who} has asked for that already, at {asked.before.at:%Y-%m-%d %H:%M:%S} UTC."
    standing = asked.standing
    if standing is not None and standing.state is State.THROTTLED:
        return f"It is not paused but throttled, and goes on by itself: {standing.reason}"
    return "It is not paused."
