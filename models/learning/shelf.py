"""The rankers, or settings, on `models`: their texts, and which one is in use. Pure: records in, state out.

Serving, the trainer and the command line read the topic with it, so all of them see the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from headrace.models.learning import artefact, pointers
from headrace.models.learning.kinds import RANKER, Kind
from headrace.models.learning.pointers import Pointers
from headrace.streams.errors import ArtefactError

log = logging.getLogger(__name__)

#: Texts kept besides those pointed at: a pointer to one of them may still come.
MOST_OTHERS = 4
#: Changes of the pointers that are remembered, to tell a writer whether its own one counted.
MOST_CHANGES = 64
_OLD_KEY = RANKER.name.encode()


class Shelf:
    """Applies records of `models` in their order.

    Parameters
    ----------
    kind
        What is on the shelf.

    Attributes
    ----------
    pointers
        The pointers that count.
    texts
        Records of artefacts by version.
    overwritten
        Whether the newest record of pointers on the topic is not the one that counts: then compaction would
        leave the wrong one, and somebody must write it again.
    """

    def __init__(self, kind: Kind = RANKER) -> None:
        self.kind = kind
        self.pointers = Pointers()
        self.texts: dict[str, bytes] = {}
        self.overwritten = False
        self._counted: dict[int, Pointers] = {}

    def counted(self, change: Pointers) -> bool:
        """Return whether a change counts or counted, not long ago, before others built on it."""
        return self._counted.get(change.number) == change

    def apply(self, records: Iterable[Any]) -> bool:
        """Take the records that are about its kind; return whether there was one. Bad ones are logged."""
        changed = False
        for record in records:
            try:
                changed |= self._take(record.key or b"", record.value)
            except ArtefactError as exc:
                log.error("a model was refused: %s", exc, extra={"action": "model_refused"})  # noqa: TRY400
        if changed:
            self._drop()
        return changed

    def _take(self, key: bytes, value: bytes | None) -> bool:
        kind = self.kind
        if key.startswith(kind.prefix):
            version = key.removeprefix(kind.prefix).decode("utf-8", "replace")
            self.texts.pop(version, None)
            if value is not None:
                self.texts[version] = value
        elif key == kind.pointers and value is not None:
            self._point(pointers.decode(value))
        elif key == _OLD_KEY and kind is RANKER and value is not None and not self.pointers.number:
            # Before there were pointers, the newest ranker was the one in use.
            version = artefact.decode(value)["version"]
            self.texts[version] = value
            self.pointers = Pointers(live=version)
        else:
            return False
        return True

    def _point(self, found: Pointers) -> None:
        if found.number > self.pointers.number:
            self.pointers, self.overwritten = found, False
            self._counted[found.number] = found
            self._counted.pop(found.number - MOST_CHANGES, None)
        else:
            self.overwritten = found != self.pointers

    def _drop(self) -> None:
        others = [version for version in self.texts if version not in self.pointers.named()]
        for version in others[:-MOST_OTHERS]:
            del self.texts[version]

    def unused(self) -> list[str]:
        """Return the versions whose texts nothing points at."""
        return [version for version in self.texts if version not in self.pointers.named()]
