"""When items leave the hot index, while ages of items that are gone are let go a few at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.serving.index import hot
from headrace.serving.index.hot import HotIndex

NOW = 1_700_000_000_000
VECTORS = unit_vectors(400, 3)
steps = st.tuples(st.sampled_from(["put", "put", "drop", "expire"]), st.integers(1, 12), st.integers(0, 60))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(steps, max_size=80))
def test_items_leave_when_they_are_too_old(
    monkeypatch: pytest.MonkeyPatch, changes: list[tuple[str, int, int]]
) -> None:
    for name, value in (("_FEW", 0), ("_LOOKED_AT", 1), ("_LOOKED_AT_EACH", 2)):
        monkeypatch.setattr(hot, name, value)
    index, model, now = HotIndex(100), dict[int, int](), NOW
    for what, key, ms in changes:
        if what == "put":
            index.put(key, VECTORS[key], now - ms, now)
            model[key] = now - ms
        elif what == "drop":
            index.drop(key)
            model.pop(key, None)
        else:
            now += ms
            old = {k for k, published in model.items() if now - published > 100}
            assert index.expire(now) == len(old)
            model = {k: published for k, published in model.items() if k not in old}
        assert len(index) == len(model)
    assert dict(zip(*(each.tolist() for each in index.ages()), strict=True)) == model
    assert index.expire(now + 1000) == len(model)
    index.close()


def test_ages_do_not_pile_up_and_no_call_looks_at_all() -> None:
    index, looked = HotIndex(10**9), list[int]()
    keys = np.arange(1, 401, dtype=np.uint64)
    for n in range(40):
        index.put_many(keys, VECTORS, np.full(400, NOW + n), NOW + n)
        looked.append(len(index._by_age) + len(index._kept or []))
    assert max(looked) < 3 * 400 + 2 * hot._FEW
    one = np.array([401], np.uint64)
    while index._kept is None:
        index.put_many(one, VECTORS[:1], np.array([NOW + len(looked)]), NOW + 100)
        looked.append(0)
    before = len(index._by_age)
    index.put_many(one, VECTORS[:1], np.array([NOW + len(looked) + 1]), NOW + 100)
    assert before - len(index._by_age) <= hot._LOOKED_AT + hot._LOOKED_AT_EACH
    index.close()
