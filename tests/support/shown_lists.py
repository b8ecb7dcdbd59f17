"""Impressions and events about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from headrace.models.features.spec import SPEC
from headrace.streams.messages.schemas import Event, Impression, Unshown


def shown(request: str = "r", user: str = "u", items: Sequence[str] = ("a", "b"), ts: int = 0) -> Impression:
    n = len(items)
    features = np.arange(n * len(SPEC), dtype="<f4")
    return Impression(
        request, user, "home", ts, "BR", "tv", "v1", "o1", SPEC.version, list(items),
        [0.9] * n, [False] * n, [0.5] * n, features.tobytes(),
    )  # fmt: skip


def with_unshown(impression: Impression, *items: str, probability: float = 0.5) -> Impression:
    """Return the list with candidates that were not shown."""
    n = len(items)
    features = np.full(n * len(SPEC), 7, "<f4").tobytes()
    rest = Unshown(list(items), [probability] * n, [0.25] * n, features)
    return msgspec.structs.replace(impression, unshown=rest)


def event(
    item: str, kind: str = "click", user: str = "u", request: str = "r", ts: int = 0, **extra: Any
) -> Event:
    return Event("e", kind, user, item, ts, request_id=request, **extra)  # type: ignore[arg-type]
