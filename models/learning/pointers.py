"""Which ranker is live, which one is tried, on how many users: the record `pointers` on `models`. Pure.

    shadow -> 1 % -> 10 % -> 50 % -> live          promoted, step by step
       `-------`------`------`----> gone           rolled back, at any step

Several candidates may be in the shadow together (``others``); one of them at a time goes further. When that
one is live or gone, those that are left begin in the shadow again, and the next one goes further.

One record has all of it, so that a worker never sees half of a change. ``number`` grows with each change:
of two writers that changed the same record, the first one counts for everybody who reads the topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from headrace.models.learning.kinds import RANKER
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

#: Key of the record of rankers.
KEY: Final = RANKER.pointers
#: Share of the users that a candidate answers, percent; 0: shadow, nobody sees its lists.
STAGES: Final = (0, 1, 10, 50)


class Shadowed(msgspec.Struct, frozen=True):
    """A further candidate in the shadow, and since when, ms."""

    version: str
    since_ts: int


class Pointers(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in use.

    Attributes
    ----------
    number
        Number of the change that made this record.
    live, previous
        Version that is in use, and the one before it; empty: none.
    candidate
        Version that is tried: the one that goes further, or in the shadow the oldest; empty: none.
    share
        Percent of the users that the candidate answers; one of ``STAGES``.
    rollout
        Name of the rollout: users are put into its arms by their id and this name.
    began_ts, stage_ts
        When the rollout began to answer users, and when its present stage began, ms.
    waiting
        A newer version, tried when the present rollout has ended; where only one may be tried at a time.
    by, reason
        Who changed it last, and why.
    others
        Further candidates, in the shadow whatever the share of ``candidate``; the oldest first.
    """

    number: int = 0
    live: str = ""
    previous: str = ""
    candidate: str = ""
    share: int = 0
    rollout: str = ""
    began_ts: int = 0
    stage_ts: int = 0
    waiting: str = ""
    by: str = ""
    reason: str = ""
    others: tuple[Shadowed, ...] = ()

    def named(self) -> set[str]:
        """Return all versions whose texts are needed."""
        return {self.live, self.previous, self.waiting, *self.candidates()} - {""}

    def candidates(self) -> list[str]:
        """Return all candidates: the one that goes further first, then the others, the oldest first."""
        return [self.candidate, *(one.version for one in self.others)] if self.candidate else []

    def since(self, version: str) -> int:
        """Return since when a candidate is in its stage, ms."""
        return next((one.since_ts for one in self.others if one.version == version), self.stage_ts)


def encode(pointers: Pointers) -> bytes:
    """Return the value of the record."""
    return msgspec.json.encode(pointers)


def decode(value: bytes) -> Pointers:
    """Return the pointers of a record; raise ``ArtefactError`` when there are none in it."""
    try:
        found = msgspec.json.decode(value, type=Pointers)
    except UNDECODABLE as exc:
        raise ArtefactError(f"not a record of pointers: {exc}") from exc
    if found.share not in STAGES:
        raise ArtefactError(f"not a record of pointers: a share of {found.share} %")
    return found


def text_key(version: str) -> bytes:
    """Return the key of a ranker's text."""
    return RANKER.key(version)


def stage_name(share: int) -> str:
    """Return the name of a stage for people."""
    return f"{share} %" if share else "shadow"


def _changed(p: Pointers, by: str, reason: str, **fields: object) -> Pointers:
    return replace(p, number=p.number + 1, by=by, reason=reason, **fields)


def renumbered(p: Pointers) -> Pointers:
    """Return the same pointers as a new change."""
    return replace(p, number=p.number + 1)


