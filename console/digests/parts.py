"""The files of a digest: parts, each complete or absent; at the end one file of lists and one of failures.

lists.parquet.parts/run.json           what the run is about; another run is not continued
lists.parquet.parts/part-000000.parquet   the lists of the first ``SIZE`` users, in their order
lists.parquet                          all lists; then the folder is gone
lists.parquet.failed.csv               users without a list, and why
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.models.learning.log_files import durable_file
from headrace.streams.errors import ConfigError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.schemas import RecReply, Surface

#: Users of a part, by default.
SIZE = 1000
#: Rows of a row group, at least, except of the last one.
GROUP_ROWS = 100_000
#: A row for each slot of each list.
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float64()),
        ("sources", pa.list_(pa.string())),
        ("model", pa.string()),
        ("degraded", pa.list_(pa.string())),
        ("request_id", pa.string()),
    ]
)
_ABOUT = "run.json"
#: What a row of a part has besides: a user without a list has one row, which says why.
_FAILED = ("error", "message")
_PART_SCHEMA = pa.schema([*SCHEMA, *((name, pa.string()) for name in _FAILED)])
#: What the file of failures has; it may be the USERS of another run.
FAILURES = ("user_id", "request_id", *_FAILED)
#: The failure of a user with an empty list.
NO_LIST = "no_list"


class Run(msgspec.Struct, frozen=True):
    """What a run is about. ``check`` is a hash of its users, ``tag`` begins its request ids."""

    users: int
    check: str
    surface: Surface
    n: int
    seen: list[str]
    tag: str = msgspec.field(default_factory=lambda: secrets.token_hex(6))
    size: int = SIZE

    def same(self, other: Run) -> bool:
        """Return whether both make the same lists."""
        return msgspec.structs.replace(self, tag=other.tag, size=other.size) == other

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.users // self.size)

    def users_of(self, part: int) -> range:
        """Return the numbers of the users of a part."""
        return range(part * self.size, min(self.users, (part + 1) * self.size))


class Written(NamedTuple):
    """How many users have a list, and how many have none."""

    lists: int
    failed: int


def check_of(users: pa.StringArray) -> str:
    """Return a hash of users in their order."""
    sha = hashlib.sha256()
    for start in range(0, len(users), 100_000):
        sha.update("\n".join(users[start : start + 100_000].to_pylist()).encode() + b"\n")
    return sha.hexdigest()[:32]


def table_of(users: Sequence[str], replies: Sequence[RecReply]) -> pa.Table:
    """Return the rows of a part: of each user the list, or why there is none."""
    columns: dict[str, list[object]] = {name: [] for name in _PART_SCHEMA.names}
    for user, reply in zip(users, replies, strict=True):
        model = "" if reply.model is None else reply.model.ranker or reply.model.online
        shared = {"user_id": user, "model": model, "degraded": reply.degraded, "request_id": reply.request_id}
        rows: list[dict[str, object]] = [
            {"rank": rank, "item_id": one.item_id, "score": one.score, "sources": one.sources}
            for rank, one in enumerate(reply.items, 1)
        ]
        if reply.error is not None:
            rows = [
                {"error": reply.error.code, "message": f"{reply.error.field} {reply.error.message}".strip()}
            ]
        elif not rows:
            rows = [{"error": NO_LIST, "message": " ".join(reply.degraded)}]
        for row in rows:
            for name, values in columns.items():
                values.append((shared | row).get(name))
    return pa.table(columns, _PART_SCHEMA)


class Parts:
    """The folder of the parts of one run; see ``open_parts``."""

    def __init__(self, folder: Path, out: Path, run: Run) -> None:
        self._folder, self._out, self.run = folder, out, run
        self.failed_path = out.with_name(f"{out.name}.failed.csv")

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:06d}.parquet"

    def missing(self) -> list[int]:
        """Return the parts that are not there yet."""
        names = (re.fullmatch(r"part-(\d+)\.parquet", path.name) for path in self._folder.iterdir())
        there = {int(name[1]) for name in names if name}
        return [part for part in range(self.run.parts) if part not in there]

    def write(self, part: int, users: Sequence[str], replies: Sequence[RecReply]) -> None:
        """Write a part; it is there when this returns, also after a crash of the machine."""
        with durable_file(self._path(part)) as file:
            pq.write_table(table_of(users, replies), file, compression="zstd")

    def finish(self) -> Written:
        """Make the two files of all parts, and remove the folder."""
        lists = failed = 0
        aside, reasons = self._folder / self._out.name, self._folder / self.failed_path.name
        with (
            durable_file(aside) as file,
            durable_file(reasons) as raw,
            pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
        ):
            text = io.TextIOWrapper(raw, "utf-8", newline="", write_through=True)
            names = csv.writer(text)
            names.writerow(FAILURES)
            group: list[pa.Table] = []
            for part in range(self.run.parts):
                table = pq.read_table(self._path(part))
                bad = table.filter(pc.is_valid(table["error"]))
                names.writerows(zip(*(bad[name].to_pylist() for name in FAILURES), strict=True))
                failed += bad.num_rows
                group.append(table.filter(pc.is_null(table["error"])).select(SCHEMA.names))
                if sum(one.num_rows for one in group) >= GROUP_ROWS or part == self.run.parts - 1:
                    together = pa.concat_tables(group)
                    lists += len(pc.unique(together["request_id"]))
                    writer.write_table(together, row_group_size=max(1, together.num_rows))
                    group = []
            text.detach()
        if failed:
            reasons.replace(self.failed_path)
        else:
            self.failed_path.unlink(missing_ok=True)
        aside.replace(self._out)
        (self._folder / _ABOUT).unlink()  # first: what is left without it is of no run
        shutil.rmtree(self._folder)
        return Written(lists, failed)


@contextmanager
def open_parts(out: Path, run: Run) -> Iterator[Parts]:
    """Open the folder beside ``out``: that of a run that was stopped, or a new one.

    Raises
    ------
    ConfigError
        The file is there already, the folder is of another run or in use by one, or cannot be made.
    """
    folder = out.with_name(f"{out.name}.parts")
    about = folder / _ABOUT
    if out.exists() and not about.exists():
        raise ConfigError(f"{out} is there already: remove it, or write to another file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as exc:
        raise ConfigError(f"{folder}: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process is writing {out}") from None
        if about.exists():
            before = _read(about)
            if not run.same(before):
                raise ConfigError(
                    f"{folder} is of a run with other users or options: go on with those, or remove it"
                )
            run = before
        else:
            for left in folder.glob("part-*"):
                left.unlink()
            with durable_file(about) as file:
                file.write(msgspec.json.format(msgspec.json.encode(run)))
        yield Parts(folder, out, run)


def _read(path: Path) -> Run:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, *UNDECODABLE) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
