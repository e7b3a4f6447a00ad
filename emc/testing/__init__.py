"""How does a project test its upgrade?

Checks are functions that raise :class:`CheckFailedError`, which is an :class:`AssertionError`; pytest is not needed.
``from emc.testing.checks import *`` in a test module turns all of them on for pytest, whose plugin
(:mod:`emc.pytest_plugin`) brings the fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emc.testing.comparing import check_create_all_is_in_step, check_models_match
    from emc.testing.copying import copies
    from emc.testing.expanding import check_expand_is_additive, check_expand_twice, check_old_release_works
    from emc.testing.failures import CheckFailedError, MissingSoftwareError, UnprovedWarning
    from emc.testing.gating import check_every_contract_has_a_gate
    from emc.testing.interrupting import check_interruptions
    from emc.testing.releases import OldRelease, release_in_git, release_in_wheel, release_of
    from emc.testing.revisions import check_revisions_match
    from emc.testing.servers import ExistingServer, Server, url_of
    from emc.testing.undoing import check_undo
else:
    # Loaded when asked for, as in emc itself: the process that imports an old release's models needs little of it.
    from emc.lazy import names_of

    __getattr__, __dir__ = names_of(
        __name__,
        {
            "check_create_all_is_in_step": "emc.testing.comparing",
            "check_models_match": "emc.testing.comparing",
            "copies": "emc.testing.copying",
            "check_expand_is_additive": "emc.testing.expanding",
            "check_expand_twice": "emc.testing.expanding",
            "check_old_release_works": "emc.testing.expanding",
            "CheckFailedError": "emc.testing.failures",
            "MissingSoftwareError": "emc.testing.failures",
            "UnprovedWarning": "emc.testing.failures",
            "check_every_contract_has_a_gate": "emc.testing.gating",
            "check_interruptions": "emc.testing.interrupting",
            "OldRelease": "emc.testing.releases",
            "release_in_git": "emc.testing.releases",
            "release_in_wheel": "emc.testing.releases",
            "release_of": "emc.testing.releases",
            "check_revisions_match": "emc.testing.revisions",
            "ExistingServer": "emc.testing.servers",
            "Server": "emc.testing.servers",
            "url_of": "emc.testing.servers",
            "check_undo": "emc.testing.undoing",
        },
    )

__all__ = [
    "CheckFailedError",
    "ExistingServer",
    "MissingSoftwareError",
    "OldRelease",
    "Server",
    "UnprovedWarning",
    "check_create_all_is_in_step",
    "check_every_contract_has_a_gate",
    "check_expand_is_additive",
    "check_expand_twice",
    "check_interruptions",
    "check_models_match",
    "check_old_release_works",
    "check_revisions_match",
    "check_undo",
    "copies",
    "release_in_git",
    "release_in_wheel",
    "release_of",
    "url_of",
]
