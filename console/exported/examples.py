"""``headrace export examples``: the training log for other people's training, a column for each feature."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.console.exported import files
from headrace.console.screen import Reporter
from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning import training_set
from headrace.models.learning.log_files import folder_of, reading
from headrace.models.learning.objectives import OBJECTIVES, labels
from headrace.models.learning.places import Place, Stored, source
from headrace.models.learning.training_set import Piece
from headrace.models.learning.weighting import Weighting
from headrace.streams.settings import Settings

KIND = "examples"
#: Number of the layout. A column that goes or means something else makes a new one; more columns do not.
LAYOUT = 1
#: Before the name of a feature, and of an objective.
FEATURE, LABEL = "f.", "label."
#: Columns of the log that are taken as they are.
PLAIN = tuple(field for field in example_log.SCHEMA if field.name not in ("features", "label"))
SCHEMA = files.layout(
    pa.schema(
        [
            *PLAIN,
            pa.field("outcome", pa.string()),
            *(pa.field(f"{LABEL}{name}", pa.bool_()) for name in OBJECTIVES),
            pa.field("weight", pa.float32()),
            *(pa.field(f"{FEATURE}{name}", pa.float32()) for name in SPEC.names),
        ]
    ),
    KIND,
    LAYOUT,
    {"spec": SPEC.version, "features": ",".join(SPEC.names)},
)


def weighting_of(settings: Settings) -> Weighting:
    """Return what an example counts for the trainer of an installation."""
    s = settings
    return Weighting(
        s.train_unshown_weight,
        s.train_weight_clip,
        s.train_user_slots,
        s.train_user_clicks,
        s.train_unseen_weight,
    )


def export(
    settings: Settings, folder: Place, since_ms: int | None, until_ms: int | None, report: Reporter
) -> tuple[int, int]:
    """Write the examples that were shown in a time; return the numbers of rows and files.

    An example that was logged twice is written once. The order is that in which the trainer reads them.

    Raises
    ------
    ConfigError
        There is an export already.
    """
    files.free(folder, KIND)
    log = folder_of(settings)
    with reading(log):
        pieces, rows, weight = training_set.weighted(log, weighting_of(settings))
        return files.write(folder, KIND, SCHEMA, _tables(pieces, rows, weight, (since_ms, until_ms), report))


def _tables(
    pieces: list[Piece],
    rows: npt.NDArray[np.uint32],
    weight: npt.NDArray[np.float32],
    time: tuple[int | None, int | None],
    report: Reporter,
) -> Iterator[pa.Table]:
    starts = np.cumsum([0, *(piece.rows for piece in pieces)])
    bounds = np.searchsorted(rows, starts)
    for number, piece in enumerate(pieces):
        mine = slice(int(bounds[number]), int(bounds[number + 1]))
        at = rows[mine].astype(np.int64) - starts[number]
        with pq.ParquetFile(source(piece.path), pre_buffer=isinstance(piece.path, Stored)) as file:
            table = file.read_row_group(piece.group, use_threads=False).take(pa.array(at))
        inside = _inside(table, *time)
        table, mine_weight = table.filter(pa.array(inside)), weight[mine][inside]
        if len(table):
            yield flat(table, mine_weight)
        report(mine.stop, "examples")


def _inside(table: pa.Table, since_ms: int | None, until_ms: int | None) -> npt.NDArray[np.bool_]:
    ts = table.column("ts").to_numpy()
    inside = np.ones(len(ts), bool)
    if since_ms is not None:
        inside &= ts >= since_ms
    if until_ms is not None:
        inside &= ts < until_ms
    return inside


def flat(table: pa.Table, weight: npt.NDArray[np.float32]) -> pa.Table:
    """Return rows of the log as ``SCHEMA``; what older files lack is null."""
    n = len(table)

    def column(field: pa.Field) -> pa.Array:
        if field.name not in table.column_names:
            return pa.nulls(n, field.type)
        return table.column(field.name).combine_chunks().cast(field.type)

    columns = {field.name: column(field) for field in PLAIN}
    columns["outcome"] = column(pa.field("label", pa.string()))
    clicked, liked, dwell_ms, duration_ms = (
        _known(columns[name]) for name in ("clicked", "liked", "dwell_ms", "duration_ms")
    )
    happened = labels(clicked != 0, liked != 0, dwell_ms, duration_ms)
    for number, name in enumerate(OBJECTIVES):
        columns[f"{LABEL}{name}"] = pa.array(happened[:, number])
    columns["weight"] = pa.array(weight)
    x = example_log.features_of(table)
    for number, name in enumerate(SPEC.names):
        columns[f"{FEATURE}{name}"] = pa.array(np.ascontiguousarray(x[:, number]))
    return pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def _known(column: pa.Array) -> npt.NDArray[np.int64]:
    out: npt.NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    return out


def logged(table: pa.Table) -> pa.Table:
    """Return exported rows as rows of the log (``examples.SCHEMA``)."""
    names = {field.name: "outcome" if field.name == "label" else field.name for field in example_log.SCHEMA}
    x = np.stack([table.column(f"{FEATURE}{name}").to_numpy() for name in SPEC.names], axis=1)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float32).reshape(-1)), len(SPEC))
    columns = [
        rows if field.name == "features" else table.column(names[field.name]).combine_chunks()
        for field in example_log.SCHEMA
    ]
    return pa.table(columns, schema=example_log.SCHEMA)
