"""Regret in the demo's figures and in what it prints at the end."""

from __future__ import annotations

import time

from command_line import plain_console

from headrace.demo.figures import DemoState, figures_of
from headrace.demo.result import DemoOptions, DemoResult
from headrace.demo.simulation.simulator import Simulator, Visit
from headrace.demo.simulation.world import WorldSpec
from headrace.demo.summary import show_result
from headrace.demo.traffic import JUDGED, Traffic
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender


def running() -> tuple[DemoState, Traffic]:
    """Return the state of a demo whose traffic is connected to nothing: it only shows lists."""
    settings, spec = Settings(), WorldSpec(items=200, users=50, bot_share=0.0)
    simulator = Simulator(spec, now_ms())
    simulator.starting_items()
    traffic = Traffic(simulator, BatchSender(settings), RecClient(settings), Topics(settings))
    return DemoState(DemoOptions(world=spec), time.monotonic(), live_ms=now_ms(), traffic=traffic), traffic


def show(traffic: Traffic, *, control: bool, best: bool) -> None:
    sim = traffic.simulator
    for user in range(2 * JUDGED):
        name = sim.audience.ids[user]
        items = sim.best_list(user, now_ms(), 20) if best else sim.catalog.ids[:20]
        traffic._look(Visit(user, control, RecRequest(f"r{user}", name, "home")), items)


def test_one_list_of_four_is_judged_and_the_share_is_shown() -> None:
    state, traffic = running()
    show(traffic, control=False, best=True)
    show(traffic, control=True, best=False)
    assert {regret.lists for regret in traffic.simulator.tally.regret.values()} == {2}
    figures = figures_of(state)
    assert figures["best_share_ours"] > 0.99  # the freshness of a moment lies between
    assert figures["regret_ours"] < 0.01
    assert figures["new_share_ours"] == 0, "nothing was published since the start"
    assert 0.05 < figures["best_share_popularity"] < 0.7
    assert figures["regret_popularity"] > 0.5
    out, written = plain_console()
    show_result(out, DemoResult(figures))
    assert f"our lists 100%, popular list {figures['best_share_popularity']:.0%}" in written.getvalue()


def test_without_a_judged_list_nothing_is_said() -> None:
    state, _ = running()
    figures = figures_of(state)
    assert not any(name.startswith(("best_share", "regret")) for name in figures)
    out, written = plain_console()
    show_result(out, DemoResult(figures))
    assert "best possible" not in written.getvalue()
