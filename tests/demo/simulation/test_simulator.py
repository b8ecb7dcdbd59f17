from __future__ import annotations

import msgspec
import numpy as np
import pytest

from headrace.demo.simulation.formula import appeal, examination, taste
from headrace.demo.simulation.popularity import Popularity
from headrace.demo.simulation.simulator import PAST_MS, Simulator, Visit
from headrace.demo.simulation.tally import Tally
from headrace.demo.simulation.vocabulary import CATEGORIES
from headrace.demo.simulation.world import WorldSpec
from headrace.streams.messages.schemas import Event, Item, RecRequest, UserProfile, check_event, check_request
from headrace.streams.settings import HOUR_MS, MINUTE_MS

NOW = 1_700_000_000_000
SPEC = WorldSpec(items=1200, users=400)


def started(spec: WorldSpec = SPEC, *, past: bool = False) -> Simulator:
    sim = Simulator(spec, NOW)
    sim.starting_items()
    if past:
        sim.past()
    sim.begin(NOW)
    return sim


def visit_of(sim: Simulator, user: int, control: bool = False) -> Visit:
    return Visit(user, control, RecRequest(f"r{user}", sim.audience.ids[user], "home"))


@pytest.fixture(scope="module")
def lived() -> tuple[Simulator, list[Visit], list[Event]]:
    """Twenty seconds: the control group sees the popular list, all other users a random list."""
    sim = started(past=True)
    rng = np.random.default_rng(3)
    visits, events = [], []
    for ts in range(NOW, NOW + 20_000, 100):
        for visit in sim.visits(ts):
            shown = (
                sim.popular(visit, ts)
                if visit.control
                else [sim.catalog.ids[i] for i in rng.integers(0, sim.catalog.size, 20)]
            )
            visits.append(visit)
            events += sim.look(visit, shown, ts)
            sim.go_on(visit, ts)
    return sim, visits, events


def test_the_same_seed_makes_the_same_world() -> None:
    def world(seed: int) -> tuple[list[Item], list[UserProfile], list[Event]]:
        sim = Simulator(WorldSpec(items=200, users=100, seed=seed), NOW)
        return sim.starting_items(), sim.profiles(), sim.past()

    assert world(1) == world(1)
    assert world(1) != world(2)


def test_catalogue_and_profiles_are_valid_messages() -> None:
    sim = Simulator(SPEC, NOW)
    items, profiles = sim.starting_items(), sim.profiles()
    assert msgspec.json.decode(msgspec.json.encode(items), type=list[Item]) == items
    assert msgspec.json.decode(msgspec.json.encode(profiles), type=list[UserProfile]) == profiles
    assert len({i.item_id for i in items}) == SPEC.items
    assert {i.category for i in items} == set(CATEGORIES)
    assert all(NOW - SPEC.spread_ms <= i.published_ts <= NOW and i.title and len(i.tags) == 3 for i in items)
    assert len(profiles) == pytest.approx(SPEC.known_share * SPEC.users, rel=0.15)
    assert any(p.preferred_categories for p in profiles)
    assert not all(p.preferred_categories for p in profiles)


def test_strangers_have_no_past() -> None:
    sim = Simulator(SPEC, NOW)
    sim.starting_items()
    past = sim.past()
    known = {sim.audience.ids[u] for u in np.flatnonzero(sim.audience.known)}
    assert {e.user_id for e in past} <= known
    assert [e.ts for e in past] == sorted(e.ts for e in past)
    assert past[0].ts >= NOW - PAST_MS
    assert past[-1].ts < NOW
    assert all(e.request_id == "" and e.position is None for e in past)


def test_popularity_is_a_decent_baseline_and_taste_beats_it(
    lived: tuple[Simulator, list[Visit], list[Event]],
) -> None:
    sim, visits, _ = lived
    everything = np.arange(sim.catalog.size)
    looked_at = examination(np.arange(20))
    random_list, popular, best = [], [], []
    rng = np.random.default_rng(5)
    for visit in visits[:200]:
        p = appeal(sim.audience, sim.catalog, visit.user, everything, NOW)
        random_list.append((looked_at * p[rng.choice(everything, 20, replace=False)]).mean())
        popular.append((looked_at * p[sim.catalog.index(sim.popular(visit, NOW + 20_000))]).mean())
        best.append((looked_at * np.sort(p)[::-1][:20]).mean())
    assert 0.03 < np.mean(random_list) < 0.05
    assert np.mean(popular) > 1.6 * np.mean(random_list)
    assert np.mean(best) > 2 * np.mean(popular)


