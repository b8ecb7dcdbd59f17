"""The hot index while a catalogue is read, before anybody searches."""

from __future__ import annotations

from concurrent.futures import wait

import numpy as np
import pytest
from strategies import unit_vectors

from headrace.serving.index import hot as hot_index
from headrace.serving.index.hot import HotIndex

HOUR = 3_600_000
NOW = 1_700_000_000_000


def test_before_the_first_search_a_merge_waits_for_as_much_as_was_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hot_index, "_LONG", 20)
    monkeypatch.setattr(hot_index, "_LONGEST", 80)
    index, vectors, settled = HotIndex(48 * HOUR), unit_vectors(330), list[int]()
    for first in range(0, 330, 10):
        keys = np.arange(first + 1, first + 11, dtype=np.uint64)
        index.put_many(keys, vectors[first : first + 10], np.full(10, NOW), NOW)
        index.settle()
        if index._settled is not None and len(index._settled) not in settled:
            settled.append(len(index._settled))
    assert settled == [20, 40, 80, 160, 240, 320]  # the last ones by the longest tail there may be
    for first in range(0, 60, 10):  # these are in the tail now
        keys = np.arange(first + 1, first + 11, dtype=np.uint64)
        index.put_many(keys, -vectors[first : first + 10], np.full(10, NOW), NOW)
    assert index._merge is None
    assert index.in_tail == 70
    assert index.search(vectors[325], 1)[0].tolist() == [326]
    wait([index._merge.settled] if index._merge else [])
    assert index.search(-vectors[3], 1)[0].tolist() == [4]  # this takes what was merged
    assert (index._merge, index.in_tail, index._settled and len(index._settled)) == (None, 0, 330)
    index.put_many(keys, vectors[:10], np.full(10, NOW), NOW)
    assert index._merge is None
    index.put_many(keys, vectors[10:20], np.full(10, NOW), NOW)
    assert index._merge is not None  # from now on the tail is short
