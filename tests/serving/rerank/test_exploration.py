from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from slates import by_mmr, run
from strategies import unit_vectors


@pytest.mark.parametrize("lam", [1.0, 0.5])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_propensities_are_exact(lam: float, epsilon: float) -> None:
    """Frequencies over many runs: of the first slot, and of the second given the first."""
    score, runs = [0.9, 0.8, 0.75, 0.2, 0.1], 5000
    first, logged = Counter[int](), dict[int, float]()
    second: dict[int, Counter[int]] = {}
    logged_second: dict[tuple[int, int], float] = {}
    vectors = unit_vectors(5, 1)
    rng = np.random.default_rng(11)
    for _ in range(runs):
        slate = by_mmr(np.array(score), vectors, 2, lam, epsilon, rng)
        a, b = slate.chosen.tolist()
        first[a] += 1
        second.setdefault(a, Counter())[b] += 1
        assert logged.setdefault(a, slate.propensity[0]) == slate.propensity[0]
        assert logged_second.setdefault((a, b), slate.propensity[1]) == slate.propensity[1]
    for item, p in logged.items():
        assert first[item] / runs == pytest.approx(p, abs=4 * (p * (1 - p) / runs) ** 0.5 + 1e-9)
    if epsilon > 0:
        assert sum(logged.values()) == pytest.approx(1), "a slot's propensities do not add up to 1"
    for a, counts in second.items():
        total = counts.total()
        if total < 200:
            continue
        assert sum(logged_second[a, b] for b in counts) == pytest.approx(1)
        for b, count in counts.items():
            p = logged_second[a, b]
            assert count / total == pytest.approx(p, abs=4.5 * (p * (1 - p) / total) ** 0.5 + 1e-9)


def test_a_slots_propensities_add_up_to_one() -> None:
    # Whatever a slot shows, the others' chances are what is left.
    seen: dict[int, float] = {}
    for seed in range(3000):
        slate = run([3, 2, 1, 0.5], 1, epsilon=0.4, seed=seed)
        seen[int(slate.chosen[0])] = float(slate.propensity[0])
    assert set(seen) == {0, 1, 2, 3}
    assert sum(seen.values()) == pytest.approx(1)


def test_exploring_everything_is_uniform() -> None:
    slate = run(np.arange(10), 10, epsilon=1)
    np.testing.assert_allclose(slate.propensity, 1 / (10 - np.arange(10)))


def test_the_last_candidate_is_certain() -> None:
    assert run([1.0], 5, epsilon=0.5).propensity.tolist() == [1]
