"""Filter: items in another language than the user's, where both are known.

A request that asks for languages itself gets those.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.parts import Filter
from headrace.serving.pipeline.query import Found, Query


class Language(Filter):
    """Items the user can read: in the language of the profile, or without a language."""

    name = "language"

    def keep(self, query: Query, found: Found) -> npt.NDArray[np.bool_]:
        """Return which items are in the user's language, bool ``(n,)``; all for an unknown language."""
        user = 0 if query.user is None else int(query.user["language"][0])
        if not user or query.request.filters.language.any:
            return np.ones(len(found), bool)
        language = found.items["language"]
        out: npt.NDArray[np.bool_] = (language == 0) | (language == user)
        return out
