"""Source: the items published last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.query import Query
from headrace.serving.texts import age
from headrace.streams.settings import DAY_MS

U64 = npt.NDArray[np.uint64]


class New(Source):
    """Just published."""

    name = "new"
    size = 30
    why = "just published"

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return one list."""
        return [self.data.catalog.newest.newest(query.now, k)]

    def reason(self, query: Query, c: Candidates, i: int) -> str:
        """Say when; nothing is just published that is older than a day."""
        ago = query.now - int(c.published[i])
        return f"{self.why if ago < DAY_MS else 'among the newest'} ({age(ago)} ago)"