def test_click_rates_come_from_what_was_shown(lived: tuple[Simulator, list[Visit], list[Event]]) -> None:
    sim, visits, events = lived
    control = {sim.audience.ids[u] for u in np.flatnonzero(sim.audience.control)}
    bots = {sim.audience.ids[u] for u in np.flatnonzero(sim.audience.bots)}
    people = [e for e in events if e.user_id not in bots]
    assert len(people) < len(events)
    for kind in (True, False):
        shown = sum(20 for v in visits if v.control is kind and v.request.user_id not in bots)
        clicked = sum(e.type == "click" and (e.user_id in control) is kind for e in people)
        assert sim.tally.rate(kind) == pytest.approx(clicked / shown)
    assert sim.tally.rate(True) > sim.tally.rate(False)


def test_events_are_valid_and_name_only_requests_of_ours(
    lived: tuple[Simulator, list[Visit], list[Event]],
) -> None:
    _, visits, events = lived
    assert len({e.event_id for e in events}) == len(events)
    assert msgspec.json.decode(msgspec.json.encode(events), type=list[Event]) == events
    ours = {v.request.request_id: v.request for v in visits if not v.control}
    others = {v.request.user_id for v in visits if v.control}
    for event in events:
        check_event(event, event.ts, HOUR_MS, 5 * MINUTE_MS)
        assert event.position is not None
        assert event.context.country
        assert event.context.device
        if event.request_id:
            assert ours[event.request_id].user_id == event.user_id
        else:
            assert event.user_id in others
    kinds = {e.type for e in events}
    assert {"click", "dwell", "skip", "like", "save"} <= kinds


def test_nobody_opens_a_thing_twice(lived: tuple[Simulator, list[Visit], list[Event]]) -> None:
    _, _, events = lived
    opened = [(e.user_id, e.item_id) for e in events if e.type == "click"]
    assert len(opened) == len(set(opened))


def test_a_click_is_followed_by_its_dwell(lived: tuple[Simulator, list[Visit], list[Event]]) -> None:
    _, _, events = lived
    clicks = {(e.user_id, e.item_id): e for e in events if e.type == "click"}
    dwells = {(e.user_id, e.item_id): e for e in events if e.type == "dwell"}
    assert clicks.keys() == dwells.keys()
    assert all(dwells[k].ts > clicks[k].ts and dwells[k].request_id == clicks[k].request_id for k in clicks)


def test_people_read_longer_what_they_like(lived: tuple[Simulator, list[Visit], list[Event]]) -> None:
    sim, _, events = lived
    dwells = [e for e in events if e.type == "dwell"]
    liking = [
        taste(sim.audience, sim.catalog, sim.audience.ids.index(e.user_id), sim.catalog.index([e.item_id]))[0]
        for e in dwells
    ]
    assert np.corrcoef(liking, np.log([e.dwell_ms or 1 for e in dwells]))[0, 1] > 0.2


def test_requests_are_valid_and_come_at_the_rate_asked_for(
    lived: tuple[Simulator, list[Visit], list[Event]],
) -> None:
    sim, visits, _ = lived
    assert len(visits) == pytest.approx(20 * SPEC.visits_per_s, rel=0.25)
    assert len({v.request.request_id for v in visits}) == len(visits)
    for visit in visits:
        check_request(visit.request)
        assert visit.request.n == SPEC.n
        assert visit.control == bool(sim.audience.control[visit.user])
    assert {v.request.surface for v in visits} == {"home", "related"}


def test_visits_are_bounded_after_a_pause() -> None:
    sim = started()
    assert len(sim.visits(NOW + 60_000, limit=50)) == 50


