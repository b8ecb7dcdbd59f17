"""Files in, columns out: formats, mapping, units of time, and the number of every bad row."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.console.imported import tables
from headrace.console.imported.bad_rows import BadRows
from headrace.console.imported.event_columns import FIELDS, events_of
from headrace.console.imported.mapping import FieldMap, mapping_of
from headrace.console.imported.sources import find, input_file
from headrace.streams.errors import ConfigError

NOW = 1_790_000_000_000
T0 = 1_780_000_000_000


def rows(path: Path, mapping: FieldMap | None = None, bad: Path | None = None) -> list[dict[str, Any]]:
    """Return the good events of a file, without what they lack."""
    mapping = mapping or FieldMap()
    file = input_file(find([str(path)])[0])
    out: list[dict[str, Any]] = []
    with BadRows(bad) as found:
        found.begin()
        for chunk in tables.read(file, mapping.wanted(FIELDS), found):
            batch = events_of(chunk, mapping, found, made_id="made", newest_ms=NOW)
            out += batch.to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in out]


def event(n: int = 0, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "type": "click", "user_id": "u", "item_id": "i", "ts": T0 + n} | more


def jsonl(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return path


def csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def test_csv_ids_are_texts_and_empty_cells_are_nothing(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "a.csv",
        "user_id,item_id,type,ts,dwell_ms,country",
        f'007,NA,click,{T0},,"a, ""b"""',
        f"8,9,dwell,{T0},500,",
    )
    assert rows(path) == [
        {
            "event_id": "made-1",
            "type": "click",
            "user_id": "007",
            "item_id": "NA",
            "ts": T0,
            "country": 'a, "b"',
        },
        {"event_id": "made-2", "type": "dwell", "user_id": "8", "item_id": "9", "ts": T0, "dwell_ms": 500},
    ]


def test_columns_are_renamed_and_what_is_missing_is_given(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"who": {"id": 7}, "page": "p", "at": T0 // 1000})
    mapping = mapping_of(["who.id=user_id", "page=item_id", "at=ts"], ["type=like"], "s", FIELDS)
    assert rows(path, mapping) == [
        {"event_id": "made-1", "type": "like", "user_id": "7", "item_id": "p", "ts": T0}
    ]


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (pa.array([T0 // 1000]), "s"),
        (pa.array([T0 / 1000]), "s"),
        (pa.array([T0]), "ms"),
        (pa.array([T0 * 1000 + 7]), "us"),
        (pa.array([T0 * 1_000_000 + 7]), "ns"),
        (pa.array([T0 * 1000], pa.timestamp("us")), "s"),
        (pa.array([T0], pa.timestamp("ms", "Europe/Berlin")), "ns"),
        (pa.array([str(T0)]), "ms"),
        (pa.array(["2026-05-28T20:26:40Z"]), "ms"),
        (pa.array(["2026-05-28 22:26:40+02:00"]), "ms"),
        (pa.array(["2026-05-28T20:26:40"]), "ms"),
    ],
)
def test_times_of_every_kind_become_milliseconds(tmp_path: Path, column: pa.Array, unit: str) -> None:
    table = pa.table({"type": ["click"], "user_id": ["u"], "item_id": ["i"], "ts": column})
    pq.write_table(table, tmp_path / "a.parquet", coerce_timestamps=None)
    assert [row["ts"] for row in rows(tmp_path / "a.parquet", FieldMap(unit=unit))] == [T0]


def test_a_time_in_another_unit_is_named_with_its_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", event(0), event(1, ts=T0 // 1000))
    with pytest.raises(ConfigError, match=r"a\.jsonl, row 2: ts: 1780000000 is no time in ms.*--time-unit s"):
        rows(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "look"}, "type: 'look' is none of click"),
        ({"user_id": ""}, "user_id: it is missing"),
        ({"user_id": None}, "user_id: it is missing"),
        ({"item_id": "x" * 65}, "item_id: 65 characters, at most 64"),
        ({"ts": NOW + 1}, "ts: .* is in the future"),
        ({"ts": "yesterday"}, "ts: 'yesterday' is no time"),
        ({"ts": None}, "ts: it is missing"),
        ({"type": "dwell"}, "dwell_ms: a dwell event needs dwell_ms"),
        ({"position": -1}, "position: -1 is not between 0 and 10000"),
        ({"position": 1.5}, "position: 1.5 is no whole number"),
        ({"context": {"age": 151}}, "age: 151 is not between 0 and 150"),
        ({"surface": "front"}, "surface: 'front' is none of home, related, digest"),
        ({"user_id": [1]}, "user_id: .* is no text"),
    ],
)
def test_the_first_bad_row_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    good = {"position": 1, "context": {"age": 30}, "surface": "home"}
    path = jsonl(tmp_path / "a.jsonl", event(0, **good), event(1, **good), event(2, **(good | change)))
    if change != {"user_id": [1]}:
        with pytest.raises(ConfigError, match=rf"a\.jsonl, row 3: {said}"):
            rows(path)
        return
    assert len(rows(path, bad=tmp_path / "bad")) == 3, "of different kinds: a list is written as a text"


