"""Unfinished files: those of processes that were killed are removed, those that are written are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.streams import unfinished

WRITE_AND_WAIT = """
import sys
from pathlib import Path
from headrace.streams import unfinished
file = unfinished.create(Path(sys.argv[1]))
file.write(b"half")
file.flush()
print("written", flush=True)
sys.stdin.read()
"""


def start_writer(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    return writer


def test_a_killed_process_leaves_a_file_that_is_removed(tmp_path: Path) -> None:
    writer = start_writer(tmp_path / "rows.snapshot")
    (left,) = tmp_path.iterdir()
    assert unfinished.remove_left(tmp_path) == 0, "it is being written"
    assert left.read_bytes() == b"half"
    writer.kill()
    writer.communicate()
    assert unfinished.remove_left(tmp_path) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_of_this_process_stays_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "rows.snapshot"
    with unfinished.create(path) as file:
        file.write(b"whole")
        assert unfinished.remove_left(tmp_path) == 0
        file.flush()
        Path(file.name).replace(path)
    assert path.read_bytes() == b"whole"
    assert unfinished.remove_left(tmp_path) == 0


def test_only_the_files_that_are_named_are_removed(tmp_path: Path) -> None:
    for name in ("a.1.tmp", "b.1.tmp", "a", "a.tmp.b"):
        (tmp_path / name).touch()
    assert unfinished.remove_left(tmp_path, "a") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.tmp.b", "b.1.tmp"]


def test_no_folder_has_no_files(tmp_path: Path) -> None:
    assert unfinished.remove_left(tmp_path / "none") == 0
    with pytest.raises(FileNotFoundError):
        unfinished.create(tmp_path / "none" / "a")
