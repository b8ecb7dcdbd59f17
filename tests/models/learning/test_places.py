"""The log and the registry in a store: every row once, whatever is interrupted; readers keep their files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from logged_examples import example, offsets_in, write
from object_store import ObjectStore, object_store
from project import ROOT
from pydantic import ValidationError

from headrace.models.learning import examples as example_log
from headrace.models.learning import log_files, ranker, registry, withdrawn
from headrace.models.learning.compaction import Upkeep, tend
from headrace.models.learning.log_files import files_in
from headrace.models.learning.places import Place, Stored, place, root, source
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.registry import Registry
from headrace.models.learning.source_counts import source_counts
from headrace.models.learning.train_process import train_apart
from headrace.models.learning.training import TrainJob, train_from_log
from headrace.streams.errors import ArtefactError
from headrace.streams.settings import DAY_MS, Settings

NOON = 20_000 * DAY_MS + DAY_MS // 2


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


def fill(folder: Place, times: list[int], rows: int = 5) -> int:
    rng = np.random.default_rng(0)
    for n, ts in enumerate(times):
        write(folder, [example(n * rows + i, rng) for i in range(rows)], first=n * rows, ts=ts)
    return rows * len(times)


def run(folder: Place, keep_days: int = 0) -> Upkeep:
    return tend(folder, [0], keep_ms=keep_days * DAY_MS, now=NOON)


def yesterday(files: int) -> list[int]:
    return [NOON - DAY_MS + n for n in range(files)]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://key:secret@bucket/x", "keys are not in the URL"),
        ("gs://bucket/x", "write file:///folder or s3://bucket/prefix"),
        ("s3:///x", "write file"),
        ("file://host/x", "write file"),
        ("/var/log", "write file"),
        ("s3://bucket/x?endpoint=localhost", "'endpoint' is not an option"),
    ],
)
def test_a_wrong_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings(data_url=url)


def test_where_the_data_are(tmp_path: Path) -> None:
    assert root(Settings(data_dir=tmp_path)) == tmp_path
    assert root(Settings(data_dir=tmp_path, data_url="file:///mnt/a%20b")) == Path("/mnt/a b")
    settings = Settings(data_dir=tmp_path, data_url="s3://b/p/?region=r", topic_prefix="x-")
    assert str(log_files.folder_of(settings)) == "s3://b/p/x-examples?region=r"
    assert str(registry.folder_of(settings)) == "s3://b/p/models/x-ranker?region=r"
    assert place(str(log_files.folder_of(settings))) == log_files.folder_of(settings)
    at = registry.folder_of(settings)
    assert (at.name, str(at.parent)) == ("x-ranker", "s3://b/p/models?region=r")


def test_rows_come_back_and_small_files_become_one(store: ObjectStore) -> None:
    folder = place(store.url) / "examples"
    assert files_in(folder) == []
    assert run(folder) == Upkeep()
    n = fill(folder, [*yesterday(4), NOON])
    before = [pq.read_table(source(file.path)) for file in files_in(folder)]
    assert offsets_in(folder) == list(range(n))
    done = run(folder)
    assert (done.sources, done.merged) == (4, 1)
    assert run(folder) == Upkeep(), "what is withdrawn is not merged again"
    merged, last = files_in(folder)
    assert (merged.token, last.ts) == (merged.path.name[-16:-8], NOON)
    assert pq.read_table(source(merged.path)).to_pylist() == [r for t in before[:4] for r in t.to_pylist()]
    assert offsets_in(folder) == list(range(n))
    assert log_files.newest(folder) == {0: (NOON, n - 1)}


def test_a_reader_keeps_its_files_until_the_time_is_over(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place(store.url)
    n = fill(folder, [*yesterday(4), NOON - 3 * DAY_MS, NOON])
    listed = files_in(folder)
    assert run(folder).merged == 1
    monkeypatch.setattr(example_log, "files_in", lambda _: listed)
    assert offsets_in(folder) == list(range(n)), "its listing is as good as a newer one"
    monkeypatch.undo()
    monkeypatch.setattr(withdrawn, "GRACE_MS", 0)
    run(folder)
    assert len(store.names()) == len(files_in(folder)) == 3, "and now they are gone, with the note"
    assert offsets_in(folder) == list(range(n))


def test_a_listing_without_the_merged_file_still_has_its_sources(store: ObjectStore) -> None:
    folder = place(store.url)
    n = fill(folder, [*yesterday(4), NOON])
    run(folder)
    whole = list(folder.glob("*"))
    (merged,) = (file.path for file in files_in(folder) if file.token)
    older = [at for at in whole if at != merged]
    assert len(withdrawn.hidden(whole)) == 4
    assert withdrawn.hidden(older) == set()
    merged.unlink()
    assert offsets_in(folder) == list(range(n)), "even if somebody deletes the merged file"


def test_old_files_are_withdrawn_too(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place(store.url)
    fill(folder, [NOON - 9 * DAY_MS, NOON])
    far = 4_000_000_000_000  # objects are written now; the present of the log must be later than that
    write(folder, [example(0, np.random.default_rng(0))], first=90, ts=far)
    assert tend(folder, [0], keep_ms=DAY_MS, now=far).expired == 2
    assert offsets_in(folder) == [90]
    assert len(store.names()) == 4
    monkeypatch.setattr(withdrawn, "GRACE_MS", 0)
    assert tend(folder, [1], keep_ms=DAY_MS, now=far).expired == 0
    assert len(store.names()) == 4, "that partition is another worker's"
    tend(folder, [0], keep_ms=DAY_MS, now=far)
    assert len(store.names()) == 1


@pytest.mark.parametrize("step", range(0, 24, 2))
def test_a_store_that_refuses_from_any_step_on_loses_and_doubles_no_row(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(withdrawn, "GRACE_MS", 0)
    folder = place(store.url)
    n = fill(folder, [*yesterday(3), NOON - 2 * DAY_MS, NOON - 2 * DAY_MS + 1, NOON])
    began = len(store.changes)
    store.before = lambda number: number < began + step
    for _ in range(2):  # the second run deletes
        try:
            run(folder)
        except OSError:
            assert len(store.changes) > began + step, "only what was refused fails"
    store.before = lambda _: True
    assert offsets_in(folder) == list(range(n))
    for _ in range(3):
        run(folder)
    assert offsets_in(folder) == list(range(n))
    assert len(files_in(folder)) == len(store.names()) == 3, store.names()
    rows = [pq.read_metadata(source(file.path)).num_rows for file in files_in(folder)]
    assert sum(rows) == n, "each row is in one file"


def test_a_writer_that_is_killed_at_any_change_leaves_every_row_once(store: ObjectStore) -> None:
    url = str(place(store.url) / "examples")
    committed, kills = 0, 0
    for turn, at in enumerate((1, 2, 11, 14, 21, 10**6)):
        victim = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/support/store_writer.py"), url, str(committed), "6"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadly = len(store.changes) + at

        def strike(number: int, deadly: int = deadly, victim: subprocess.Popen[str] = victim) -> bool:
            if number >= deadly and victim.poll() is None:
                os.kill(victim.pid, signal.SIGKILL)
                return False
            return number < deadly

        store.before = strike if turn % 2 else (lambda _: True)
        store.after = (lambda _: None) if turn % 2 else (lambda number, f=strike: f(number) and None)
        told = victim.communicate(timeout=120)[0].split()
        kills += victim.returncode == -signal.SIGKILL
        committed = max([committed, *map(int, told)])
        store.before, store.after = (lambda _: True), (lambda _: None)
        found = [n for n in offsets_in(place(url)) if n < 10**6]
        assert len(found) == len(set(found)), "a row that is written again counts once"
        assert set(found) >= set(range(committed)), "what was committed is there"
    assert kills == 5
    assert committed >= 30


async def test_a_training_reads_the_store_as_it_reads_a_folder(store: ObjectStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [example(i, rng) for i in range(400)]
    texts = []
    for folder in (place(store.url) / "examples", tmp_path / "examples"):
        write(folder, examples[:250], first=0, ts=NOON)
        write(folder, examples[250:], first=250, ts=NOON + 1)
        job = TrainJob(folder, RankerParams(trees=5, min_leaf=20), 100, 1, 10**6, 10**6)
        done = await train_apart(job)
        assert done is not None
        texts.append((done.text, done.metrics, done.rows))
        assert train_from_log(job) == done
        assert source_counts(folder)[1:] == (400, done.clicks)
    assert texts[0] == texts[1]


def test_rankers_are_kept_in_the_store(store: ObjectStore, trained: Ranker) -> None:
    kept = Registry(registry.folder_of(Settings(data_url=store.url)))
    assert kept.versions() == []
    names = []
    for n in range(4):
        value, version = ranker.encode(f"{trained.text}\n{n}", n, {"auc": 0.7})
        assert kept.add(value, "trained").version == version
        assert kept.record(version) == value
        names.append(version)
    kept.note(names[3], "too bad")
    assert kept.about(names[3]).refused == "too bad"
    assert kept.prune(1, {names[0]}) == [names[2], names[1]]
    assert [about.version for about in kept.versions()] == [names[3], names[0]]
    assert len(store.names()) == 4
    with pytest.raises(ArtefactError, match="not in s3://"):
        kept.about("0" * 12)


def test_a_ranker_that_is_not_written_whole_is_no_version(store: ObjectStore, trained: Ranker) -> None:
    kept = Registry(registry.folder_of(Settings(data_url=store.url)))
    value, version = ranker.encode(trained.text, 1, {})
    began = len(store.changes)
    store.before = lambda number: number < began + 4
    with pytest.raises(OSError, match="the test says so"):
        kept.add(value, "trained")
    assert kept.versions() == []
    store.before = lambda _: True
    kept.add(value, "trained")
    assert kept.record(version) == value


def test_a_store_that_is_not_there_is_an_error_of_the_disk() -> None:
    nowhere = Stored("b/x", "endpoint_override=http://127.0.0.1:1&region=us-east-1")
    with pytest.raises(OSError, match=r"the store does not answer at s3://b/x.*127\.0\.0\.1"):
        files_in(nowhere)
