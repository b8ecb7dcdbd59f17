from __future__ import annotations

import numpy as np

from headrace.models.embeddings.pace import Pace


def test_all_are_learnt_while_there_is_no_backlog() -> None:
    pace = Pace(behind=100)
    assert pace.choose(50, 100).all()
    assert (pace.chosen, pace.skipped) == (50, 0)


def test_the_further_behind_the_fewer_evenly_spread() -> None:
    pace = Pace(behind=100)
    chosen = np.concatenate([pace.choose(n, 1000) for n in (1, 7, 0, 93, 399, 500)])
    at = np.flatnonzero(chosen)
    assert len(at) == 100
    assert set(np.diff(at).tolist()) <= {9, 10, 11}
    assert (pace.chosen, pace.skipped) == (100, 900)


def test_the_lag_stays_bounded() -> None:
    """10,000 events come in a second; 1000 clicks can be learnt in it."""
    pace, lag = Pace(behind=2000), 0
    for _ in range(300):
        lag += 10_000
        could = 1000
        while could > 0 and lag > 0:
            could -= int(pace.choose(100, lag).sum())
            lag -= 100
    assert lag < 25_000
    assert pace.chosen + pace.skipped > 2_900_000
