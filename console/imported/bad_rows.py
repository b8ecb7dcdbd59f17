"""Rows that cannot be imported: the first one ends the import, or they are counted and written to a file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from headrace.streams.errors import ConfigError


class Fault(NamedTuple):
    """What is wrong with a row; ``field`` is "" when it is the row as a whole."""

    field: str
    detail: str


class BadRows:
    """Takes the bad rows of an import.

    Parameters
    ----------
    path
        The file they are written to, a JSON line each: file, row, field, detail, record. None: the first bad
        row is an error.

    Attributes
    ----------
    counts
        Bad rows by field.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._out: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            self._out.close()

    @property
    def total(self) -> int:
        """Number of bad rows."""
        return self.counts.total()

    def begin(self) -> None:
        """Forget all: the files are read from their beginning."""
        self.counts.clear()
        if self.path is not None:
            if self._out is not None:
                self._out.close()
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._out = self.path.open("w", encoding="utf-8")
            except OSError as exc:
                raise ConfigError(f"--skip-bad {self.path}: {exc.strerror}") from exc

    def add(self, file: str, row: int, fault: Fault, record: Any) -> None:
        """Take a bad row.

        Parameters
        ----------
        file, row
            The file, and the number of the row in it, from 1; a header is none.
        record
            What is in the row.

        Raises
        ------
        ConfigError
            Bad rows are not skipped.
        """
        if self._out is None:
            field = f"{fault.field}: " if fault.field else ""
            raise ConfigError(
                f"{file}, row {row}: {field}{fault.detail} "
                "(nothing was sent; --skip-bad FILE leaves such rows out)"
            )
        self.counts[fault.field or "row"] += 1
        told = {"file": file, "row": row, "field": fault.field, "detail": fault.detail, "record": record}
        self._out.write(json.dumps(told, default=str, ensure_ascii=False) + "\n")
