"""What an installation knows of its imports: one small file of each, beside its training log.

    <data_dir, or HEADRACE_DATA_URL>/<topic prefix>imports/<job>.json

A file is known by its bytes. One that was imported is never imported again, unless that is asked for, and an
import that was cut off goes on. What is in the topic counts, not what such a file says: see ``arrived``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import xxhash

from headrace.console.imported.sources import InputFile
from headrace.models.learning.log_files import durable_file
from headrace.models.learning.places import Place, root
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

FOLDER = "imports"


class Job(msgspec.Struct):
    """One import.

    Attributes
    ----------
    id
        Made from files and options: the same import has the same one.
    files
        Digest of each file -> its name.
    options
        What decides which events the files have.
    began_ms
        When it began, ms.
    run, touched_ms
        The process that works on it, and when it last said so, ms.
    state
        ``sending``: some events may be in the topic; ``done``: all are.
    partitions
        Number of partitions of the topic.
    events, skipped
        Good rows, and bad ones that were left out.
    places
        By partition: an offset, and how far all events are before it: those with smaller numbers.
    """

    id: str
    files: dict[str, str]
    options: str
    began_ms: int
    run: str = ""
    touched_ms: int = 0
    state: Literal["reading", "sending", "done"] = "reading"
    partitions: int = 0
    events: int = 0
    skipped: int = 0
    places: dict[int, tuple[int, int]] = {}


class Jobs:
    """The files about imports of an installation."""

    def __init__(self, settings: Settings) -> None:
        self.folder: Place = root(settings) / settings.name(FOLDER)

    def all(self) -> list[Job]:
        """Return all imports."""
        found = list(self.folder.glob("*.json") if self.folder.is_dir() else ())
        return [self._read(at) for at in sorted(found, key=str)]

    def read(self, job: str) -> Job:
        """Return an import that there is."""
        return self._read(self.folder / f"{job}.json")

    def _read(self, at: Place) -> Job:
        try:
            return msgspec.json.decode(at.read_bytes(), type=Job)
        except (msgspec.MsgspecError, UnicodeError) as exc:
            raise ConfigError(f"{at} is no file about an import: {exc}") from exc

    def write(self, job: Job) -> None:
        """Keep what is known of an import."""
        with durable_file(self.folder / f"{job.id}.json") as handle:
            handle.write(msgspec.json.format(msgspec.json.encode(job), indent=1))


def job_id(files: Iterable[InputFile], options: str, again: int = 0) -> str:
    """Return the name of an import."""
    told = "\n".join([options, str(again), *sorted(file.digest for file in files)])
    return xxhash.xxh3_64_hexdigest(told.encode())


def planned(
    files: Sequence[InputFile], options: str, known: Sequence[Job], now_ms: int, *, again: bool = False
) -> tuple[list[Job], int]:
    """Return the imports that are to be made, in their order, and how many files were imported before. Pure.

    Parameters
    ----------
    files
        Those that are given; the same bytes count once.
    known
        All imports of this kind.
    again
        Import also what was imported before.

    Raises
    ------
    ConfigError
        An import that was cut off has to end first, with files that are not given or with other options; or
        files were imported with other options.
    """
    left = {file.digest: file for file in files}
    jobs, done = list[Job](), 0
    for job in known:
        shared = left.keys() & job.files.keys()
        if not shared or job.state == "reading":  # nothing of it was sent
            continue
        if job.state == "sending":
            if shared != job.files.keys() or job.options != options:
                raise ConfigError(
                    f"an import of {', '.join(job.files.values())} was cut off: "
                    "run it again first, with all of these files and the same options"
                )
            jobs.append(job)
        elif again:
            continue
        elif job.options != options:
            raise ConfigError(
                f"{left[min(shared)]} was imported before, with other options; "
                "--again imports it once more: then its events count twice"
            )
        else:
            done += len(shared)
        for digest in shared:
            del left[digest]
    if left:
        times = sum(1 for job in known if job.state == "done") if again else 0
        names = {digest: str(file) for digest, file in sorted(left.items())}
        jobs.append(Job(job_id(left.values(), options, times), names, options, now_ms))
    return jobs, done
