"""``headrace demo``: the whole loop on this machine, with a simulated audience."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import has, require
from headrace.streams.errors import ConfigError


def has_desktop() -> bool:
    """Return whether a browser would open a window: elsewhere, one in this terminal would spoil the page."""
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def demo(
    seconds: Annotated[
        float, typer.Option(min=5, max=86_400, help="How long, from the start of the stack.")
    ] = 60,
    json_path: options.JsonPath = None,
    users: Annotated[int, typer.Option(min=20, max=200_000, help="Size of the simulated audience.")] = 2000,
    items: Annotated[int, typer.Option(min=100, max=200_000, help="Size of the simulated catalogue.")] = 3000,
    rate: Annotated[
        float, typer.Option(min=1, max=5000, help="Visits per second; fewer if the machine is slow.")
    ] = 40,
    seed: Annotated[int, typer.Option(help="The same seed makes the same audience and catalogue.")] = 7,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live page.")] = False,
    browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the dashboard; by default on a desktop.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the workers' output and the Parquet log.")
    ] = False,
) -> None:
    """Run everything here for a minute: broker, store, workers, an audience.

    The audience is simulated and has hidden tastes; a control group sees the popular list, all others see the
    replies of Headrace. It says where its dashboard is. Exit code 0 means that the loop worked: LightGBM was
    trained from the log and ranked replies, and every request got its reply. No process keeps running
    afterwards.

    Example: [bold]headrace demo --seconds 120 --rate 100 --json figures.json[/]
    """
    if port := options.read_settings().web_port:
        raise ConfigError(f"HEADRACE_WEB_PORT={port}: the demo runs several roles in one process; unset it")
    require("worker", "embedded")
    from headrace.console import screen
    from headrace.demo.result import DemoOptions
    from headrace.demo.run import run_demo
    from headrace.demo.simulation.world import WorldSpec
    from headrace.demo.summary import show_result

    world = WorldSpec(items=items, users=users, visits_per_s=rate, seed=seed)
    out = screen.console()
    opens = out.is_terminal and has_desktop() if browser is None else browser
    wanted = DemoOptions(seconds, world, plain, keep, dashboard=has("gateway"), browser=opens)
    result = run_demo(wanted, out)
    options.write_json(json_path, result.figures)
    if result.signal:
        raise typer.Exit(128 + result.signal)
    show_result(out, result)
    if result.problem:
        raise typer.Exit(1)
