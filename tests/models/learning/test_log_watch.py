"""The newest of the log: scores that do not follow from their features are counted, and drift is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from leaf_world import trained
from logged_examples import example, write

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning import histograms, log_watch, ranker
from headrace.models.learning.examples import features_of
from headrace.models.learning.log_watch import LogWatch, drift_of, newest_slots
from headrace.models.learning.registry import Registry
from headrace.streams.messages.schemas import Example


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def registered(registry: Registry) -> str:
    value, version = ranker.encode(trained().text, 1, {})
    registry.add(value, "trained")
    return version


def served(n: int, version: str, seed: int = 0, **changes: Any) -> list[Example]:
    """Return examples whose scores are those of the ranker of ``leaf_world``."""
    rng = np.random.default_rng(seed)
    out = [example(i, rng) for i in range(n)]
    x = np.stack([np.frombuffer(e.features, "<f4") for e in out])
    x[:, POSITION] = 0
    scores = trained().predict(x).tolist()
    made = zip(out, x, scores, range(n), strict=True)
    for e, row, score, i in made:
        row[POSITION] = i % 5
        e.features, e.score, e.ranker = row.tobytes(), score, version
    return [msgspec.structs.replace(e, **changes) for e in out]


def test_scores_that_do_not_follow_are_counted_and_named_once(registry: Registry, folder: Path) -> None:
    version = registered(registry)
    examples = served(1200, version)
    examples[700].score += 1e-6
    write(folder, examples)
    watch = LogWatch(folder, registry)
    assert watch.look("") == [700]
    assert (watch.checked, watch.skewed) == (1200, 1)
    assert watch.look("") == []
    assert (watch.checked, watch.skewed) == (1200, 1), "nothing is counted twice"
    more = served(100, version, 1)
    more[3].features = more[4].features
    write(folder, more, first=1200)
    assert watch.look("") == [1203]
    assert (watch.checked, watch.skewed) == (1300, 2)


def test_what_cannot_be_computed_again_is_not_checked(registry: Registry, folder: Path) -> None:
    version = registered(registry)
    write(folder, served(50, version, score=9.0, leaves="m"))
    write(folder, served(50, "", score=9.0), first=50)
    write(folder, served(50, "0" * 12, score=9.0), first=100)
    write(folder, served(50, version, score=9.0, unshown=True), first=150)
    old = write(folder, served(50, version, score=9.0), first=200)
    pq.write_table(pq.read_table(old).drop_columns(["leaves"]), old)
    write(folder, served(50, version), first=250)
    watch = LogWatch(folder, registry)
    assert watch.look("") == []
    assert (watch.checked, watch.skewed) == (50, 0)


def test_of_many_a_share_is_checked(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_watch, "CHECKED", 100)
    write(folder, served(1000, registered(registry)))
    watch = LogWatch(folder, registry)
    watch.look("")
    assert watch.checked == 100


def test_a_topic_that_was_made_again_begins_anew(registry: Registry, folder: Path) -> None:
    version = registered(registry)
    path = write(folder, served(300, version))
    watch = LogWatch(folder, registry)
    watch.look("")
    path.unlink()
    write(folder, served(40, version), ts=2000)
    watch.look("")
    assert watch.checked == 340


def test_the_newest_files_are_read_shown_slots_only(folder: Path) -> None:
    for n in range(5):
        write(folder, served(100, ""), first=100 * n, ts=1000 + n)
        write(folder, served(20, "", unshown=True), first=100 * n, partition=1, ts=1000 + n)
    slots = newest_slots(folder, 150)
    assert sorted(slots.column("log_offset").to_pylist()) == list(range(300, 500))
    assert features_of(slots).shape == (200, len(SPEC))
    assert len(newest_slots(folder / "nowhere", 10)) == 0


def test_drift_planted_in_one_feature_is_named(registry: Registry, folder: Path) -> None:
    version = registered(registry)
    write(folder, served(4000, version))
    kept = features_of(newest_slots(folder, 4000))
    watch = LogWatch(folder, registry)
    watch.look(version)
    assert watch.drift == [], "there are no distributions of this training"
    histograms.save(registry.folder_of_version(version), histograms.histograms(kept))
    watch.look(version)
    assert watch.rows == 4000
    assert watch.drift[0].psi == 0
    moved = served(4000, version, 1)
    for e in moved:
        x = np.frombuffer(e.features, "<f4").copy()
        x[SPEC.index("country_share_1h")] += 1
        e.features = x.tobytes()
    write(folder, moved, first=4000, ts=2000)
    found, n = drift_of(folder, registry, version, 4000)
    assert n == 4000
    assert found[0].feature == "country_share_1h"
    assert found[0].psi > 0.5 > 0.05 > found[1].psi
    watch.look(version)
    assert watch.drift[0].feature == "country_share_1h"
    assert 0.1 < watch.drift[0].psi < found[0].psi, "half of what it looks at is older"


def test_a_few_slots_say_nothing(registry: Registry, folder: Path) -> None:
    version = registered(registry)
    write(folder, served(500, version))
    histograms.save(
        registry.folder_of_version(version), histograms.histograms(features_of(newest_slots(folder, 500)))
    )
    assert drift_of(folder, registry, version) == ([], 500)
