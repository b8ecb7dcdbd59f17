"""What the user tower reads of the rows of users."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.directions import U64
from headrace.models.embeddings.features import Users
from headrace.models.state.users import RECENT, country_of


def users_of(rows: npt.NDArray[Any], devices: U64) -> Users:
    """Return the columns of users.

    Parameters
    ----------
    rows
        Rows of users (``headrace.models.state.users.ROW``), ``(n,)``.
    devices
        ``hash64`` of the device each of them uses, uint64 ``(n,)``; 0 where unknown.
    """
    clicks = rows["n_clicks"][:, None]
    places = np.arange(RECENT)
    recent = np.take_along_axis(rows["recent"], (clicks - 1 - places) % RECENT, axis=1)
    recent[places >= clicks] = 0
    return Users(recent, rows["preferred"], rows["followed"], country_of(rows), devices)
