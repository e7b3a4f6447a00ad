"""Expand, migrate, contract: schema upgrades while the previous release still runs."""

from emc.commands import contract, expand, history, migrate, plan, status
from emc.upgrade import Upgrade
from emc.work import DELETE

__version__ = "0.1.0.dev0"

__all__ = ["DELETE", "Upgrade", "contract", "expand", "history", "migrate", "plan", "status"]
