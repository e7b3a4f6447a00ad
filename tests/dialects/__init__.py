"""Dialects, each tested on its own database."""

import pytest

# So that a failed assertion in there shows both sides, as in a test.
pytest.register_assert_rewrite("tests.dialects.sqlite_ritual")
