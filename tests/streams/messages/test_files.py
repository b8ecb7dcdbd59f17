from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import Click, globo_files, read_globo, read_jsonl

HEADER = (
    "user_id,session_id,session_start,session_size,"
    "click_article_id,click_timestamp,click_deviceGroup,click_region"
)
LINE = "7,s1,1506825423271,2,{item},{ts},1,20"


def globo(path: Path, *lines: str, header: str = HEADER, ending: str = "\n") -> Path:
    path.write_bytes((ending.join([header, *lines]) + ending).encode())
    return path


def line(item: object = 5, ts: object = 1506826828020) -> str:
    return LINE.format(item=item, ts=ts)


def test_a_click(tmp_path: Path) -> None:
    (click,) = read_globo(globo(tmp_path / "c.csv", line()))
    assert click == Click("7", "s1", "5", 1506826828020, "1", "20")
    event = click.event(3)
    assert (event.event_id, event.type, event.user_id, event.item_id) == ("globo-3", "click", "7", "5")
    assert (event.ts, event.context.country, event.context.device) == (1506826828020, "20", "1")


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "click_region,click_deviceGroup,x,click_timestamp,click_article_id,session_id,user_id\nR,D,,1506826828020,I,S,U\n"
    )
    assert list(read_globo(path)) == [Click("U", "S", "I", 1506826828020, "D", "R")]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path, ending: str) -> None:
    path = globo(tmp_path / "c.csv", line(1), "", line(2), "", header="\ufeff" + HEADER, ending=ending)
    assert [c.item for c in read_globo(path)] == ["1", "2"]


def test_gzip_folders_and_limits(tmp_path: Path) -> None:
    globo(tmp_path / "b.csv", line(3))
    plain = globo(tmp_path / "a.csv", line(1), line(2))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    (tmp_path / "README").write_text("no clicks")
    assert [p.name for p in globo_files(tmp_path)] == ["a.csv.gz", "b.csv"]
    assert [c.item for c in read_globo(tmp_path)] == ["1", "2", "3"]
    for limit in range(5):
        assert [c.item for c in read_globo(tmp_path, limit)] == ["1", "2", "3"][:limit]


def test_what_lies_past_the_limit_is_not_looked_at(tmp_path: Path) -> None:
    path = globo(tmp_path / "c.csv", line(1), "nonsense")
    assert [c.item for c in read_globo(path, 1)] == ["1"]


@pytest.mark.parametrize(
    "bad",
    [
        "1,2,3",
        line(ts="soon"),
        line(ts=""),
        line(ts="-5"),
        line(ts="1506826828"),  # seconds
        line(ts="1e9"),
        line(ts="9" * 30),
        line(ts="1_000"),
        line(ts="²"),
        line(item=""),
        LINE.format(item=5, ts=9).replace("7,", ",", 1),
        '"never closed,' + "x" * 140_000,
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str) -> None:
    path = globo(tmp_path / "c.csv", line(1), line(2), bad)
    clicks = read_globo(path)
    assert [next(clicks).item, next(clicks).item] == ["1", "2"]
    with pytest.raises(ConfigError, match=r"c\.csv, line 4"):
        next(clicks)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = globo(tmp_path / "c.csv", header="user_id,session_id")
    with pytest.raises(ConfigError, match="click_article_id"):
        list(read_globo(path))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ConfigError, match="user_id"):
        list(read_globo(tmp_path / "empty.csv"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        list(read_globo(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match=r"no \.csv"):
        list(read_globo(tmp_path))
    whole = gzip.compress((HEADER + "\n" + "\n".join(line(i) for i in range(5000))).encode())
    broken = {
        "text.csv.gz": b"user_id",
        "cut.csv.gz": whole[: len(whole) // 2],
        "twisted.csv.gz": whole[:40] + b"\x00\xff" * 20 + whole[80:],
        "latin.csv": f"{HEADER}\n7,s\xe3o,0,0,5,9,1,20\n".encode("latin-1"),
    }
    for name, content in broken.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            list(read_globo(path))


EVENT = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": 1506826828020}


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps(EVENT) + "\n\n" + json.dumps({**EVENT, "event_id": "f"}))
    assert [e.event_id for e in read_jsonl(path)] == ["e", "f"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "line"),
        ("[]", "line"),
        (json.dumps({**EVENT, "ts": "x"}), "ts"),
        (json.dumps({k: v for k, v in EVENT.items() if k != "user_id"}), "user_id"),
        ('{"x":' + "[" * 5000 + "]" * 5000 + "}", "line"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, bad: str, says: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps(EVENT) + "\n" + bad + "\n")
    events = read_jsonl(path)
    next(events)
    with pytest.raises(ConfigError, match=rf"e\.jsonl, line 2: {says}"):
        next(events)


def test_json_lines_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"event_id":"\xff"}\n')
    with pytest.raises(ConfigError, match=r"e\.jsonl"):
        list(read_jsonl(path))


def test_a_reader_can_be_left_half_way(tmp_path: Path) -> None:
    clicks = read_globo(globo(tmp_path / "c.csv", line(1), line(2)))
    next(clicks)
    clicks.close()  # type: ignore[attr-defined]
