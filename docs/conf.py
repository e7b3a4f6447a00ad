"""How Sphinx builds the documentation."""

import emc

project = "emc"
author = "the emc authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = emc.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "changes"]
html_theme = "furo"
html_title = f"emc {release}"

nitpicky = True
# Their documentation is elsewhere, and a build must not need the network.
nitpick_ignore_regex = [(r"py:.*", r"(alembic|click|collections|datetime|sqlalchemy|typing)\..*")]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
