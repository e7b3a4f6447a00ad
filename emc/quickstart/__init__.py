"""How does a person see within a minute what emc does?

Writes a small real project, and upgrades its database with the real commands, each shown with its answer.
"""

from __future__ import annotations

from emc.quickstart.story import QuickstartError, run

__all__ = ["QuickstartError", "run"]
