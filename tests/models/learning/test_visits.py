"""Users who return: exact, whatever the order and the batches; and what they decide."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_counts import RULES, at, counts, shown

from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.rollout import decide, differences
from headrace.models.learning.sequential import CLUSTERS
from headrace.models.learning.visits import Visits, cluster_of

#: (arm, time, user): some users, some in both arms, over 6 periods of 10 ms.
Shown = tuple[int, int, int]
SOME = st.lists(st.tuples(st.integers(0, 1), st.integers(100, 159), st.integers(0, 7)), max_size=60)


def key(user: int) -> int:
    return (user + 1) * 0x1357_9BDF_0246_8ACE % 2**64


def visits(parts: list[list[Shown]]) -> Visits:
    out = Visits(100, 10)
    for part in parts:
        arm, ts, users = (np.array([one[k] for one in part], np.int64) for k in range(3))
        out.add(arm, ts, np.array([key(u) for u in users.tolist()], np.uint64))
    return out


def brute(every: list[Shown]) -> list[list[int]]:
    """Return (came, returned) of both arms, by counting in sets."""
    came = {(arm, (ts - 100) // 10, user) for arm, ts, user in every}
    anywhere = {(period, user) for _, period, user in came}
    newest = max((period for period, _ in anywhere), default=-1)
    over = [one for one in came if one[1] + 1 < newest]
    return [
        [
            sum(arm == one for arm, _, _ in over),
            sum(arm == one and (p + 1, u) in anywhere for arm, p, u in over),
        ]
        for one in (0, 1)
    ]


@given(SOME, st.lists(st.integers(0, 60), max_size=4), st.randoms(use_true_random=False))
def test_the_counts_are_those_of_the_set_in_any_order_and_any_batches(every, cuts, random) -> None:  # type: ignore[no-untyped-def]
    ends = sorted({0, len(every), *(cut for cut in cuts if cut < len(every))})
    parts = [every[begin:end] for begin, end in itertools.pairwise(ends)]
    assert visits(parts).totals().sum(axis=2).tolist() == brute(every)
    random.shuffle(every)
    assert visits([every, every]).totals().sum(axis=2).tolist() == brute(every)


def test_a_user_who_comes_again_in_the_next_period_only_returns_when_it_is_over() -> None:
    one, next_one, later = (0, 105, 1), (0, 115, 1), (0, 125, 2)
    assert visits([[one, next_one]]).totals().sum() == 0
    assert visits([[one, next_one, later]]).totals().sum(axis=2).tolist() == [[1, 1], [0, 0]]
    stays_away = [(1, 105, 1), (1, 125, 1)]
    assert visits([stays_away]).totals().sum(axis=2).tolist() == [[0, 0], [1, 0]]
    assert visits([[(0, 105, 1), (1, 115, 1), later]]).totals().sum(axis=2).tolist() == [[1, 1], [0, 0]]


def test_a_user_is_in_the_cluster_of_the_id() -> None:
    found = visits([[(0, 105, 5), (0, 115, 5), (0, 125, 5)]]).totals()
    (cluster,) = cluster_of(np.array([key(5)], np.uint64)).tolist()
    assert found[0, :, cluster].tolist() == [1, 1]
    assert found.sum() == 2


def test_the_counts_of_a_stage_have_them_and_go_on_when_they_are_read_again() -> None:
    every = [shown(n, ("live", "new", "x")[n % 3], 7 + 5 * n) for n in range(300)]
    whole = ArmCounts(at(10, 7), {}, 400)
    whole.add(every)
    assert whole.returns.sum() > 50
    piece = ArmCounts(at(10, 7), {}, 400)
    piece.add(every[:170])
    piece = ArmCounts.decode(piece.encode())
    assert np.array_equal(piece.returns, _after(every[:170]).returns)
    piece.again(400)
    piece.come_again(every[:170])
    piece.add(every[170:])
    assert np.array_equal(piece.returns, whole.returns)
    assert np.array_equal(piece.totals, whole.totals)


def _after(examples: list) -> ArmCounts:  # type: ignore[type-arg]
    out = ArmCounts(at(10, 7), {}, 400)
    out.add(examples)
    return out


def returning(
    share: int, click_rates: tuple[float, float], rates: tuple[float, float], each: int
) -> ArmCounts:
    """Return counts of arms with these click rates, and shares of users who return."""
    out, rng = counts(share, *click_rates), np.random.default_rng(2)
    out.return_ms = 1000
    for arm, rate in enumerate(rates):
        came = rng.poisson(each, CLUSTERS)
        out.returns[arm] = came, rng.binomial(came, rate)
    return out


@pytest.mark.parametrize(
    ("share", "clicks", "rates", "each", "action", "why"),
    [
        (50, (0.1, 0.11), (0.4, 0.4), 400, "promote", "better in clicks"),
        (50, (0.1, 0.11), (0.4, 0.3), 400, "roll back", "worse in returning"),
        (50, (0.1, 0.11), (0.4, 0.4), 4, "wait", ""),  # few users: it may be much worse
        (50, (0.1, 0.11), (0.4, 0.4), 0, "wait", ""),  # nothing is known yet
        (50, (0.1, 0.11), (0.0, 0.0), 400, "promote", "better in clicks"),  # nobody ever returns
        (50, (0.1, 0.11), (1.0, 1.0), 400, "promote", "better in clicks"),  # everybody does
        (50, (0.1, 0.1), (0.4, 0.44), 400, "promote", "better in returning"),
        (1, (0.1, 0.1), (0.4, 0.4), 0, "promote", "not 20% worse"),  # the first steps do not wait for it
        (1, (0.1, 0.1), (0.4, 0.3), 400, "roll back", "worse in returning"),
    ],
)
def test_what_it_decides(
    share: int, clicks: tuple[float, float], rates: tuple[float, float], each: int, action: str, why: str
) -> None:
    found = decide(at(share), returning(share, clicks, rates, each), 1000, RULES)
    assert (found.action, why in found.reason) == (action, True), found


def test_the_three_share_alpha() -> None:
    three = differences(returning(50, (0.1, 0.1), (0.4, 0.4), 400), 0.06)
    two = differences(counts(50, 0.1, 0.1), 0.04)
    assert list(three) == ["clicks", "watch_ms", "returning"]
    assert list(two) == ["clicks", "watch_ms"]
    assert (three["clicks"].low, three["clicks"].high) == (two["clicks"].low, two["clicks"].high)
