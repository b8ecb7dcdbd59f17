"""Features of the user, compiled: windows, session, and the taste for each item's category and creator."""

from typing import Any

import numpy.typing as npt

from headrace.models.features.columns import Columns
from headrace.models.features.inputs import Candidates, RequestContext

def fill_user(m: Columns, user: npt.NDArray[Any], ctx: RequestContext) -> None:
    """Fill the user's counts, the same for every candidate; ``user`` is ``user_state.ROW`` ``(1,)``."""

def fill_taste(m: Columns, user: npt.NDArray[Any], c: Candidates) -> bool:
    """Fill how well each candidate matches the user's taste, profile and recent clicks.

    Returns
    -------
    Whether the user names preferred categories.
    """
