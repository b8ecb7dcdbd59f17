"""Another version of the towers comes into use: vectors of all items, hot index and towers in one step.

A background thread computes the vectors block by block, with pauses, and builds the hot index. What was put
or dropped meanwhile is done again, by the thread while it is much, then by the caller, who takes everything
over in the same step. So all that one request reads is of one version.

While the catalogue is in files, a version comes into use together with the snapshot that was made by it: the
thread computes the vectors of the items in memory only, and the hot index searches the new items of the
snapshot where they lie.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM, artefact
from headrace.models.embeddings.pieces import Whole
from headrace.models.embeddings.towers import Towers
from headrace.serving.index.hot import HotIndex
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.settled import Columns
from headrace.serving.snapshot.base import Base
from headrace.serving.snapshot.files import SnapshotError
from headrace.serving.vectors.items import ItemVectors, Version
from headrace.streams.errors import ArtefactError

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
log = logging.getLogger(__name__)

#: Items embedded at once, in about a millisecond; then the thread rests for as long.
BLOCK = 256
#: So many items that changed meanwhile are done by the caller, in about a millisecond.
_FEW = 32


@dataclass(slots=True)
class _Next:
    """The version that is made. The thread uses it until it is done."""

    version: Version
    hot: HotIndex


@dataclass(slots=True)
class _Changes:
    """Items that were put or dropped while a version was made."""

    keys: U64
    there: npt.NDArray[np.bool_]
    published: I64


class Swap:
    """Brings other versions of the towers into use. Only one thread calls it.

    Parameters
    ----------
    vectors, hot
        What gets the new version.

    Attributes
    ----------
    base
        The snapshot of the version that is being made, None without one. Who asked for it takes it.
    """

    def __init__(self, vectors: ItemVectors, hot: HotIndex) -> None:
        self._vectors, self._hot = vectors, hot
        self._making: Future[_Next] | None = None
        self._waiting: Callable[[], Towers] | None = None
        self._asked: Callable[[], Towers] | None = None  # the last, as long as it is not in use
        self.base: Base | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "towers")

    @property
    def making(self) -> Future[_Next] | None:
        """What is being made, None without anything."""
        return self._making

    @property
    def busy(self) -> bool:
        """Whether a version is being made, or waits."""
        return self._making is not None or self._waiting is not None

    def begin(self, load: Callable[[], Towers], now: int) -> None:
        """Make a version; while one is being made, the newest of those that were asked for waits.

        Parameters
        ----------
        load
            Returns the towers; called by the background thread. An ``ArtefactError`` is logged, and the
            present version stays in use.
        now
            Time, ms: items that are too old for the hot index do not go there.
        """
        self._asked = load
        if self._making is not None:
            self._waiting = load
        else:
            self._start(load, now)

    def _start(self, load: Callable[[], Towers], now: int, base: Base | None = None) -> None:
        self._waiting, self._vectors.changed, self.base = None, set(), base
        old = self._vectors.now
        self._making = self._thread.submit(lambda: self._make(load(), old, now, base))

    def advance(self, now: int) -> bool:
        """Take the version that was made, if it is ready; return whether there is another one in use now."""
        if self._making is None:
            if self._waiting is not None:
                self.begin(self._waiting, now)
            return False
        if self.base is not None or not self._making.done():
            return False
        making, self._making = self._making, None
        failed = making.exception()
        if failed is not None:
            self._vectors.changed, self._asked = None, self._waiting
            refused = failed if isinstance(failed, ArtefactError) else repr(failed)
            log.error("a model was refused: %s", refused, extra={"action": "model_refused"})
            return False
        if not self._ready(making.result(), now):
            return False
        self._use(making.result())
        self._asked = self._waiting
        return True

    # -- together with a snapshot

    def begin_with(self, base: Base, now: int) -> None:
        """Make the version of a snapshot, instead of what is being made; ``take_with`` brings both into use.

        Parameters
        ----------
        base
            What changed since it was written is hidden in it.
        now
            As of ``begin``.

        Raises
        ------
        SnapshotError
            After ``close``.
        """
        if self._closed:
            raise SnapshotError("this process is about to end")
        self._start(base.snapshot.towers, now, base)

    def take_with(self, now: int, use: Callable[[], None]) -> bool:
        """Take the version that was made, with its snapshot; False: much changed, some of it is made again.

        Parameters
        ----------
        use
            Lets the catalogue use the snapshot; called in the same step.

        Raises
        ------
        SnapshotError
            Its towers are damaged, or its vectors cannot be made. The present version stays in use.
        """
        making, self._making = self._making, None
        if making is None or making.cancelled():
            raise SnapshotError("its vectors were not made: this process is about to end")
        failed = making.exception()
        if failed is not None:
            raise failed if isinstance(failed, SnapshotError) else SnapshotError(repr(failed)) from failed
        if not self._ready(making.result(), now):
            return False
        use()
        self._use(making.result())
        self.base = self._waiting = self._asked = None
        return True

    def cancel_with(self) -> None:
        """Make no version of a snapshot; the towers that were asked for before it come into use."""
        if self.base is not None:
            self._making, self.base, self._vectors.changed = None, None, None
            self._waiting = self._asked

    def settle(self, now: int) -> None:
        """Wait until the newest version that was asked for is in use."""
        while self.base is None and self.busy:
            if self._making is not None:
                wait([self._making])
            self.advance(now)

    def close(self) -> None:
        """End the background thread, after what it is doing."""
        self._closed = True
        self._thread.shutdown(cancel_futures=True)

    # -- taking over

    def _ready(self, made: _Next, now: int) -> bool:
        """Bring a version up to date; False: that goes on in the thread."""
        changes = self._changes()
        if len(changes.keys) > _FEW:
            self._vectors.changed = set()
            self._making = self._thread.submit(lambda: self._again(made, changes, now))
            return False
        self._apply(made, changes, now)
        return True

    def _use(self, made: _Next) -> None:
        self._vectors.now, self._vectors.changed = made.version, None
        self._hot.become(made.hot)
        log.info("towers %s are in use", made.version.towers.version, extra={"action": "towers"})

    def _changes(self) -> _Changes:
        changed = self._vectors.changed or set()
        keys = np.fromiter(changed, np.uint64, len(changed))
        table = self._vectors.now.table
        rows = table.find(keys)
        return _Changes(keys, rows >= 0, table.data["published"][rows])

    # -- in the background thread

    def _make(self, towers: Towers, old: Version, now: int, base: Base | None) -> _Next:
        version, columns, published = Version(towers), list[Columns](), list[I64]()
        start = 0
        while start < old.table.used:
            began = time.perf_counter()
            block = old.table.data[start : start + BLOCK].copy()
            # An item that was dropped and put again meanwhile may be met twice; it is done again anyway.
            block = block[(block["key"] != 0) & (version.table.find(block["key"]) < 0)]
            vectors = towers.item_vectors(block["key"], self._vectors.content)
            version.put(block["key"], block["published"], vectors)
            hot = vectors.any(1) & self._hot.young(block["published"], now)
            columns.append(Columns(block["key"][hot].copy(), Quantised.of(vectors[hot])))
            published.append(block["published"][hot])
            start += BLOCK
            _rest(began)
        if base is not None:
            base.young.begin(self._hot.oldest(now))
        items = Columns.joined(columns) if columns else Columns(_NO_KEYS, Quantised.of(_NO_VECTORS))
        index = self._hot.another(items, np.concatenate([*published, _NO_TIMES]))
        index.over(None if base is None else base.young)
        return _Next(version, index)

    def _again(self, made: _Next, changes: _Changes, now: int) -> _Next:
        for start in range(0, len(changes.keys), _FEW):
            began = time.perf_counter()
            part = slice(start, start + _FEW)
            few = _Changes(changes.keys[part], changes.there[part], changes.published[part])
            self._apply(made, few, now)
            _rest(began)
        return made

    def _apply(self, made: _Next, changes: _Changes, now: int) -> None:
        there, gone = changes.keys[changes.there], changes.keys[~changes.there]
        published = changes.published[changes.there]
        vectors = made.version.towers.item_vectors(there, self._vectors.content)
        made.version.put(there, published, vectors)
        made.version.table.drop(gone)
        made.hot.drop_many(gone)
        made.hot.put_many(there, vectors, published, now)


def towers_of(whole: Whole) -> Callable[[], Towers]:
    """Return what loads the towers of a published version."""
    return lambda: artefact.towers_of(whole.body())


def _rest(began: float) -> None:
    """Let other threads work for as long as this one has."""
    time.sleep(min(0.01, time.perf_counter() - began))


_NO_KEYS, _NO_TIMES = np.zeros(0, np.uint64), np.zeros(0, np.int64)
_NO_VECTORS = np.zeros((0, DIM), np.float32)
