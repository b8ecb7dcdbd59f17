"""``headrace map`` and ``headrace schema``, as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import ROOT
from typer.testing import CliRunner

from headrace.console.main import app
from headrace.streams.errors import ConfigError

SEGMENT = ROOT / "ops" / "mappings" / "segment.toml"
TRACK = {
    "type": "track", "event": "Product Clicked", "messageId": "m-1", "userId": "user-42",
    "timestamp": "2026-01-01T00:00:00Z", "properties": {"product_id": 9},
}  # fmt: skip
OURS = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": 1_767_225_600_000}


def mapped(sample: str, folder: Path, file: Path = SEGMENT) -> tuple[int, list[str], dict[str, object]]:
    """Return exit code, lines of the output, and figures."""
    path, figures = folder / "sample", folder / "figures.json"
    path.write_text(sample)
    got = CliRunner().invoke(app, ["map", str(file), str(path), "--json", str(figures)])
    if got.exception is not None and not isinstance(got.exception, SystemExit):
        raise got.exception
    return got.exit_code, got.stdout.splitlines(), json.loads(figures.read_text())


def test_it_says_what_becomes_of_every_event(tmp_path: Path) -> None:
    lines = [TRACK, {"type": "page"}, OURS, TRACK | {"userId": None}, OURS | {"type": "dwell"}]
    sample = "\n".join(map(json.dumps, lines)) + "\n\n{\n"
    code, said, figures = mapped(sample, tmp_path)
    assert code == 1
    assert json.loads(said[0].removeprefix("1: "))["item_id"] == "9"
    assert said[1] == "2: ignored"
    assert json.loads(said[2].removeprefix("3: ")) == OURS
    assert said[3] == "4: dead letter: unmapped user_id: there is no value at its path"
    assert said[4].startswith("5: dead letter: missing_field dwell_ms: ")
    assert said[5].startswith("6: dead letter: undecodable: ")
    assert (figures["events"], figures["ignored"], figures["dead letters"]) == (2, 1, 3)


@pytest.mark.parametrize("form", ["{}", "[{}, {}]", "{}\n{}"])
def test_a_sample_is_an_object_an_array_or_lines(form: str, tmp_path: Path) -> None:
    count = form.count("{}")
    code, said, _ = mapped(form.replace("{}", json.dumps(TRACK, indent=None)), tmp_path)
    assert (code, len(said)) == (0, count)


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "m.toml"
    wrong.write_text(SEGMENT.read_text().replace('item_id = "shoe-7"', 'item_id = "shoe-8"'))
    with pytest.raises(ConfigError, match="example 1"):
        mapped("{}", tmp_path, wrong)
    with pytest.raises(ConfigError, match="cannot be read"):
        mapped("{}", tmp_path, tmp_path / "none.toml")


@pytest.mark.parametrize(("kind", "file"), [("avro", "event.avsc"), ("protobuf", "event.proto")])
def test_the_schemas_are_printed(kind: str, file: str) -> None:
    got = CliRunner().invoke(app, ["schema", kind])
    assert (got.exit_code, got.stdout) == (0, (ROOT / "schemas" / file).read_text())
