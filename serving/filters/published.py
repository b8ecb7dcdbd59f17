"""Rule: an item is shown from its time of publication on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.catalog import Catalog
from headrace.streams.tables.rows import Rows


def published(catalog: Catalog, rows: Rows, now: int) -> npt.NDArray[np.bool_]:
    """Return which rows of the catalogue are published at ``now`` (ms), bool ``(n,)``."""
    out: npt.NDArray[np.bool_] = catalog.table.data["published"][rows] <= now
    return out
