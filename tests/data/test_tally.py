"""What workers may do together, and how long the rest takes."""

import threading

import pytest

from emc.data.tally import Quota, Tempo


def test_a_pace_is_that_of_the_last_minute() -> None:
    """The first seconds tell nothing; then it follows what was done of late, and nothing done tells nothing."""
    now = [0.0]
    tempo = Tempo(lambda: now[0])
    assert tempo.seconds_for(100) is None
    now[0] = 1.0
    tempo.record(1_000)
    assert tempo.seconds_for(100) is None
    for second in range(2, 61):
        now[0] = float(second)
        tempo.record(1_000 * second)
    assert tempo.seconds_for(5_000) == pytest.approx(5.0)
    # Ten times as slow from here on: after a minute that is what counts.
    for second in range(61, 200):
        now[0] = float(second)
        tempo.record(60_000 + 100 * (second - 60))
    assert tempo.seconds_for(5_000) == pytest.approx(50.0)
    assert tempo.seconds_for(-3) == 0.0


def test_samples_do_not_pile_up() -> None:
    """However many batches there are in a second, the minute is a minute of samples."""
    now = [0.0]
    tempo = Tempo(lambda: now[0])
    for batch in range(10_000):
        now[0] = batch / 100
        tempo.record(batch)
    assert tempo.seconds_for(100) == pytest.approx(1.0, rel=0.05)
    assert len(tempo._samples) < 70


def test_a_quota_is_never_exceeded() -> None:
    """What is reserved is nobody else's; what was not needed is given back."""
    quota = Quota(10)
    assert (quota.take(6), quota.take(6)) == (6, 4)
    quota.settle(6, 1)
    assert quota.take(6) == 5
    quota.settle(4, 4)
    quota.settle(5, 5)
    assert quota.take(1) == 0
    assert Quota(None).take(5) is None


def test_whoever_comes_late_waits_for_what_others_may_leave() -> None:
    """While all is reserved it is not over yet."""
    quota = Quota(10)
    assert quota.take(10) == 10
    found: list[int | None] = []
    waiting = threading.Thread(target=lambda: found.append(quota.take(10)))
    waiting.start()
    quota.settle(10, 7)
    waiting.join(60)
    assert found == [3]
