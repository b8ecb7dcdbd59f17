"""Which imports are to be made: what was imported stays out, what was cut off goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.console.imported.jobs import Job, Jobs, job_id, planned
from headrace.console.imported.sources import InputFile
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

A, B, C = (InputFile(Path(f"{name}.csv"), "csv", name * 4) for name in "abc")


def job(state: str, *files: InputFile, options: str = "o") -> Job:
    made = Job(job_id(files, options), {file.digest: str(file) for file in files}, options, 5)
    made.state = state  # type: ignore[assignment]
    return made


def test_new_files_are_one_import_whatever_their_order_and_names() -> None:
    (one,), before = planned([A, B], "o", [], 7)
    moved = InputFile(Path("elsewhere/z.csv"), "csv", B.digest)
    (other,), _ = planned([moved, A, B], "o", [], 9)
    assert (one.id, set(one.files), one.began_ms, before) == (other.id, {A.digest, B.digest}, 7, 0)
    assert planned([A, B], "p", [], 7)[0][0].id != one.id


def test_what_was_imported_is_left_out() -> None:
    done = job("done", A, B)
    assert planned([A, B], "o", [done], 7) == ([], 2)
    (new,), before = planned([A, C], "o", [done], 7)
    assert (set(new.files), before) == ({C.digest}, 1)


def test_with_other_options_it_is_refused_unless_it_is_wanted_again() -> None:
    done = job("done", A)
    with pytest.raises(ConfigError, match=r"a\.csv was imported before, with other options; --again"):
        planned([A], "p", [done], 7)
    (again,), before = planned([A], "o", [done], 7, again=True)
    assert (set(again.files), before) == ({A.digest}, 0)
    assert again.id != done.id


def test_what_was_cut_off_goes_on_first_with_the_same_files_and_options() -> None:
    open_job = job("sending", A, B)
    jobs, _ = planned([A, B, C], "o", [open_job], 7)
    assert jobs[0] is open_job
    assert set(jobs[1].files) == {C.digest}
    for files, options in (([A], "o"), ([A, C], "o"), ([A, B], "p")):
        with pytest.raises(ConfigError, match=r"an import of a\.csv, b\.csv was cut off: run it again first"):
            planned(files, options, [open_job], 7)
    assert set(planned([C], "p", [open_job], 7)[0][0].files) == {C.digest}


def test_again_that_was_cut_off_goes_on() -> None:
    done = job("done", A)
    (again,), _ = planned([A], "o", [done], 7, again=True)
    again.state = "sending"
    (found,), _ = planned([A], "o", [done, again], 9, again=True)
    assert found is again


def test_what_is_known_is_kept_and_a_torn_file_is_named(tmp_path: Path) -> None:
    jobs = Jobs(Settings(data_dir=tmp_path, topic_prefix="p-"))
    assert jobs.all() == []
    one = job("sending", A)
    one.places = {3: (7, 8)}
    jobs.write(one)
    assert jobs.all() == [one] == [jobs.read(one.id)]
    (tmp_path / "p-imports" / "x.json").write_text("{")
    with pytest.raises(ConfigError, match=r"x\.json is no file about an import"):
        jobs.all()
