"""How compiled loops reach the rows of a table; the rows a batch touched."""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

def distinct(rows: I64, n_rows: int) -> I64:
    """Return each of ``rows`` (below ``n_rows``) once, in the order of their first mention."""
