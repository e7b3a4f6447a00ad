"""Which limits has a project set, and which replicas has it named?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Engine

from emc.cli.config import Setting, engine_of, project, url_of
from emc.cli.durations import duration
from emc.data import ThrottlePolicy
from emc.dialects.answers import Signal
from emc.errors import ConfigurationError

_CONNECT = 5
"""Seconds to wait for a connection to a replica: one that is down often does not even refuse."""

_TIMES = {"poll": "poll", "back-off": "back_off", "patience": "patience"}
"""Keys that are lengths of time, and the field of each."""
_LIMITS: Mapping[str, bool] = {
    Signal.REPLICA_LAG: True,
    Signal.LOCK_WAIT: True,
    Signal.WAL_BACKLOG: False,
    Signal.THREADS_RUNNING: False,
}
"""Keys that are limits, and whether they are lengths of time."""


def throttle_policy(directory: Path, environment: Mapping[str, str]) -> ThrottlePolicy:
    """What ``[tool.emc.throttle]`` of the nearest ``pyproject.toml`` says.

    :raises ConfigurationError: it cannot be read, has an unknown key, or a value that is none.
    """
    found = project(directory)
    path, table = (directory, {}) if found is None else (found[0], found[1].get("throttle", {}))
    if not isinstance(table, dict):
        raise ConfigurationError(
            f"throttle in {path} is not a table.", remedy="Write it as [tool.emc.throttle]."
        )
    policy = ThrottlePolicy()
    limits: dict[Signal, float | None] = {}
    for key, value in table.items():
        where = f"{key} in [tool.emc.throttle] of {path}"
        if key in _LIMITS:
            off = value is False
            limits[Signal(key)] = None if off else (_seconds if _LIMITS[key] else _number)(value, where)
        elif key in _TIMES:
            changed: dict[str, Any] = {_TIMES[key]: _seconds(value, where)}
            policy = replace(policy, **changed)
        elif key == "replicas":
            policy = replace(policy, replicas=_replicas(value, where, path.parent, environment))
        else:
            raise ConfigurationError(
                f"[tool.emc.throttle] of {path} has a key {key!r}, which emc does not know.",
                remedy=f"It knows {', '.join([*_LIMITS, *_TIMES, 'replicas'])}.",
            )
    return replace(policy, limits=limits)


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, where)
    try:
        return duration(value).total_seconds()
    except (click.BadParameter, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"{where} is no length of time: {value!r}.", remedy='Write a number of seconds, "90s", or "5m".'
        ) from error


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigurationError(
            f"{where} is no number: {value!r}.", remedy="Write a number, or false to switch it off."
        )
    return float(value)


def _replicas(value: Any, where: str, directory: Path, environment: Mapping[str, str]) -> tuple[Engine, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigurationError(
            f"{where} is no list of URLs.", remedy='Write replicas = ["env:REPLICA_URL"].'
        )
    return tuple(
        engine_of(
            url_of(Setting(one, where, directory), environment), connect_args={"connect_timeout": _CONNECT}
        )
        for one in value
    )
