"""What an example counts in a training, and whose examples are left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.learning.objectives import OBJECTIVES

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

#: What identifies an example, and what decides how it is used; ``list``, ``slot`` and ``user`` are hashes.
TOLD = np.dtype(
    [
        ("ts", "i8"),
        ("list", "u8"),
        ("slot", "u8"),
        ("user", "u8"),
        ("probability", "f8"),
        ("happened", "?", (len(OBJECTIVES),)),
        ("unshown", "?"),
        ("explored", "?"),
    ]
)


@dataclass(frozen=True, slots=True)
class Weighting:
    """What an example counts in a training, and whose examples are left out.

    Attributes
    ----------
    unshown
        Weight of a candidate that was not shown, against that of a shown slot; 0: they are left out.
    clip
        Largest weight for a small probability: 1 / probability, but not more than this.
    user_slots, user_clicks
        A user with more shown slots or clicks than this in what is read is taken for a program: nothing of it
        is trained on or measured. 0: no limit.
    """

    unshown: float = 1.0
    clip: float = 20.0
    user_slots: int = 0
    user_clicks: int = 0

    def of(self, told: npt.NDArray[np.void]) -> F32:
        """Return the weights of rows of ``TOLD``, float32 ``(n,)``.

        What came in by chance with probability p stands for 1/p of its kind (Horvitz and Thompson 1952): a
        candidate of the sample, and a slot that exploration has filled. Other slots count 1.
        """
        rare = np.minimum(1 / np.maximum(told["probability"], 1e-9), self.clip)
        base = np.where(told["unshown"], self.unshown, 1.0)
        return (base * np.where(told["unshown"] | told["explored"], rare, 1.0)).astype(np.float32)

    def people(self, told: npt.NDArray[np.void]) -> Bool:
        """Return which rows of ``TOLD`` are of users within the limits, bool ``(n,)``."""
        _, who = np.unique(told["user"], return_inverse=True)
        shown = ~told["unshown"]
        out = np.ones(len(told), bool)
        for most, counted in ((self.user_slots, shown), (self.user_clicks, shown & told["happened"][:, 0])):
            if most:
                out &= np.bincount(who, counted, minlength=1)[who] <= most
        return out


#: The default.
PLAIN = Weighting()
