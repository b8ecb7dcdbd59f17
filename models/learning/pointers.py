"""Which ranker is live, which one is tried, on how many users: the record `pointers` on `models`. Pure.

    shadow -> 1 % -> 10 % -> 50 % -> live          promoted, step by step
       `-------`------`------`----> gone           rolled back, at any step

One record has all of it, so that a worker never sees half of a change. ``number`` grows with each change:
of two writers that changed the same record, the first one counts for everybody who reads the topic.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from headrace.models.learning.kinds import RANKER
from headrace.streams.errors import ArtefactError

#: Key of the record of rankers.
KEY: Final = RANKER.pointers
#: Share of the users that a candidate answers, percent; 0: shadow, nobody sees its lists.
STAGES: Final = (0, 1, 10, 50)


class Pointers(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in use.

    Attributes
    ----------
    number
        Number of the change that made this record.
    live, previous
        Version that is in use, and the one before it; empty: none.
    candidate
        Version that is tried; empty: none.
    share
        Percent of the users that the candidate answers; one of ``STAGES``.
    rollout
        Name of the rollout: users are put into its arms by their id and this name.
    began_ts, stage_ts
        When the rollout began to answer users, and when its present stage began, ms.
    waiting
        A newer version, tried when the present rollout has ended.
    by, reason
        Who changed it last, and why.
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

    def named(self) -> set[str]:
        """Return all versions whose texts are needed."""
        return {self.live, self.previous, self.candidate, self.waiting} - {""}


def encode(pointers: Pointers) -> bytes:
    """Return the value of the record."""
    return msgspec.json.encode(pointers)


def decode(value: bytes) -> Pointers:
    """Return the pointers of a record; raise ``ArtefactError`` when there are none in it."""
    try:
        found = msgspec.json.decode(value, type=Pointers)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
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


def offered(p: Pointers, version: str, now: int, by: str, *, at_once: bool = False) -> Pointers:
    """Return the pointers after a new version was offered.

    The first version ever is live at once, and with ``at_once`` every one. A version that users see is not
    replaced: the new one waits.
    """
    if version in (p.live, p.candidate, p.waiting):
        return p
    if not p.live or at_once:
        return _live(p, version, now, by, "the first ranker" if not p.live else "rollouts are off")
    if p.candidate and p.share:
        return _changed(p, by, "waits for the rollout", waiting=version)
    return _tried(p, version, now, by, "a new candidate")


def _live(p: Pointers, version: str, now: int, by: str, reason: str) -> Pointers:
    gone = {"candidate": "", "share": 0, "rollout": "", "began_ts": 0, "waiting": ""}
    return _changed(p, by, reason, live=version, previous=p.live, stage_ts=now, **gone)


def _tried(p: Pointers, version: str, now: int, by: str, reason: str) -> Pointers:
    """Return the pointers with ``version`` as the candidate in the shadow; without one when it is empty."""
    name = f"{version}-{p.number + 1}" if version else ""
    return _changed(
        p, by, reason, candidate=version, share=0, rollout=name, began_ts=0, stage_ts=now, waiting=""
    )


def promoted(p: Pointers, now: int, by: str, reason: str) -> Pointers:
    """Return the pointers with the candidate one stage further.

    Raises
    ------
    ArtefactError
        There is no candidate.
    """
    if not p.candidate:
        raise ArtefactError("there is no candidate to promote")
    at = STAGES.index(p.share) + 1
    if at < len(STAGES):
        return _changed(p, by, reason, share=STAGES[at], began_ts=p.began_ts or now, stage_ts=now)
    waiting = p.waiting
    done = _live(p, p.candidate, now, by, reason)
    return replace(_tried(done, waiting, now, by, reason), number=done.number) if waiting else done


def made_live(p: Pointers, version: str, now: int, by: str, reason: str) -> Pointers:
    """Return the pointers with ``version`` live at once; a rollout ends."""
    return _live(p, version, now, by, reason)


def rolled_back(p: Pointers, now: int, by: str, reason: str) -> Pointers:
    """Return the pointers without the candidate; where there is none, with the previous version live.

    Raises
    ------
    ArtefactError
        There is nothing to go back to.
    """
    if p.candidate:
        return _tried(p, p.waiting, now, by, reason)
    if not p.previous:
        raise ArtefactError("there is neither a candidate nor a previous ranker to go back to")
    return _live(p, p.previous, now, by, reason)
