"""Rest: what the user clicked lately."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.models.state import users as user_state
from headrace.serving.pipeline.parts import Rest
from headrace.serving.pipeline.query import Query


class Clicked(Rest):
    """Items that the user clicked less than ``Policy.clicked_rest_ms`` ago; in a digest, however long ago."""

    name = "clicked"

    def resting(self, query: Query) -> Sequence[int]:
        """Return their keys; the item whose last click is longest ago comes first."""
        if query.user is None:
            return []
        last: dict[int, int] = {}
        for item, time in zip(*user_state.recent_items(query.user[0]), strict=True):
            last[item] = max(time, last.get(item, time))
        if query.request.surface != "digest":
            last = {i: t for i, t in last.items() if query.now - t < query.policy.clicked_rest_ms}
        return sorted(last, key=last.__getitem__)
