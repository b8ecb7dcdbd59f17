"""Reads the users of a digest: a text, CSV or Parquet file, or standard input."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.streams.errors import ConfigError

#: The column with the ids of users, of every file that has columns.
USER = "user_id"
#: What a file of lists of an earlier digest must have to be read again.
LISTS = (USER, "item_id")
#: Most items that a request may name as seen.
MOST_SEEN = 500


def read_users(path: str) -> pa.StringArray:
    """Return the ids in a file, each once, in the order in which they come first.

    ``*.parquet`` and ``*.csv`` have a column ``user_id``; every other file has an id a line, and so has
    standard input (``-``). Text and CSV may end with ``.gz``. Blank lines and nulls are left out.

    Raises
    ------
    ConfigError
        The file cannot be read, or names no user.
    """
    try:
        found = pc.drop_null(_column(path))
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror or exc}") from exc
    except (pa.ArrowException, KeyError, UnicodeDecodeError, EOFError) as exc:
        raise ConfigError(f"{path} has no readable column {USER}: {exc}") from exc
    users = pc.unique(found.filter(pc.not_equal(found, "")))
    if not len(users):
        raise ConfigError(f"{path} names no user")
    return users


def _column(path: str) -> pa.Array:
    name = path.lower().removesuffix(".gz")
    if path == "-":
        return _lines(sys.stdin.buffer)
    if name.endswith(".parquet"):
        column = pq.read_table(path, columns=[USER]).column(USER)
    elif name.endswith(".csv"):
        # As text: an id such as 007 is no number, and one such as NA is no null.
        how = pa_csv.ConvertOptions(
            include_columns=[USER], column_types={USER: pa.string()}, strings_can_be_null=False
        )
        column = pa_csv.read_csv(path, convert_options=how).column(USER)
    else:
        with gzip.open(path) if path.lower().endswith(".gz") else Path(path).open("rb") as file:
            return _lines(file)
    return pc.cast(column, pa.string()).combine_chunks()


def _lines(file: Iterable[bytes] | IO[bytes]) -> pa.StringArray:
    return pa.array((line.decode("utf-8").strip() for line in file), pa.string())


class Seen:
    """The items on lists that were made before: files that ``headrace digest`` has written.

    Raises
    ------
    ConfigError
        A file is no such file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                missing = set(LISTS) - set(pq.read_schema(path).names)
            except (OSError, pa.ArrowException) as exc:
                raise ConfigError(f"--seen {path}: {exc}") from exc
            if missing:
                raise ConfigError(f"--seen {path}: there is no column {min(missing)}")
        self._files = [str(path) for path in paths]

    def of(self, users: Sequence[str]) -> dict[str, list[str]]:
        """Return the items of each of some users, at most ``MOST_SEEN``, those of the last file first."""
        out: dict[str, dict[str, None]] = {}
        for file in reversed(self._files):
            wanted = ds.field(USER).isin(pa.array(users, pa.string()))
            table = ds.dataset(file, format="parquet").to_table(columns=list(LISTS), filter=wanted)
            for user, item in zip(*(table.column(name).to_pylist() for name in LISTS), strict=True):
                out.setdefault(user, {})[item] = None
        return {user: list(items)[:MOST_SEEN] for user, items in out.items()}
