from __future__ import annotations

import pytest

from headrace.serving.prequential.score import Score


def test_ranks_add_up() -> None:
    score = Score()
    for rank in (1, 2, 0, 4):
        score.add(rank, "v" if rank else "w")
    assert (score.predictions, score.hits) == (4, 3)
    assert score.hit_rate == pytest.approx(0.75)
    assert score.mrr == pytest.approx((1 + 0.5 + 0.25) / 4)
    assert score.by_version["v"] == (3, 3, 1.75)
    assert Score().mrr == Score().hit_rate == 0
