"""The examples to train on, read from the log in pieces: the newest of the log, each once.

There is one for each shown slot, and some of candidates that were not shown. Those are for training only:
nothing is counted or measured with them.

A first pass reads only what identifies a slot, as numbers: about 40 bytes an example. Features are read
later, when they are needed, one row group at a time. Of many examples LightGBM gets a share: every click, and
a sample of the rest, with weights, so that a probability stays what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import files_in
from headrace.models.learning.objectives import CLICK, OBJECTIVES, labels
from headrace.models.learning.places import Place, Stored, source
from headrace.models.learning.weighting import AT_ONCE, PLAIN, Told, Weighting, among
from headrace.models.slot_labels import UNSEEN
from headrace.streams.messages.ids import hash_many

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: Largest number of shown slots that distributions of features are made from.
TYPICAL = 20_000
_NAMES = ["user_id", "request_id", "ts", "position"]
_SLOT = [*_NAMES, "clicked", "liked", "dwell_ms", "duration_ms", "propensity", "explored", "unshown", "label"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One row group of a file."""

    path: Place
    group: int
    rows: int


@dataclass(slots=True)
class Part:
    """Some examples of the log; every array is ``(n,)``.

    Attributes
    ----------
    pieces
        The row groups that have them.
    rows
        Where each example is: its number among the rows of all pieces, uint32, ascending.
    happened
        What happened, by objective, bool ``(n, len(OBJECTIVES))``.
    weight
        float32; None: all the same.
    lists
        The list each was shown on, uint64: a hash of user, request and time (two callers may use the same
        request id); None where nobody asks.
    """

    pieces: list[Piece]
    rows: U32
    happened: Bool
    weight: F32 | None = None
    lists: U64 | None = None

    @property
    def clicked(self) -> Bool:
        """Whether there was a click, bool ``(n,)``."""
        return self.happened[:, 0]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: Bool | I64) -> Part:
        """Return the examples chosen by a mask ``(n,)``, or by ascending places."""
        weight = None if self.weight is None else self.weight[mask]
        return Part(self.pieces, self.rows[mask], self.happened[mask], weight)

    def features(self) -> LoggedFeatures:
        """Return the features, for LightGBM."""
        return LoggedFeatures(self.pieces, self.rows)


@dataclass(slots=True)
class Examples:
    """The examples of the log.

    Attributes
    ----------
    count
        Number of shown slots.
    positives
        Of these, how many each objective has, by name.
    train
        Those to train on.
    older
        Which of these are older than ``newest``, bool ``(len(train),)``.
    newest
        The newest of all shown slots, to measure on. A list is held out as a whole.
    newest_ts
        When these were shown, ms, int64 ``(len(newest),)``.
    bots
        Number of users that were left out.
    position, chance, explored
        Of ``newest``: where on its list, int16 ``(n,)``; the probability of the item there, float32; whether
        it was random, bool.
    typical
        An even sample of the shown slots, at most ``TYPICAL``: what features are like.
    """

    count: int
    positives: dict[str, int]
    train: Part
    older: Bool
    newest: Part
    newest_ts: I64
    bots: int
    position: npt.NDArray[np.int16]
    chance: F32
    explored: Bool
    typical: Part

    @property
    def clicks(self) -> int:
        """Number of slots with a click."""
        return self.positives[CLICK]


