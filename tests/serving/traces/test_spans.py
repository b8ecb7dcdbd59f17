from __future__ import annotations

from typing import Any

import pytest

from headrace.serving.traces.made import is_traced
from headrace.serving.traces.spans import Caller, caller_of, is_sampled

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = Caller(int(TRACE, 16), int(SPAN, 16), sampled=True)


def parent(text: str) -> list[tuple[str, bytes | None]]:
    return [("reply_to", b"x"), ("traceparent", text.encode())]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", CALLER),
        (f"00-{TRACE}-{SPAN}-03", CALLER),
        (f"00-{TRACE}-{SPAN}-00", CALLER._replace(sampled=False)),
        (f"00-{TRACE}-{SPAN}-02", CALLER._replace(sampled=False)),
        (f"01-{TRACE}-{SPAN}-01-what comes later", CALLER),
        (f"01-{TRACE}-{SPAN}-01", CALLER),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"01-{TRACE}-{SPAN}-01more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f" 00-{TRACE}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_w3c_says(text: str, found: Any) -> None:
    assert caller_of(parent(text)) == found


def test_the_last_header_counts_and_none_is_none() -> None:
    good, null = parent(f"00-{TRACE}-{SPAN}-01"), ("traceparent", None)
    assert caller_of([("traceparent", b"bad"), *good]) == CALLER
    assert caller_of([*good, ("traceparent", b"\xff")]) is None
    assert caller_of([*good, null]) is None
    assert caller_of([]) is None


def test_the_caller_decides_and_otherwise_the_hash_of_the_id() -> None:
    not_sampled = CALLER._replace(sampled=False)
    ids = [f"r{n}" for n in range(2000)]
    assert all(is_sampled(name, CALLER, 0.0) for name in ids)
    assert not any(is_sampled(name, not_sampled, 1.0) for name in ids)
    chosen = [name for name in ids if is_sampled(name, None, 0.1)]
    assert 120 < len(chosen) < 280
    assert chosen == [name for name in ids if is_traced(name, 0.1)], "as for `traces`"
    assert not any(is_sampled(name, None, 0.0) for name in ids)
