"""Expand, migrate, contract: schema upgrades while the previous release still runs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emc.commands import contract, expand, history, migrate, plan, status, undo
    from emc.upgrade import Upgrade
    from emc.work import DELETE
else:
    from emc.lazy import names_of

    __getattr__, __dir__ = names_of(
        __name__,
        {
            **dict.fromkeys(
                ("contract", "expand", "history", "migrate", "plan", "status", "undo"), "emc.commands"
            ),
            "Upgrade": "emc.upgrade",
            "DELETE": "emc.work",
        },
    )

__version__ = "0.1.0.dev0"

__all__ = ["DELETE", "Upgrade", "contract", "expand", "history", "migrate", "plan", "status", "undo"]
