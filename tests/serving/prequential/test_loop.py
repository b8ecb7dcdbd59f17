from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import T0

from headrace.models.learning import examples as example_log
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.training import TrainJob
from headrace.serving.answering import Answer
from headrace.serving.policy import Policy
from headrace.serving.prequential import learning
from headrace.serving.prequential.loop import EvalSettings, Prequential, evaluate, place_by_score
from headrace.streams.messages.files import Click
from headrace.streams.settings import Settings

NEVER = EvalSettings(first_train=10**9)
#: Without exploration, with outcomes at once.
RULES = {"epsilon": "0", "strength": "0", "fresh_share": "0"}
CALM = Settings(candidates=400, rules=RULES, outcome_wait_ms=100, train_min_rows=100)


def clicks(sessions: Sequence[Sequence[str]], start: int = T0) -> list[Click]:
    return [
        Click(f"u{s}", f"s{s}", name, start + s * 2000 + k * 500, "1", "20")
        for s, names in enumerate(sessions)
        for k, name in enumerate(names)
    ]


def followers(n: int, kinds: int = 8, seed: int = 0) -> list[Click]:
    """A<i> is always followed by B<i>."""
    rng = np.random.default_rng(seed)
    return clicks([(f"A{i}", f"B{i}") for i in rng.integers(0, kinds, n).tolist()])


class Recording(Prequential):
    """Keeps every list it makes."""

    def __init__(self, folder: Path, how: EvalSettings = NEVER, settings: Settings = CALM) -> None:
        super().__init__(how, settings, folder)
        self.lists: list[tuple[int, list[int], bytes]] = []
        answer = self.recommender.answer

        def recorded(request: Any, user: Any, anchors: Any, now: int) -> Answer:
            answered = answer(request, user, anchors, now)
            ranked = self.recommender.last
            keys = ranked.pool.candidates.items[ranked.slate.chosen].tolist()
            self.lists.append((now, keys, ranked.features.tobytes()))
            return answered

        self.recommender.answer = recorded  # type: ignore[method-assign]


