"""How is the type of a live column written down, so that it can be had again?

As the class and its arguments, which the inspector made: text such as ``VARCHAR(10)`` would have to be parsed by each
database in its own way.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ARRAY, Enum
from sqlalchemy.types import NullType, TypeEngine
from sqlalchemy.util import get_cls_kwargs

_UNSAID = frozenset({"inherit_schema"})
"""What SQLAlchemy 2.1 warns of when it is asked for; it says where a MetaData makes an enumeration, and changes no
type."""


def written(type_: TypeEngine[Any]) -> Mapping[str, Any] | None:
    """*type_* as plain values; ``None`` where it cannot be had again from them."""
    facts = _facts(type_)
    if facts is None:
        return None
    try:
        again = read(facts)
    except (TypeError, ValueError, AttributeError):
        return None
    return facts if repr(again) == repr(type_) else None


def read(facts: Mapping[str, Any]) -> TypeEngine[Any]:
    """The type that :func:`written` wrote down."""
    module = str(facts["module"])
    if not module.startswith("sqlalchemy."):
        raise ValueError(f"{module} is not a module of SQLAlchemy")
    cls: Any = getattr(importlib.import_module(module), facts["type"])
    options = {
        name: read(value) if isinstance(value, Mapping) else value for name, value in facts["options"].items()
    }
    made: TypeEngine[Any] = cls(*facts["arguments"], **options)
    return made


def _facts(type_: TypeEngine[Any]) -> Mapping[str, Any] | None:
    cls = type(type_)
    if not cls.__module__.startswith("sqlalchemy.") or isinstance(type_, NullType):
        return None
    arguments: list[Any] = []
    if isinstance(type_, Enum):
        arguments = list(type_.enums)
    elif hasattr(type_, "values") and not isinstance(type_, ARRAY):
        arguments = list(type_.values)  # MySQL's SET
    options: dict[str, Any] = {}
    for name in sorted(get_cls_kwargs(cls) - _UNSAID):
        value = getattr(type_, name, None)
        if isinstance(value, TypeEngine):
            inner = _facts(value)
            if inner is None:
                return None
            options[name] = inner
        elif value is not None and isinstance(value, str | int | bool):
            options[name] = value
    return {"module": cls.__module__, "type": cls.__name__, "arguments": arguments, "options": options}
