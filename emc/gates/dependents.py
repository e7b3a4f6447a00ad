"""Does anything in the database itself hang on what goes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from emc.gates.base import Gate, Scope, Verdict
from emc.schema import Dependent


@dataclass(frozen=True, eq=False)
class NothingHangs(Gate):
    """Views, policies, foreign keys of other services and functions run too, and nobody has named them.

    What the server knows of would make the drop fail, since CASCADE is never sent. The text of a function it does not
    look at before somebody calls it: the drop would pass, and the call fail.
    """

    kind = "nothing-hangs"

    def concerns(self, scope: Scope) -> bool:
        """Where something does."""
        return bool(self._found(scope))

    def evaluate(self, connection: Connection, scope: Scope) -> Verdict:
        """Name it, with what takes it out of the way."""
        found = self._found(scope)
        if not found:
            return self.opened("nothing hangs on it")
        remedies = [one.remedy for one in found if one.remedy]
        if any(not one.mentions for one in found):
            remedies.insert(0, "-- once nobody needs it, and never by CASCADE:")
        if any(one.mentions for one in found):
            remedies.append(
                "-- rewrite or drop the functions; if they speak of something else, or nobody calls them:\n"
                f'{scope.command} --override {self.name} --reason "who looked, and why it does no harm"'
            )
        if not remedies:
            remedies = ["Take it away by hand once nobody needs it; emc never sends CASCADE."]
        names = [one.what for one in found]
        return self.shut(", ".join(names), "\n".join(dict.fromkeys(remedies)), hangs=names)

    def _found(self, scope: Scope) -> Sequence[Dependent]:
        plan = scope.plan
        operations = [step.operation for step in (*plan.expand, *plan.contract, *plan.undo)]
        return scope.dialect.dependents(self.operation, plan.situation.live, operations)
