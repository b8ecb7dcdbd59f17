"""What came of the slots that each candidate source proposed, from the Parquet log of examples."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.models.learning.examples import IDENTITY, SCHEMA, once, readable
from headrace.models.learning.log_files import files_in, reading
from headrace.models.learning.places import Place, dataset
from headrace.models.learning.source_outcomes import SourceCounts, SourceOutcomes


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
    clicked, outcomes = table.column("clicked").to_numpy(), SourceOutcomes()
    outcomes.add(table.column("sources").to_pylist(), clicked.tolist())
    return outcomes.counts(), len(table), int(np.sum(clicked))
