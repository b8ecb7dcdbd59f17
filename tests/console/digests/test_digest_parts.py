"""Parts of a digest are complete or absent; a run that was killed anywhere goes on, and no other does."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.console.digests import parts as parts_file
from headrace.console.digests.parts import (
    FAILURES,
    SCHEMA,
    Parts,
    Run,
    Written,
    check_of,
    open_parts,
    table_of,
)
from headrace.console.digests.users import read_users
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import ErrorInfo, ModelInfo, RecItem, RecReply

USERS = [f"user-{n}" for n in range(10)]


def run_of(users: list[str] = USERS, n: int = 2, size: int = 4) -> Run:
    return Run(len(users), check_of(pa.array(users)), "digest", n, [], size=size)


def reply_to(tag: str, number: int, items: int = 2) -> RecReply:
    found = [RecItem(f"item-{k}", 0.5 - k / 10, {}, ["best", "hot"], False, 1.0) for k in range(items)]
    return RecReply(f"{tag}-{number}", found, ModelInfo(ranker="r1", online="o1"), ["user"])


def fill(parts: Parts, numbers: list[int] | None = None) -> None:
    for part in parts.missing() if numbers is None else numbers:
        users = parts.run.users_of(part)
        replies = [reply_to(parts.run.tag, n) for n in users]
        parts.write(part, [USERS[n] for n in users], replies)


def test_a_row_is_a_slot(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    with open_parts(out, run_of()) as parts:
        fill(parts)
        assert parts.finish() == Written(10, 0)
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA)
    assert table["user_id"].to_pylist() == [user for user in USERS for _ in range(2)], "in the order of USERS"
    assert table.slice(0, 2).to_pylist() == [
        {
            "user_id": "user-0", "rank": rank, "item_id": f"item-{rank - 1}", "score": score,
            "sources": ["best", "hot"], "model": "r1", "degraded": ["user"],
            "request_id": f"{parts.run.tag}-0",
        }
        for rank, score in ((1, 0.5), (2, 0.4))
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [out], "nothing else is left"


def test_users_without_a_list_are_named_in_a_file_that_can_be_the_next_users(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    with open_parts(out, run_of(size=10)) as parts:
        replies = [reply_to(parts.run.tag, n) for n in range(10)]
        replies[3] = RecReply("x-3", error=ErrorInfo("invalid_field", 'too "long", by 2', "user_id"))
        replies[7] = RecReply("x-7", degraded=["candidates"])
        parts.write(0, USERS, replies)
        assert parts.finish() == Written(8, 2)
    with parts.failed_path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == FAILURES
    assert rows == [
        ["user-3", "x-3", "invalid_field", 'user_id too "long", by 2'],
        ["user-7", "x-7", "no_list", "candidates"],
    ]
    assert read_users(str(parts.failed_path)).to_pylist() == ["user-3", "user-7"]
    assert set(pq.read_table(out)["user_id"].to_pylist()) == set(USERS) - {"user-3", "user-7"}


def test_a_run_goes_on_with_the_same_request_ids(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    with open_parts(out, run_of()) as first:
        assert first.missing() == [0, 1, 2]
        fill(first, [1])
        (tmp_path / "lists.parquet.parts" / "part-000002.1-2.tmp").write_bytes(b"torn by a kill")
    with open_parts(out, run_of(size=100)) as second:
        assert (second.missing(), second.run) == ([0, 2], first.run), "and with the same parts"
        fill(second)
        assert second.finish() == Written(10, 0)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("wanted", [run_of(USERS[:9]), run_of(n=3), run_of([*USERS[1:], "other"])])
def test_another_run_does_not_go_on_with_these_parts(tmp_path: Path, wanted: Run) -> None:
    with open_parts(tmp_path / "lists.parquet", run_of()) as parts:
        fill(parts, [0])
    with (
        pytest.raises(ConfigError, match="other users or options"),
        open_parts(tmp_path / "lists.parquet", wanted),
    ):
        pass


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    out.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is there already"), open_parts(out, run_of()):
        pass
    assert out.read_bytes() == b"mine"


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    with (
        open_parts(out, run_of()),
        pytest.raises(ConfigError, match="another process"),
        open_parts(out, run_of()),
    ):
        pass


def test_a_kill_while_the_files_are_made_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lists.parquet"

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with open_parts(out, run_of()) as parts:
        fill(parts)
        with monkeypatch.context() as patched:
            patched.setattr(parts_file.shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                parts.finish()
    assert pq.read_table(out).num_rows == 20
    out.unlink()  # whoever starts anew gets nothing of the old run, though its parts are there
    assert list((tmp_path / "lists.parquet.parts").glob("part-*"))
    with open_parts(out, run_of()) as parts:
        assert parts.missing() == [0, 1, 2]


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "lists.parquet.parts"
    folder.mkdir()
    (folder / "run.json").write_text('{"users": ')
    with (
        pytest.raises(ConfigError, match=r"run\.json cannot be read"),
        open_parts(tmp_path / "lists.parquet", run_of()),
    ):
        pass


def test_row_groups_are_large_whatever_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_file, "GROUP_ROWS", 12)
    out = tmp_path / "lists.parquet"
    with open_parts(out, run_of(size=1)) as parts:
        fill(parts)
        parts.finish()
    groups = pq.ParquetFile(out).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [12, 8]


def test_without_any_list_there_is_an_empty_file(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    with open_parts(out, run_of(size=10)) as parts:
        parts.write(0, USERS, [RecReply(f"x-{n}") for n in range(10)])
        assert parts.finish() == Written(0, 10)
    assert pq.read_table(out).schema.equals(SCHEMA)
    assert pq.read_table(out).num_rows == 0


def test_the_model_is_the_ranker_or_else_the_online_model() -> None:
    replies = [reply_to("t", 0), reply_to("t", 1), reply_to("t", 2)]
    replies[1].model = ModelInfo(online="o1")
    replies[2].model = None
    table = table_of(USERS[:3], replies)
    assert table["model"].to_pylist() == ["r1", "r1", "o1", "o1", "", ""]
