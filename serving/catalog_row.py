"""Layout of a row of the catalogue in memory."""

from __future__ import annotations

import numpy as np

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("category", "<u8"),
        ("creator", "<u8"),
        ("published", "<i8"),
        ("min_age", "<i2"),
        ("rules", "?"),  # the item has country rules
        ("blocked", "?"),  # the item has a flag that is not shown here
        ("language", "<u8"),
        ("boost", "<f4"),
        ("duration", "<i8"),  # ms; 0: none
        ("title", "<u4"),  # see ``titles.numbers_of``
    ]
)
BLANK = np.zeros((), ROW)
BLANK["boost"] = 1
