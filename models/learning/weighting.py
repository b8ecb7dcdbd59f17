"""What an example counts in a training, and whose examples are left out."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from headrace.models.learning.objectives import OBJECTIVES

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: Examples that are looked at together where each takes more memory for a moment.
AT_ONCE = 1 << 20


@dataclass(slots=True)
class Told:
    """What identifies examples, and what decides how they are used: in columns ``(n,)``, 42 bytes an example.

    Attributes
    ----------
    ts
        When it was shown, ms, int64.
    list, slot, user
        Hashes, uint64.
    position
        On its list, int16.
    probability
        That it came into the log, or into its slot, float32.
    happened
        By objective, bool ``(n, len(OBJECTIVES))``.
    unshown, explored, unseen
        bool.
    """

    ts: I64
    list: U64
    slot: U64
    user: U64
    position: I16
    probability: F32
    happened: Bool
    unshown: Bool
    explored: Bool
    unseen: Bool

    @classmethod
    def zeros(cls, n: int) -> Told:
        """Return ``n`` examples to be filled in."""
        return cls(
            ts=np.zeros(n, np.int64),
            list=np.zeros(n, np.uint64),
            slot=np.zeros(n, np.uint64),
            user=np.zeros(n, np.uint64),
            position=np.zeros(n, np.int16),
            probability=np.zeros(n, np.float32),
            happened=np.zeros((n, len(OBJECTIVES)), bool),
            unshown=np.zeros(n, bool),
            explored=np.zeros(n, bool),
            unseen=np.zeros(n, bool),
        )

    def keep(self, which: Bool | I64 | U32) -> None:
        """Keep the examples chosen by a mask ``(n,)``, or by places. One column is copied at a time."""
        for column in fields(self):
            setattr(self, column.name, getattr(self, column.name)[which])

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True, slots=True)
class Weighting:
    """What an example counts in a training, and whose examples are left out.

    Attributes
    ----------
    unshown
        Weight of a candidate that was not shown, against that of a shown slot, where users find items without
        lists as easily as on them; 0: they are left out.
    clip
        Largest weight for a small probability: 1 / probability, but not more than this.
    user_slots, user_clicks
        A user with more shown slots or clicks than this in what is read is taken for a program: nothing of it
        is trained on or measured. 0: no limit.
    unseen
        Weight of a shown slot that the user has never seen, against that of a seen one; 0: they are left out.
    """

    unshown: float = 1.0
    clip: float = 20.0
    user_slots: int = 0
    user_clicks: int = 0
    unseen: float = 1.0

    def used(self, told: Told) -> Bool:
        """Return which examples are trained on, bool ``(n,)``."""
        out = np.where(told.unshown, self.unshown * found_unshown(told) > 0, True)
        return out if self.unseen > 0 else out & ~told.unseen

    def of(self, told: Told, at: I64) -> F32:
        """Return the weights of the examples at some places ``(n,)``, float32 ``(n,)``.

        What came in by chance with probability p stands for 1/p of its kind (Horvitz and Thompson 1952): a
        candidate of the sample, and a slot that exploration has filled. Other slots count 1.
        """
        out = np.ones(len(at), np.float32)
        unshown = told.unshown[at]
        rare = unshown | told.explored[at]
        out[rare] = np.minimum(1 / np.maximum(told.probability[at[rare]], 1e-9), self.clip)
        out[unshown] *= self.unshown * found_unshown(told)
        out[told.unseen[at]] *= self.unseen
        return out

    def people(self, told: Told) -> Bool:
        """Return which examples are of users within the limits, bool ``(n,)``."""
        shown = ~told.unshown
        programs = np.union1d(
            _with_more(told.user[shown], self.user_slots),
            _with_more(told.user[shown & told.happened[:, 0]], self.user_clicks),
        )
        return ~among(told.user, programs)


def found_unshown(told: Told) -> float:
    """Return how often users find what was not shown to them: its click rate against that of shown slots.

    At most 1; 0 where nothing of it was clicked. A candidate that was not shown and not clicked tells only so
    much: where users find nothing without lists, it tells what the last ranker put on them, and a ranker that
    learns this copies the last one. (It is a low estimate, as what was not shown is also liked less.)
    """
    clicked, unshown = told.happened[:, 0], told.unshown
    rest = int(unshown.sum())
    clicks = int((clicked & unshown).sum())
    if not clicks:
        return 0.0
    slots, shown_clicks = len(told) - rest, int(clicked.sum()) - clicks
    return min(1.0, clicks / rest * slots / shown_clicks) if shown_clicks else 1.0


def among(keys: U64, few: U64) -> Bool:
    """Return which keys are among a few, bool ``(n,)``; the memory it takes does not grow with ``n``.

    ``few`` is ascending.
    """
    out = np.zeros(len(keys), bool)
    if len(few):
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            out[start : start + AT_ONCE] = few[np.minimum(np.searchsorted(few, part), len(few) - 1)] == part
    return out


def _with_more(users: U64, most: int) -> U64:
    """Return the users that are there more than ``most`` times; none if this is 0."""
    if not most or len(users) <= most:
        return np.empty(0, np.uint64)
    users = np.sort(users)
    return np.unique(users[most:][users[most:] == users[:-most]])


#: The default.
PLAIN = Weighting()
