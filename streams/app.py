"""The Faust app of a role: with record batches, state stores and Headrace's settings."""

from __future__ import annotations

import logging
from typing import Any

from faust.types import TP

from headrace.streams.settings import Settings
from headrace.streams.tables.recovery import StateStoreManager
from headrace.streams.topics.connection import faust_credentials
from headrace.streams.transport.app import BatchApp


class HeadraceApp(BatchApp):
    """A Faust app with record batches and state stores."""

    mundane_level = "debug"

    def __init__(self, id: str, *, settings: Settings, **options: Any) -> None:  # noqa: A002 - Faust's name
        self.headrace_settings = settings
        super().__init__(id, **options)

    def _create_directories(self) -> None:
        """Create no directories: snapshots are the only files, and writing one creates its folder."""

    async def _on_partitions_revoked(self, revoked: set[TP]) -> None:
        recovery = self.tables.recovery
        recovery.interrupt()
        await super()._on_partitions_revoked(revoked)
        await recovery.suspend()


def make_app(settings: Settings, role: str, **overrides: Any) -> HeadraceApp:
    """Return the Faust app of a role; its consumer group is ``<prefix>headrace-<role>``.

    Call it inside the running event loop. An exception in one of its agents stops the app, so that no batch
    is processed after one that failed; ``run_apps`` then stops the process.

    Parameters
    ----------
    settings
        Settings of the process.
    role
        Name of the role.
    overrides
        Faust settings that replace those of Headrace.
    """
    _quiet_logs()
    options: dict[str, Any] = {
        "broker": "kafka://" + ";".join(address.strip() for address in settings.brokers.split(",")),
        "broker_credentials": faust_credentials(settings),
        "store": "memory://",
        "web_enabled": bool(settings.web_port),
        "web_port": settings.web_port or 6066,
        "web_host": "127.0.0.1",
        "web_bind": "127.0.0.1",
        "topic_allow_declare": False,  # `headrace topics create` creates topics, with the right configuration
        "topic_disable_leader": True,
        "reply_create_topic": False,
        "consumer_auto_offset_reset": "earliest",
        "broker_session_timeout": settings.session_timeout_s,
        # How long the group waits for a member that does not rejoin. Our members rejoin within
        # BODY_TIMEOUT_S.
        "broker_rebalance_timeout": max(settings.session_timeout_s, 2.0),
        # A member sees a rebalance in the answer to its next heartbeat.
        "broker_heartbeat_interval": min(1.0, settings.session_timeout_s / 3),
        "broker_commit_interval": 0.5,
        "stream_wait_empty": False,  # BatchConsumer waits for running loop bodies, for a bounded time
        "table_standby_replicas": settings.standby_replicas,
        "TableManager": StateStoreManager,
        "cython_optimizations": True,
        "debug": False,
    }
    return HeadraceApp(settings.name(f"headrace-{role}"), settings=settings, **{**options, **overrides})


def _quiet_logs() -> None:
    # Faust, mode and aiokafka log every step of starting, stopping and rebalancing.
    for name in ("faust", "mode", "aiokafka"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
