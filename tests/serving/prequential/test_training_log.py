from __future__ import annotations

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.serving.prequential.training_log import TrainingLog


def test_the_training_log_keeps_the_newest() -> None:
    log = TrainingLog(10)
    for n in range(100):
        log.add(np.full((3, len(SPEC)), n, np.float32), n % 3)
    x, y, group = log.arrays()[:3]
    assert len(log) <= 12
    assert group.tolist() == [3] * 10
    assert x.shape == (30, len(SPEC))
    assert sorted(set(x[:, 0].tolist())) == list(range(90, 100))
    assert y.reshape(10, 3).argmax(1).tolist() == [n % 3 for n in range(90, 100)]
    assert y.sum() == 10
