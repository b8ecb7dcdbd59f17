"""How fast the machine is now: it shares a computer with others, and may be half as fast as an hour ago."""

from __future__ import annotations

import json
import statistics
import time

import numpy as np

_REPEATS = 40


def pace_ms() -> float:
    """Return the CPU time of a fixed piece of work, ms: with Python objects, and with arrays as of a list.

    Figures of two runs can be compared when this was about the same in both. It takes a tenth of a second.
    """
    rows = np.random.default_rng(1).standard_normal((500, 96)).astype(np.float32)
    table = {str(number): number for number in range(1000)}
    times = []
    for _ in range(_REPEATS):
        began = time.process_time()
        for _ in range(5):
            json.dumps(table)
            sum(number * len(name) for name, number in table.items())
        for _ in range(50):
            np.argsort(rows @ rows[0])
        times.append(1000 * (time.process_time() - began))
    return round(statistics.median(times), 3)
