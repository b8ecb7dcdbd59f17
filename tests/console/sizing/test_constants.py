from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

import capacity_constants as made
import pytest

from headrace.console.sizing.constants import parsed, shipped
from headrace.streams.errors import ConfigError

RUN = {"command": "make bench-sizes", "commit": "c0ffee", "date": "2026-11-27", "machine": "2 cores"}
ONE = {"value": 2.5, "unit": "us", "meaning": "CPU of an event", "run": "sizes", "at": "cpu_us.event"}
CURVE = ONE | {"value": [[1, 10.0], [10, 20.0], [100, 40.0]]}


def text(constants: dict[str, Any], runs: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"runs": {"sizes": RUN} if runs is None else runs, "constants": constants}).encode()


def test_a_constant_is_read_with_its_run() -> None:
    found = parsed(text({"event": ONE}))
    assert found["event"] == 2.5
    assert found.runs[found.of("event").run].command == "make bench-sizes"


@pytest.mark.parametrize("field", RUN)
def test_a_run_without_provenance_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        parsed(text({"event": ONE}, {"sizes": RUN | {field: " "}}))
    with pytest.raises(ConfigError):
        parsed(text({"event": ONE}, {"sizes": {k: v for k, v in RUN.items() if k != field}}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": "by hand"}, {"at": ""}, {"unit": ""}, {"meaning": ""}, {"value": 0}, {"value": -1.0},
        {"value": "2"}, {"value": []}, {"value": [[2, 1.0], [1, 2.0]]}, {"value": [[1, 1.0], [1, 2.0]]},
        {"guessed": True},
    ],
)  # fmt: skip
def test_a_constant_without_provenance_or_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parsed(text({"event": ONE | wrong}))


def test_a_missing_constant_says_how_to_measure_it() -> None:
    with pytest.raises(ConfigError, match="make capacity-constants"):
        parsed(text({}))["event"]


@pytest.mark.parametrize(
    ("x", "y"), [(0.5, 10.0), (1, 10.0), (10**0.5, 15.0), (10, 20.0), (10**1.5, 30.0), (1000, 40.0)]
)
def test_a_curve_is_linear_in_the_logarithm(x: float, y: float) -> None:
    assert parsed(text({"row": CURVE})).at("row", x) == pytest.approx(y)


def test_a_curve_is_no_number_and_a_number_no_curve() -> None:
    found = parsed(text({"row": CURVE, "event": ONE}))
    with pytest.raises(ConfigError):
        found["row"]
    with pytest.raises(ConfigError):
        found.at("event", 1)


# --- the constants that are shipped ---


def test_the_shipped_constants_are_those_that_the_script_writes() -> None:
    found = shipped()
    assert set(found) == set(made.PICKS)
    for name, pick in made.PICKS.items():
        one = found.of(name)
        assert (one.unit, one.meaning, one.run, one.at) == (pick.unit, pick.meaning, pick.run, pick.at), name
    assert {run: told.command for run, told in found.runs.items()} == made.BENCHES


def test_condensing_takes_what_ran_and_keeps_the_rest() -> None:
    known = json.loads(files("headrace.console.sizing").joinpath("constants.json").read_text("utf-8"))
    before = copy.deepcopy(known)
    fresh = {"command": "make bench-join", "commit": "new", "date": "2027-01-01", "machine": "another"}
    out = made.condensed({"join": {"bytes_per_open_list": 1234}}, {"join": fresh}, known)
    assert out["constants"]["open_list_bytes"]["value"] == 1234
    assert out["runs"]["join"] == fresh
    others = {k: v for k, v in out["constants"].items() if k != "open_list_bytes"}
    assert others == {k: v for k, v in before["constants"].items() if k != "open_list_bytes"}
    assert parsed(json.dumps(out).encode())["open_list_bytes"] == 1234


def test_a_figure_that_a_benchmark_does_not_print_is_an_error() -> None:
    with pytest.raises(KeyError):
        made.condensed({"join": {}}, {"join": RUN}, {})
