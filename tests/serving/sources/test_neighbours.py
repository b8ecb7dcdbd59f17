from __future__ import annotations

import numpy as np
import pytest
from pools import gather
from strategies import T0
from worlds import World

from headrace.serving.pipeline.pairs import FADE, Anchors
from headrace.streams.messages.ids import hash64


def test_what_the_pairs_say() -> None:
    world = World(10)
    for n in range(3):
        world.session(f"u{n}", [1, 2], T0 - 10_000 + n)
    world.session("v", [1, 3], T0 - 10_000)
    world.session("w", [4, 5], T0 - 10_000)
    anchors = Anchors([hash64("i1"), hash64("i4")])
    found = world.neighbours.table.find(anchors.items)
    anchors.rows = world.neighbours.table.data[found]
    pool = gather(world, anchors)
    c = pool.candidates
    at = {world.recommender.catalog.id_of(k): i for i, k in enumerate(c.items.tolist())}
    assert float(c.next_score[at["i2"]]) == pytest.approx(3, rel=1e-3)
    assert float(c.next_share[at["i2"]]) == pytest.approx(0.75)
    assert float(c.next_share[at["i3"]]) == pytest.approx(0.25)
    assert float(c.next_share[at["i5"]]) == 0
    assert float(c.next_share_2[at["i5"]]) == pytest.approx(1)
    assert float(c.together[at["i2"]]) == pytest.approx(3 / np.sqrt(1 + 4), rel=1e-3)
    assert float(c.together[at["i5"]]) == pytest.approx(FADE / np.sqrt(2), rel=1e-3)
