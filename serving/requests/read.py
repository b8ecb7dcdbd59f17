"""Reads requests: decodes them, finds the reply address, refuses bad ones with a reason."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from headrace.serving.requests.address import ReplyAddress, check_allowed, parse_reply_address, unwrap
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import UNDECODABLE, Decoder
from headrace.streams.messages.schemas import ErrorInfo, RecReply, RecRequest, check_request
from headrace.streams.settings import DAY_MS, Settings

log = logging.getLogger(__name__)

#: A request with a ``ts`` further behind its record is refused: the unit is wrong (seconds, not ms).
MAX_BEHIND_MS = DAY_MS

WRONG_PARTITION = (
    "wrong_partition",
    "",
    "the key of a request decides its partition, by Kafka's default partitioner (murmur2)",
)

#: A request to answer, its record, and its reply address.
Job = tuple[RecRequest, Any, ReplyAddress]
#: A refused record, its reply address (None: there is none), and the reason.
Reject = tuple[Any, ReplyAddress | None, RejectedError]


class Unwrapped:
    """A request's record; its value is without Faust's envelope."""

    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, record: Any, max_bytes: int) -> None:
        self.key: bytes | None = record.key
        self.value = unwrap(record.value, max_bytes)
        self.offset: int = record.offset
        self.timestamp: int = record.timestamp
        self.headers: Sequence[tuple[str, bytes]] = record.headers


class _RequestId(msgspec.Struct):
    request_id: str = ""


class RequestReader:
    """Reads the records of the request topic. ``read`` raises for no record."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._future_ms = settings.future_ms
        self._max_bytes = settings.max_event_bytes
        self._decoder = Decoder(RecRequest, settings.max_event_bytes, self._check)

    def _check(self, request: RecRequest, record: Any) -> None:
        check_request(request)
        ts = request.context.ts
        if ts is None:
            return
        if record.timestamp - ts > MAX_BEHIND_MS:
            raise RejectedError(
                "out_of_range",
                "context.ts",
                f"ts is {record.timestamp - ts} ms behind the record's timestamp, at most {MAX_BEHIND_MS}",
            )
        if ts - record.timestamp > self._future_ms:
            raise RejectedError(
                "from_the_future",
                "context.ts",
                f"ts is {ts - record.timestamp} ms past the record's timestamp",
            )

    def read(self, records: Iterable[Any], misplaced: Collection[int] = ()) -> tuple[list[Job], list[Reject]]:
        """Return the requests to answer and the refused records, each in the order of ``records``.

        ``misplaced`` holds the offsets of records to refuse because they are in the wrong partition.
        """
        jobs: list[Job] = []
        rejects: list[Reject] = []
        for record in records:
            address: ReplyAddress | None = None
            try:
                address = self._address(record)
                if record.offset in misplaced:
                    rejects.append((record, address, RejectedError(*WRONG_PARTITION)))
                    continue
                jobs.append((self._decoder.one(Unwrapped(record, self._max_bytes)), record, address))
            except RejectedError as exc:
                rejects.append((record, address, exc))
            except Exception as exc:
                # An unexpected error: one record must not stop the agent for good.
                log.exception("request at offset %d", record.offset)
                rejects.append((record, address, RejectedError("internal", "", type(exc).__name__)))
        return jobs, rejects

    def _address(self, record: Any) -> ReplyAddress:
        """Return the reply address; raise ``RejectedError`` when there is none or it is not allowed."""
        address = parse_reply_address(record.headers, record.value, self._max_bytes)
        if address is None:
            if record.value is not None and len(record.value) > self._max_bytes:
                raise RejectedError("too_large", "", f"{len(record.value)} bytes, and no reply address")
            raise RejectedError("no_reply_address", "reply_to", "the request says nowhere to reply to")
        check_allowed(address, self._settings.reply_topics, self._settings.topic_prefix)
        return address

    def error_reply(self, record: Any, error: RejectedError) -> RecReply:
        """Return the reply with the error, and with the request's id if it can be read."""
        request_id = ""
        body = unwrap(record.value, self._max_bytes)
        if body is not None and error.reason != "too_large":
            try:
                request_id = msgspec.json.decode(body, type=_RequestId).request_id[:64]
            except UNDECODABLE:
                request_id = ""
        return RecReply(request_id, error=ErrorInfo(error.reason, error.detail, error.field))
