"""A process that does what the log does, on a log in a store: a test kills it at any moment.

It goes on at the offset that it is told, writes files of five rows, prints an offset when it is committed,
and merges what there is after every third file.
"""

from __future__ import annotations

import sys

import numpy as np
from logged_examples import example, write

from headrace.models.learning import withdrawn
from headrace.models.learning.compaction import tend
from headrace.models.learning.places import place
from headrace.streams.settings import DAY_MS

FIRST_TS = 20_000 * DAY_MS


def main(url: str, first: int, files: int) -> None:
    withdrawn.GRACE_MS = 0  # so that deleting is interrupted, too
    folder, rng = place(url), np.random.default_rng(0)
    for number in range(files):
        at = first + 5 * number
        examples = [example(at + i, rng) for i in range(5)]
        write(folder, examples, first=at, ts=FIRST_TS + at)
        print(at + 5, flush=True)
        if number % 3 == 2:
            write(folder, [example(10**6, rng)], first=10**6, ts=FIRST_TS + 2 * DAY_MS)  # the present
            tend(folder, [0], keep_ms=0, now=FIRST_TS + 3 * DAY_MS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
