"""What lists are worth: expected clicks, the best list, regret; and what moves in the simulated audience."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from headrace.demo.simulation.fatigue import FATIGUE, MOST_LOOKS, Fatigue
from headrace.demo.simulation.formula import examination, taste
from headrace.demo.simulation.simulator import Simulator, Visit
from headrace.demo.simulation.tally import Tally
from headrace.demo.simulation.truth import Regret, best_items, expected_clicks
from headrace.demo.simulation.world import WorldSpec
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.settings import MINUTE_MS

NOW = 1_700_000_000_000
SPEC = WorldSpec(items=300, users=400)


def started(spec: WorldSpec = SPEC) -> Simulator:
    sim = Simulator(spec, NOW)
    sim.starting_items()
    return sim


def visit_of(sim: Simulator, user: int) -> Visit:
    control = bool(sim.audience.control[user])
    return Visit(user, control, RecRequest(f"r{user}", sim.audience.ids[user], "home"))


def people(sim: Simulator) -> list[int]:
    return np.flatnonzero(~sim.audience.bots).tolist()


def test_expected_clicks_of_a_known_list() -> None:
    worth = np.array([0.5, 0.0, 0.2])
    top, second, third, fourth = examination(np.arange(4))
    assert expected_clicks(np.array([2, 0]), worth) == pytest.approx(top * 0.2 + second * 0.5)
    assert expected_clicks(np.array([-1, 0, 0, 2]), worth) == pytest.approx(second * 0.5 + fourth * 0.2)
    assert third > fourth
    assert expected_clicks(np.zeros(0, np.int64), worth) == 0


def test_no_other_list_is_better_than_the_best_one() -> None:
    worth = np.random.default_rng(1).random(7)
    best = max(permutations(range(7), 3), key=lambda some: expected_clicks(np.array(some), worth))
    assert best_items(worth, 3).tolist() == list(best)
    assert best_items(worth, 50).tolist() == np.argsort(-worth).tolist()
    assert best_items(np.ones(5), 3).tolist() == [0, 1, 2]
    assert len(best_items(np.zeros(0), 3)) == 0


def test_the_best_list_has_no_regret_and_every_other_one_has() -> None:
    sim = started()
    for user in people(sim)[:20]:
        visit = visit_of(sim, user)
        sim.judge(visit, sim.best_list(user, NOW, 20), NOW)
    for regret in sim.tally.regret.values():
        assert regret.share == 1 if regret.lists else regret.share == 0
        assert regret.a_list == 0
    user = next(u for u in people(sim) if not sim.audience.control[u])
    sim.judge(visit_of(sim, user), sim.best_list(user, NOW, 20)[::-1], NOW)
    assert 0.5 < sim.tally.regret[False].share < 1
    assert sim.tally.regret[False].a_list > 0


def test_regret_is_a_ratio_of_sums() -> None:
    regret = Regret()
    regret.add(1.0, 2.0)
    regret.add(2.0, 2.0)
    assert (regret.share, regret.a_list) == (0.75, 0.5)


def test_clicks_come_as_often_as_expected() -> None:
    sim = started(WorldSpec(items=300, users=1200))
    expected = clicked = 0.0
    for user in people(sim):
        best = sim.best_list(user, NOW, 20)
        expected += sim.expected(user, best, NOW)
        clicked += sum(e.type == "click" for e in sim.look(visit_of(sim, user), best, NOW))
    assert abs(clicked - expected) < 4 * np.sqrt(expected)
    assert expected > 300


def test_what_was_read_is_worth_nothing() -> None:
    sim = started()
    user = people(sim)[0]
    best = sim.best_list(user, NOW, 20)
    before = sim.expected(user, best, NOW)
    while not (events := [e for e in sim.look(visit_of(sim, user), best, NOW) if e.type == "click"]):
        pass
    read = {e.item_id for e in events}
    assert read.isdisjoint(sim.best_list(user, NOW, 20))
    assert sim.expected(user, list(read), NOW) == 0
    assert sim.expected(user, best, NOW) < before


def test_every_look_without_a_click_tires() -> None:
    fatigue = Fatigue()
    for _ in range(MOST_LOOKS + 3):
        fatigue.looked(1, [4])
    fatigue.looked(1, [2])
    lost = [0, 0, FATIGUE, 0, MOST_LOOKS * FATIGUE]
    assert fatigue.lost_everywhere(1, 5) == pytest.approx(lost)
    assert fatigue.lost(1, np.array([4, 0, 2])) == pytest.approx([lost[4], 0, FATIGUE])
    assert not fatigue.lost_everywhere(2, 5).any()


def test_a_list_shown_again_and_again_is_clicked_less() -> None:
    sim = started()
    user = people(sim)[0]
    worst = [sim.catalog.ids[i] for i in np.argsort(sim.worth(user, NOW))[:20]]
    before = sim.expected(user, worst, NOW)
    for _ in range(40):
        sim.look(visit_of(sim, user), worst, NOW)
    unread = [i for i in worst if sim.catalog.index([i])[0] not in sim._read.get(user, ())]
    assert sim.expected(user, unread, NOW) < 0.6 * before


def test_tastes_move_at_the_rate_asked_for_and_a_run_can_be_repeated() -> None:
    one, two, still = started(), started(), started(WorldSpec(items=300, users=400, drift_per_min=0.0))
    before = one.audience.category.copy()
    one.visits(NOW + 2 * MINUTE_MS, limit=0)
    for ts in range(NOW, NOW + 2 * MINUTE_MS + 1, 10_000):
        two.visits(ts, limit=0)
    still.visits(NOW + 2 * MINUTE_MS, limit=0)
    assert (still.audience.category == before).all()
    moved = (one.audience.category != before).any(1)
    assert 0.15 < moved.mean() < 0.4  # 0.4 draws for each user; some fall on a category that is liked already
    assert not np.array_equal(one.audience.liked[moved], still.audience.liked[moved])
    assert (one.audience.liked[~moved] == still.audience.liked[~moved]).all()
    assert two.audience._moved == one.audience._moved


def test_a_moved_taste_is_as_strong_as_before() -> None:
    sim = started()
    audience, items = sim.audience, np.arange(sim.catalog.size)
    before = audience.category.copy()
    user, old = 5, int(audience.liked[5, 0])
    new = next(c for c in range(before.shape[1]) if c not in audience.liked[user])
    audience._move(user, 0, new)
    assert audience.liked[user, 0] == new
    gained, lost = audience.category[user, new] - before[user, new], audience.category[user, old]
    assert gained > 1
    assert lost < before[user, old] - 1
    audience._move(user, 0, old)
    assert audience.category[user] == pytest.approx(before[user], abs=1e-5)
    assert len(taste(audience, sim.catalog, user, items)) == len(items)


def test_bots_click_by_chance_and_are_in_no_figure() -> None:
    sim = started(WorldSpec(items=300, users=2000, bot_share=0.05))
    bots = np.flatnonzero(sim.audience.bots)
    assert len(bots) == pytest.approx(100, rel=0.4)
    assert not sim.audience.known[bots].any()
    for user in bots.tolist():
        visit = visit_of(sim, user)
        shown = sim.catalog.ids[:20]
        sim.judge(visit, shown, NOW)
        assert sim.look(visit, shown, NOW)
    clicks = sum(len(items) for items in sim._read.values())
    assert clicks == pytest.approx(0.3 * 20 * len(bots), rel=0.2)
    assert sim.tally.slots == {True: {}, False: {}}
    assert not any(regret.lists for regret in sim.tally.regret.values())
    assert not sim.audience.bots[sim.regular()]


def test_the_share_of_the_best_over_a_time_is_that_of_its_sums() -> None:
    tally = Tally()
    tally.judge(False, 1000, 1.0, 4.0)
    tally.judge(False, 1999, 2.0, 4.0)
    tally.judge(False, 2000, 3.0, 3.0)
    tally.judge(True, 1000, 0.5, 1.0)
    assert tally.best_share(False, 1000, 2000) == pytest.approx(3 / 8)
    assert tally.best_share(False) == pytest.approx(6 / 11) == tally.regret[False].share
    assert tally.best_share(True) == 0.5
    assert tally.best_share(False, 3000) == 0
