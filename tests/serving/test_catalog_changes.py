"""The keys that a swap begins with are read a part at a time, while others change."""

from __future__ import annotations

import numpy as np
from strategies import T0

from headrace.serving.catalog_changes import KEYS_AT_ONCE, Changes, Origin
from headrace.streams.settings import DAY_MS

N = 2 * KEYS_AT_ONCE + 100
KEYS = np.arange(1, N + 1, dtype=np.uint64)


def noted(changes: Changes, first: int, end: int, *, gone: bool = False) -> None:
    keys = np.arange(first, end, dtype=np.uint64)
    changes.note(keys, Origin(0, np.zeros(len(keys), np.int64), T0), gone=gone)


def test_a_step_reads_no_more_than_so_many_rows() -> None:
    changes = Changes()
    assert [*changes.begin()] == []
    noted(changes, 1, N + 1)
    parts = [*changes.begin()]
    assert [len(part) for part in parts] == [KEYS_AT_ONCE, KEYS_AT_ONCE, 100]
    assert np.concatenate(parts).tolist() == KEYS.tolist()


def test_what_changes_between_two_steps_is_noted() -> None:
    """The rows of a step are read when it is asked for: a key that was forgotten meanwhile is not there."""
    changes = Changes()
    noted(changes, 1, N)
    noted(changes, N, N + 1, gone=True)
    parts = changes.begin()
    assert len(next(parts)) == KEYS_AT_ONCE
    noted(changes, N + 1, N + 50)  # new ones
    noted(changes, 5, 6)  # a second time
    changes.forget_old(T0 + DAY_MS + 1, most=2 * N)
    assert np.concatenate([*parts]).tolist() == KEYS[KEYS_AT_ONCE:-1].tolist()
    assert changes.since().tolist() == [*range(N + 1, N + 50), 5]
