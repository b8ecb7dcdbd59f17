"""Lists by the fixed blend, where most candidates were clicked together with the session's clicks."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
from strategies import T0
from worlds import World, request

from headrace.serving.policy import Policy
from headrace.serving.rerank.rules import OFF
from headrace.serving.scorers import blend as blends
from headrace.serving.traces.explained import explained
from headrace.serving.traces.made import traces_of
from headrace.serving.traces.record import Trace, decode, encode
from headrace.serving.traces.replay import again, whole

OPENED = range(10)


@pytest.fixture(scope="module")
def world() -> World:
    out, rng = World(600, Policy(rules=OFF)), np.random.default_rng(0)
    for n in range(1500):
        out.session(f"v{n}", [int(rng.integers(10)), int(rng.integers(10, 600))], T0 - 3_600_000 + n)
    out.session("me", list(OPENED), T0 - 20_000)
    return out


def traced(world: World, most: int) -> tuple[Trace, bytes]:
    answer = world.answer(request("me", n=12))
    reply = answer.reply
    reply.took_ms, reply.state = 3.5, "e0:5"
    body = msgspec.json.encode(reply)
    digest = hashlib.sha256(body).digest()
    pipeline = world.recommender.pipeline
    (trace,) = traces_of(pipeline, request("me", n=12), reply, digest, [answer], T0, 1.0, most)
    return decode(encode(trace)), body


def test_a_short_trace_gives_the_same_bytes(world: World) -> None:
    trace, body = traced(world, 0)
    assert trace.ranked is not None
    assert trace.ranked.scorer == "blend"
    assert len(trace.ranked.ids) < len(trace.ranked.scores) / 2
    found = again(trace, None)
    assert found.differs == []
    assert whole([trace], [found]) == (body, True)


@pytest.mark.parametrize("most", [0, 500])
def test_what_moved_a_score_adds_up_to_it(world: World, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.serving.traces.explained.MOST_FEATURES", len(blends.WEIGHTS) + 1)
    trace, _ = traced(world, most)
    slots: list[dict[str, Any]] = explained(trace, again(trace, None))["slots"]
    assert any(slot["features"].get("together_score", 0) > 0 for slot in slots)
    for slot in slots:
        assert sum(slot["features"].values()) == pytest.approx(slot["score"], abs=5e-4)
