"""How does batch mode say what it is about, instead of making the table anew?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from alembic.ddl.impl import DefaultImpl
from alembic.runtime.migration import MigrationContext


@contextlib.contextmanager
def without_recreation(context: MigrationContext) -> Iterator[None]:
    """Let batch mode ask for what it is about, instead of making the table anew: how, online, is emc's business."""
    impl = context.impl
    replaced: dict[str, Any] = {"requires_recreate_in_batch": lambda _: False}
    if not context.dialect.supports_alter:
        # Its own would say that the database has no such statement; emc needs none, it only has to hear of it.
        replaced["add_constraint"] = lambda const, **kw: DefaultImpl.add_constraint(impl, const, **kw)
        replaced["drop_constraint"] = lambda const, **kw: DefaultImpl.drop_constraint(impl, const, **kw)
    vars(impl).update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            vars(impl).pop(name, None)
