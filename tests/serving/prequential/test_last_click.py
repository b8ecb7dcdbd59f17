"""The last-click protocol: which clicks count, and what the figures are."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_headrace
from strategies import T0

from headrace.serving.answering import Answer
from headrace.serving.prequential.last_click import (
    HourlyScore,
    LastClicks,
    evaluate_last_clicks,
    kept,
    second_day,
)
from headrace.serving.prequential.loop import EvalSettings
from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import Click
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings

NEVER = EvalSettings(first_train=10**9)
CALM = Settings(candidates=200, rules={"epsilon": "0", "strength": "0", "fresh_share": "0"})
START = T0 // DAY_MS * DAY_MS + 22 * HOUR_MS  # two hours before midnight


def click(session: str, item: str, ts: int) -> Click:
    return Click(f"user-{session}", session, item, ts, "1", "20")


def four_hours(sessions: int = 400, seed: int = 1) -> list[Click]:
    """Return sessions of one to four clicks around midnight; the item B<i> always follows A<i>."""
    rng = np.random.default_rng(seed)
    out = []
    for s in range(sessions):
        begin = START + s * 4 * HOUR_MS // sessions
        names = [f"{letter}{int(rng.integers(12))}" for letter in "CDEF"][: int(rng.integers(1, 5))]
        if rng.random() < 0.5:
            i = int(rng.integers(6))
            names[-1:] = [f"A{i}", f"B{i}"]
        out += [click(f"s{s}", name, begin + k * 1000) for k, name in enumerate(names)]
    return sorted(out, key=lambda c: c.ts)


def test_repeats_long_sessions_and_single_clicks_are_left_out() -> None:
    clicks = [click("a", f"i{n % 25}", T0 + n) for n in range(60)]
    clicks += [click("b", "x", T0 + 100), click("b", "x", T0 + 101), click("c", "x", T0 + 102)]
    clicks += [click("d", "x", T0 + 103), click("c", "y", T0 + 104), click("c", "x", T0 + 105)]
    found = [(c.session, c.item) for c in kept(clicks)]
    assert found == [*(("a", f"i{n}") for n in range(20)), ("c", "x"), ("c", "y")]
    assert second_day(clicks) == (T0 // DAY_MS + 1) * DAY_MS


def test_figures_are_means_over_hours_with_enough_clicks() -> None:
    score = HourlyScore()
    for n in range(20):
        score.add(T0 // HOUR_MS * HOUR_MS + n, 1 if n < 10 else 0)
    for n in range(40):
        score.add((T0 // HOUR_MS + 1) * HOUR_MS + n, 3)
    for n in range(19):
        score.add((T0 // HOUR_MS + 2) * HOUR_MS + n, 1)
    ndcg = round((0.5 + 1 / math.log2(4)) / 2, 4)
    assert score.figures() == {"hours": 2, "predictions": 60, "hr_at_20": 0.75, "ndcg_at_20": ndcg}
    assert HourlyScore().figures()["hours"] == 0


def test_the_last_click_of_each_session_of_the_second_day_is_scored(tmp_path: Path) -> None:
    clicks = kept(four_hours())
    last, first = {c.session: c.item for c in clicks}, second_day(clicks)
    assert first == START + 2 * HOUR_MS
    loop = LastClicks(NEVER, CALM, tmp_path, last, first)
    lists: list[list[str]] = []
    answer = loop.recommender.answer

    def recorded(request: Any, *more: Any) -> Answer:
        answered = answer(request, *more)
        lists.append([item.item_id for item in answered.reply.items])
        return answered

    loop.recommender.answer = recorded  # type: ignore[method-assign]
    hours: dict[int, list[float]] = defaultdict(list)
    done: dict[str, list[str]] = defaultdict(list)
    for c in clicks:
        lists.clear()
        loop.step(c)
        if done[c.session]:
            (shown,) = lists
            assert not set(shown) & set(done[c.session])
            if c.item == last[c.session] and c.ts >= first:
                hours[c.ts // HOUR_MS].append(
                    1 / math.log2(shown.index(c.item) + 2) if c.item in shown else 0
                )
        done[c.session].append(c.item)
    expected = np.mean([np.mean(gains) for gains in hours.values()])
    found = loop.hourly.figures()
    assert found["predictions"] == sum(map(len, hours.values())) > 100
    assert found["ndcg_at_20"] == pytest.approx(expected, abs=6e-5)
    assert loop.score.predictions > 2 * found["predictions"], "all lists are made, and learnt"


def test_what_is_learnt_helps() -> None:
    figures = evaluate_last_clicks(four_hours(600), CALM, how=NEVER)
    assert figures["hours"] == 2
    assert figures["hr_at_20"] > 0.7
    by_score = figures["hr_at_20_by_score"], figures["ndcg_at_20_by_score"]
    assert by_score == (figures["hr_at_20"], figures["ndcg_at_20"]), "no rule changes these lists"
    shuffled = evaluate_last_clicks(four_hours(600), CALM, 0, NEVER)
    assert shuffled["predictions"] > figures["predictions"]


def test_too_few_clicks_are_named() -> None:
    with pytest.raises(ConfigError, match="two items"):
        evaluate_last_clicks([click("a", "x", T0)], CALM)
    with pytest.raises(ConfigError, match="20 last clicks"):
        evaluate_last_clicks(four_hours(20), CALM, how=NEVER)


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, out = tmp_path / "clicks.csv", tmp_path / "out.json"
    names = [
        "user_id",
        "session_id",
        "click_article_id",
        "click_timestamp",
        "click_deviceGroup",
        "click_region",
    ]
    with file.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(names)
        rows.writerows([c.user, c.session, c.item, c.ts, c.device, c.region] for c in four_hours(300))
    arguments = ("eval", "globo", str(file), "--protocol", "last-click", "--json", str(out))
    assert run_headrace(monkeypatch, *arguments) == 0
    figures = json.loads(out.read_text())
    assert f"{figures['predictions']:,} predictions in 2 hours: HR@20" in capsys.readouterr().out
    assert figures["first_scored_ts"] == START + 2 * HOUR_MS
