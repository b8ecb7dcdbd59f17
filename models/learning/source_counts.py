"""What came of the slots that each candidate source proposed, from the Parquet log of examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.models.learning.examples import IDENTITY, SCHEMA, once, readable
from headrace.models.learning.log_files import files_in, reading
from headrace.models.learning.places import Place, dataset


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """Slots of one source.

    Attributes
    ----------
    shown, clicked
        Slots whose item it proposed, and those of them with a click.
    alone, clicked_alone
        Of these, the slots that no other source proposed: without the source they would not have been shown.
    """

    source: str
    shown: int
    clicked: int
    alone: int
    clicked_alone: int


def source_counts(folder: Place, since: int = 0) -> tuple[list[SourceCounts], int, int]:
    """Count the log's slots that were shown at or after ``since`` (ms), each once.

    Memory grows with the number of slots since then: about 100 bytes each.

    Returns
    -------
    The sources, the one with the most clicks first; the number of slots and of clicks. Slots of a log
    without sources (of version 0.1.0) are in no source.
    """
    columns = ["sources", "clicked", *IDENTITY]
    table = SCHEMA.empty_table().select(columns)
    if folder.is_dir():
        with reading(folder):
            ours = [file.path for file, _ in readable(files_in(folder))]
            if ours:
                shown = ~pc.coalesce(pc.field("unshown"), False)  # null in files of older versions
                log = dataset(ours, SCHEMA)
                table = log.to_table(columns=columns, filter=(pc.field("ts") >= since) & shown)
    table = table.filter(pa.array(once(table)))
    clicked = table.column("clicked").to_numpy()
    return _counts(table.column("sources").to_pylist(), clicked.tolist()), len(table), int(np.sum(clicked))


def _counts(sources: Iterable[list[str] | None], clicked: Iterable[bool]) -> list[SourceCounts]:
    found: dict[str, list[int]] = {}
    for names, click in zip(sources, clicked, strict=True):
        for name in names or ():
            counts = found.setdefault(name, [0, 0, 0, 0])
            counts[0] += 1
            counts[1] += click
            if len(names or ()) == 1:
                counts[2] += 1
                counts[3] += click
    out = [SourceCounts(name, *counts) for name, counts in found.items()]
    return sorted(out, key=lambda c: (-c.clicked, -c.shown, c.source))
