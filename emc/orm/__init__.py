"""How does a service convert old rows as it loads and saves objects?

One line turns it on for the sessions of a service::

    emc.orm.convert(upgrade, on=Session)

From then on an object that is loaded from a row that a data migration has not come to yet looks as if it had, and a row
that is saved is migrated with it. Function and condition are those of the declaration, so rows that were converted this
way are done for ``emc migrate`` and for the gate, and rows that nobody touches are left to ``emc migrate``.
"""

from __future__ import annotations

from emc.orm.conversion import Conversion, convert

__all__ = ["Conversion", "convert"]
