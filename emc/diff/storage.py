"""Is a table stored the way the models say?

Partitioning, and whatever else holds for the table as a whole. Of what an operator may choose only that is compared
which the models say.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table

from emc.diff import facts
from emc.diff.pairs import Comparison, Pair
from emc.diff.text import normal
from emc.names import ElementKind
from emc.operations import UnsupportedDifferenceOp

_NAMES = ("engine",)
"""Options whose value has one name only, which the server does not spell in a way of its own."""


def storage(pair: Pair, live: Table, comparison: Comparison) -> Iterator[UnsupportedDifferenceOp]:
    """What holds for the table as a whole, partitioning above all."""
    for have, wanted in (_definitions(pair), _options(pair)):
        if normal(wanted) != normal(have):
            partitioned = "PARTITION" in (wanted + have).upper()
            what = "partitioning" if partitioned else "table options"
            yield UnsupportedDifferenceOp(pair.element(ElementKind.TABLE), what, have, wanted)


def _definitions(pair: Pair) -> tuple[str, str]:
    """What the server says of the table, in the database and in the models."""
    have = facts.table_options(pair.live)
    if pair.spelled is not None:
        return have, facts.table_options(pair.spelled)
    given = None if pair.live.options else said_options(pair).get("partition_by")
    return have, f"PARTITION BY {given}" if given else ""


def _options(pair: Pair) -> tuple[str, str]:
    """The options that the models say and that differ, in the database and in the models."""
    have = pair.live.options
    if pair.spelled is not None:
        wanted = dict(pair.spelled.options)
    else:
        said = said_options(pair) if have else {}
        wanted = {}
        for option, value in said.items():
            if have.get(option, value).casefold() == value.casefold() and (
                option in have or option != "partition_by"
            ):
                continue
            if option in _NAMES or option not in have:
                wanted[option] = value
            else:
                pair.notes.not_compared(pair.element(ElementKind.TABLE), option.replace("_", " "))
    different = sorted(
        option for option in wanted if wanted[option].casefold() != have.get(option, "").casefold()
    )
    return _listed(have, different), _listed(wanted, different)


def said_options(pair: Pair) -> dict[str, str]:
    """The options of the table that the models say."""
    prefix = f"{pair.dialect.name}_"
    return {
        key.removeprefix(prefix): str(value)
        for key, value in pair.model.dialect_kwargs.items()
        if key.startswith(prefix) and value is not None
    }


def _listed(options: object, names: list[str]) -> str:
    assert isinstance(options, dict)
    return ", ".join(f"{name.replace('_', ' ')} {options[name]}" for name in names if name in options)
