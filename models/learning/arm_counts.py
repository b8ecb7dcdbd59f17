"""What the users of a rollout's two arms did: counted from `examples`, kept as a record on `models`. Pure.

The counts are of one stage: its examples are those shown since the stage began, because the share of the
users, and with it the time of most examples, is another one in each stage. The record says which offsets of
`examples` it has counted. So after a crash counting goes on there, and anybody can count again and compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.learning import counterfactual
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.sequential import CLUSTERS
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Example

KEY: Final = b"rollout"
#: Outcomes that are totalled by cluster.
NAMES: Final = ("shown", "clicks", "watch_ms")
#: Longer watching counts as this much, ms: one tab that was left open decides nothing.
MOST_WATCH_MS = 600_000
I64 = npt.NDArray[np.int64]


class ArmCounts:
    """The counts of a stage of a rollout.

    Parameters
    ----------
    pointers
        The stage.
    begin
        By partition of `examples`, the first offset that was looked at.

    Attributes
    ----------
    totals
        int64 ``(2, len(NAMES), CLUSTERS)``: of the live arm, and of the candidate's.
    shadow
        int64 ``(len(counterfactual.NAMES), CLUSTERS)``: what the candidate would have shown in the live arm.
    read
        By partition of `examples`, the offset after the last one that is counted.
    """

    def __init__(self, pointers: Pointers, begin: Mapping[int, int]) -> None:
        self.rollout, self.share, self.since = pointers.rollout, pointers.share, pointers.stage_ts
        self.versions = (pointers.live, pointers.candidate)
        self.begin = dict(begin)
        self.read = dict(begin)
        self.totals = np.zeros((2, len(NAMES), CLUSTERS), np.int64)
        self.shadow = np.zeros((len(counterfactual.NAMES), CLUSTERS), np.int64)

    def of_stage(self, pointers: Pointers) -> bool:
        """Return whether these are the counts of the present stage."""
        stage = pointers.rollout, pointers.share, pointers.stage_ts, (pointers.live, pointers.candidate)
        return stage == (self.rollout, self.share, self.since, self.versions)

    def add(self, examples: Sequence[Example]) -> None:
        """Count the examples of both arms that were shown since the stage began."""
        mine = [e for e in examples if e.ts >= self.since and e.ranker in self.versions]
        if not mine:
            return
        arm = np.array([self.versions.index(e.ranker) for e in mine])
        cluster = cluster_of(hash_many([e.user_id for e in mine]))
        watched = [min(e.dwell_ms, MOST_WATCH_MS) for e in mine]
        for k, values in enumerate(([1] * len(mine), [int(e.clicked) for e in mine], watched)):
            np.add.at(self.totals[:, k], (arm, cluster), np.array(values, np.int64))
        self._add_shadow(mine)

    def _add_shadow(self, examples: list[Example]) -> None:
        """Count the slots of the live arm of which it is known what the candidate would have shown."""
        live, candidate = self.versions
        told = [(e, e.shadow) for e in examples if e.shadow is not None and e.ranker == live]
        told = [(e, shadow) for e, shadow in told if shadow.ranker == candidate]
        if not told:
            return
        added = counterfactual.slot_totals(
            np.array([shadow.match for _, shadow in told]),
            np.array([e.propensity for e, _ in told]),
            np.array([e.clicked for e, _ in told]),
            np.array([e.score for e, _ in told]),
            np.array([shadow.value for _, shadow in told]),
        )
        cluster = cluster_of(hash_many([e.user_id for e, _ in told]))
        for k, values in enumerate(added):
            np.add.at(self.shadow[k], cluster, values)

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
                "shadow": self.shadow.tolist(),
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> ArmCounts:
        """Return the counts of a record; raise ``ArtefactError`` when there are none in it."""
        try:
            body = msgspec.json.decode(value, type=_Body)
            totals, shadow = (np.array(x, np.int64) for x in (body.totals, body.shadow))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
            raise ArtefactError(f"not a record of a rollout: {exc}") from exc
        shapes = (2, len(NAMES), CLUSTERS), (len(counterfactual.NAMES), CLUSTERS)
        if (totals.shape, shadow.shape) != shapes:
            raise ArtefactError(f"not a record of a rollout: totals of shape {totals.shape}, {shadow.shape}")
        live, candidate = body.versions
        stage = Pointers(
            live=live, candidate=candidate, share=body.share, rollout=body.rollout, stage_ts=body.since
        )
        out = cls(stage, body.begin)
        out.read, out.totals, out.shadow = body.read, totals, shadow
        return out

    def figures(self) -> dict[str, Any]:
        """Return examples, clicks and seconds watched of both arms."""
        shown, clicks, watch = self.totals.sum(axis=2).T.tolist()
        return {
            arm: {"version": v, "examples": shown[k], "clicks": clicks[k], "watch_s": watch[k] / 1000}
            for k, (arm, v) in enumerate(zip(("live", "candidate"), self.versions, strict=True))
        }


class _Body(msgspec.Struct):
    rollout: str
    share: int
    since: int
    versions: tuple[str, str]
    begin: dict[int, int]
    read: dict[int, int]
    totals: list[list[list[int]]]
    shadow: list[list[int]]


def cluster_of(users: npt.NDArray[np.uint64]) -> I64:
    """Return the clusters of users, by their ids ``(n,)``: the highest bits."""
    return (users >> np.uint64(64 - (CLUSTERS - 1).bit_length())).astype(np.int64)
