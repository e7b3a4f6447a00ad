"""Which object does ``module:attribute`` name?"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from emc.cli.config import Setting
from emc.errors import ConfigurationError, EmcError
from emc.upgrade import Upgrade


def upgrade_of(setting: Setting | None, directories: Sequence[Path]) -> Upgrade:
    """Import the upgrade.

    :param directories: put in front of ``sys.path``.
    :raises ConfigurationError: none is configured, its module cannot be imported, or what it names is not an Upgrade.
    :raises EmcError: a declaration in the module raised it.
    """
    if setting is None:
        raise ConfigurationError(
            "No upgrade is configured.",
            remedy='Give --upgrade module:attribute, set EMC_UPGRADE, or write upgrade = "module:attribute" below '
            "[tool.emc] in pyproject.toml.",
        )
    name, colon, attribute = setting.value.partition(":")
    if not (name and colon and attribute):
        raise ConfigurationError(
            f"{setting.value!r}, given by {setting.source}, does not name an upgrade.",
            remedy="Write it as module:attribute, e.g. myapp.db:upgrade.",
        )
    for directory in reversed([str(directory) for directory in directories]):
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
    # What a module prints while it is imported must not get between the lines of an answer.
    with contextlib.redirect_stdout(sys.stderr):
        module = _imported(name, setting, directories)
        return _upgrade_in(module, attribute, setting, directories)


def _imported(name: str, setting: Setting, directories: Sequence[Path]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except EmcError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise _broken(f"{name} cannot be imported", setting, error, directories) from error
        raise ConfigurationError(
            f"There is no module {missing!r}, and {setting.source} asks for {setting.value}.",
            remedy=f"Looked in {', '.join(map(str, directories))} and among the installed packages. Run emc where the "
            "module can be imported, or install its package.",
        ) from error
    except (Exception, SystemExit) as error:
        raise _broken(f"{name} cannot be imported", setting, error, directories) from error


def _upgrade_in(module: ModuleType, attribute: str, setting: Setting, directories: Sequence[Path]) -> Upgrade:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(
                f"{module.__name__} has no {attribute!r}, and {setting.source} asks for it.",
                remedy=_others(module),
            )
        found = getattr(found, part)
    if callable(found) and not isinstance(found, Upgrade):
        try:
            found = found()
        except EmcError:
            raise
        except (Exception, SystemExit) as error:
            raise _broken(f"{setting.value} cannot be called", setting, error, directories) from error
    if not isinstance(found, Upgrade):
        raise ConfigurationError(
            f"{setting.value}, given by {setting.source}, is not an emc.Upgrade but {type(found).__name__}.",
            remedy=_others(module),
        )
    return found


def _others(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Upgrade))
    if names:
        return "It has: " + ", ".join(f"--upgrade {module.__name__}:{name}" for name in names)
    return f"Nothing in {module.__name__} is an Upgrade. Write there: upgrade = emc.Upgrade(Base.metadata)"


def _broken(
    what: str, setting: Setting, error: BaseException, directories: Sequence[Path]
) -> ConfigurationError:
    line = " ".join(f"{type(error).__name__}: {error}".split())
    place = _place(error, directories)
    return ConfigurationError(
        f"{what}, and {setting.source} asks for it.\n  {line}" + (f"\n  at {place}" if place else ""),
        remedy=f"Correct that; python -c 'import {setting.value.partition(':')[0]}' shows it too.",
    )


def _place(error: BaseException, directories: Sequence[Path]) -> str | None:
    """``file:line`` of what failed: in the user's own code if the error passed through it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in (__file__, importlib.__file__)
    ]
    own = [
        frame
        for frame in frames
        if any(Path(frame.filename).is_relative_to(one) for one in directories)
        and "site-packages" not in Path(frame.filename).parts
    ]
    last = (own or frames)[-1:]
    return f"{last[0].filename}:{last[0].lineno}" if last else None
