"""The state of a running demo as numbers: figures for the screen, figures at the end, and what failed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from headrace.demo.accelerated import figures as run_figures
from headrace.demo.page import POINTS, STEP_S, DemoView
from headrace.demo.result import DemoOptions
from headrace.demo.simulation.tally import Tally
from headrace.demo.traffic import Traffic
from headrace.demo.watched import Watched
from headrace.streams.clock import now_ms


@dataclass(slots=True)
class DemoState:
    """The state of a running demo.

    Attributes
    ----------
    started
        Time at which the stack began to start, monotonic seconds.
    live_at, live_ms
        Time of the first reply: monotonic seconds, and ms since the epoch; 0 before it.
    end_ms
        Time of the end of the traffic, ms since the epoch; 0 before it.
    dashboard
        Where the dashboard is.
    traffic
        None before the servers answer.
    """

    options: DemoOptions
    started: float
    phase: str = "starting"
    live_at: float = 0.0
    live_ms: int = 0
    end_ms: int = 0
    dashboard: str = ""
    watched: Watched = field(default_factory=Watched)
    traffic: Traffic | None = None

    def end(self) -> int:
        """Return when the traffic ended, or now, ms."""
        return self.end_ms or now_ms()

    def live_s(self) -> float:
        """Return the duration of the traffic up to now, s."""
        return (self.end() - self.live_ms) / 1000 if self.live_ms else 0.0


def view_of(state: DemoState) -> DemoView:
    """Return the present figures for the screen."""
    at, watched = time.monotonic(), state.watched
    view = DemoView(
        phase=state.phase,
        dashboard=state.dashboard,
        elapsed_s=at - state.started,
        seconds=state.options.seconds,
        lag=watched.lag,
        rankers=watched.rankers,
        auc=watched.quality.get("auc"),
        learned=int(watched.quality.get("examples", 0)),
        dead_letters=watched.dead_letters,
    )
    if state.traffic is not None:
        _add_traffic(view, state.traffic, at)
        _add_click_rates(view, state, state.traffic)
    return view


def _add_traffic(view: DemoView, traffic: Traffic, at: float) -> None:
    view.events, view.events_per_s = traffic.events.total, traffic.events.rate(at)
    view.requests, view.replies, view.errors = traffic.requests, traffic.replies, traffic.errors
    view.replies_per_s = traffic.answered.rate(at)
    view.p50_ms, view.p99_ms = traffic.latencies.recent(at)
    view.ranker, view.ranked_share = traffic.ranker, traffic.ranked_share(at)
    view.pace = traffic.simulator.pace
    view.users, view.items = len(traffic.simulator.audience.ids), traffic.simulator.catalog.size


def _add_click_rates(view: DemoView, state: DemoState, traffic: Traffic) -> None:
    tally, end = traffic.simulator.tally, state.end()
    view.ctr_ours, view.ctr_popularity = tally.rate(False), tally.rate(True)
    points = min(POINTS, (end - state.live_ms) // (1000 * STEP_S)) if state.live_ms else 0
    view.ours = tally.series(False, end, STEP_S, points)
    view.popular = tally.series(True, end, STEP_S, points)


def figures_of(state: DemoState) -> dict[str, Any]:
    """Return the figures of a demo, for JSON and for the summary."""
    watched = state.watched
    out: dict[str, Any] = {
        "seconds": round(time.monotonic() - state.started, 1),
        "live_s": round(state.live_s(), 1),
        "first_reply_s": round(state.live_at - state.started, 2) if state.live_at else None,
        "max_lag_s": round(max(watched.max_lag_s.values(), default=0.0), 2),
        "max_lag_s_by_agent": {k: round(v, 2) for k, v in sorted(watched.max_lag_s.items())},
        "dead_letters": watched.dead_letters,
        "rankers": watched.rankers,
        "ranker_metrics": {k: round(v, 4) for k, v in watched.ranker_metrics.items()},
        "online_auc": round(watched.quality["auc"], 4) if "auc" in watched.quality else None,
        "examples": int(watched.quality.get("examples", 0)),
    }
    if state.traffic is None:
        return out | dict.fromkeys(("events", "requests", "replies", "errors"), 0) | {"ranker_version": ""}
    traffic = state.traffic
    return (
        out
        | _traffic_figures(traffic, state.live_s())
        | _click_rates(state, traffic)
        | {
            "ranked_replies": traffic.ranked_replies,
            "degraded": dict(traffic.degraded),
            "ranker_version": traffic.ranker,
            "online_version": traffic.online,
        }
    )


def _traffic_figures(traffic: Traffic, live_s: float) -> dict[str, Any]:
    p50, p99 = traffic.latencies.overall()
    live_events = traffic.events.total - traffic.past_events
    return {
        "users": len(traffic.simulator.audience.ids),
        "items": traffic.simulator.catalog.size,
        "events": traffic.events.total,
        "events_per_s": round(live_events / live_s, 1) if live_s else 0.0,
        "pace": round(traffic.simulator.pace, 2),
        "requests": traffic.requests,
        "replies": traffic.replies,
        "replies_per_s": round(traffic.replies / live_s, 1) if live_s else 0.0,
        "errors": traffic.errors,
        "reply_p50_ms": round(p50, 2),
        "reply_p99_ms": round(p99, 2),
    }


def _click_rates(state: DemoState, traffic: Traffic) -> dict[str, Any]:
    tally, end = traffic.simulator.tally, state.end()
    last_third = end - (end - state.live_ms) // 3
    third = max(1, (end - state.live_ms) // 3)
    over_time = [tally.new_items(False, t, t + third)[0] for t in range(state.live_ms, end - 2, third)]
    share, rate, other = tally.new_items(False)
    return {
        "new_share_ours": round(share, 4),
        "new_share_ours_by_third": [round(v, 4) for v in over_time[:3]],
        "new_ctr_ours": round(rate, 4),
        "not_new_ctr_ours": round(other, 4),
        "ctr_ours": round(tally.rate(False), 4),
        "ctr_popularity": round(tally.rate(True), 4),
        "ctr_ours_last": round(tally.rate(False, last_third), 4),
        "ctr_popularity_last": round(tally.rate(True, last_third), 4),
        **_regrets(tally),
        **_by_third(tally, state.live_ms, end),
    }


def _by_third(tally: Tally, start: int, end: int) -> dict[str, Any]:
    """Return how the lists got better, as ``headrace eval simulator`` tells it."""
    every = run_figures.whole(tally, start, end)
    names = ("ratio", "ratio_by_third", "ctr_ours_by_third", "best_ours_by_third")
    return {name: every[name] for name in names}


def _regrets(tally: Tally) -> dict[str, float]:
    """Return shares of the best possible clicks and regrets; nothing where no list was judged."""
    out: dict[str, float] = {}
    for name, regret in (("ours", tally.regret[False]), ("popularity", tally.regret[True])):
        if regret.lists:
            out[f"best_share_{name}"] = round(regret.share, 4)
            out[f"regret_{name}"] = round(regret.a_list, 4)
    return out


def problem_of(state: DemoState, figures: dict[str, Any]) -> str:
    """Return in one line what did not work; empty when everything worked."""
    traffic = state.traffic
    if traffic is None or not state.live_ms:
        return f"the time was over before the first reply; {state.options.seconds:.0f} s are too short"
    if traffic.replies < traffic.requests:
        missing = traffic.requests - traffic.replies
        return f"{missing} of {traffic.requests} requests got no reply: {traffic.first_error}"
    if traffic.errors:
        return f"{traffic.errors} errors, the first: {traffic.first_error}"
    if figures["dead_letters"]:
        return f"{figures['dead_letters']} dead letters, the first: {state.watched.first_letter}"
    if not traffic.ranker:
        trained = f"LightGBM was trained {figures['rankers']} times from {figures['examples']} examples"
        return f"no reply was ranked by LightGBM ({trained}); give it more seconds"
    return ""
