"""What do the models of another version of a package say? Runs in a process of its own, for `emc.testing.releases`.

An order comes as JSON on standard input; the answer goes as one line of JSON to standard output.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from emc.testing.failures import CheckFailedError
from emc.testing.releases import build, metadata_of
from emc.testing.statements import try_out


def main(directory: str, models: str) -> None:
    """Obey the order on standard input.

    :param directory: where the old version is.
    :param models: ``module:attribute`` of its MetaData.
    """
    order = json.load(sys.stdin)
    try:
        metadata = metadata_of(models)
    except CheckFailedError as error:
        sys.exit(error.message)
    module = sys.modules[models.partition(":")[0]]
    place = Path(str(module.__file__)).resolve()
    if not place.is_relative_to(Path(directory).resolve()):
        sys.exit(f"{module.__name__} was imported from {place}, which is not the old release")
    engine = create_engine(order["url"], poolclass=NullPool)
    answer: Any
    if order["do"] == "build":
        try:
            answer = build(engine, metadata, made_up=order["made_up"])
        except CheckFailedError as error:
            sys.exit(" ".join(str(error).split()))  # Its last line is what is shown.
    else:
        answer = [dataclasses.asdict(one) for one in try_out(engine, metadata)]
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
