"""Rest: what the user was shown lately, or often without a click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.state.shown import shown_lately
from headrace.serving.pipeline.parts import Rest
from headrace.serving.pipeline.query import Query


class Shown(Rest):
    """Items shown less than ``Policy.shown_rest_ms`` ago, or ``Policy.shown_most`` times.

    A related list is about its item: there, what was shown elsewhere does not rest. A digest is about what
    the user has not seen: there, all items shown last rest, however long ago.
    """

    name = "shown"

    def resting(self, query: Query) -> Sequence[int] | npt.NDArray[np.uint64]:
        """Return their keys; the item shown longest ago comes first."""
        if query.shown is None or query.request.surface == "related":
            return []
        policy = query.policy
        most = 1 if query.request.surface == "digest" else policy.shown_most
        return shown_lately(query.shown[0], query.now, policy.shown_rest_ms, most)