def find(folder: Place, most: int, sample: int, hold_out: float, weighting: Weighting = PLAIN) -> Examples:
    """Read which examples there are in the newest files.

    An example that was written twice (a join that was replayed after a crash) counts once. The caller holds
    ``log_files.reading``.

    Parameters
    ----------
    most
        About so many rows are read.
    sample
        Largest number of examples to train on, about.
    hold_out
        Share of the shown slots to hold out.
    weighting
        What an example counts.
    """
    pieces = _newest_pieces(folder, most)
    told = _told(pieces)
    rows = _first_of_each(told.slot)
    if len(rows) < len(told):
        told.keep(rows)
    people = weighting.people(told)
    bots = len(np.unique(told.user[~people]))
    if bots:
        rows = rows[people]
        told.keep(people)
    shown = ~told.unshown
    held_out = told.ts >= _held_out_from(told.ts[shown], hold_out)
    measured = held_out & shown
    newest = Part(pieces, rows[measured], told.happened[measured], lists=told.list[measured])
    used = np.flatnonzero(weighting.used(told))
    kept, thinning = _thinned(told.slot[used], np.any(told.happened[used], axis=1), sample)
    used = used[kept]
    weight = weighting.of(told, used)
    if thinning is not None:
        weight *= thinning[kept]
    plain = bool((weight == 1).all())
    train = Part(pieces, rows[used], told.happened[used], None if plain else weight)
    positives = dict(zip(OBJECTIVES, told.happened[shown].sum(0).tolist(), strict=True))
    even = np.flatnonzero(shown)
    even = even[:: -(-len(even) // TYPICAL) or 1]
    typical = Part(pieces, rows[even], told.happened[even])
    slots = told.position[measured], told.probability[measured], told.explored[measured]
    at = told.ts[measured]
    return Examples(int(shown.sum()), positives, train, ~held_out[used], newest, at, bots, *slots, typical)


def weighted(folder: Place, weighting: Weighting) -> tuple[list[Piece], U32, F32]:
    """Return all pieces of a log, where each example is, and what it counts in a training on all of them.

    An example that a training leaves out counts 0. The caller holds ``log_files.reading``. Memory is about 50
    bytes for each row.
    """
    pieces = _newest_pieces(folder, sys.maxsize)
    told = _told(pieces)
    rows = _first_of_each(told.slot)
    told.keep(rows)
    weight = np.zeros(len(rows), np.float32)
    people = weighting.people(told)
    places = np.flatnonzero(people)
    told.keep(people)
    used = np.flatnonzero(weighting.used(told))
    weight[places[used]] = weighting.of(told, used)
    return pieces, rows, weight


def _first_of_each(slots: U64) -> U32:
    """Return where each slot comes first, ascending. Few come again, so only those are looked at by place."""
    ordered = np.sort(slots)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    kept = np.ones(len(slots), bool)
    if len(again):
        at = np.flatnonzero(among(slots, again))
        kept[at] = False
        kept[at[np.unique(slots[at], return_index=True)[1]]] = True
    return np.flatnonzero(kept).astype(np.uint32)


def _told(pieces: Sequence[Piece]) -> Told:
    """Return what each row of the pieces tells, repeats included."""
    out, at = Told.zeros(sum(piece.rows for piece in pieces)), 0
    for piece in pieces:
        table, part = _read(piece, _SLOT), slice(at, at + piece.rows)
        at += piece.rows
        out.ts[part] = table.column("ts").to_numpy()
        out.probability[part] = table.column("propensity").to_numpy()
        out.unshown[part] = _or_zero(table, "unshown", np.bool_)
        if "label" in table.column_names:
            out.unseen[part] = pc.fill_null(pc.equal(table.column("label"), UNSEEN), False).to_numpy()
        out.explored[part] = table.column("explored").to_numpy()
        clicked, liked = (table.column(name).to_numpy() for name in ("clicked", "liked"))
        dwell_ms, duration_ms = (_or_zero(table, n, np.int64) for n in ("dwell_ms", "duration_ms"))
        out.happened[part] = labels(clicked, liked, dwell_ms, duration_ms)
        out.user[part] = _hashes(table.column("user_id"))
        names = out.user[part] * _ODD[0] + _hashes(table.column("request_id")) * _ODD[1]
        out.list[part] = _mixed(names + out.ts[part].astype(np.uint64) * _ODD[2])
        out.position[part] = table.column("position").to_numpy()
        out.slot[part] = _mixed(out.list[part] + out.position[part].astype(np.uint64))
    return out


def _or_zero(table: pa.Table, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a column, zeros where there is nothing; older files lack some."""
    if name not in table.column_names:
        return np.zeros(len(table), dtype)
    column = table.column(name)
    plain = column.cast(pa.int64()) if pa.types.is_boolean(column.type) else column
    out: npt.NDArray[Any] = pc.fill_null(plain, 0).to_numpy().astype(dtype)
    return out


def _thinned(slots: U64, clicked: Bool, sample: int) -> tuple[Bool, F32 | None]:
    """Return which examples to keep, and their weights: about ``sample``, half of them those with a click.

    If there are not so many clicks, every one is kept. A long view and a like are kept like a click.

    The hash of the slot decides, so that each training keeps the same ones.
    """
    if len(slots) <= sample:
        return np.ones(len(slots), bool), None
    clicks = int(clicked.sum())
    of_clicks = min(clicks, sample // 2)
    share = np.array([(sample - of_clicks) / max(1, len(slots) - clicks), of_clicks / max(1, clicks)])
    kept, weight = np.empty(len(slots), bool), np.empty(len(slots), np.float32)
    for start in range(0, len(slots), AT_ONCE):  # all at once would be the most memory of a training
        some = slice(start, start + AT_ONCE)
        mine = share[clicked[some].astype(np.int8)]
        kept[some] = (slots[some] >> np.uint64(11)) < mine * 2.0**53
        weight[some] = 1 / mine
    return kept, weight


def _held_out_from(ts: I64, share: float) -> int:
    """Return the time from which on the newest ``share`` of times is."""
    at = int(len(ts) * (1 - share))
    return int(np.partition(ts, at)[at]) if len(ts) else 0


def _newest_pieces(folder: Place, most: int) -> list[Piece]:
    files = sorted(files_in(folder), key=lambda file: (-file.ts, file.partition))
    chosen: list[tuple[Any, list[Piece]]] = []
    total = 0
    for file, footer in example_log.readable(files):
        groups = range(footer.num_row_groups)
        chosen.append((file, [Piece(file.path, g, footer.row_group(g).num_rows) for g in groups]))
        total += footer.num_rows
        if total >= most:
            break
    return [piece for _, pieces in sorted(chosen, key=lambda pair: pair[0]) for piece in pieces]


_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def _mixed(x: U64) -> U64:
    """Return well mixed bits, uint64 ``(n,)`` (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: U64 = x ^ (x >> np.uint64(31))
    return out


def _hashes(texts: pa.ChunkedArray) -> U64:
    """Return the hash of each text, uint64 ``(n,)``; a text that comes often is hashed once."""
    coded = pc.dictionary_encode(texts.combine_chunks())
    out: U64 = hash_many(coded.dictionary.to_pylist())[coded.indices.to_numpy()]
    return out


def _read(piece: Piece, columns: list[str]) -> pa.Table:
    with pq.ParquetFile(source(piece.path), pre_buffer=isinstance(piece.path, Stored)) as file:
        return file.read_row_group(piece.group, columns=columns, use_threads=False)


class LoggedFeatures(lgb.Sequence):  # type: ignore[misc]
    """The features of some examples, for LightGBM: read from the log one row group at a time.

    Parameters
    ----------
    pieces, rows
        See ``Examples``.

    Attributes
    ----------
    shape
        ``(len(rows), len(SPEC))``
    """

    batch_size = example_log.GROUP_ROWS

    def __init__(self, pieces: list[Piece], rows: U32) -> None:
        self._pieces, self._rows = pieces, rows
        self._starts = np.cumsum([0, *(piece.rows for piece in pieces)])
        self._begin = self._end = -1  # rows of the piece in memory
        self._features: F32 = np.empty((0, len(SPEC)), np.float32)
        self.shape = len(rows), len(SPEC)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Return the rows of a slice, float32; or one row, float64, as LightGBM's binning takes it."""
        if isinstance(index, slice):
            return self._many(self._rows[index])
        row = int(self._rows[index])
        if not self._begin <= row < self._end:  # LightGBM asks for single rows in ascending order
            self._load(int(np.searchsorted(self._starts, row, "right")) - 1)
        return self._features[row - self._begin].astype(np.float64)

    def batches(self) -> Iterator[F32]:
        """Yield all rows, ``batch_size`` at once."""
        for start in range(0, len(self), self.batch_size):
            yield self[start : start + self.batch_size]

    def _many(self, rows: U32) -> F32:
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        bounds = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1], True])
        parts = []
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self._load(int(numbers[begin]))
            parts.append(self._features[rows[begin:end] - self._begin])
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _load(self, number: int) -> None:
        """Read the features of a piece, unless they are in memory."""
        begin = int(self._starts[number])
        if begin != self._begin:
            self._features = example_log.features_of(_read(self._pieces[number], ["features"]))
            self._begin, self._end = begin, begin + len(self._features)
