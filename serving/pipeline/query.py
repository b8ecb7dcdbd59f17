"""What the parts of the pipeline may read: one request with its user, and the data of the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import RequestContext
from headrace.models.learning.leaves import MovedRanker
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.models.state.items import ItemState
from headrace.serving.catalog import Catalog
from headrace.serving.catalog_row import ROW
from headrace.serving.index.hot import HotIndex
from headrace.serving.pipeline.given import Given
from headrace.serving.pipeline.pairs import Anchors, Pairs
from headrace.serving.policy import Policy
from headrace.serving.rankers import Rankers
from headrace.serving.sources.trending import Trending
from headrace.serving.stages import Stages
from headrace.serving.variants import Variants
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.tables.taken_rows import bytes_of_rows

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Models:
    """The models in use, None while there is none.

    Attributes
    ----------
    ranker
        The ranker of the request that is answered now: the live one, or the candidate.
    live
        The ranker of everybody who is not asked to try another one.
    moved
        The live ranker with its leaf deltas.
    online
        The online model.
    rankers, variants
        The rankers, and the settings, on `models`, and which of them are used for whom.
    published
        When each was published, ms, by the key of its record.
    """

    ranker: Ranker | None = None
    live: Ranker | None = None
    moved: MovedRanker | None = None
    online: OnlineWeights | None = None
    rankers: Rankers = field(default_factory=Rankers)
    variants: Variants = field(default_factory=Variants)
    published: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class ServingData:
    """What a serving process holds: the data that sources and filters are made with.

    Attributes
    ----------
    catalog
        The items, and the newest of them.
    stats
        Item rows and country rows.
    trending
        Popular lists.
    hot
        Vector search over new items.
    policy
        How lists are made, by the settings of the installation.
    models
        The models in use.
    stages
        What the stages of answering cost.
    """

    catalog: Catalog
    stats: ItemState
    trending: Trending
    hot: HotIndex
    policy: Policy
    models: Models
    stages: Stages = field(default_factory=Stages)


@dataclass(slots=True)
class Query:
    """One request on its way through the pipeline.

    Attributes
    ----------
    request
        The valid request.
    now
        Time asked, ms.
    user
        The user's row (``user_state.ROW``, ``(1,)``), None when unknown.
    shown
        What the user was shown (``shown.ROW``, ``(1,)``), None when unknown.
    anchors
        The session's clicks, or the item of a related list, newest first, with their neighbour rows.
    pairs
        The neighbours of the anchors.
    country, age
        Of the user: the hash of the country (0: unknown), years (-1: unknown).
    context
        Inputs of the features.
    interests
        Vectors to search around, each float32 ``(DIM,)``.
    limit
        Most candidates.
    wanted
        With fewer candidates than this, the sources for a short list are asked, and what rests comes back.
    policy
        How this user's lists are made.
    settings
        Version of the settings that say so; empty: those of the installation.
    share
        Of its size, what each source is asked for; less than 1 when time is short. Those for a short list are
        asked for all.
    given
        The items that the caller wants ranked: then no source is asked. None: those of the sources.
    left_out
        Parts that this request did without, such as ``"source:hot"``. They go into ``degraded``.
    """

    request: RecRequest
    now: int
    user: npt.NDArray[Any] | None
    shown: npt.NDArray[Any] | None
    anchors: Anchors
    pairs: Pairs
    country: int
    age: int
    context: RequestContext
    interests: list[F32]
    limit: int
    wanted: int
    policy: Policy
    settings: str = ""
    share: float = 1.0
    given: Given | None = None
    left_out: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """Items that sources proposed, in ascending order of the key; arrays ``(n,)``.

    Attributes
    ----------
    keys
        Keys of the items.
    mask
        Bits of the sources that proposed each.
    strength
        By how many sources, and how high on their lists; see ``merge.py``.
    rows
        Their rows in the catalogue; -1 where the catalogue has no such item. Filters that need an item are
        not given these.
    items
        All fields of the items, ``catalog_row.ROW``; ``BLANK`` where the catalogue has no such item.
    """

    keys: U64
    mask: npt.NDArray[np.uint32]
    strength: npt.NDArray[np.float64]
    rows: I64
    items: npt.NDArray[np.void]

    @classmethod
    def of(
        cls, catalog: Catalog, keys: U64, mask: npt.NDArray[np.uint32], strength: npt.NDArray[np.float64]
    ) -> Found:
        """Return items with what the catalogue has of them; ``keys`` ascend."""
        rows = catalog.find(keys)
        return cls(keys, mask, strength, rows, catalog.items(rows))

    def where(self, keep: npt.NDArray[np.bool_] | I64) -> Found:
        """Return the items chosen by a mask or by ascending places."""
        at: I64 = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep.astype(np.int64, copy=False)
        return Found(
            self.keys[at],
            self.mask[at],
            self.strength[at],
            self.rows[at],
            bytes_of_rows(self.items, at, 0, ROW.itemsize).view(ROW)[:, 0],
        )

    def __len__(self) -> int:
        return len(self.keys)
