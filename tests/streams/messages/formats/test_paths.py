"""Paths that are walked find what the library finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.errors import ConfigError
from headrace.streams.messages.formats.paths import getter

NAMES = ["a", "b", "0", "", "x y"]
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "ab", '["a"]'])
DOCS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner)
)
STEPS = st.lists(st.sampled_from(NAMES) | st.integers(-3, 3), min_size=1, max_size=4)


@given(DOCS, STEPS)
def test_a_plain_path_is_walked_as_the_library_evaluates_it(doc: Any, steps: list[str | int]) -> None:
    path = "$" + "".join(f"[{step!r}]" for step in steps)
    assert getter(path)(doc) == getter(path, plain=False)(doc)


def test_a_path_is_walked_to_what_is_there() -> None:
    doc = {"a": {"b": [{"c": 5}, None]}, "n": None}
    for path, found in (
        ("$.a.b[0].c", 5),
        ("$['a']['b'][-2].c", 5),
        ("$.a.b[1]", None),
        ("$.a.b[2].c", None),
        ("$.n.a", None),
        ("$.a.b.c", None),
        ("$", doc),
    ):
        assert getter(path)(doc) == found, path


def test_a_filter_is_for_the_library() -> None:
    doc = {"p": [{"key": "x", "v": 1}, {"key": "y", "v": 2}, {"key": "y", "v": 3}]}
    assert getter("$.p[?@.key == 'y'].v")(doc) == 2
    assert getter("$..v")(doc) == 1
    assert getter("$.p[?@.key == 'z'].v")(doc) is None
    assert getter("$.p[?@.key == 'y'].v")('{"p": [{"key": "y", "v": 2}]}') is None  # a text is no document


@pytest.mark.parametrize("path", ["a.b", "$.", "$[", "$..", "$.a[?", "", "$.a | $.b", "$.a & $.b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        getter(path)
