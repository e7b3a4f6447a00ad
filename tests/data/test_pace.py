"""How batches grow and shrink, without a database."""

import dataclasses

import pytest

from emc.data import BatchPolicy
from emc.data.pace import Pace

POLICY = BatchPolicy()


def test_batches_grow_by_half_at_most() -> None:
    """However fast the database is, a batch is at most half as large again as the one before, and never too large."""
    pace = Pace(POLICY)
    sizes = []
    for _ in range(15):
        pace.record(pace.size, 0.001)
        sizes.append(pace.size)
    assert sizes[:3] == [1500, 2250, 3375]
    assert sizes[-1] == 50_000


def test_batches_shrink_at_once() -> None:
    """A batch that takes twice the target is followed by one of half the size; without pauses the target is longer."""
    for policy, target in ((POLICY, 0.1), (dataclasses.replace(POLICY, fast=True), 0.5)):
        pace = Pace(policy)
        pace.record(1000, 2 * target)
        assert pace.size == 500


def test_a_batch_that_takes_far_too_long_is_cut_to_a_fifth() -> None:
    """Five times over the target, the next batch is a fifth, even if it was an exception."""
    pace = Pace(POLICY)
    for _ in range(9):
        pace.record(1000, 0.1)
    assert pace.size == 1000
    pace.record(1000, 0.52)
    assert pace.size <= 200


def test_one_slow_batch_in_ten_is_left_out() -> None:
    """The slowest tenth of the last ten batches does not count, unless it was far too slow."""
    pace = Pace(POLICY)
    for _ in range(9):
        pace.record(1000, 0.1)
    pace.record(1000, 0.4)
    assert pace.size == 1000


@pytest.mark.parametrize("seconds", [1000.0, 3.0])
def test_batches_never_get_too_small(seconds: float) -> None:
    """However slow the database is, a batch has ten rows."""
    pace = Pace(POLICY)
    for _ in range(10):
        pace.record(pace.size, seconds)
    assert pace.size == 10


def test_the_pause_follows_the_batch() -> None:
    """As long as the batch, 50 ms at least, and none when it has to be fast."""
    pace = Pace(POLICY)
    assert pace.pause(0.01) == 0.05
    assert pace.pause(0.6) == 0.6
    assert Pace(dataclasses.replace(POLICY, fast=True)).pause(0.6) == 0.0
