"""The users of a digest: from text, CSV and Parquet, each once, in order."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.console.digests.parts import check_of
from headrace.console.digests.users import MOST_SEEN, Seen, read_users
from headrace.streams.errors import ConfigError

IDS = ["b", "007", "NA", "ü", "a b"]


def test_a_line_is_a_user_whatever_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_bytes("\r\n".join([*IDS[:3], "", "  ", "b", *IDS[3:], "007"]).encode())
    assert read_users(str(path)).to_pylist() == IDS
    packed = tmp_path / "users.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_users(str(packed)).to_pylist() == IDS


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.BytesIO("\n".join(IDS).encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=text))
    assert read_users("-").to_pylist() == IDS


@pytest.mark.parametrize("packed", [False, True])
def test_csv_ids_are_text(tmp_path: Path, packed: bool) -> None:
    text = "name,user_id\n" + "".join(f"x,{user}\n" for user in [*IDS, "", "b"])
    path = tmp_path / ("u.CSV.gz" if packed else "u.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_users(str(path)).to_pylist() == IDS


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_of_any_text(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "u.parquet"
    column = pa.array([*IDS, None, "", "b"], pa.string()).cast(kind)
    pq.write_table(pa.table({"user_id": column, "more": [0] * len(column)}), path, row_group_size=3)
    assert read_users(str(path)).to_pylist() == IDS


def test_parquet_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "u.parquet"
    pq.write_table(pa.table({"user_id": [3, 1, 3, 2]}), path)
    assert read_users(str(path)).to_pylist() == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.txt", None, "No such file"),
        ("empty.txt", b"\n\n", "names no user"),
        ("latin.txt", b"\xff\n", "no readable column"),
        ("other.csv", b"user,x\n1,2\n", "user_id"),
        ("empty.csv", b"", "no readable column"),
        ("torn.csv", b"user_id,x\n1\n", "no readable column"),
        ("no.parquet", b"PAR1", "no readable column"),
        ("no.gz", b"abc", "Not a gzipped file"),
        ("torn.gz", gzip.compress(b"a\n" * 1000, mtime=0)[:-9], "no readable column"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as refused:
        read_users(str(path))
    assert str(path) in str(refused.value)


def test_the_check_is_of_users_and_their_order() -> None:
    same = [check_of(pa.array(ids)) for ids in (["a", "b"], ["a", "b"])]
    others = [check_of(pa.array(ids)) for ids in (["b", "a"], ["ab"], ["a", "b", "c"], ["a\nb"])]
    assert same[0] == same[1]
    assert same[0] not in others[:3]


def lists(path: Path, rows: list[tuple[str, str]]) -> Path:
    users, items = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items}), path)
    return path


def test_seen_items_are_those_of_the_user_the_newest_first(tmp_path: Path) -> None:
    monday = lists(tmp_path / "mon.parquet", [("a", "1"), ("a", "2"), ("b", "3")])
    tuesday = lists(tmp_path / "tue.parquet", [("a", "2"), ("a", "4"), ("c", "5")])
    seen = Seen([monday, tuesday])
    assert seen.of(["a", "b", "x"]) == {"a": ["2", "4", "1"], "b": ["3"]}
    assert Seen([]).of(["a"]) == {}


def test_no_more_items_are_seen_than_a_request_takes(tmp_path: Path) -> None:
    old = lists(tmp_path / "old.parquet", [("a", str(n)) for n in range(MOST_SEEN)])
    new = lists(tmp_path / "new.parquet", [("a", "new")])
    (items,) = Seen([old, new]).of(["a"]).values()
    assert len(items) == MOST_SEEN
    assert items[0] == "new"


def test_other_files_are_no_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["a"]}), tmp_path / "u.parquet")
    with pytest.raises(ConfigError, match="no column item_id"):
        Seen([tmp_path / "u.parquet"])
    with pytest.raises(ConfigError, match=r"none\.parquet"):
        Seen([tmp_path / "none.parquet"])
