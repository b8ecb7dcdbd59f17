from __future__ import annotations

import msgspec
import numpy as np
import pytest

from headrace.models.learning.calibration import Calibration, Kind, best_kind, crossed, fitted, log_loss


def world(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Return scores, what happened, and halves; the scores are too large and too close to each other."""
    rng = np.random.default_rng(seed)
    score = np.clip(rng.beta(1, 8, n), 1e-4, 1)
    odds = 0.3 * (score / (1 - score)) ** 1.3
    return score, rng.random(n) < odds / (1 + odds), rng.random(n) < 0.5


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_probabilities_are_right_afterwards_on_other_examples(kind: Kind) -> None:
    score, happened, _ = world()
    other, truth, _ = world(seed=1)
    found = fitted(kind, score, happened).apply(other)
    for part in np.array_split(np.argsort(other), 5):
        assert found[part].mean() == pytest.approx(truth[part].mean(), rel=0.2, abs=0.001)
    assert log_loss(found, truth) < log_loss(other, truth)


@pytest.mark.parametrize("kind", ["none", "platt", "isotonic"])
def test_the_order_of_the_scores_is_kept(kind: Kind) -> None:
    score, happened, _ = world(3000)
    found = fitted(kind, score, happened).apply(np.sort(np.unique(np.r_[score, 1e-5, 1 - 1e-5])))
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] < found[-1] <= 1


def test_the_kind_with_the_least_loss_is_chosen() -> None:
    score, happened, half = world()
    assert best_kind(score, happened, half) in ("platt", "isotonic")
    rng = np.random.default_rng(3)
    honest = rng.beta(1, 8, 2000)
    truth = rng.random(2000) < honest
    losses = {
        k: log_loss(crossed(k, honest, truth, half[:2000]), truth) for k in ("none", "platt", "isotonic")
    }
    assert losses[best_kind(honest, truth, half[:2000])] == min(losses.values())  # type: ignore[index]
    steps = np.where(score < 0.1, 0.01, 0.4)
    stepped = np.random.default_rng(5).random(len(score)) < steps
    assert best_kind(score, stepped, half) == "isotonic"


def test_each_half_is_judged_by_the_other() -> None:
    score, happened, half = world(4000)
    found = crossed("isotonic", score, happened, half)
    by_others = fitted("isotonic", score[~half], happened[~half]).apply(score[half])
    np.testing.assert_array_equal(found[half], by_others)
    noise = np.random.default_rng(4).random(400) < 0.5
    inside = fitted("isotonic", score[:400], noise).apply(score[:400])
    assert log_loss(crossed("isotonic", score[:400], noise, half[:400]), noise) > log_loss(inside, noise)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_with_one_class_or_a_curve_that_falls_the_score_stays_as_it_is(kind: Kind) -> None:
    score, happened, _ = world(500)
    assert fitted(kind, score, np.zeros(500, bool)) == Calibration()
    assert fitted(kind, score, np.ones(500, bool)) == Calibration()
    if kind == "platt":
        assert fitted(kind, score, score < np.median(score)) == Calibration()
    separated = fitted(kind, score, score > np.median(score))
    assert np.isfinite(separated.apply(score)).all()
    assert happened.any()


@pytest.mark.parametrize("kind", ["none", "platt", "isotonic"])
def test_a_calibration_survives_json(kind: Kind) -> None:
    score, happened, _ = world(2000)
    one = fitted(kind, score, happened)
    again = msgspec.json.decode(msgspec.json.encode(one), type=Calibration)
    assert again == one
    assert again.sound()


@pytest.mark.parametrize(
    "wrong",
    [
        Calibration("platt", (-1.0, 0.0)),
        Calibration("platt", (1.0,)),
        Calibration("isotonic", (0.1, 0.2), (0.5, 0.4)),
        Calibration("isotonic", (0.2, 0.1), (0.1, 0.2)),
        Calibration("isotonic", (), ()),
        Calibration("isotonic", (0.1,), (float("nan"),)),
        Calibration("isotonic", (0.1,), (2.0,)),
        Calibration("none", (1.0,)),
    ],
)
def test_what_is_no_rising_curve_is_not_sound(wrong: Calibration) -> None:
    assert not wrong.sound()
