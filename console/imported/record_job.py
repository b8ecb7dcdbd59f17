"""``headrace import items`` and ``users``: rows of files become records of compacted topics.

What is in a topic already is newer than a file of the past, so it stays, and so does the tombstone of what
was deleted, for as long as Kafka keeps it. That also makes an import that was cut off go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from aiokafka.errors import KafkaError

from headrace.console.imported.bad_rows import BadRows, Fault
from headrace.console.imported.mapping import FieldMap, column, texts, time_fault, times
from headrace.console.imported.sources import InputFile
from headrace.console.imported.tables import Chunk, read
from headrace.console.screen import Reporter
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import MAX_TS, MIN_TS, Item, UserProfile
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to
from headrace.streams.topics.refusal import unavailable
from headrace.streams.topics.sender import BatchSender

#: Fields with several values: a list, JSON, or text with ``|`` between the values.
LISTS = {
    "tags", "countries", "blocked_countries", "flags", "vector", "preferred_categories", "followed_creators",
}  # fmt: skip
TIMES = {"published_ts"}
NUMBERS = {"duration_ms", "min_age", "boost", "age"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is imported: a message, the field that is the key, and the name of the topic in ``Topics``."""

    message: type[Item] | type[UserProfile]
    key: str
    topic: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the message."""
        return self.message.__struct_fields__


ITEMS = Kind(Item, "item_id", "items")
USERS = Kind(UserProfile, "user_id", "users")


@dataclass
class Written:
    """What an import did; ``there``: rows whose id is in the topic, or was in a row before."""

    rows: int = 0
    sent: int = 0
    there: int = 0
    skipped: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return it as JSON-ready values."""
        return asdict(self)


def records_of(
    chunk: Chunk, kind: Kind, mapping: FieldMap, bad: BadRows, max_bytes: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of the good rows of a piece; the others go to ``bad``.

    Raises
    ------
    ConfigError
        The column of the key is missing, or a row is bad and those are not skipped.
    """
    n, wrong = len(chunk.table), dict[int, Fault]()
    columns: dict[str, list[Any]] = {}
    for name in kind.fields:
        found = column(chunk.table, mapping, name)
        if found is not None:
            columns[name] = _values(found, name, mapping.unit, wrong)
    if kind.key not in columns:
        there = ", ".join(chunk.table.column_names) or "none of ours"
        raise ConfigError(
            f"{chunk.file}: there is no column {kind.key} (--map their_column={kind.key}); it has {there}"
        )
    for at in range(n):
        fields = {name: values[at] for name, values in columns.items() if values[at] is not None}
        fault, value = wrong.get(at), b""
        if fault is None:
            try:
                value = msgspec.json.encode(msgspec.convert(fields, kind.message, strict=False))
            except (msgspec.ValidationError, ValueError) as exc:
                fault = _fault(exc)
            else:
                if len(value) > max_bytes:
                    fault = Fault("", f"{len(value)} bytes, at most {max_bytes} (HEADRACE_MAX_EVENT_BYTES)")
        if fault is not None:
            bad.add(chunk.file, int(chunk.rows[at]), fault, chunk.table.slice(at, 1).to_pylist()[0])
            continue
        yield str(fields[kind.key]).encode(), value


def _fault(exc: Exception) -> Fault:
    said, _, at = str(exc).partition(" - at `$.")
    if at:
        return Fault(at.rstrip("`").partition("[")[0], said)
    missing = said.partition("required field `")[2].rstrip("`")
    return Fault(missing, "it is missing") if missing else Fault("", said)


def _values(found: pa.Array, name: str, unit: str, wrong: dict[int, Fault]) -> list[Any]:
    if name in TIMES:
        array, bad = times(found, unit)
        value = array.fill_null(MIN_TS).to_numpy()
        for at in np.flatnonzero((value < MIN_TS) | (value > MAX_TS)).tolist():
            wrong.setdefault(at, Fault(name, time_fault(int(value[at]), unit)))
        fault = "no time"
    elif name in LISTS:
        if not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
            return list(found.to_pylist())
        return [_listed(text) for text in found.to_pylist()]
    elif name in NUMBERS:
        return list(found.to_pylist())
    else:
        array, bad = texts(found)
        fault = "no text"
    for at in np.flatnonzero(bad).tolist():
        wrong[at] = Fault(name, f"{found[at].as_py()!r} is {fault}")
    return list(array.to_pylist())


def _listed(text: str | None) -> Any:
    if not text:
        return None
    if text.startswith("["):
        try:
            return msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return text  # it is refused with the others that are no list
    return [part for part in text.split("|") if part]


class RecordImport:
    """An import of items or profiles.

    Parameters
    ----------
    files, kind, mapping, bad
        What is imported, how, and where bad rows go.
    replace
        Write also what is in the topic already, or was deleted there.
    """

    def __init__(
        self,
        settings: Settings,
        files: Sequence[InputFile],
        kind: Kind,
        mapping: FieldMap,
        bad: BadRows,
        *,
        replace: bool = False,
        report: Reporter = lambda done, text: None,
    ) -> None:
        self._settings, self._files, self._kind = settings, files, kind
        self._mapping, self._bad, self._replace, self._report = mapping, bad, replace, report
        self._topic = str(getattr(Topics(settings), kind.topic))

    def _pieces(self) -> Iterator[list[tuple[bytes, bytes]]]:
        self._bad.begin()
        wanted = self._mapping.wanted(self._kind.fields)
        for file in self._files:
            for chunk in read(file, wanted, self._bad):
                most = self._settings.max_event_bytes
                yield list(records_of(chunk, self._kind, self._mapping, self._bad, most))

    async def run(self) -> Written:
        """Check all rows, then write them; the first row of an id counts, with ``replace`` the last one.

        Raises
        ------
        ConfigError
            A file is wrong; nothing was written.
        UnavailableError
            The broker does not answer or refuses.
        """
        out = Written()
        if self._bad.path is None:
            for piece in self._pieces():
                out.rows += len(piece)
                self._report(out.rows, "rows checked")
            out.rows = 0
        try:
            async with self._sender() as sender:
                there = set[bytes]() if self._replace else await self._known()
                for piece in self._pieces():
                    new = list[tuple[bytes, bytes, None, tuple[()]]]()
                    for key, value in piece:
                        if self._replace or key not in there:
                            new.append((key, value, None, ()))
                            there.add(key)
                    await sender.send_keyed(self._topic, new)
                    out.rows += len(piece)
                    out.sent += len(new)
                    self._report(out.rows, f"rows, {out.sent:,} written")
        except KafkaError as exc:
            raise await unavailable(self._settings, exc) from exc
        out.there, out.skipped = out.rows - out.sent, self._bad.total
        return out

    @asynccontextmanager
    async def _sender(self) -> AsyncIterator[BatchSender]:
        sender = BatchSender(self._settings)
        try:
            await sender.start()
            yield sender
        finally:
            await sender.stop()

    async def _known(self) -> set[bytes]:
        """Return the keys that are in the topic; raise ``NoTopicError`` when there is none."""
        out = set[bytes]()
        async with open_reader(self._settings, [self._topic]) as reader:
            begins, ends = await reader.bounds()
            async for part in read_to(reader, begins, ends):
                out.update(record.key for record in part.records if record.key is not None)
        return out
