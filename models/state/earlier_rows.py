"""Layouts of rows that earlier versions have written. Never change one: rows are told by it.

``_0`` are those of version 0.1.0, whose ids are hashed in another way. ``_1`` and ``_2`` are those of the
time between 0.1.0 and the next version. Rows of items have the same fields since 0.1.0. How rows are
migrated: ``declare`` beside the present ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CELLS: list[tuple[Any, ...]] = [
    ("w_5m", "<u2", (10, 9)),
    ("w_1h", "<u2", (13, 9)),
    ("w_24h", "<u2", (25, 9)),
    ("w_7d", "<u2", (8, 9)),
]
_SUMMARY: list[tuple[Any, ...]] = [
    ("decayed", "<f8", (9,)),
    ("totals", "<u4", (9,)),
    ("h_5m", "<i4"),
    ("h_1h", "<i4"),
    ("h_24h", "<i4"),
    ("h_7d", "<i4"),
]
_TASTES: list[tuple[Any, ...]] = [
    ("cat_ts", "<i8"),
    ("creator_ts", "<i8"),
    ("cat", "<u8", (12,)),
    ("cat_w", "<f4", (12,)),
    ("creator", "<u8", (12,)),
    ("creator_w", "<f4", (12,)),
]
_HEAD: list[tuple[Any, ...]] = [
    ("key", "<u8"),
    ("offset", "<i8"),
    ("shown_offset", "<i8"),
    ("updated", "<i8"),
    ("country", "<u8"),
    ("n_clicks", "<i8"),
    ("session_len", "<i4"),
    ("layout", "<u4"),
]
_PROFILE: list[tuple[Any, ...]] = [
    ("age", "<i2"),
    ("has_profile", "?"),
    ("pad", "u1"),
    ("recent_ts", "<i8", (20,)),
    ("recent", "<u8", (20,)),
    ("home", "<u8"),
    ("language", "<u8"),
    ("preferred", "<u8", (8,)),
    ("followed", "<u8", (16,)),
    ("profile_offset", "<i8"),
    ("profile_ts", "<i8"),
    ("since", "<i8"),
    ("shown_since", "<i8"),
    ("hidden", "<u8", (32,)),
    ("hidden_creators", "<u8", (16,)),
]

USERS_0 = np.dtype(
    [
        *_HEAD,
        ("age", "<i2"),
        ("has_profile", "?"),
        ("pad", "u1", (5,)),
        *_TASTES,
        *_SUMMARY,
        ("pad_2", "u1", (4,)),
        ("recent_ts", "<i8", (20,)),
        ("recent", "<u8", (20,)),
        ("preferred", "<u8", (8,)),
        ("followed", "<u8", (16,)),
        *_CELLS,
    ]
)
USERS_1 = np.dtype(
    [
        *_HEAD,
        *_TASTES,
        *_SUMMARY,
        *_PROFILE,
        *_CELLS,
    ]
)
USERS_2 = np.dtype(
    [
        *_HEAD,
        *_TASTES,
        *_SUMMARY,
        *_PROFILE,
        ("place", "<u4"),
        ("pad_2", "u1", (4,)),
        *_CELLS,
    ]
)
NEIGHBOURS_0 = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),
        ("updated", "<i8"),
        ("co_total", "<f4"),
        ("seq_total", "<f4"),
        ("layout", "<u4"),
        ("pad", "u1", (4,)),
        ("other", "<u8", (64,)),
        ("seq", "<f4", (64,)),
        ("co", "<f4", (64,)),
    ]
)
