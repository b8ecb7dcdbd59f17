"""docs/capacity.md follows from the constants and the checks, and its predictions are as good as it says."""

from __future__ import annotations

import json
import re

import capacity_page
import pytest
from sizes.predicted import compared

from headrace.console.sizing.constants import shipped
from headrace.console.sizing.estimate import estimate
from headrace.streams.settings import Settings

PAGE = capacity_page.PAGE.read_text("utf-8")
CHECKED = json.loads(capacity_page.CHECKED.read_text("utf-8"))


def test_the_page_is_written_from_the_constants_of_this_version() -> None:
    assert capacity_page.written(PAGE) == PAGE, "run python bench/capacity_page.py"


def test_the_page_names_every_limit_of_the_large_load() -> None:
    found = estimate(capacity_page.LARGE, Settings.model_validate({}), shipped())
    assert all(f"> {text}" in PAGE for text in found.limits)
    assert bool(found.limits) == ("does not work as Headrace is today" in PAGE)


def test_the_loads_are_those_of_its_command_lines() -> None:
    for load in (capacity_page.LARGE, capacity_page.MIDDLE):
        numbers = (load.users, load.items, load.requests_per_s, load.events_per_s)
        names = ("users", "items", "requests-per-s", "events-per-s")
        lines = [
            [float(re.search(rf"--{name} (\S+)", line)[1]) for name in names]  # type: ignore[index]
            for line in PAGE.splitlines()
            if line.startswith("headrace capacity")
        ]
        assert list(numbers) in lines


def test_three_sizes_were_measured_and_say_how() -> None:
    assert len(CHECKED["sizes"]) == 3
    users = [one["counted"]["users"] for one in CHECKED["sizes"]]
    assert users[-1] > 10 * users[0]
    assert all(CHECKED["run"][field].strip() for field in ("command", "commit", "date", "machine"))


@pytest.mark.parametrize("one", CHECKED["sizes"], ids=lambda one: f"{one['counted']['users']} users")
def test_bytes_are_predicted_as_well_as_the_page_says(one: dict[str, dict[str, float]]) -> None:
    assert {line.what for line in compared(one, shipped())} == set(one["measured"])
    for line in compared(one, shipped()):
        if line.unit == "MB":
            assert abs(line.error) < (0.6 if line.what.startswith("`item-events`") else 0.15), line


def test_what_the_page_says_of_the_checks_is_in_their_file() -> None:
    text = " ".join(PAGE.split())
    each = [one["counted"]["events"] / one["counted"]["users"] for one in CHECKED["sizes"]]
    assert f"those who had an event had {min(each):.1f} to {max(each):.1f} each" in text
    assert f"these have {min(each):.1f} to {max(each):.1f}" in text
    lines = [line for one in CHECKED["sizes"] for line in compared(one, shipped())]
    errors = [f"{line.error:.0%}".rstrip("%") for line in lines if line.what.startswith("`item-events`")]
    assert f"grows with the size ({', '.join(errors)} %)" in text
    loads = sorted(float(run.machine.rpartition(" ")[2]) for run in shipped().runs.values())
    checked = CHECKED["run"]["machine"].rpartition(" ")[2]
    assert f"load average {' and '.join(map(str, loads))} for the constants, {checked} for the checks" in text
