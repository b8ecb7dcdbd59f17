"""Each item of a creator on the list makes the creator's other items weaker."""

from __future__ import annotations

from collections import Counter

import numpy as np

from headrace.serving.rerank.choices import F64, I64, U64, Choices
from headrace.serving.rerank.rules import Rules


class CreatorDecay:
    """After k items of a creator, the factor of the others is ``max(floor, decay ** k)``.

    Items without a creator are left alone.
    """

    def __init__(self, creator: U64, decay: float, floor: float) -> None:
        self._creator = creator
        self._decay, self._floor = decay, floor
        self._seen: Counter[int] = Counter()

    @classmethod
    def of(cls, choices: Choices, rules: Rules) -> CreatorDecay | None:
        """Return the rule, None when it is off."""
        if rules.creator_decay == 1 or not choices.creator.any():
            return None
        return cls(choices.creator, rules.creator_decay, rules.creator_floor)

    def put(self, place: int, factors: F64) -> I64 | None:
        """Multiply the factors of the items of this creator."""
        creator = int(self._creator[place])
        if not creator:
            return None
        before = self._factor(creator)
        self._seen[creator] += 1
        change = self._factor(creator) / before
        if change == 1:
            return None
        same = np.flatnonzero(self._creator == self._creator[place])
        if len(same) == 1:
            return None
        factors[same] *= change
        return same

    def _factor(self, creator: int) -> float:
        return max(self._floor, self._decay ** self._seen[creator])
