"""What does Alembic's log say of what happens to a step?"""

from __future__ import annotations

import logging

from emc.execute import StepEvent, StepState, described, hints

LOGGER = "alembic.runtime.emc"
"""Below Alembic's own, so that its usual configuration shows it."""
_log = logging.getLogger(LOGGER)


def tell(event: StepEvent) -> None:
    """Say in Alembic's log what happens to a step."""
    step = event.step
    if event.state is StepState.STARTED and event.attempt == 1:
        _log.info("%s: %s", step.id, step.operation.description)
    elif event.state is StepState.DONE:
        _log.info("done: %s (%.2f s)", step.id, event.seconds)
    elif event.state is StepState.SKIPPED:
        _log.info("there already: %s", step.id)
    elif event.state is StepState.WAITING:
        blockers = "".join(
            f"\n  {'blocked' if one.sure else 'perhaps blocked'} by {described(one)}"
            for one in event.blockers
        )
        hinted = "".join(f"\n    {hint}" for hint in hints(event.blockers))
        reason, pause = event.reason, event.pause
        told = f"{reason}; attempt {event.attempt} failed, the next one in {pause:.1f} s{blockers}{hinted}"
        _log.warning("waiting for %s: %s", step.id, told)
