from __future__ import annotations

import pytest
from worlds import World, busy, by_mmr, request

from headrace.serving.pipeline.build import PARTS, chosen, label, plugins
from headrace.serving.pipeline.parts import Source
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings


class Again(Source):
    name = "next"
    size = 1


def test_every_part_has_a_name_of_its_own_and_a_docstring() -> None:
    labels = [label(part) for part in PARTS]
    assert len(set(labels)) == len(labels)
    assert all(part.__doc__ for part in PARTS)


def test_parts_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PARTS", " source:hot=7, source:next=off ,late:same_title=off")
    policy = Policy.of(Settings())
    on = dict(chosen(PARTS, policy.parts))
    sizes = {part.name: size for part, size in on.items() if issubclass(part, Source)}
    assert sizes["hot"] == 7
    assert "next" not in sizes
    assert sizes["together"] == 100
    assert "late:same_title" not in {label(part) for part in on}
    monkeypatch.setenv("HEADRACE_PARTS", '{"source:hot": "off"}')
    assert Policy.of(Settings()).parts == {"source:hot": "off"}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"source:hott": "on"}, "no part 'source:hott'; the parts are source:filtered, source:next"),
        ({"source:hot": "many"}, "source:hot='many' is not on, off or a number"),
        ({"source:hot": "-1"}, "source:hot='-1' is not on, off or a number"),
        ({"filter:age": "3"}, "filter:age='3' is not on or off"),
    ],
)
def test_mistakes_are_named(parts: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recommender(Policy(parts=parts))
    assert said in str(caught.value)


def test_a_value_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PARTS", "source:hot")
    with pytest.raises(ValueError, match="'source:hot' has no value"):
        Settings()


@pytest.mark.parametrize("path", ["no.such.module:X", "headrace.serving.policy:X", "json", "", "json:dumps"])
def test_a_plugin_that_is_none(path: str) -> None:
    with pytest.raises(ConfigError, match="HEADRACE_PLUGINS"):
        plugins([path])


def test_two_parts_of_one_name() -> None:
    with pytest.raises(ConfigError, match="two parts are called 'source:next'"):
        chosen([*PARTS, Again], {})


def test_a_source_that_is_off_proposes_nothing_and_one_with_size_zero_neither() -> None:
    for value in ("off", "0"):
        world = busy(Policy(rules=by_mmr(0, 0.9), parts={"source:trending": value}))
        shown = world.answer(request("u1")).reply
        assert shown.items
        assert not any("trending" in i.sources for i in shown.items)
        assert "source:trending" not in shown.degraded


def test_all_sources_off_gives_an_empty_list_that_says_so() -> None:
    off = {label(part): "off" for part in PARTS if issubclass(part, Source)}
    world = World(10, Policy(parts=off))
    assert world.answer(request()).reply.degraded[-1] == "candidates"
