"""The recall that is measured is that of the index: 1 where all is compared, less where little is."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import unit_vectors

from headrace.serving.index import hot as hot_index
from headrace.serving.index import lists
from headrace.serving.index.hot import HotIndex
from headrace.serving.index.recall import PAUSE_S, K, RecallProbe, recall_of
from headrace.serving.sampled import REST

NOW = 1_700_000_000_000
N = 3000


def filled() -> HotIndex:
    index = HotIndex(3_600_000)
    for i, vector in enumerate(unit_vectors(N, 1)):
        index.put(i + 1, vector, NOW, NOW)
    index.settle()
    return index


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def measure(index: HotIndex, searches: int = 5) -> RecallProbe:
    probe, time = RecallProbe(every=1, clock=(clock := Time())), clock
    for vector in unit_vectors(searches, 2):
        index.search(vector, 10)
        time.now += 1000
        probe.replied(index)
        probe.settle()
    probe.close()
    return probe


def test_an_exact_index_has_recall_1() -> None:
    index = filled()
    for key in range(1, N, 7):
        index.drop(key)
    probe = measure(index)
    assert (probe.recall, probe.samples) == (1.0, 5)


def test_a_coarse_index_has_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_index, "_LONG", 2000)
    monkeypatch.setattr(lists, "FEW", 500)
    monkeypatch.setattr(lists, "most_rows", lambda n: n // 20)
    index = filled()
    assert index.merged_at is not None
    probe = measure(index)
    assert probe.recall is not None
    exact = [_exact(index, vector) for vector in unit_vectors(5, 2)]
    assert probe.recall == pytest.approx(np.mean(exact), abs=1e-6)
    assert 0.1 < probe.recall < 0.95


def _exact(index: HotIndex, vector: np.ndarray) -> float:  # type: ignore[type-arg]
    every = unit_vectors(N, 1) @ vector
    best = set((np.argsort(-every)[:K] + 1).tolist())
    return len(best & set(index.search(vector, K)[0].tolist())) / K


def test_equal_vectors_have_no_order() -> None:
    index, (vector,) = HotIndex(3_600_000), unit_vectors(1, 3)
    for key in range(1, 3 * K):
        index.put(key, vector, NOW, NOW)
    keys, _ = index.search(vector, K)
    assert recall_of(index.contents(), vector, keys, K) == 1
    others = np.setdiff1d(np.arange(1, 3 * K, dtype=np.uint64), keys)[:K]
    assert recall_of(index.contents(), vector, others, K) == 1
    assert recall_of(index.contents(), vector, others[: K // 2], K) == 0.5


def test_few_searches_are_compared_and_the_thread_rests() -> None:
    index, clock = filled(), Time()
    probe = RecallProbe(every=10, clock=clock)
    probe.replied(index)  # nothing was searched yet
    assert probe.samples == 0
    index.search(unit_vectors(1, 2)[0], 10)
    for _ in range(9):
        probe.replied(index)
    probe.settle()
    assert probe.samples == 0
    probe.replied(index)
    probe.settle()
    assert probe.samples == 1
    for _ in range(100):  # no time has passed
        probe.replied(index)
        probe.settle()
    assert probe.samples == 1
    clock.now += PAUSE_S + REST * 10
    for _ in range(10):
        probe.replied(index)
    probe.settle()
    assert probe.samples == 2
    probe.close()


def test_an_empty_index_is_not_measured() -> None:
    index, probe = HotIndex(3_600_000), RecallProbe(every=1)
    index.search(unit_vectors(1, 2)[0], 10)
    probe.replied(index)
    probe.settle()
    assert (probe.recall, probe.samples) == (None, 0)
    probe.close()
    index.close()
