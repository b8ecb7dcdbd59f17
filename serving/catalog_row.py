"""Layout of a row of the catalogue in memory."""

from __future__ import annotations

import numpy as np

#: Aligned: numpy writes to scattered rows several times as fast then.
ROW = np.dtype(
    [
        ("key", "<u8"),
        ("category", "<u8"),
        ("creator", "<u8"),
        ("language", "<u8"),
        ("published", "<i8"),
        ("duration", "<i8"),  # ms; 0: none
        ("boost", "<f4"),
        ("title", "<u4"),  # see ``titles.numbers_of``
        ("min_age", "<i2"),
        ("rules", "?"),  # the item has country rules
        ("blocked", "?"),  # the item has a flag that is not shown here
    ],
    align=True,
)
BLANK = np.zeros((), ROW)
BLANK["boost"] = 1
