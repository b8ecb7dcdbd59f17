"""Decisions about a candidate, and the counts they rest on."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_counts import RULES, at, counts, shown

from headrace.models.learning import pointers
from headrace.models.learning.arm_counts import MOST_SHADOWS, MOST_WATCH_MS, NAMES, ArmCounts
from headrace.models.learning.arms import CANDIDATE, LIVE, arm_of
from headrace.models.learning.kinds import SETTINGS
from headrace.models.learning.rollout import Rules, decide
from headrace.oracle.features.arms import read_record
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.schemas import ShadowSlot
from headrace.streams.settings import Settings


@pytest.mark.parametrize(
    ("share", "rates", "now", "action", "why"),
    [
        (0, (0, 0), 999, "wait", "shadow"),
        (0, (0, 0), 1000, "promote", "shadow"),
        (1, (0.1, 0.1), 999, "wait", ""),
        (1, (0.1, 0.1), 1000, "promote", "not 20% worse in clicks"),
        (1, (0.1, 0.06), 999, "roll back", "worse in clicks"),
        (1, (0.1, 0.092), 1000, "roll back", "worse"),
        (10, (0.1, 0.1), 1000, "promote", "not 5% worse"),
        (50, (0.1, 0.1), 1000, "wait", ""),
        (50, (0.1, 0.1), 100_000, "roll back", "no answer"),
        (50, (0.1, 0.11), 1000, "promote", "better in clicks"),
        (50, (0.1, 0.11), 999, "wait", ""),
    ],
)
def test_decisions(share: int, rates: tuple[float, float], now: int, action: str, why: str) -> None:
    found = decide(at(share), counts(share, *rates), now, RULES)
    assert (found.action, why in found.reason) == (action, True), found


def test_a_candidate_with_few_examples_waits_and_one_with_too_many_goes() -> None:
    few = counts(1, 0.1, 0.1, each=7)
    assert decide(at(1), few, 5000, RULES).action == "wait"
    assert decide(at(1), counts(1, 0.1, 0.1), 5000, Rules(0.05, 1000, 10**6, 10**6)).action == "wait"
    assert decide(at(50), counts(50, 0.1, 0.1), 5000, Rules(0.05, 0, 10**6, 1, 1000)).action == "roll back"


def test_more_clicks_and_less_watching_is_not_better() -> None:
    assert decide(at(50), counts(50, 0.1, 0.11), 5000, RULES).action == "promote"
    assert decide(at(50), counts(50, 0.1, 0.11, watch=0.88), 5000, RULES).action == "wait"
    assert decide(at(50), counts(50, 0.1, 0.11, watch=0.5), 5000, RULES).action == "roll back"


def test_where_nobody_watches_clicks_decide_and_where_nobody_clicks_nothing_does() -> None:
    found = counts(50, 0.1, 0.11)
    found.totals[:, NAMES.index("watch_ms")] = 0
    assert decide(at(50), found, 5000, RULES).action == "promote"
    found.totals[:, 1:] = 0
    assert decide(at(1), found, 5000, RULES).action == "wait"


# --- counts ---


def test_only_the_two_rankers_count_and_only_since_the_stage_began() -> None:
    found = ArmCounts(at(10, stage_ts=100), {0: 0})
    found.add(
        [
            shown(1, "live", 100, clicked=True, dwell_ms=5),
            shown(2, "live", 99, clicked=True),
            shown(3, "old", 100, clicked=True),
            shown(4, "new", 101, clicked=False, dwell_ms=MOST_WATCH_MS + 7),
            shown(5, "", 100),
        ]
    )
    assert found.totals.sum(axis=2).tolist() == [[1, 1, 5], [1, 0, MOST_WATCH_MS]]
    figures = {"version": "new", "examples": 1, "clicks": 0, "watch_s": 600.0, "came": 0, "returned": 0}
    assert found.figures()["candidate"] == figures


def test_a_user_is_in_one_cluster() -> None:
    found = ArmCounts(at(10), {})
    found.add([shown(40 * n, "live", 5) for n in range(50)])
    assert np.count_nonzero(found.totals[0, 0]) == 1


@given(st.lists(st.integers(0, 60), max_size=4))
def test_cut_into_batches_or_read_again_from_the_record_the_counts_are_the_same(cuts: list[int]) -> None:
    every = [shown(n, ("live", "new", "x")[n % 3], n) for n in range(60)]
    whole = ArmCounts(at(10, 7), {0: 3})
    whole.add(every)
    piece, ends = ArmCounts(at(10, 7), {0: 3}), sorted({0, 60, *cuts})
    for begin, end in itertools.pairwise(ends):
        piece.add(every[begin:end])
        piece.read[0] = 3 + end
        piece = ArmCounts.decode(piece.encode())
    assert np.array_equal(piece.totals, whole.totals)
    assert (piece.begin, piece.read) == ({0: 3}, {0: 63})
    assert piece.of_stage(at(10, 7))
    assert not piece.of_stage(at(10, 8))
    assert not piece.of_stage(pointers.promoted(at(10, 7), 9, "t", ""))


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"\xff", ArmCounts(at(1), {}).encode().replace(b"[0,", b"[", 1)]
)
def test_a_record_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(ArtefactError, match="rollout"):
        ArmCounts.decode(value)


def told(version: str, n: int, *, match: bool = True) -> Any:
    return shown(
        n, "live", 50, shadow=ShadowSlot(version, match, 0.1), propensity=0.5, score=0.1, clicked=False
    )


def test_each_candidate_in_the_shadow_has_its_own_totals() -> None:
    found = ArmCounts(at(10), {0: 0})
    every = [told(("new", "two", "three")[n % 3], n, match=n % 2 == 0) for n in range(60)]
    found.add([*every[:30], shown(3, "new", 50, shadow=ShadowSlot("two", match=True, value=0.1))])
    found = ArmCounts.decode(found.encode())
    found.add(every[30:])
    sums = {version: totals[:2].sum(axis=1).tolist() for version, totals in found.shadows.items()}
    assert sums == {"new": [20, 10], "two": [20, 10], "three": [20, 10]}


def test_so_many_shadows_are_counted_and_those_completely() -> None:
    found = ArmCounts(at(10), {})
    found.add([told(f"v{n}", n) for n in range(40)])
    found.add([told(f"v{n}", n) for n in range(40)])
    assert list(found.shadows) == ["new", *(f"v{n}" for n in range(MOST_SHADOWS - 1))]
    assert {int(x[0].sum()) for v, x in found.shadows.items() if v != "new"} == {2}


def test_a_record_of_one_shadow_is_still_read() -> None:
    found = ArmCounts(at(10), {0: 3})
    found.add([told("new", n) for n in range(9)])
    old = json.loads(found.encode())
    old["shadow"] = old.pop("shadows")["new"]
    read = ArmCounts.decode(json.dumps(old).encode())
    assert np.array_equal(read.shadows["new"], found.shadows["new"])
    assert read.of_stage(at(10))
    assert read_record(json.dumps(old).encode(), "ranker").shadows == {"new": old["shadow"]}  # type: ignore[union-attr]


def test_the_chance_of_a_wrong_decision_is_shared_by_the_candidates() -> None:
    s = Settings(rollout_alpha=0.06, rollout_candidates=3)
    assert Rules.of(s).alpha == pytest.approx(0.02)
    assert Rules.of(s, SETTINGS).alpha == pytest.approx(0.06), "of settings one is tried at a time"


# --- arms ---


def test_arms_are_stable_grow_and_differ_from_rollout_to_rollout() -> None:
    users = [f"user-{n}" for n in range(20_000)]
    by_share = {s: {u for u in users if arm_of(u, "a", s) == CANDIDATE} for s in (0, 1, 10, 50)}
    for share, chosen in by_share.items():
        assert len(chosen) == pytest.approx(200 * share, abs=4 * np.sqrt(200 * share + 1))
    assert by_share[1] < by_share[10] < by_share[50]
    other = {u for u in users if arm_of(u, "b", 50) == CANDIDATE}
    assert len(other & by_share[50]) == pytest.approx(5000, abs=300)
    assert arm_of("user-1", "a", 0) == LIVE
