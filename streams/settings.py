"""Settings: read once at start from ``HEADRACE_*`` variables, validated, frozen. Every default is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from headrace.streams.format_settings import FormatSettings
from headrace.streams.secured import addresses

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Settings(FormatSettings):
    """All settings of an operator. ``HEADRACE_BROKERS=kafka:9092`` sets ``brokers``, and so on."""

    # Where things are
    brokers: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port, comma-separated")
    data_dir: Path = Field(Path("var"), description="Parquet log, snapshots, evicted rows")
    data_url: str = Field(
        "", description="where the Parquet log and the rankers are, file:///... or s3://...; empty: data_dir"
    )
    topic_prefix: str = Field("", description="put before every topic, group and Redis key name")

    # Topics
    partitions: int = Field(4, ge=1, le=10_000, description="partitions of every topic we create")
    replication: int = Field(1, ge=1, le=10)
    reply_topics: Annotated[tuple[str, ...], NoDecode] = Field(
        ("rec-replies*",), description="where replies may go (glob patterns)"
    )

    # Transport
    fetch_max_wait_ms: int = Field(250, ge=1, le=5000)
    batch_max_records: int = Field(
        4000, ge=1, le=100_000, description="records an agent gets at most at once"
    )
    max_message_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="largest record the public topics take"
    )
    compression: Literal["none", "zstd", "lz4", "gzip"] = Field("zstd", description="of our own topics")
    bulk_compression: Literal["none", "zstd", "lz4"] = Field(
        "lz4", description="of rows: there zstd's fast levels are no smaller, and slower"
    )
    session_timeout_s: float = Field(10.0, gt=0)
    watchdog_s: float = Field(
        60.0, ge=0, description="a partition with records that is not read for so long: rejoin; 0 = never"
    )
    watchdog_batch_s: float = Field(
        0.0, ge=0, description="a batch that takes longer ends the process, to be started again; 0 = never"
    )
    web_port: int = Field(0, ge=0, le=65535, description="Faust's web server; 0 = off")
    metrics_host: str = Field("127.0.0.1", description="where /metrics is served")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0 = off")
    otlp_endpoint: str = Field(
        "", pattern=r"^(https?://[^/@\s]+(/[^@\s]*)?)?$", description="collector of spans; empty: off"
    )
    otlp_share: float = Field(0.01, ge=0, le=1, description="share of the requests that have spans there")

    # What is accepted
    lateness_ms: int = Field(
        HOUR_MS, ge=0, description="record timestamp past the event's ts by more: too late"
    )
    future_ms: int = Field(
        5 * MINUTE_MS,
        ge=0,
        le=5 * MINUTE_MS,  # as far ahead as windows are exact (windows.AHEAD_MS)
        description="ts past the record timestamp by more: from the future",
    )
    wrong_partition: Literal["forward", "refuse"] = Field(
        "forward",
        description="records without a key or not in murmur2's partition: sent on, or dead letters",
    )
    dedup_window_ms: int = Field(
        10 * MINUTE_MS, ge=0, description="an event_id seen again within it is a retry"
    )

    id_key: str = Field(
        "", description="secret of the hash of all ids; the same in every process, never changed", repr=False
    )

    # State
    flush_every_ms: int = Field(
        15, ge=0, description="what batches did goes to the next stage and to Redis together, this often"
    )
    durable_every_ms: int = Field(
        3000, ge=0, description="changed rows go to their changelog, and offsets are committed, this often"
    )
    standby_replicas: int = Field(
        1, ge=0, le=5, description="workers that keep a warm copy of a partition another one owns"
    )
    snapshot_every_s: float = Field(
        300.0, ge=0, description="a copy of the rows goes to data_dir for a warm start; 0 = never"
    )
    memory_rows: int = Field(
        2_000_000,
        ge=1000,
        description="rows of one table and partition kept in memory; others are in data_dir/spill",
    )
    state_ttl_s: int = Field(
        90 * 24 * 3600,
        ge=8 * 24 * 3600,
        description="rows idle for longer, by event time and by the clock, are deleted for good",
    )

    # Catalogue snapshots
    catalog_dir: str = Field(
        "", description="folder of the catalogue's snapshots; empty: <prefix>catalogue in data_dir"
    )
    catalog_every_s: float = Field(
        900.0, gt=0, description="the role index writes a snapshot this often, when items or towers changed"
    )
    catalog_changes: int = Field(
        100_000, ge=1, description="and as soon as so many records of items are not in the last one"
    )

    # Features and retrieval
    session_gap_ms: int = Field(30 * MINUTE_MS, ge=1000, description="a longer silence starts a new session")
    hot_hours: float = Field(48.0, gt=0, description="age at which an item leaves the hot index")
    hot_index: Literal["lists", "hnsw"] = Field(
        "lists", description="how the hot index searches: lists (faster to build), or a graph (hnswlib)"
    )
    user_ttl_s: int = Field(30 * 24 * 3600, ge=60, description="Redis expiry of a user row")
    item_ttl_s: int = Field(7 * 24 * 3600, ge=60, description="Redis expiry of an item or neighbour row")

    # Answering
    candidates: int = Field(500, ge=1, le=5000)
    rules: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="numbers of the re-rank stage: epsilon=0.02,diversity=dpp,strength=0.2"
    )
    fresh_hours: float = Field(
        24.0, ge=0, description="so long an item may use the slots that are kept for fresh ones"
    )
    fresh_shown: int = Field(100, ge=0, description="until it was shown so often")
    tail_clicks: int = Field(100, ge=0, description="items with fewer clicks are of the long tail")
    parts: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="parts of the pipeline on, off, or a source's size: source:hot=100,filter:language=off",
    )
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="more parts, module:Class, comma-separated"
    )
    part_ms: float = Field(100.0, gt=0, description="a part that takes longer again and again is left out")
    candidates_ms: float = Field(60.0, gt=0, description="after it, the sources not asked yet are left out")
    expired: Literal["popular", "drop"] = Field(
        "popular", description="requests whose deadline has passed: answered with the popular list, or not"
    )
    bulk_share: float = Field(
        0.5, gt=0, le=1, description="share of the time that is free that lists of rec-requests-bulk take"
    )
    overload_s: float = Field(
        2.0,
        ge=0,
        description="such requests are refused while more wait than the cheapest lists take; 0 = never",
    )
    caller_rate: float = Field(0.0, ge=0, description="lists in a second that a caller may ask for; 0 = any")
    caller_burst: int = Field(100, ge=1, le=1_000_000, description="so many lists at once, after a rest")
    blocked_flags: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="items with one of these flags are not shown"
    )
    clicked_rest_s: float = Field(10_800.0, ge=0, description="an item rests for so long after a click")
    shown_rest_s: float = Field(600.0, ge=0, description="an item rests for so long after it was shown")
    shown_most: int = Field(
        10, ge=1, description="shown so often without a click, an item rests while the user's row has it"
    )
    redis_read_ms: int = Field(50, ge=1, description="longest wait for one read of the online store")

    # HTTP gateway
    gateway_host: str = Field(
        "127.0.0.1", description="where the role gateway listens; another than loopback needs a token"
    )
    gateway_port: int = Field(8080, ge=1, le=65535, description="port of the gateway")
    gateway_token: str = Field("", description="bearer token of its callers; empty: none", repr=False)
    gateway_token_file: str = Field("", description="file with this token, instead of it")
    gateway_name: str = Field(
        "gateway",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="its replies come to rec-replies-<name>; one for each process, when there are many",
    )
    gateway_in_flight: int = Field(
        256, ge=1, le=100_000, description="requests it answers at once; one more gets 503"
    )
    gateway_body_bytes: int = Field(
        1024 * 1024, ge=256, description="largest body; a message in it is bound by max_event_bytes"
    )
    gateway_body_s: float = Field(10.0, gt=0, description="a head or a body must have come within it")
    gateway_reply_ms: int = Field(
        2000, ge=1, description="a reply is waited for so long past the request's deadline_ms"
    )
    gateway_bulk_s: float = Field(
        60.0, gt=0, le=600, description="replies to the requests of POST /bulk are waited for so long"
    )

    # Canary
    canary_every_s: float = Field(5.0, gt=0, description="pause between two events of the role canary")
    canary_publish_every_s: float = Field(
        30.0, gt=0, description="pause between two publications or withdrawals of its item"
    )
    canary_event_ms: int = Field(1000, ge=1, description="a list must reflect an event within it")
    canary_publish_ms: int = Field(
        3000, ge=1, description="a list must have a published item within it, and not a withdrawn one"
    )
    canary_objective: float = Field(
        0.99, gt=0, lt=1, description="share of the probes that must; the others are the error budget"
    )
    canary_window_s: float = Field(
        24 * 3600.0, ge=60, description="window of headrace_canary_within_ratio and of the budget left"
    )

    # Dashboard
    monitor_host: str = Field(
        "127.0.0.1", description="where the role monitor listens; another than loopback needs a token"
    )
    monitor_port: int = Field(8090, ge=1, le=65535, description="port of the dashboard")
    monitor_token: str = Field("", description="bearer token of its readers; empty: none", repr=False)
    monitor_token_file: str = Field("", description="file with this token, instead of it")
    monitor_targets: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="where workers serve /metrics, host:port; a name may have several addresses",
    )

    # Learning
    outcome_wait_ms: int = Field(
        10 * MINUTE_MS, ge=100, description="how long a shown slot may wait for its click"
    )
    passed_wait_ms: int = Field(
        30_000, ge=1, description="a slot that the user passed or skipped waits only so long for its click"
    )
    seen_below: int = Field(
        1, ge=0, description="so many slots are on the screen below the deepest one with an event"
    )
    unshown_share: float = Field(
        0.25, ge=0, le=1, description="share of the lists that are logged with candidates that were not shown"
    )
    trace_share: float = Field(
        0.001, ge=0, le=1, description="share of the requests that `headrace explain` can make again"
    )
    trace_candidates: int = Field(
        5000, ge=0, description="for that, the features of so many of the best candidates are kept"
    )
    trace_hours: float = Field(24.0, gt=0, description="what it needs for that is kept for so long")
    trace_mb: int = Field(0, ge=0, description="and at most so many MB of it; 0 = any number")
    unshown_next: int = Field(20, ge=0, le=250, description="of these, so many that would have come next")
    unshown_random: int = Field(20, ge=0, le=250, description="and so many of the others, by chance")
    publish_every_s: float = Field(3.0, gt=0, description="online model weights go out this often")
    leaf_steps: bool = Field(True, description="the ranker goes on learning between trainings")
    towers_every_s: float = Field(
        60.0, ge=0, description="the two towers are published this often; 0 = they are not learnt"
    )
    towers_rows: int = Field(
        100_000, ge=1000, le=500_000, description="most learnt embeddings; 280 bytes each, and 10 MB"
    )
    towers_keep_days: float = Field(
        14.0, gt=0, description="what no click had to do with for so long is forgotten"
    )
    towers_cpu: float = Field(0.5, gt=0, le=1, description="share of one core that learning the towers takes")
    log_flush_s: float = Field(10.0, gt=0, description="a Parquet file is closed this often")
    log_keep_days: float = Field(
        90.0, ge=0, description="Parquet files with older examples are deleted; 0 = never"
    )
    train_every_s: float = Field(600.0, gt=0)
    train_min_rows: int = Field(
        2000, ge=100, description="labelled examples needed before the first training"
    )
    train_min_clicks: int = Field(50, ge=1)
    train_max_rows: int = Field(
        20_000_000, ge=1000, description="a training reads about so many of the newest examples"
    )
    train_sample_rows: int = Field(
        2_000_000, ge=1000, description="of more, LightGBM gets every click and a weighted sample of the rest"
    )

    # Models
    models_dir: str = Field("", description="versions of the ranker; empty: models in data_dir")
    models_keep: int = Field(50, ge=3, description="so many of the newest versions stay in models_dir")
    mlflow_uri: str = Field("", description="tracking URI of MLflow; rankers are mirrored there; empty: off")
    gate_margin: float = Field(
        0.02, ge=0, description="a candidate whose AUC is lower than the live ranker's by more is refused"
    )
    rollout: Literal["on", "off"] = Field(
        "on", description="off: a ranker that passes the gate answers everybody at once"
    )
    shadow_share: float = Field(
        0.1, ge=0, le=1, description="of so many lists it is logged what a candidate would have shown"
    )
    rollout_candidates: int = Field(
        3, ge=1, le=8, description="so many rankers are tried beside each other, all but one in the shadow"
    )
    rollout_alpha: float = Field(
        0.05, gt=0, lt=1, description="chance of a wrong decision about any of the candidates"
    )
    rollout_min_s: float = Field(600.0, ge=0, description="shortest time of a stage of a rollout")
    rollout_max_s: float = Field(
        7 * 24 * 3600.0, gt=0, description="a candidate without an answer for so long goes"
    )
    rollout_min_examples: int = Field(
        2000, ge=1, description="examples of the candidate's arm before it goes further"
    )
    rollout_max_examples: int = Field(
        10_000_000, ge=1, description="a candidate without an answer after so many in one stage goes"
    )
    rollout_return_s: float = Field(
        24 * 3600.0,
        ge=0,
        description="who comes in one such period and not in the next does not return; 0: not looked at",
    )
    objectives: Annotated[dict[str, float], NoDecode] = Field(
        {"click": 0.3, "long_view": 0.5, "like": 0.2},
        description="weights of what the ranker foresees: click=0.3,long_view=0.5,like=0.2",
    )
    train_unseen_weight: float = Field(
        1.0,
        ge=0,
        description="weight of a slot that was never seen, against that of a seen one; 0 = left out",
    )
    train_unshown_weight: float = Field(
        1.0,
        ge=0,
        description="weight of a candidate that was not shown, against that of a shown slot, times how often "
        "users find such items; 0 = left out",
    )
    train_weight_clip: float = Field(
        1.0,
        ge=1,
        description="largest weight for a small probability of being shown or sampled; 1 = all alike",
    )
    train_user_slots: int = Field(
        200_000,
        ge=0,
        description="a user with more shown slots in the log is left out, as a program; 0 = never",
    )
    train_user_clicks: int = Field(20_000, ge=0, description="or with more clicks; 0 = never")
    train_smoothing: float = Field(
        0.0, ge=0, lt=1, description="labels are less certain by this much: 0.02 makes them 0.01 and 0.99"
    )

    @field_validator("brokers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        """Take spaces away; refuse what is not host:port, comma-separated."""
        if not (found := addresses(value)):
            raise ValueError("write host:port, comma-separated, without kafka:// or another scheme")
        return ",".join(found)

    @field_validator("data_url")
    @classmethod
    def _store(cls, value: str) -> str:
        """Refuse what is no URL of a folder or a bucket, and keys in it: a URL is logged."""
        parts, options = urlsplit(value), {"endpoint_override", "region", "scheme"}
        if parts.username or parts.password:
            raise ValueError("keys are not in the URL, but in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
        if value and not folder and not (parts.scheme == "s3" and parts.netloc):
            raise ValueError("write file:///folder or s3://bucket/prefix")
        if unknown := {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - options:
            raise ValueError(f"{min(unknown)!r} is not an option: {', '.join(sorted(options))} are")
        return value

    @field_validator("parts", "rules", "objectives", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        """Parse a JSON object, or name=value pairs separated by commas."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        pairs = [word.partition("=") for word in value.split(",") if word.strip()]
        if wrong := [name for name, equals, _ in pairs if not equals]:
            raise ValueError(f"write name=value, comma-separated: {wrong[0].strip()!r} has no value")
        return {name.strip(): setting.strip() for name, _, setting in pairs}

    @field_validator("objectives")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        """Refuse other names, negative weights, and all zeros."""
        names = {"click", "long_view", "like"}
        if not value.keys() <= names or min(value.values(), default=0) < 0 or not sum(value.values()) > 0:
            raise ValueError(f"write weights of {', '.join(sorted(names))}: none negative, not all 0")
        return value

    @field_validator("reply_topics", "plugins", "blocked_flags", "monitor_targets", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        """Parse a JSON list, or words separated by commas."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [word.strip() for word in value.split(",") if word.strip()]

    def name(self, base: str) -> str:
        """Return ``base`` with ``topic_prefix``: the name of a topic, a group or a Redis key."""
        return f"{self.topic_prefix}{base}"
