"""``headrace train``: one training from the log, published."""

from __future__ import annotations

import time
from typing import Any

from aiokafka.errors import KafkaError

from headrace.agents.trainer import train_once
from headrace.agents.wiring import Wiring
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender


async def run(settings: Settings) -> dict[str, Any]:
    """Train and publish; return version, metrics and seconds.

    Raises
    ------
    ConfigError
        The log holds too little.
    UnavailableError
        No broker answers.
    """
    sender = BatchSender(settings)
    store = RedisStore(settings)
    began = time.perf_counter()
    try:
        await sender.start()
        done = await train_once(Wiring(settings, sender, sender, store))
    except KafkaError as exc:
        raise UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc}") from exc
    finally:
        await sender.stop()
        await store.close()
    if done is None:
        raise ConfigError(
            f"the log in {settings.data_dir} holds too little: at least {settings.train_min_rows} examples "
            f"and {settings.train_min_clicks} clicks are needed (HEADRACE_TRAIN_MIN_ROWS, "
            "HEADRACE_TRAIN_MIN_CLICKS)"
        )
    result, version = done
    return {
        "version": version,
        "rows": result.rows,
        "clicks": result.clicks,
        "metrics": result.metrics,
        "seconds": round(time.perf_counter() - began, 2),
    }
