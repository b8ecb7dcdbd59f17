"""Rankers with a known taste, live on `models`."""

from __future__ import annotations

import numpy as np

from headrace.agents.stage.pointing import point
from headrace.models.features.spec import SPEC
from headrace.models.learning import pointers
from headrace.models.learning.kinds import RANKER
from headrace.models.learning.ranker import RankerParams, encode, train
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender


def taught(sign: int, rows: int) -> tuple[bytes, str]:
    """Return text and version of a ranker that likes items with clicks, or with -1 those without."""
    x = np.random.default_rng(0).normal(size=(rows, len(SPEC))).astype(np.float32)
    y = (sign * (x[:, SPEC.index("item_clicks_24h")] - 0.5) > 0).astype(np.float32)
    return encode(train(x, y, RankerParams(trees=5, leaves=7)), now_ms(), {})


async def make_live(settings: Settings, sender: BatchSender, version: str, text: bytes) -> None:
    """Put a ranker on `models`, and point at it."""
    await point(
        settings,
        Topics(settings).models,
        sender,
        lambda p: pointers.made_live(p, version, now_ms(), "test", ""),
        [(version, text)],
        RANKER,
    )