def offered(
    p: Pointers,
    version: str,
    now: int,
    by: str,
    *,
    at_once: bool = False,
    most: int = 1,
    unfit: str = "",
) -> Pointers:
    """Return the pointers after a new version was offered.

    The first version ever is live at once, and with ``at_once`` every one; so is one in place of ``unfit``,
    a version that no process of this code can use: beside it, users would have no ranker for the whole
    rollout. There are at most ``most`` candidates: of more, the oldest that is not ``candidate`` goes. With
    one, a version that users see is not replaced: the new one waits.
    """
    if version in (p.live, p.waiting, *p.candidates()):
        return p
    if not p.live or at_once:
        return _live(p, version, now, by, "the first ranker" if not p.live else "rollouts are off")
    if p.live == unfit:
        return _live(p, version, now, by, "the one before does not fit this version of Headrace")
    if p.candidate and most > 1:
        others = (*p.others, Shadowed(version, now))[1 - most :]
        return _changed(p, by, "a further candidate", others=others)
    if p.candidate and p.share:
        return _changed(p, by, "waits for the rollout", waiting=version)
    return _tried(p, version, now, by, "a new candidate")


def _live(p: Pointers, version: str, now: int, by: str, reason: str) -> Pointers:
    gone = {"candidate": "", "share": 0, "rollout": "", "began_ts": 0, "waiting": "", "others": ()}
    return _changed(p, by, reason, live=version, previous=p.live, stage_ts=now, **gone)


def _tried(p: Pointers, version: str, now: int, by: str, reason: str, others: Sequence[str] = ()) -> Pointers:
    """Return the pointers with ``version`` as the candidate in the shadow; without one when it is empty."""
    name = f"{version}-{p.number + 1}" if version else ""
    begun = {"share": 0, "rollout": name, "began_ts": 0, "stage_ts": now, "waiting": ""}
    beside = tuple(Shadowed(other, now) for other in others)
    return _changed(p, by, reason, candidate=version, others=beside, **begun)


def _next(p: Pointers) -> list[str]:
    """Return the versions that are tried when the candidate is live or gone."""
    return [*p.candidates()[1:], *([p.waiting] if p.waiting else [])]


def promoted(p: Pointers, now: int, by: str, reason: str, version: str = "") -> Pointers:
    """Return the pointers with a candidate one stage further; out of the shadow, it may be any of them.

    Raises
    ------
    ArtefactError
        There is no such candidate, or users see another one.
    """
    if not p.candidate:
        raise ArtefactError("there is no candidate to promote")
    if version and version != p.candidate:
        p = _first(p, version)
    at = STAGES.index(p.share) + 1
    if at < len(STAGES):
        return _changed(p, by, reason, share=STAGES[at], began_ts=p.began_ts or now, stage_ts=now)
    done, rest = _live(p, p.candidate, now, by, reason), _next(p)
    return replace(_tried(done, rest[0], now, by, reason, rest[1:]), number=done.number) if rest else done


def _first(p: Pointers, version: str) -> Pointers:
    """Return the pointers with ``version``, one of the others, as the candidate that goes further."""
    if version not in p.candidates():
        raise ArtefactError(f"{version} is no candidate")
    if p.share:
        raise ArtefactError(
            f"users see {p.candidate}: {version} stays in the shadow until that is live or gone"
        )
    rest = tuple(one for one in p.others if one.version != version)
    others = (Shadowed(p.candidate, p.stage_ts), *rest)
    return replace(p, candidate=version, others=others, rollout=f"{version}-{p.number + 1}")


def made_live(p: Pointers, version: str, now: int, by: str, reason: str) -> Pointers:
    """Return the pointers with ``version`` live at once; a rollout ends."""
    return _live(p, version, now, by, reason)


def rolled_back(p: Pointers, now: int, by: str, reason: str, version: str = "") -> Pointers:
    """Return the pointers without a candidate; where there is none, with the previous version live.

    Without ``version`` it is the one that goes further; the stage of that one goes on when another one goes.

    Raises
    ------
    ArtefactError
        There is nothing to go back to, or no such candidate.
    """
    if version and version not in p.candidates():
        raise ArtefactError(f"{version} is no candidate")
    if version and version != p.candidate:
        return _changed(p, by, reason, others=tuple(one for one in p.others if one.version != version))
    if p.candidate:
        rest = _next(p) or [""]
        return _tried(p, rest[0], now, by, reason, rest[1:])
    if not p.previous:
        raise ArtefactError("there is neither a candidate nor a previous ranker to go back to")
    return _live(p, p.previous, now, by, reason)