class Run:
    """Runs the evaluation over clicks, in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._runs = folder, 0

    def __call__(self, stream: Sequence[Click], how: EvalSettings = NEVER, s: Settings = CALM) -> Recording:
        self._runs += 1
        loop = Recording(self._folder / str(self._runs), how, s)
        for click in stream:
            loop.step(click)
        return loop


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_stream_without_surprises_is_foreseen(run: Run) -> None:
    score = run(followers(250, kinds=4)).score
    assert score.predictions == 250
    assert score.hit_rate > 0.97  # all but the first of each kind
    assert score.mrr > 0.95


def test_with_a_trained_ranker_too(run: Run) -> None:
    params = RankerParams(trees=15, leaves=7, min_leaf=5)
    score = run(followers(900), EvalSettings(first_train=510, retrain_every=100, params=params)).score
    assert score.trainings >= 2
    n, hits, gain = score.by_version["t2"]
    assert hits / n > 0.99
    assert gain / n > 0.95


def test_it_serves_and_trains_as_an_installation_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []
    train = learning.train_from_log

    def noted(job: TrainJob) -> Any:
        jobs.append(job)
        return train(job)

    monkeypatch.setattr(learning, "train_from_log", noted)
    shipped = Settings()
    loop = run(followers(300), EvalSettings(), shipped)
    no_limit = {"part_ms": float("inf"), "candidates_ms": float("inf")}
    assert loop.recommender.policy == replace(Policy.of(shipped), **no_limit)
    assert EvalSettings().params == RankerParams(), "the trainer's own"
    assert [job.params for job in jobs] == [RankerParams()]
    assert (jobs[0].min_rows, jobs[0].max_rows) == (shipped.train_min_rows, shipped.train_max_rows)


def test_shown_lists_become_examples_with_their_outcomes(run: Run, tmp_path: Path) -> None:
    loop = run(followers(300, kinds=4), EvalSettings(first_train=290))
    rows = example_log.read(tmp_path / "1")
    shown = sum(len(keys) for _, keys, _ in loop.lists)
    assert shown * 0.9 < rows.num_rows < shown, "all but those whose wait is not over"
    clicked = sum(rows.column("clicked").to_pylist())
    assert loop.score.hits * 0.9 < clicked <= loop.score.hits
    assert loop.recommender.online is not None


def test_what_the_rules_cost_is_seen(run: Run) -> None:
    by_chance = CALM.model_copy(update={"rules": {**RULES, "epsilon": "1"}})
    loop = run(followers(300, kinds=30), s=by_chance)
    assert loop.by_score.predictions == loop.score.predictions == 300
    assert loop.by_score.hit_rate > loop.score.hit_rate + 0.1
    assert loop.by_score.mrr > 2 * loop.score.mrr


def test_the_place_by_score() -> None:
    keys, score = np.array([3, 5, 7, 9], np.uint64), np.array([0.5, 0.7, 0.5, 0.1])
    assert [place_by_score(score, keys, key) for key in (3, 5, 7, 9, 4)] == [2, 1, 3, 4, 0]


def test_chance_cannot_be_foreseen(run: Run) -> None:
    rng = np.random.default_rng(0)
    stream = clicks([[f"x{i}" for i in rng.integers(0, 300, 2)] for _ in range(200)])
    assert run(stream).score.mrr < 0.2


def test_an_item_seen_for_the_first_time_is_never_a_hit(run: Run) -> None:
    score = run(clicks([(f"a{n}", f"b{n}", f"c{n}") for n in range(40)])).score
    assert score.predictions == 80
    assert score.hits == score.in_pool == 0


def test_a_click_never_informs_its_own_prediction(run: Run) -> None:
    prefix = followers(40)
    at = prefix[-1].ts + 5000
    first = Click("me", "mine", "A1", at, "1", "20")
    seen = []
    for name in ("B1", "B5", "A3", "never seen"):
        loop = run([*prefix, first, Click("me", "mine", name, at + 500, "1", "20")])
        seen.append(loop.lists[-1])
        assert len(loop.lists) == 41
    assert all(s == seen[0] for s in seen), "what was clicked changed the list that should foresee it"


def test_the_future_does_not_change_the_past(run: Run) -> None:
    stream = followers(50)
    half, whole = run(stream[:60]), run(stream)
    assert whole.lists[: len(half.lists)] == half.lists


def test_only_what_can_be_foreseen_is_asked_for(run: Run) -> None:
    # First clicks of a session and clicks on what the session has seen are learnt, not scored.
    score = run(clicks([("a", "b", "a", "b", "c")])).score
    assert score.predictions == 2


def test_the_sessions_own_clicks_are_not_proposed(run: Run) -> None:
    loop = run(clicks([("a", "b", "c", "d")] * 10))
    for (_, keys, _), session in zip(loop.lists, [1, 2, 3] * 10, strict=True):
        assert len(keys) <= 4 - session


def test_running_twice_gives_the_same(run: Run) -> None:
    stream = followers(50, seed=4)
    assert run(stream).lists == run(stream).lists


def test_the_towers_are_learnt_and_served_and_a_run_can_be_repeated(run: Run) -> None:
    settings = CALM.model_copy(update={"towers_every_s": 10.0})
    stream = followers(400, seed=5)
    one, two = run(stream, s=settings), run(stream, s=settings)
    versions = [loop.recommender.catalog.vectors.version for loop in (one, two)]
    assert versions[0] == versions[1] != ""
    assert one.lists == two.lists
    assert len(one.recommender.hot) > 10, "what was learnt about ids is searched"
    off = run(stream, s=CALM.model_copy(update={"towers_every_s": 0.0}))
    assert off.recommender.catalog.vectors.version == ""
    assert off.lists != one.lists


def test_the_report() -> None:
    told: list[int] = []
    alone = [replace(c, session=f"alone-{c.session}") for c in clicks([("z",)] * 800, T0 - 10_000_000)]
    out = evaluate([*alone, *followers(150, kinds=2)], CALM, NEVER, lambda n, _: told.append(n))
    assert out["clicks"] == 1100
    assert out["predictions"] == 150
    assert out["hr_at_20"] > 0.97
    assert 0 < out["mrr_at_20"] <= out["hr_at_20"]
    assert out["candidate_recall"] >= out["hr_at_20"]
    by_score = out["hr_at_20_by_score"], out["mrr_at_20_by_score"]
    assert by_score == (out["hr_at_20"], out["mrr_at_20"]), "no rule changes these lists"
    assert told == [1000]
    assert evaluate([], CALM, NEVER)["predictions"] == 0
