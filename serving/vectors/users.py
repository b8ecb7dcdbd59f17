"""The vectors of the user of a request, by the towers in use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.one_user import OneUser, vectors_of
from headrace.models.embeddings.towers import PLACES
from headrace.models.state import users as user_state
from headrace.serving.vectors.items import ItemVectors

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

_NOTHING = np.zeros(1, np.uint64)


def by_towers(
    vectors: ItemVectors, user: npt.NDArray[Any] | None, anchors: list[int], country: int, device: int
) -> tuple[F32, F32, list[F32]]:
    """Return the user's vector, the last click's (zeros without one), and those of the user's interests.

    Parameters
    ----------
    user
        The user's row ``(1,)``, None when unknown.
    anchors
        What this request starts from, newest first; see ``anchors_for``.
    country, device
        ``hash64``; 0 where unknown.
    """
    recent = [] if user is None else user_state.recent_items(user[0])[0]
    items = recent if recent[:1] == anchors[:1] else [*anchors[:1], *recent][:PLACES]
    found = vectors.of(np.array(items, np.uint64))
    last = found[0] if anchors else np.zeros(found.shape[1], np.float32)
    preferred, followed = (
        (_NOTHING, _NOTHING) if user is None else (user["preferred"][0], user["followed"][0])
    )
    known = OneUser(found, preferred, followed, country, device)
    whole, interests = vectors_of(vectors.now.towers, known, vectors.content)
    return whole, last, interests
