from __future__ import annotations

import numpy as np
import pytest
from pools import gather
from strategies import T0
from worlds import World

from headrace.models.state.neighbours import RECENT_HALF_LIFE_MS
from headrace.serving.pipeline.pairs import FADE, Anchors, Pairs
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS


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


def test_what_was_clicked_lately_is_told_and_proposed_first() -> None:
    """i2 after i1 four times a day ago, i3 twice just now."""
    world = World(10)
    for n in range(4):
        world.session(f"u{n}", [1, 2], T0 - DAY_MS + n)
    for n in range(2):
        world.session(f"v{n}", [1, 3], T0 - 10_000 + n)
    anchors = Anchors([hash64("i1")])
    anchors.rows = world.neighbours.table.data[world.neighbours.table.find(anchors.items)]
    c = gather(world, anchors).candidates
    at = {world.recommender.catalog.id_of(k): i for i, k in enumerate(c.items.tolist())}
    old, new = at["i2"], at["i3"]
    assert c.next_share[old] > 0.6
    assert c.next_recent is not None
    assert c.together_recent is not None
    lately = 4 * 2 ** (-DAY_MS / RECENT_HALF_LIFE_MS)
    assert float(c.next_recent[new]) == pytest.approx(2 / (2 + lately), rel=1e-3)
    assert float(c.next_recent[old]) == pytest.approx(lately / (2 + lately), rel=1e-2)
    assert float(c.together_recent[new]) == pytest.approx(2 / np.sqrt(1 + 2 + lately), rel=1e-3)
    pairs = Pairs.of(anchors.rows)
    assert [keys[0] for keys in pairs.strongest(pairs.together, 5)] == [hash64("i2")]
    assert [keys[0] for keys in pairs.strongest(pairs.together_recent, 5)] == [hash64("i3")]
