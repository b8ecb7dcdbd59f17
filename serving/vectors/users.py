"""The vectors of the user of a request, by the towers in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.content import category_key, creator_key
from headrace.models.embeddings.one_user import OneUser, vectors_of
from headrace.models.embeddings.towers import PLACES
from headrace.models.state import users as user_state
from headrace.serving.catalog import Catalog

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

_NOTHING = np.zeros(1, np.uint64)


class CatalogNames:
    """The feature keys of the categories and creators of a catalogue, in memory or in files."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def categories(self, ids: U64) -> U64:
        """Return the feature keys of categories by ``hash64`` of their names, 0 where no item has one."""
        return self._with_files(self._catalog.vectors.content.categories(ids), ids, category_key)

    def creators(self, ids: U64) -> U64:
        """Return the feature keys of creators by ``hash64`` of their ids, 0 where no item has one."""
        return self._with_files(self._catalog.vectors.content.creators(ids), ids, creator_key)

    def _with_files(self, found: U64, ids: U64, key_of: Callable[[str], int]) -> U64:
        if self._catalog.base is not None:
            for at in np.flatnonzero(found == 0).tolist():
                found[at] = key_of(self._catalog.name_of(int(ids[at])))
        return found


def by_towers(
    catalog: Catalog, user: npt.NDArray[Any] | None, anchors: list[int], country: int, device: int
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
    found = catalog.vectors_of(np.array(items, np.uint64))
    last = found[0] if anchors else np.zeros(found.shape[1], np.float32)
    preferred, followed = (
        (_NOTHING, _NOTHING) if user is None else (user["preferred"][0], user["followed"][0])
    )
    known = OneUser(found, preferred, followed, country, device)
    whole, interests = vectors_of(catalog.vectors.now.towers, known, CatalogNames(catalog))
    return whole, last, interests
