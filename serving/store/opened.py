"""Opens the online store that the settings name: one Redis, or a Redis Cluster."""

from __future__ import annotations

from typing import TypeAlias

from headrace.serving.store.cluster_store import ClusterStore
from headrace.serving.store.redis import RedisStore
from headrace.streams.settings import Settings

Opened: TypeAlias = RedisStore | ClusterStore


def open_store(settings: Settings, timeout_s: float = 1.0, read_timeout_s: float | None = None) -> Opened:
    """Return the online store; it connects with its first call.

    Parameters
    ----------
    settings, timeout_s, read_timeout_s
        As of ``RedisStore``.

    Raises
    ------
    ConfigError
        When ``settings.redis_url``, or an option in it, is wrong.
    """
    made = ClusterStore if settings.redis_cluster else RedisStore
    return made(settings, timeout_s, read_timeout_s)
