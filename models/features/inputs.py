"""The inputs of features: the candidates and the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.history import History

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Candidates:
    """Data of ``n`` candidates before ranking; arrays are ``(n,)`` unless stated otherwise."""

    items: U64
    stats: npt.NDArray[Any]  # item_state.ROW
    category: U64
    creator: U64
    published: npt.NDArray[np.int64]
    vectors: F32  # (n, DIM); zeros where an item has none
    country_clicks: F32  # of the request's country in the last hour
    next_score: F32  # weight with which it follows the last click
    next_share: F32  # the same, as a share of all that follows the last click
    next_share_2: F32  # the same share for the click before the last
    together: F32  # how strongly it was seen with the session's clicks, older clicks count less
    next_share_all: F32 | None = None  # shares for all clicks of the session, older clicks count less
    next_total: float = 0.0  # weight of all that follows the last click: how far the shares can be trusted
    next_recent: F32 | None = None  # like ``next_share``, but of the last hours
    together_recent: F32 | None = None  # like ``together``, but of the last hours
    duration: npt.NDArray[np.int64] | None = None  # ms; 0: none
    language: U64 | None = None  # hash; 0: none

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Data of the request and of the user at the time of the answer."""

    now: int  # ms
    country: int
    device: str
    surface: str
    user_vector: F32  # (DIM,)
    last_vector: F32  # (DIM,)
    last_category: int = 0
    last_creator: int = 0
    age: int = -1  # years; -1: unknown
    language: int = 0  # of the user's profile, hash; 0: unknown
    history: History | None = None  # None: nothing is known
    shown: npt.NDArray[Any] | None = None  # what the user was shown (``shown.ROW``, ``(1,)``); None: unknown
