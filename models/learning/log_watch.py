"""Looks at the newest of the Parquet log: do its scores follow from its features, and have features moved?

An example has come a long way: from serving through `impressions`, the join and `examples` to a file. Its
score must still be what its ranker, by LightGBM itself, gives for its features (`parity`). Examples whose
ranker is not in the registry any more are not checked; nor are those that were scored with moved leaves,
which are not kept: serving checks these (`serving/skew.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.models.learning import examples as example_log
from headrace.models.learning import histograms, parity, ranker
from headrace.models.learning.histograms import Drift
from headrace.models.learning.log_files import files_in, reading
from headrace.models.learning.places import Place, source
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.registry import Registry
from headrace.streams.errors import ArtefactError

I64 = npt.NDArray[np.int64]

#: The newest shown slots that are looked at; with fewer than the second, drift is not known.
ROWS, LEAST_ROWS = 20_000, 1000
#: At most so many scores are computed again each time, and so many rankers are kept in memory.
CHECKED, RANKERS = 2000, 4
_COLUMNS = ("ranker", "leaves", "score", "features", "unshown", "log_partition", "log_offset")


def newest_slots(folder: Place, most: int) -> pa.Table:
    """Return about ``most`` of the newest shown slots of a log, whole row groups, the newest file first."""
    tables, total = [], 0
    with reading(folder):
        files = sorted(files_in(folder), key=lambda file: (-file.ts, -file.last))
        for file, footer in example_log.readable(files):
            for group in reversed(range(footer.num_row_groups)):
                if total < most:
                    tables.append(_shown(file.path, group))
                    total += len(tables[-1])
            if total >= most:
                break
    schema = pa.schema([example_log.SCHEMA.field(name) for name in _COLUMNS])
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="default")


def _shown(path: Place, group: int) -> pa.Table:
    """Return the shown slots of a row group; columns that an older file lacks are not there."""
    with pq.ParquetFile(source(path)) as file:
        there = set(file.schema_arrow.names)
        table = file.read_row_group(group, columns=[n for n in _COLUMNS if n in there], use_threads=False)
    if "unshown" not in there:
        return table
    return table.filter(pc.invert(pc.fill_null(table.column("unshown"), fill_value=False)))


def drift_of(folder: Place, registry: Registry, version: str, most: int = ROWS) -> tuple[list[Drift], int]:
    """Return how far the features of the newest slots have moved since a ranker was trained.

    Returns
    -------
    The farthest first, and the number of slots; nothing without the distributions of the training, or with
    fewer than ``LEAST_ROWS`` slots.
    """
    slots = newest_slots(folder, most)
    return _drift(slots, registry, version, most), min(most, len(slots))


def _drift(slots: pa.Table, registry: Registry, version: str, most: int) -> list[Drift]:
    trained = histograms.load(registry.folder_of_version(version)) if version else None
    if trained is None or len(slots) < LEAST_ROWS:
        return []
    return histograms.drift(trained, example_log.features_of(slots.slice(0, most)))


class LogWatch:
    """What is known of the newest examples of a log.

    Attributes
    ----------
    checked, skewed
        Examples whose score was computed again, and those that were different then.
    drift, rows
        How far features have moved, the farthest first; and the number of slots that this is from.
    """

    def __init__(self, folder: Place, registry: Registry) -> None:
        self._folder, self._registry = folder, registry
        self._seen: dict[int, int] = {}  # by partition, the last offset that was looked at
        self._rankers: dict[str, Ranker | None] = {}
        self.checked = self.skewed = self.rows = 0
        self.drift: list[Drift] = []

    def look(self, live: str) -> list[int]:
        """Look at the log; ``live`` is the version of the live ranker, empty: none.

        Returns
        -------
        Offsets in `examples` of those whose score was different.
        """
        slots = newest_slots(self._folder, ROWS)
        self.drift = _drift(slots, self._registry, live, ROWS)
        self.rows = min(ROWS, len(slots)) if self.drift else 0
        return self._check(slots)

    def _check(self, slots: pa.Table) -> list[int]:
        """Compute scores again that were not looked at before: at most ``CHECKED``, spread over all."""
        partition, offset = (slots.column(n).to_numpy() for n in ("log_partition", "log_offset"))
        new = self._new(partition, offset)
        plain = pc.fill_null(pc.equal(slots.column("leaves"), ""), fill_value=False).to_numpy()
        at = new[plain[new]]
        at = at[:: -(-len(at) // CHECKED) or 1]
        some = slots.take(pa.array(at))
        features, score = example_log.features_of(some), some.column("score").to_numpy()
        versions, wrong = np.array(some.column("ranker").to_pylist(), object), []
        for version in sorted(set(versions.tolist()) - {""}):
            made = self._ranker(version)
            if made is not None:
                rows = np.flatnonzero(versions == version)
                differ = ~parity.equal(parity.scores(made, features[rows]), score[rows])
                self.checked += len(rows)
                self.skewed += int(differ.sum())
                wrong += offset[at[rows[differ]]].tolist()
        return wrong

    def _new(self, partition: I64, offset: I64) -> I64:
        """Return the places of the rows that were not there before, and remember them."""
        new = np.zeros(len(offset), bool)
        for number in np.unique(partition).tolist():
            here = partition == number
            last, seen = int(offset[here].max()), self._seen.get(number, -1)
            new |= here & (offset > (seen if seen <= last else -1))  # a topic that was made again starts at 0
            self._seen[number] = last
        return np.flatnonzero(new)

    def _ranker(self, version: str) -> Ranker | None:
        """Return a ranker of the registry; None if it is not there, or does not fit this code."""
        if version not in self._rankers:
            try:
                self._rankers[version] = ranker.decode(self._registry.record(version))
            except ArtefactError:
                self._rankers[version] = None
            for old in list(self._rankers)[:-RANKERS]:
                del self._rankers[old]
        return self._rankers.get(version)