def test_a_slower_pace_means_fewer_visits() -> None:
    def count(pace: float) -> int:
        sim = started()
        sim.pace = pace
        total = 0
        for ts in range(NOW, NOW + 30_000, 100):
            for visit in sim.visits(ts):
                total += ts >= NOW + 10_000
                sim.go_on(visit, ts)
        return total

    assert count(0.5) == pytest.approx(0.5 * count(1.0), rel=0.3)


def test_the_control_group_is_a_share_of_the_users_and_stays_the_same() -> None:
    one, other = Simulator(SPEC, NOW), Simulator(WorldSpec(items=100, users=SPEC.users, seed=99), NOW)
    assert one.audience.control.mean() == pytest.approx(SPEC.control_share, abs=0.05)
    assert (one.audience.control == other.audience.control).all()


def test_new_items_trickle_in() -> None:
    sim = Simulator(WorldSpec(items=100, users=20, new_items_per_s=2.0), NOW)
    sim.starting_items()
    fresh = [i for ts in range(NOW, NOW + 10_001, 700) for i in sim.new_items(ts)]
    assert len(fresh) == pytest.approx(20, abs=2)
    assert all(i.published_ts >= NOW for i in fresh)
    assert sim.catalog.size == 100 + len(fresh)
    assert sim.new_items(NOW) == []  # a clock that steps back publishes nothing twice


def test_an_unknown_item_is_shown_but_never_clicked() -> None:
    sim = started()
    events = sim.look(visit_of(sim, 0), ["somebody-elses-item"] * 20, NOW)
    assert events == []
    assert {s: v[0] for s, v in sim.tally.slots[False].items()} == {NOW // 1000: 20}


def test_popularity_forgets_after_an_hour() -> None:
    popularity = Popularity()
    for _ in range(3):
        popularity.add(7, NOW)
    popularity.add(8, NOW + 30 * MINUTE_MS)
    assert popularity.top(2, NOW + 31 * MINUTE_MS) == [7, 8]
    assert popularity.top(1, NOW + 62 * MINUTE_MS) == [8]


def test_popular_list_leaves_out_what_was_read() -> None:
    sim = started(past=True)
    before = sim.popular(visit_of(sim, 3), NOW)
    sim._read.setdefault(3, set()).add(sim.catalog.index([before[0]])[0])
    assert before[0] not in sim.popular(visit_of(sim, 3), NOW)
    assert len(before) == 20


def test_tally_splits_time() -> None:
    #  second   0        1        2        3
    #  ours     10/1     -        10/3     -
    tally = Tally()
    tally.add(False, 0, 10, 1)
    tally.add(False, 2000, 10, 3)
    assert tally.rate(False) == pytest.approx(0.2)
    assert tally.rate(False, 1000) == pytest.approx(0.3)
    assert tally.rate(True) == 0
    assert tally.series(False, 4000, step_s=1, points=5) == [None, 0.1, None, 0.3, None]


def test_new_items_are_counted_apart() -> None:
    tally = Tally()
    tally.add(False, 0, 10, 3, 4, 1)
    tally.add(False, 2000, 10, 1)
    assert tally.new_items(False) == pytest.approx((4 / 20, 1 / 4, 3 / 16))
    assert tally.new_items(False, 1000) == pytest.approx((0, 0, 1 / 10))
    assert tally.new_items(True) == (0, 0, 0)


def test_what_is_published_after_the_start_is_new() -> None:
    sim = started()
    fresh = [item.item_id for item in sim.new_items(NOW + 60_000)]
    assert fresh
    sim.look(visit_of(sim, sim.regular()), [*fresh[:2], *sim.catalog.ids[:6]], NOW + 60_000)
    assert sum(v[2] for v in sim.tally.slots[False].values()) == min(2, len(fresh))
    assert sim.tally.new_items(False)[0] == min(2, len(fresh)) / (6 + min(2, len(fresh)))


def test_describe_tells_the_hidden_taste() -> None:
    sim = started()
    text = sim.describe(sim.regular())
    assert "secretly likes" in text
    assert any(c in text for c in CATEGORIES)
