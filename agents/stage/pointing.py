"""Reading which ranker, or settings, are in use from `models`, and changing it: for trainer and console."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from headrace.models.learning import pointers
from headrace.models.learning.kinds import RANKER, Kind
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.shelf import Shelf
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.reader import read_partition
from headrace.streams.topics.sender import OutRecord

#: A change is tried again so often when somebody else changed the pointers at the same moment.
_TRIES = 5


class Sends(Protocol):
    """What writes records: a ``BatchSender``."""

    async def send_many(self, topic: str, records: Iterable[OutRecord], *, partition: int) -> object:
        """Write ``records`` to one partition, in order."""
        ...


async def read_shelf(settings: Settings, topic: str, kind: Kind = RANKER) -> Shelf:
    """Read `models` to its present end; ``topic`` is its full name."""
    shelf = Shelf(kind)

    def take(batch: Iterable[object]) -> None:
        shelf.apply(batch)

    await read_partition(settings, topic, 0, take)
    return shelf


def publication(shelf: Shelf, wanted: Pointers, texts: Iterable[tuple[str, bytes]] = ()) -> list[OutRecord]:
    """Return the records that make ``wanted`` true: texts come before the pointers that name them.

    A text that was published before there were pointers gets a key of its own. Texts that nothing names any
    more are left: another writer may be about to name one (``tombstones``).
    """
    new = dict(texts)
    known = {v: shelf.texts[v] for v in wanted.named() & shelf.texts.keys() - new.keys()}
    moved = known if not shelf.pointers.number else {}
    kind = shelf.kind
    out: list[OutRecord] = [(kind.key(v), value, None, ()) for v, value in (moved | new).items()]
    return [*out, (kind.pointers, pointers.encode(wanted), None, ())]


def tombstones(versions: Iterable[str], kind: Kind = RANKER) -> list[OutRecord]:
    """Return the records that delete texts."""
    return [(kind.key(v), None, None, ()) for v in versions]


async def point(
    settings: Settings,
    topic: str,
    sender: Sends,
    change: Callable[[Pointers], Pointers],
    texts: Iterable[tuple[str, bytes]] = (),
    kind: Kind = RANKER,
) -> Pointers:
    """Change the pointers; return them when it is sure that they count.

    Parameters
    ----------
    topic
        Full name of `models`.
    change
        Gives the new pointers from the present ones. The same ones: nothing is written.
    texts
        Versions and records of artefacts to publish with it.
    kind
        Whose pointers.

    Raises
    ------
    UnavailableError
        Others changed the pointers again and again, or the broker does not answer.
    """
    texts = list(texts)
    for _ in range(_TRIES):
        shelf = await read_shelf(settings, topic, kind)
        wanted = change(shelf.pointers)
        if wanted == shelf.pointers:
            return wanted
        records = publication(shelf, wanted, texts)
        await sender.send_many(topic, records, partition=0)
        after = await read_shelf(settings, topic, kind)
        if after.counted(wanted):
            return after.pointers
    raise UnavailableError("others change the pointers on `models` all the time: try again")