def test_bad_rows_are_left_out_and_written_to_a_file(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", event(0), "{", event(2, type="look"), "", event(4), "[1]", event(6, user_id="")
    )
    assert [row["event_id"] for row in rows(path, bad=tmp_path / "bad.jsonl")] == ["e0", "e4"]
    told = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(t["row"], t["field"]) for t in told] == [(2, ""), (6, ""), (3, "type"), (7, "user_id")]
    assert told[2]["record"]["type"] == "look"
    assert {t["file"] for t in told} == {str(path)}


def test_a_torn_line_of_csv_is_a_bad_row_and_those_after_it_keep_their_numbers(tmp_path: Path) -> None:
    lines = [f"e{n},click,u,i,{T0}" for n in range(6)]
    lines[2], lines[4] = "e2,click", f"e4,look,u,i,{T0}"
    path = csv(tmp_path / "a.csv", "event_id,type,user_id,item_id,ts", *lines)
    with pytest.raises(ConfigError, match=r"row 3: 2 values, the header has 5"):
        rows(path)
    assert [row["event_id"] for row in rows(path, bad=tmp_path / "bad")] == ["e0", "e1", "e3", "e5"]
    told = [json.loads(line) for line in (tmp_path / "bad").read_text().splitlines()]
    assert [t["row"] for t in told] == [3, 5]


def test_a_badly_torn_file_of_csv_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK", 65_536)
    good = {n for n in range(1, 30_001) if n % 10_000 < 10 or (n > 29_000 and n % 3 == 0)}
    lines = (f"{n},x,y" if n in good else f"{n},{'z' * 100}" for n in range(1, 30_001))
    path = csv(tmp_path / "a.csv", "id,b,c", *lines)
    file, found = input_file(find([str(path)])[0]), list[str]()
    with BadRows(tmp_path / "bad") as bad:
        bad.begin()
        tracemalloc.start()
        try:
            for chunk in tables.read(file, ["id"], bad):
                assert chunk.table["id"].to_pylist() == [str(row) for row in chunk.rows]
                found += chunk.table["id"].to_pylist()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert {int(text) for text in found} == good
    told = [json.loads(line)["row"] for line in (tmp_path / "bad").read_text().splitlines()]
    assert told == [n for n in range(1, 30_001) if n not in good]
    assert peak < path.stat().st_size / 2, "some blocks, not the file"


def test_a_line_of_json_that_is_far_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK", 200)
    monkeypatch.setattr(tables, "LONGEST_LINE", 1000)
    longest = json.dumps(event(1)).ljust(1000)
    assert len(rows(jsonl(tmp_path / "a.jsonl", event(0), longest, event(2)))) == 3
    path = jsonl(tmp_path / "b.jsonl", event(0), event(1), f"{longest} ", event(3))
    with pytest.raises(ConfigError, match=r"b\.jsonl, row 3: a line of more than 1,000 bytes"):
        rows(path, bad=tmp_path / "bad")
    path.write_text(json.dumps([event(n) for n in range(50)]), "utf-8")
    with pytest.raises(ConfigError, match=r"b\.jsonl, row 1: .*one record a line"):
        rows(path)


def test_an_id_that_looks_like_a_date_stays_as_it_is(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", event(0, user_id="2026-01-01 00:00:00"))
    assert rows(path)[0]["user_id"] == "2026-01-01 00:00:00"


def test_the_kind_of_a_value_may_change_between_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK", 200)
    lines = [event(n, dwell_ms=None if n < 5 else n, country="ü" * n) for n in range(12)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    found = rows(tmp_path / "a.jsonl.gz")
    assert [row["event_id"] for row in found] == [f"e{n}" for n in range(12)]
    assert [row.get("dwell_ms") for row in found] == [None] * 5 + [*range(5, 12)]
    assert [row.get("country", "") for row in found] == ["ü" * n for n in range(12)]


def test_a_missing_column_says_what_there_is(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "user,item_id,ts", f"u,i,{T0}")
    with pytest.raises(ConfigError, match=r"there is no column type \(--map their_column=type or --set"):
        rows(path)
    with pytest.raises(ConfigError, match="--map who=user_id: there is no such column"):
        rows(path, mapping_of(["who=user_id"], ["type=click"], "ms", FIELDS))


@pytest.mark.parametrize("option", ["user_id", "=a", "a=", "a=b"])
def test_a_wrong_option_is_named(option: str) -> None:
    with pytest.raises(ConfigError, match=r"--map|is no field here"):
        mapping_of([option], [], "ms", FIELDS)


def test_files_of_a_folder_are_found_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b/x.parquet", "a.csv.gz", "_tmp/y.csv", ".z.csv", "readme.txt", "c.ndjson"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [str(at)[len(str(tmp_path)) + 1 :] for at in find([str(tmp_path), str(tmp_path / "a.csv.gz")])]
    assert found == ["a.csv.gz", "b/x.parquet", "c.ndjson"]
    with pytest.raises(ConfigError, match="no such file or folder"):
        find([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match="its name must end with"):
        find([str(tmp_path / "readme.txt")])
    with pytest.raises(ConfigError, match="only files, folders"):
        find(["http://x/y.csv"])


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"a\.parquet: cannot be read"):
        rows(tmp_path / "a.parquet")
