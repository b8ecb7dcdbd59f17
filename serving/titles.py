"""Titles as they are compared with others: the same story under two ids has the same number."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from headrace.serving.title_numbers import title_numbers
from headrace.streams.messages.ids import words

U32 = npt.NDArray[np.uint32]

#: Shorter titles are often the same for different items.
SHORTEST = 12


def comparable(title: str) -> str:
    """Return a title as it is compared with others; empty when it is too short for that."""
    plain = " ".join(title.lower().split())
    return plain if len(plain) >= SHORTEST else ""


def numbers_of(titles: Iterable[str]) -> U32:
    """Return a number for each title, the same for the same one, uint32 ``(n,)``; 0: too short."""
    return title_numbers(list(titles), comparable, SHORTEST, *words())
