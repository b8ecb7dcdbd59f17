"""``headrace worker``: one role or several in this process."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Annotated

import typer

from headrace.console import options
from headrace.console.extras import require
from headrace.streams.errors import ConfigError


def worker(
    roles: Annotated[
        str,
        typer.Argument(
            metavar="ROLE[,ROLE]",
            help="ingest, aggregate, learn, log, trainer, index, serve, gateway, canary, monitor",
        ),
    ],
    brokers: options.Brokers = None,
    redis: options.Redis = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run one role or several in this process until a signal stops it.

    Start it as often and on as many machines as you like: the workers share the partitions. [bold]serve[/]
    answers requests and needs its own process; the other roles may share one.

    Example: [bold]headrace worker ingest,aggregate,learn,log,trainer[/]
    """
    _set_up_logging(log_level)
    settings = options.read_settings(brokers, redis)
    require("worker")
    from headrace.agents.roles import ROLES, parse_roles, run_worker

    chosen = parse_roles(roles)
    if settings.mlflow_uri and "trainer" in chosen:
        require("mlflow")
    if settings.otlp_endpoint and "serve" in chosen:
        require("otel")
    if not {"gateway", "monitor"}.isdisjoint(chosen):
        require("gateway")
    _check_web_port(settings.web_port, [role for role in chosen if ROLES[role]])
    options.run(run_worker(settings, chosen))


def _set_up_logging(level: str) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        logging.getLogger().setLevel(level.upper())
    except ValueError as exc:
        raise ConfigError(f"--log-level {level}: choose DEBUG, INFO, WARNING or ERROR") from exc


def _check_web_port(port: int, with_app: Sequence[str]) -> None:
    """Check that the web port is free and used by one role only: every role has its own web server."""
    if not port or not with_app:
        return
    if len(with_app) > 1:
        raise ConfigError(
            f"HEADRACE_WEB_PORT={port} needs a process with one role; this one would run "
            f"{', '.join(with_app)}: start a worker for each, with ports of their own, or unset it"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ConfigError(f"HEADRACE_WEB_PORT={port}: {exc.strerror}") from exc
