"""Each item of a creator on the list makes the creator's other items weaker."""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import F64, I64, U64, Choices
from headrace.serving.rerank.rules import Rules

_NONE = np.zeros(0, np.int64)


class CreatorDecay:
    """After k items of a creator, the factor of the others is ``max(floor, decay ** k)``.

    Items without a creator are left alone.
    """

    def __init__(self, creator: U64, width: int, decay: float, floor: float) -> None:
        self._creator = creator.tolist()
        self._places: dict[int, list[int]] = {}
        places = self._places
        for place, key in enumerate(self._creator[:width]):
            if key in places:
                places[key].append(place)
            else:
                places[key] = [place]
        self._decay, self._floor = decay, floor
        self._factor: dict[int, float] = {}

    @classmethod
    def of(cls, choices: Choices, width: int, rules: Rules) -> CreatorDecay | None:
        """Return the rule for the best ``width`` candidates, None when it is off."""
        if rules.creator_decay == 1 or not choices.creator.any():
            return None
        return cls(choices.creator, width, rules.creator_decay, rules.creator_floor)

    def put(self, place: int, factors: F64) -> I64:
        """Multiply the factors of the items of this creator."""
        creator = self._creator[place]
        if not creator:
            return _NONE
        before = self._factor.get(creator, 1.0)
        now = self._factor[creator] = max(self._floor, before * self._decay)
        places = self._places.get(creator, [])
        if now == before or places == [place]:  # nobody else's factor changes
            return _NONE
        same = np.array(places, np.int64)
        factors[same] *= now / before
        return same
