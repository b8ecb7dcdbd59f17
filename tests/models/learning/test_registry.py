"""The registry: a version is what it was when it was registered, or it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning import gate, ranker
from headrace.models.learning.evaluation import auc
from headrace.models.learning.ranker import Ranker, RankerParams, train
from headrace.models.learning.registry import Registry, folder_of
from headrace.streams.errors import ArtefactError
from headrace.streams.settings import Settings


def test_a_version_comes_back_as_it_was(tmp_path: Path, trained: Ranker) -> None:
    value, version = ranker.encode(trained.text, 7, {"auc": 0.7})
    registry = Registry(tmp_path / "r")
    assert registry.versions() == []
    about = registry.add(value, "trained", "too bad")
    assert registry.versions() == [about]
    assert (about.version, about.created_ts, about.refused) == (version, 7, "too bad")
    assert registry.record(version) == value
    assert registry.model_file(version).read_text() == trained.text
    assert ranker.decode(registry.record(version)).predict(np.zeros((1, len(SPEC)), np.float32)).shape == (1,)


def test_a_text_that_was_changed_is_refused(tmp_path: Path, trained: Ranker) -> None:
    value, version = ranker.encode(trained.text, 7, {})
    registry = Registry(tmp_path)
    registry.add(value, "trained")
    file = registry.model_file(version)
    file.write_text(trained.text.replace("leaf_value=", "leaf_value=9", 1))
    with pytest.raises(ArtefactError, match="checksum"):
        registry.record(version)
    file.unlink()
    with pytest.raises(ArtefactError, match="cannot be read"):
        registry.record(version)


@pytest.mark.parametrize("version", ["../../etc/passwd", "", "0" * 11, "0" * 12, "A" * 12])
def test_a_version_that_does_not_exist_is_named(tmp_path: Path, version: str) -> None:
    with pytest.raises(ArtefactError, match=r"version|not in"):
        Registry(tmp_path).about(version)


def test_old_versions_go_but_not_those_in_use(tmp_path: Path, trained: Ranker) -> None:
    registry, names = Registry(tmp_path), []
    for n in range(6):
        value, version = ranker.encode(f"{trained.text}\n{n}", n, {})
        registry.add(value, "trained")
        names.append(version)
    assert registry.prune(2, {names[0]}) == [names[3], names[2], names[1]]
    assert [about.version for about in registry.versions()] == [names[5], names[4], names[0]]


def test_each_installation_has_its_own(tmp_path: Path) -> None:
    s = Settings(data_dir=tmp_path, topic_prefix="a-")
    assert folder_of(s) == tmp_path / "models" / "a-ranker"
    assert folder_of(s.model_copy(update={"models_dir": "/m"})) == Path("/m/a-ranker")


# --- the gate ---


def lists(seed: int, n: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, clicks that follow the first of them, and lists of ten."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(SPEC))).astype(np.float32)
    return x, rng.random(n) < np.where(x[:, 0] > 0.5, 0.5, 0.05), np.arange(n, dtype=np.uint64) // 10


def fitted(x: np.ndarray, y: np.ndarray) -> Ranker:
    return Ranker(train(x, y.astype(np.float32), RankerParams(trees=20, min_leaf=20)), SPEC.names, "v")


def test_a_ranker_of_flipped_labels_is_refused_and_one_like_the_live_one_is_not() -> None:
    x, y, _ = lists(1)
    live, alike, flipped = fitted(x, y), fitted(*lists(2)[:2]), fitted(x, ~y)
    new, clicked, groups = lists(3)
    same = gate.compare(alike, live, new, clicked, groups)
    assert gate.refusal(same, 0.02) == ""
    bad = gate.compare(flipped, live, new, clicked, groups)
    assert bad["gate_auc"] < 0.5 < bad["gate_live_auc"]
    assert "auc" in gate.refusal(bad, 0.02)
    assert gate.refusal(bad, 1.0) == ""
    assert gate.refusal({**same, "gate_auc": float("nan")}, 0.02), "what is no number is not good enough"


def test_position_flatters_nobody() -> None:
    x, y, _ = lists(1)
    x[:, POSITION] = np.where(y, 0, 9)  # as if only the first slot were clicked
    x[:, 0] = np.random.default_rng(4).normal(size=len(x))  # and nothing else were to be learnt
    by_position, live = fitted(x, y), fitted(*lists(2)[:2])
    new, clicked, groups = lists(3)
    new[:, POSITION] = np.where(clicked, 0, 9)
    assert gate.refusal(gate.compare(by_position, live, new, clicked, groups), 0.02)
    assert new[:, POSITION].max() == 9, "the rows are not changed"


def test_the_live_ranker_does_not_gain_by_what_it_has_put_at_the_top() -> None:
    x, y, _ = lists(1)
    live, other = fitted(x, y), fitted(x, x[:, 1] > 0)
    new, _, groups = lists(3, 20_000)
    scores = live.predict(np.where(np.arange(len(SPEC)) == POSITION, 0, new))
    order = np.lexsort((-scores, groups))
    new[order, POSITION] = np.arange(len(new)) % 10  # its lists
    rng = np.random.default_rng(5)
    clicked = rng.random(len(new)) < 0.6 / (1 + new[:, POSITION])  # nothing else counts
    told = gate.compare(other, live, new, clicked, groups)
    assert auc(live.predict(new), clicked) > 0.6, "over all slots it would"
    assert told["gate_live_auc"] == pytest.approx(0.5, abs=0.02)
    assert told["gate_auc"] == pytest.approx(0.5, abs=0.02)


def test_too_few_clicks_decide_nothing() -> None:
    x, y, groups = lists(1)
    live = fitted(x, y)
    few = np.zeros(len(y), bool)
    few[: gate.LEAST_CLICKS - 1] = True
    assert gate.compare(live, live, x, few, groups) == {}
    assert gate.refusal({}, 0.02) == ""
