from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import msgspec
import numpy as np
from logged_examples import example, write
from typer.testing import CliRunner

from headrace.console import main as cli
from headrace.models.learning.log_files import folder_of
from headrace.models.learning.source_counts import source_counts
from headrace.streams.settings import Settings


def made(i: int, sources: list[str], clicked: bool) -> object:
    return msgspec.structs.replace(example(i, np.random.default_rng(i)), sources=sources, clicked=clicked)


def test_shown_and_clicked_by_source_and_alone(tmp_path: Path) -> None:
    slots = [
        (["next", "hot"], True), (["next"], True), (["next"], False), (["hot"], False), ([], True),
    ]  # fmt: skip
    write(tmp_path, [made(i, *slot) for i, slot in enumerate(slots)])  # type: ignore[misc]
    found, shown, clicked = source_counts(tmp_path)
    assert (shown, clicked) == (5, 3)
    assert [astuple(c) for c in found] == [("next", 3, 2, 2, 1), ("hot", 2, 1, 1, 0)]


def test_a_slot_that_was_written_twice_counts_once_and_an_old_one_not(tmp_path: Path) -> None:
    slots = [made(i, ["new"], i % 2 == 0) for i in range(10)]
    write(tmp_path, slots[:6])  # type: ignore[arg-type]
    write(tmp_path, slots[4:], first=4)  # type: ignore[arg-type]
    assert source_counts(tmp_path)[1:] == (10, 5)
    (new,), shown, clicked = source_counts(tmp_path, since=1001)  # the second list of five
    assert (new.shown, shown, new.clicked, clicked) == (5, 5, 2, 2)


def test_what_was_not_shown_does_not_count(tmp_path: Path) -> None:
    slot = made(0, ["new"], True)
    rest = msgspec.structs.replace(slot, position=7, unshown=True)  # type: ignore[type-var]
    write(tmp_path, [slot, rest])  # type: ignore[list-item]
    (new,), shown, clicked = source_counts(tmp_path)
    assert (new.shown, shown, clicked) == (1, 1, 1)


def test_no_log(tmp_path: Path) -> None:
    assert source_counts(tmp_path / "nothing") == ([], 0, 0)


def test_the_command(tmp_path: Path) -> None:
    env = {"HEADRACE_DATA_DIR": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "120"}
    assert CliRunner().invoke(cli.app, ["sources"], env=env).exit_code == 1
    write(folder_of(Settings(data_dir=tmp_path)), [made(i, ["today"], i < 3) for i in range(12)])  # type: ignore[misc]
    result = CliRunner().invoke(cli.app, ["sources", "--hours", "0"], env=env)
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if "today" in line)
    assert row.split() == ["today", "12", "3", "25.0", "%", "12", "25.0", "%"]
