from __future__ import annotations

import numpy as np
import pytest

from headrace.models.embeddings.towers import PLACES
from headrace.models.embeddings.user_rows import users_of
from headrace.models.state.users import BLANK, RECENT, ROW, recent_items


@pytest.mark.parametrize("clicks", [0, 1, 7, RECENT, RECENT + 1, 3 * RECENT - 1])
def test_recent_items_are_those_of_the_row_newest_first(clicks: int) -> None:
    rows = np.array([BLANK, BLANK], ROW)
    for n in range(clicks):
        rows[1]["recent"][n % RECENT] = 100 + n
        rows[1]["n_clicks"] += 1
    users = users_of(rows, np.array([0, 5], np.uint64))
    expected, _ = recent_items(rows[1])
    assert users.recent[1].tolist() == expected + [0] * (RECENT - len(expected))
    assert not users.recent[0].any()
    assert users.device.tolist() == [0, 5]


def test_the_profile_says_what_is_preferred_and_where_the_user_is() -> None:
    rows = np.array([BLANK, BLANK], ROW)
    rows["preferred"][0, :2] = [3, 4]
    rows["followed"][1, 0] = 9
    rows["country"], rows["home"] = [1, 1], [0, 2]
    users = users_of(rows, np.zeros(2, np.uint64))
    assert users.preferred[0, :3].tolist() == [3, 4, 0]
    assert users.followed[:, 0].tolist() == [0, 9]
    assert users.country.tolist() == [1, 2]


def test_every_recent_item_of_a_row_has_a_place() -> None:
    assert PLACES == RECENT
