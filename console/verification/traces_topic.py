"""The traces: each list is made again, and each traced list that was shown has a trace."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from headrace.agents.stage.trace_lookup import Rankers
from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.records.frames import key_of
from headrace.serving.traces.explained import differences
from headrace.serving.traces.made import is_traced
from headrace.serving.traces.record import decode
from headrace.serving.traces.replay import again, whole
from headrace.streams.errors import TraceError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to

AGAIN, SHOWN = "traces made again", "traced lists with a trace"
#: A list of a page; or a request with such an id.
_OF_PAGE = re.compile(r"/\d+$")


class _Shown(msgspec.Struct):
    request_id: str = ""


@dataclass
class Traces:
    """What was found on `traces` and `impressions`.

    Attributes
    ----------
    made
        Lists that were made again; ``differ`` are the requests whose list is another one then, and why.
    shown
        Lists of the share that is traced, shown while the topic has traces; ``lacking`` have none.
    unsure
        Lists that cannot be made again: of another version, or without their ranker.
    share
        The smallest share of the requests that a trace says was traced.
    """

    made: int = 0
    differ: list[tuple[str, str]] = field(default_factory=list)
    shown: int = 0
    lacking: list[str] = field(default_factory=list)
    unsure: int = 0
    share: float = 1.0

    def tell(self, findings: Findings) -> None:
        """Add what was found."""
        findings.count(AGAIN, self.made, self.unsure)
        findings.count(SHOWN, self.shown)
        wrong = [(name, "list made again", "as it was sent", why) for name, why in self.differ]
        wrong += [(name, "trace", "there is one", "none") for name in self.lacking]
        keys = np.array([key_of(name) for name, *_ in wrong], np.uint64)

        def made(i: int) -> Difference:
            name, feature, expected, found = wrong[i]
            return Difference(f"request {name}", f"{int(keys[i]):016x}", feature, None, expected, found)

        findings.add("traces", keys, made)


async def traces_again(settings: Settings, margin_ms: int | None = None) -> Traces:
    """Read `traces` and `impressions` to their present ends, make the lists again.

    Lists must have a trace when they were shown ``margin_ms`` after the first trace (as far as clocks may be
    apart, when None), and are of the smallest share that any worker has traced since.
    """
    out, rankers, known = Traces(), await Rankers.of(settings), set[str]()
    firsts: dict[Any, int] = {}
    async with open_reader(settings, [Topics(settings).traces]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            for record in part.records:
                firsts.setdefault(part.tp, record.timestamp)
                known.add(await asyncio.to_thread(_again, out, rankers, record))
    since = _since(firsts, {tp for tp, begin in begins.items() if begin})
    if since is not None:
        margin = settings.future_ms if margin_ms is None else margin_ms
        await _look_at_shown(settings, out, known, since + margin)
    return out


def _since(firsts: dict[Any, int], deleted: set[Any]) -> int | None:
    """Return from when on `traces` has every trace, ms; None: nobody knows.

    Before the first one that is left in a partition, others were deleted; before the very first one, the
    workers may have been of an older version.
    """
    if not firsts or deleted - firsts.keys():
        return None
    return max(firsts[tp] for tp in deleted) if deleted else min(firsts.values())


def _again(out: Traces, rankers: Rankers, record: Any) -> str:
    """Make a list again; return the id of its request."""
    name = (record.key or b"").decode("utf-8", "replace")
    try:
        trace = decode(bytes(record.value or b""))
        out.share = min(out.share, trace.share)
        found = again(trace, rankers.own(trace))
    except TraceError as exc:
        if "another version" in str(exc) or "this version" in str(exc):
            out.unsure += 1
        else:
            out.differ.append((name, str(exc)))
        return name
    wrong = [*found.differs, *differences(trace.reply, found.reply)]
    if trace.parts == 1 and not whole([trace], [found])[1]:
        wrong.append("the bytes of the reply are others")
    out.made += not found.taken
    out.unsure += bool(found.taken)
    if wrong:
        out.differ.append((trace.request.request_id, wrong[0]))
    return trace.request.request_id


async def _look_at_shown(settings: Settings, out: Traces, known: set[str], since: int) -> None:
    decoder, share = msgspec.json.Decoder(_Shown), min(out.share, settings.trace_share)
    async with open_reader(settings, [Topics(settings).impressions]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            for record in part.records:
                if record.timestamp < since or record.value is None:
                    continue
                try:
                    name = decoder.decode(record.value).request_id
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
                if _OF_PAGE.search(name) or not is_traced(name, share):
                    continue
                out.shown += 1
                if name not in known:
                    out.lacking.append(name)
