from __future__ import annotations

import numpy as np
import pytest

from headrace.serving.requests.standing import Standing


def told(standing: Standing, shares: list[float], begin: float = 0.0, every: float = 0.02) -> list[bool]:
    """Return what is said of requests one after the other."""
    out = []
    for i, share in enumerate(shares):
        standing.add(share, begin + every * i)
        out.append(standing.stands)
    return out


def test_a_burst_does_not_stand() -> None:
    burst = [i / 20 for i in range(20)]
    assert not any(told(Standing(), [*burst, *burst], every=0.01))


def test_a_queue_that_never_gets_short_stands_until_it_is_empty() -> None:
    standing = Standing()
    said = told(standing, [0.5] * 40)
    assert said.index(True) * 0.02 == pytest.approx(0.26, abs=0.03), "after a while, not at once"
    assert all(said[said.index(True) :])
    assert all(told(standing, [0.1] * 40, begin=0.8)), "shorter is not empty"
    assert not any(told(standing, [0.04, 0.3, 0.3], begin=1.6))


def test_one_short_wait_in_a_while_is_enough() -> None:
    said = told(Standing(), [0.9] * 10 + [0.2] + [0.9] * 10 + [0.2] + [0.9] * 10)
    assert not any(said)


def test_nothing_is_known_after_a_pause() -> None:
    standing = Standing()
    assert told(standing, [0.9] * 40)[-1]
    assert told(standing, [0.9], begin=60.0) == [False]


@pytest.mark.parametrize("load", [0.7, 3.0])
def test_under_overload_the_queue_is_short_and_as_many_lists_are_full(load: float) -> None:
    """A worker of 100 full lists a second, and of 1,000 cheap ones; deadline .15 s. Arrivals at random."""
    full, cheap = _simulated(load, keep_short=False)
    short_full, waits = _simulated(load, keep_short=True)
    if load < 1:
        assert short_full == full
        return
    assert short_full > 0.9 * full
    assert max(waits) < 0.65 * 0.15 < 0.9 * max(cheap)


def _simulated(load: float, *, keep_short: bool) -> tuple[int, list[float]]:
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1 / (100 * load), int(2000 * load)))
    standing, now, full, waits = Standing(), 0.0, 0, list[float]()
    for at in arrivals.tolist():
        now = max(now, at)
        waited = now - at
        standing.add(waited / 0.15, now)
        stands = standing.stands and keep_short
        fits = waited + 0.01 <= 0.15 * (0.4 if stands else 0.75)
        now += 0.01 if fits else 0.001
        full += fits
        if at > 2:
            waits.append(now - at)
    return full, waits
