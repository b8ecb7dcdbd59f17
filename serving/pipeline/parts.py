"""The parts of the pipeline: what a source, a filter, a rest, a scorer and a late filter look like.

See docs/parts.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.models.learning.hashed import Ids
from headrace.serving.pipeline.query import Found, Query, ServingData

Bool = npt.NDArray[np.bool_]
U64 = npt.NDArray[np.uint64]


class NotReadyError(Exception):
    """A part cannot do its work for now; it is left out of this request, without a line in the log."""


class Part(ABC):
    """A part is made once a process, with the data it reads.

    Attributes
    ----------
    kind, name
        Its names in settings, counts and ``degraded``: ``kind:name``.
    on
        Whether it runs when the settings do not say anything about it.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    on: ClassVar[bool] = True

    def __init__(self, data: ServingData) -> None:
        self.data = data


class Source(Part):
    """Proposes items.

    Attributes
    ----------
    size
        Most items on one of its lists, unless the settings say otherwise.
    why
        Plain words for the user: why an item of this source is shown.
    unsaid_beside
        Names of sources: where one of them proposed the item, too, its reason says enough.
    when_short
        Ask it only when the others proposed too few items.
    surfaces
        The surfaces it serves.
    """

    kind = "source"
    size: ClassVar[int]
    why: ClassVar[str] = ""
    unsaid_beside: ClassVar[frozenset[str]] = frozenset()
    when_short: ClassVar[bool] = False
    surfaces: ClassVar[frozenset[str]] = frozenset({"home", "related", "digest"})

    @abstractmethod
    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return lists of at most ``k`` keys each, the strongest item first. Keys may be unknown ones."""

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Return in plain words, with the numbers, why candidate ``i`` is shown; "" for no reason."""
        return self.why


class Filter(Part):
    """Removes items.

    Attributes
    ----------
    required
        It is never left out: without it, no item is shown.
    needs_item
        It reads the catalogue: items that a caller wants ranked, and that the catalogue does not know, pass
        without it.
    """

    kind = "filter"
    required: ClassVar[bool] = False
    needs_item: ClassVar[bool] = True

    @abstractmethod
    def keep(self, query: Query, found: Found) -> Bool:
        """Return which items may be shown, bool ``(n,)``: of each alone, whatever the others are."""


class Rest(Part):
    """Names items that rest: they are shown only when there are too few others, at the end of the list."""

    kind = "rest"

    @abstractmethod
    def resting(self, query: Query) -> Sequence[int] | U64:
        """Return the keys of the items, the one that may come back first in front."""


class LateFilter(Part):
    """Looks at the finished list. What it removes is replaced by the next best candidates.

    Without enough other candidates the items stay, unless the filter is ``required``.
    """

    kind = "late"
    required: ClassVar[bool] = False

    @abstractmethod
    def keep(self, query: Query, items: U64) -> Bool:
        """Return which of the items on the list (in its order) may stay, bool ``(n,)``."""


class Scorer(Part):
    """Scores the candidates from their features.

    Attributes
    ----------
    fills_feature
        Its score is a feature that other scorers read: it runs in any case.
    """

    kind = "scorer"
    fills_feature: ClassVar[bool] = False

    def ready(self) -> bool:
        """Return whether it has what it needs, such as a model."""
        return True

    @abstractmethod
    def score(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return a score for each row of ``features`` (float32 ``(n, len(SPEC))``): higher is better."""

    def score_for(self, features: npt.NDArray[np.float32], ids: Ids) -> npt.NDArray[np.float64]:
        """Return the scores; override it to look also at who asks, and at the items themselves."""
        return self.score(features)

    def score_alone(self, features: npt.NDArray[np.float32], ids: Ids) -> npt.NDArray[np.float64]:
        """Return the scores when they order the list; override it where they are more than the feature."""
        return self.score_for(features, ids)

    def objectives(self, features: npt.NDArray[np.float32], ids: Ids) -> dict[str, npt.NDArray[np.float64]]:
        """Return the probabilities behind the scores, by objective; empty: the score is that of a click."""
        del features, ids
        return {}

    def foreseen(self, features: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]] | None:
        """Return ``objectives`` of all rows, if the scores just returned for them were made of these.

        None: ``objectives`` is asked, of the rows of the list only.
        """
        del features
        return None
