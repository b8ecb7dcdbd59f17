from __future__ import annotations

import numpy as np
import pytest
from feature_inputs import candidates, context, of, shown_of, user_of
from strategies import T0, Act

from headrace.models.features.assemble import assemble
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.streams.messages.columns import ITEM_EVENT
from headrace.streams.settings import MINUTE_MS


def test_the_user_and_what_they_like() -> None:
    user = user_of(
        Act(1, 2, "click", T0 - 3 * MINUTE_MS, category=2, creator=3),
        Act(1, 3, "like", T0 - MINUTE_MS, category=4, creator=3),
    )
    user["preferred"][0, 0], user["followed"][0, 0] = 1, 3
    out = assemble(user, candidates(4), context())
    assert of(out, "user_clicks_5m") == pytest.approx([np.log1p(1)] * 4)
    assert of(out, "user_clicks_total") == pytest.approx([np.log1p(1)] * 4)
    assert of(out, "user_session_len") == [1] * 4
    assert of(out, "user_idle_min") == pytest.approx([np.log1p(3)] * 4)
    # candidates 1..4 have categories 1..4 and creators 1..4
    assert of(out, "category_affinity") == pytest.approx([0, 1 / 3, 0, 2 / 3], rel=1e-3)
    assert of(out, "creator_affinity") == pytest.approx([0, 0, 1, 0])
    assert of(out, "category_weight") == pytest.approx(np.log1p([0, 1, 0, 2]).tolist(), rel=1e-3)
    assert of(out, "creator_weight") == pytest.approx(np.log1p([0, 0, 3, 0]).tolist(), rel=1e-3)
    assert of(out, "category_preferred") == [1, 0, 0, 0]
    assert of(out, "creator_followed") == [0, 0, 1, 0]
    assert of(out, "seen_before") == [0, 1, 0, 0]


def test_a_category_that_was_skipped_has_a_negative_share_and_no_weight() -> None:
    user = user_of(
        Act(1, 2, "click", T0, category=2, creator=2), Act(1, 3, "skip", T0, category=3, creator=3)
    )
    out = assemble(user, candidates(4), context())
    for name in ("category", "creator"):
        assert of(out, f"{name}_affinity") == pytest.approx([0, 1 / 1.2, -0.2 / 1.2, 0], rel=1e-3)
        assert of(out, f"{name}_weight") == pytest.approx([0, np.log1p(1), 0, 0], rel=1e-3)


def test_how_long_views_of_a_category_take_against_the_usual_view() -> None:
    """The candidates were viewed twice, for 20 s on average."""
    events = np.zeros(4, ITEM_EVENT)
    events["item"], events["amount"], events["kind"] = [1, 2, 1, 2], [1, 1, 30, 10], [1, 1, 3, 3]
    events["ts"] = T0
    stats = ItemState()
    stats.apply(events, np.arange(4))
    user = user_of(
        Act(1, 2, "dwell", T0, 60, category=2),
        Act(1, 3, "dwell", T0, 2, category=3),
        Act(1, 3, "dwell", T0, 900, category=3),
        Act(1, 4, "click", T0, category=4),
    )
    out = assemble(user, candidates(4, stats), context())
    usual = np.log1p(20)
    longer = [0, (np.log1p(60) - usual) / 3, (np.log1p(2) + np.log1p(600) - 2 * usual) / 4, 0]
    assert of(out, "category_dwell") == pytest.approx(longer, abs=1e-5)
    assert of(out, "category_views") == pytest.approx(np.log1p([0, 1, 2, 0]).tolist())
    nobody = assemble(user, candidates(4), context())
    assert of(nobody, "category_dwell") == [0] * 4, "what is usual is not known"
    assert of(nobody, "category_views") == of(out, "category_views")


def test_an_item_without_category_matches_nobodys_taste() -> None:
    user = user_of(Act(1, 2, "click", T0, category=2))  # ten of twelve places stay 0
    nothing = np.zeros(2, np.uint64)
    out = assemble(user, candidates(2, category=nothing, creator=nothing), context())
    for name in ("category_affinity", "creator_affinity", "category_preferred", "creator_followed"):
        assert of(out, name) == [0, 0], name


def test_somebody_unknown_and_somebody_who_never_clicked() -> None:
    for user in (None, np.full(1, user_state.BLANK, user_state.ROW)):
        out = assemble(user, candidates(2), context())
        assert np.isfinite(out).all()
        assert of(out, "seen_before") == [0, 0]
    assert of(out, "user_idle_min") == [-1, -1]


def test_what_was_shown_how_often_and_how_long_ago() -> None:
    shown = shown_of([2, 3], [3, 9], first=T0 - 5 * MINUTE_MS)
    out = assemble(None, candidates(4), context(shown=shown))
    assert of(out, "shown_times") == pytest.approx(np.log1p([0, 1, 2, 0]))
    assert of(out, "shown_idle_min") == pytest.approx([-1, np.log1p(5), np.log1p(4), -1], abs=1e-3)


def test_who_was_shown_nothing_yet() -> None:
    empty = np.full(1, shown_state.BLANK, shown_state.ROW)
    for shown in (None, empty):
        out = assemble(None, candidates(4), context(shown=shown))
        assert of(out, "shown_times") == [0] * 4
        assert of(out, "shown_idle_min") == [-1] * 4
