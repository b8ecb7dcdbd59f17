"""The rankers that this process has read from `models`, and the one that answers a user. Pure."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from headrace.models.learning import ranker
from headrace.models.learning.arms import arm_of
from headrace.models.learning.pointers import stage_name
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.shelf import Shelf
from headrace.streams.errors import ArtefactError

log = logging.getLogger(__name__)

#: Rankers that ``Rankers.read`` holds until pointers name them.
_READ = 2


class Rankers:
    """The live ranker and the candidates, as the newest pointers say.

    Attributes
    ----------
    live, candidate
        None: there is none, or it does not fit this code. A live ranker that does not fit leaves the one
        before it in use.
    others
        Further candidates in the shadow; those that do not fit are left out.
    """

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.live: Ranker | None = None
        self.candidate: Ranker | None = None
        self.others: list[Ranker] = []
        self._refused: set[str] = set()
        self._read: dict[str, tuple[bytes, Ranker]] = {}

    def read(self, records: Sequence[Any]) -> None:
        """Read the last rankers of records that ``apply`` gets next: it takes no time for these.

        Any thread may do it, but not beside ``apply``. What is wrong with a ranker, ``apply`` says.
        """
        prefix = self.shelf.kind.prefix
        texts = [r for r in records if r.value is not None and (r.key or b"").startswith(prefix)]
        for record in texts[-_READ:]:
            with contextlib.suppress(Exception):
                read = ranker.decode(record.value)
                self._read[read.version] = record.value, read
        while len(self._read) > _READ:
            del self._read[next(iter(self._read))]

    def apply(self, records: Sequence[Any]) -> bool:
        """Take records of `models`; return whether the live ranker is another one now."""
        if not self.shelf.apply(records):
            return False
        before, pointed = self.live, self.shelf.pointers
        known = {r.version: r for r in (self.live, self.candidate, *self.others) if r is not None}
        self.live = self._ranker(pointed.live, known) or self.live
        self.candidate = self._ranker(pointed.candidate, known)
        found = (self._ranker(one.version, known) for one in pointed.others)
        self.others = [one for one in found if one is not None]
        self._refused &= self.shelf.texts.keys()
        if self.live is not None and self.live is not before:
            log.info("ranker %s is in use", self.live.version)
        if self.candidate is not None and self.candidate.version not in known:
            log.info("ranker %s is tried: %s", self.candidate.version, stage_name(pointed.share))
        for one in self.others:
            if one.version not in known:
                log.info("ranker %s is tried: %s", one.version, stage_name(0))
        return self.live is not before

    def _ranker(self, version: str, known: dict[str, Ranker]) -> Ranker | None:
        """Return the ranker of a version, read from its text unless it is known."""
        if version in known:
            return known[version]
        if version not in self.shelf.texts or version in self._refused:
            return None
        text = self.shelf.texts[version]
        before, read = self._read.pop(version, (b"", None))
        if read is not None and before == text:
            return read
        try:
            return ranker.decode(text)
        except ArtefactError as exc:
            log.error("a model was refused: %s", exc, extra={"action": "model_refused"})  # noqa: TRY400
        except Exception:
            log.exception("a model was refused", extra={"action": "model_refused"})
        self._refused.add(version)
        return None

    def shadowed(self, place: float) -> Ranker | None:
        """Return the candidate that makes the shadow of a list, by the list's place in [0, 1); None: none."""
        every = [one for one in (self.candidate, *self.others) if one is not None]
        return every[int(place * len(every))] if every else None

    def variant_of(self, user_id: str) -> str:
        """Return the arm of a user; empty while no candidate answers anybody."""
        pointed = self.shelf.pointers
        if self.candidate is None or not pointed.share:
            return ""
        return arm_of(user_id, pointed.rollout, pointed.share)
