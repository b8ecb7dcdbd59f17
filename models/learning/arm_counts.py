"""What the users of a rollout's two arms did: counted from `examples`, kept as a record on `models`. Pure.

The counts are of one stage: its examples are those shown since the stage began, because the share of the
users, and with it the time of most examples, is another one in each stage. The record says which offsets of
`examples` it has counted. So after a crash counting goes on there, and anybody can count again and compare.
Only who came in which period (``visits``) is not in the record: that is read from `examples` again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.learning import counterfactual
from headrace.models.learning.kinds import RANKER, Kind
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.sequential import CLUSTERS
from headrace.models.learning.visits import RETURNS, Visits, cluster_of
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Example, ShadowSlot

#: Key of the counts of a rollout of rankers.
KEY: Final = RANKER.counts
#: So many candidates are counted in the shadow in one stage; further ones not before the next stage.
MOST_SHADOWS: Final = 16
#: Outcomes that are totalled by cluster.
NAMES: Final = ("shown", "clicks", "watch_ms")
#: Longer watching counts as this much, ms: one tab that was left open decides nothing.
MOST_WATCH_MS = 600_000


class ArmCounts:
    """The counts of a stage of a rollout.

    Parameters
    ----------
    pointers
        The stage.
    begin
        By partition of `examples`, the first offset that was looked at.
    return_ms
        Length of a period in which users may come, and return in the next one; 0: that is not counted.
    kind
        What is tried.

    Attributes
    ----------
    totals
        int64 ``(2, len(NAMES), CLUSTERS)``: of the live arm, and of the candidate's.
    shadows
        By version, int64 ``(len(counterfactual.NAMES), CLUSTERS)``: what it would have shown in the live arm.
        At most ``MOST_SHADOWS``; each is counted from its first example on. Settings have none.
    read
        By partition of `examples`, the offset after the last one that is counted.
    returns
        int64 ``(2, len(RETURNS), CLUSTERS)``: users of a period, and those of them who came in the next one.
    visits
        Who came when; None: it is not counted, or not read again yet (``come_again``).
    """

    def __init__(
        self, pointers: Pointers, begin: Mapping[int, int], return_ms: int = 0, kind: Kind = RANKER
    ) -> None:
        self.rollout, self.share, self.since = pointers.rollout, pointers.share, pointers.stage_ts
        self.versions = (pointers.live, pointers.candidate)
        self.begin = dict(begin)
        self.read = dict(begin)
        self.totals = np.zeros((2, len(NAMES), CLUSTERS), np.int64)
        self.shadows = {pointers.candidate: _no_shadow()} if kind is RANKER else {}
        self.returns = np.zeros((2, len(RETURNS), CLUSTERS), np.int64)
        self.kind, self.return_ms = kind, return_ms
        self.visits = Visits(self.since, return_ms) if return_ms else None

    def of_stage(self, pointers: Pointers) -> bool:
        """Return whether these are the counts of the present stage."""
        stage = pointers.rollout, pointers.share, pointers.stage_ts, (pointers.live, pointers.candidate)
        return stage == (self.rollout, self.share, self.since, self.versions)

    def add(self, examples: Sequence[Example]) -> None:
        """Count the examples of both arms that were shown since the stage began."""
        mine = self._mine(examples)
        if not mine:
            return
        arm, users = self._came(mine)
        cluster = cluster_of(users)
        watched = [min(e.dwell_ms, MOST_WATCH_MS) for e in mine]
        for k, values in enumerate(([1] * len(mine), [int(e.clicked) for e in mine], watched)):
            np.add.at(self.totals[:, k], (arm, cluster), np.array(values, np.int64))
        self._add_shadow(mine)

    def again(self, return_ms: int) -> None:
        """Forget who came when; ``come_again`` gets the counted examples, once more, to tell."""
        self.return_ms = return_ms
        self.visits = Visits(self.since, return_ms) if return_ms else None
        self.returns[:] = 0

    def come_again(self, examples: Sequence[Example]) -> None:
        """Note who came, of examples that are counted already."""
        if self.visits is not None and (mine := self._mine(examples)):
            self._came(mine)

    def _mine(self, examples: Sequence[Example]) -> list[Example]:
        name, versions = self.kind.name, self.versions
        return [e for e in examples if e.ts >= self.since and getattr(e, name) in versions]

    def _came(self, mine: list[Example]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Note who came; return arms and users, ``(n,)`` each."""
        arm = np.array([self.versions.index(getattr(e, self.kind.name)) for e in mine])
        users = hash_many([e.user_id for e in mine])
        if self.visits is not None:
            self.visits.add(arm, np.array([e.ts for e in mine], np.int64), users)
            self.returns = self.visits.totals()
        return arm, users

    def _add_shadow(self, examples: list[Example]) -> None:
        """Count the slots of the live arm of which it is known what a candidate would have shown."""
        if self.kind is not RANKER:
            return  # settings have no shadow
        told: dict[str, list[tuple[Example, ShadowSlot]]] = {}
        for e in examples:
            if e.shadow is not None and e.ranker == self.versions[0]:
                told.setdefault(e.shadow.ranker, []).append((e, e.shadow))
        for version, slots in told.items():
            if version in self.shadows or len(self.shadows) < MOST_SHADOWS:
                self._add_slots(self.shadows.setdefault(version, _no_shadow()), slots)

    def _add_slots(self, totals: npt.NDArray[np.int64], told: list[tuple[Example, ShadowSlot]]) -> None:
        added = counterfactual.slot_totals(
            np.array([shadow.match for _, shadow in told]),
            np.array([e.propensity for e, _ in told]),
            np.array([e.clicked for e, _ in told]),
            np.array([e.score for e, _ in told]),
            np.array([shadow.value for _, shadow in told]),
        )
        cluster = cluster_of(hash_many([e.user_id for e, _ in told]))
        for k, values in enumerate(added):
            np.add.at(totals[k], cluster, values)

    def encode(self) -> bytes:
        """Return the value of the record."""
        return msgspec.json.encode(
            {
                "rollout": self.rollout,
                "share": self.share,
                "since": self.since,
                "versions": self.versions,
                "begin": self.begin,
                "read": self.read,
                "totals": self.totals.tolist(),
                "shadows": {version: totals.tolist() for version, totals in self.shadows.items()},
                "return_ms": self.return_ms,
                "returns": self.returns.tolist(),
            }
        )

    @classmethod
    def decode(cls, value: bytes, kind: Kind = RANKER) -> ArmCounts:
        """Return the counts of a record; raise ``ArtefactError`` when there are none in it."""
        try:
            body = msgspec.json.decode(value, type=_Body)
            told = body.shadows or ({body.versions[1]: body.shadow} if body.shadow else {})
            totals, shadows = (
                np.array(body.totals, np.int64),
                {v: np.array(x, np.int64) for v, x in told.items()},
            )
            returns = np.array(body.returns or np.zeros((2, len(RETURNS), CLUSTERS)), np.int64)
        except (*UNDECODABLE, ValueError, OverflowError) as exc:
            raise ArtefactError(f"not a record of a rollout: {exc}") from exc
        shapes = (2, len(NAMES), CLUSTERS), (2, len(RETURNS), CLUSTERS)
        shape = (len(counterfactual.NAMES), CLUSTERS)
        if (totals.shape, returns.shape) != shapes or any(x.shape != shape for x in shadows.values()):
            raise ArtefactError(
                f"not a record of a rollout: totals of shapes {totals.shape}, {returns.shape}"
            )
        live, candidate = body.versions
        stage = Pointers(
            live=live, candidate=candidate, share=body.share, rollout=body.rollout, stage_ts=body.since
        )
        out = cls(stage, body.begin, body.return_ms, kind)
        out.read, out.totals, out.returns, out.visits = body.read, totals, returns, None
        out.shadows |= shadows if kind is RANKER else {}
        return out

    def figures(self) -> dict[str, Any]:
        """Return examples, clicks, seconds watched, and users who came and returned, of both arms."""
        out = {}
        for k, (arm, version) in enumerate(zip(("live", "candidate"), self.versions, strict=True)):
            shown, clicks, watch = self.totals[k].sum(axis=1).tolist()
            came, returned = self.returns[k].sum(axis=1).tolist()
            out[arm] = {"version": version, "examples": shown, "clicks": clicks, "watch_s": watch / 1000}
            out[arm] |= {"came": came, "returned": returned}
        return out


class _Body(msgspec.Struct):
    rollout: str
    share: int
    since: int
    versions: tuple[str, str]
    begin: dict[int, int]
    read: dict[int, int]
    totals: list[list[list[int]]]
    shadow: list[list[int]] = []  # of the candidate, in records of older versions
    shadows: dict[str, list[list[int]]] = {}
    return_ms: int = 0
    returns: list[list[list[int]]] = []


def _no_shadow() -> npt.NDArray[np.int64]:
    return np.zeros((len(counterfactual.NAMES), CLUSTERS), np.int64)
