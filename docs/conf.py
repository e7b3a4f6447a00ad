"""How Sphinx builds the documentation."""

import emc

project = "emc"
author = "the emc authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = emc.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build", "changes"]
html_theme = "furo"
html_title = f"emc {release}"

nitpicky = True
# Their documentation is elsewhere, and a build must not need the network.
nitpick_ignore_regex = [
    (r"py:.*", r"(alembic|click|collections|contextlib|datetime|pathlib|sqlalchemy|typing|unittest)\..*"),
]

nitpick_ignore = [
    # Names within emc that its docstrings use and the reference does not explain.
    ("py:class", "Kind"),
    ("py:class", "emc.changes.base.Situation"),
    ("py:class", "emc.state.ledger.Event"),
    ("py:class", "emc.steps.Probe"),
    ("py:class", "emc.steps.Way"),
    ("py:class", "emc.upgrade._F"),
    ("py:class", "emc.work.values.NotReady"),
    ("py:class", "emc.work.values.Work"),
    ("py:func", "emc.data.run"),
    ("py:func", "emc.state.encoding.encode"),
    ("py:func", "record"),
    ("py:class", "MetaData"),
    ("py:class", "Rows"),
    ("py:class", "URL"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
