"""Callers without Kafka: lists and events over HTTP, through a gateway that is killed like the others."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec
from chaos_audit import HTTP_EVENT
from chaos_found import Found
from chaos_load import Load
from chaos_states import States

from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import RecRequest

#: Name of the worker.
GATEWAY = "gateway-0"
CALLS_PER_S = 3.0
#: Longest wait for an answer, s: a write waits for the broker 10 s, a list in bulk 60 s.
ANSWER_S = 90.0
#: How often events that were not taken are sent again, and the pause before, s.
AGAIN_TIMES, AGAIN_S = 20, 1.5
#: Shares of the calls that send events, and that ask in bulk; events or requests of one call, at most; share
#: of these calls with a bad one.
EVENTS, BULK, AT_ONCE, BAD = 0.4, 0.1, 5, 0.2
#: Statuses with a header that says when to try again.
LATER = (429, 503)


class Http:
    """Calls the gateway, and notes what came of it.

    Parameters
    ----------
    process
        Returns the number of the process that is the gateway now, 0 while there is none.

    Attributes
    ----------
    answers
        Answers by what they are: ``list``, ``bulk``, ``events``, or the code of an error.
    cut
        Calls without an answer because the gateway was killed, or was not there.
    taken, refused
        Events that the gateway says it has written, and where (offset -1: it does not know); ids of others.
    problems
        What must not be.
    """

    def __init__(self, seed: int, url: str, load: Load, states: States, process: Callable[[], int]) -> None:
        self.answers: Counter[str] = Counter()
        self.cut = self.calls = 0
        self.taken: dict[str, tuple[int, int]] = {}
        self.refused: set[str] = set()
        self.problems: list[str] = []
        self._rng = random.Random(f"http-{seed}")
        self._url, self._load, self._states, self._process = url, load, states, process
        self._heard: set[int] = set()  # processes that have answered
        self._number = 0

    async def run(self) -> None:
        """Call until cancelled, many calls at once while answers are late."""
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=ANSWER_S, trust_env=False) as client,
            asyncio.TaskGroup() as calls,
        ):
            while True:
                await asyncio.sleep(1 / CALLS_PER_S)
                dice = self._rng.random()
                bulk = self._ask_in_bulk if dice < EVENTS + BULK else self._ask
                calls.create_task((self._send_events if dice < EVENTS else bulk)(client))

    async def _ask(self, client: httpx.AsyncClient, user: int | None = None, at_least: str = "") -> None:
        """Ask for a list; now and then one that has the state of the last reply."""
        if user is None:
            user = self._load.user()
            if self._rng.random() < 0.3 and (known := self._states.one()):
                user, at_least = known
        self._number += 1
        asked = {
            "user_id": self._load.world.users[user], "surface": "home", "n": 8, "deadline_ms": 2000,
            "caller": f"site-{self._number % 4}", "at_least": at_least,
        }  # fmt: skip
        if self._number % 2:
            answer = await self._call(client, "GET", "/recommendations", params=asked)
        else:
            request = msgspec.convert(asked | {"request_id": f"h-{self._number}"}, RecRequest)
            answer = await self._call(client, "POST", "/recommendations", json=msgspec.to_builtins(request))
        if answer is None:
            return
        if answer.status_code != 200:
            self._stated(answer)
            return
        reply = answer.json()
        self.answers["list"] += 1
        if (
            not reply.get("request_id")
            or "error" in reply
            or not (reply.get("items") or reply.get("degraded"))
        ):
            self.problems.append(f"no list, and no error: {answer.text[:300]}")
        self._states.seen(user, reply.get("state", ""))

    async def _ask_in_bulk(self, client: httpx.AsyncClient) -> None:
        """Ask for lists that nobody waits for: every request has a reply, or an error."""
        users = [self._load.world.users[self._load.user()] for _ in range(self._rng.randint(1, AT_ONCE))]
        asked = [{"user_id": user, "surface": "digest", "n": 4} for user in users]
        bad = self._rng.random() < BAD
        if bad:
            asked[0]["n"] = 100_000
        answer = await self._call(client, "POST", "/bulk", json=asked)
        if answer is None:
            return
        told = answer.json().get("replies")
        if told is None:
            self._stated(answer)
            return
        self.answers["bulk"] += 1
        codes = [reply.get("error", {}).get("code", "") for reply in told]
        wrong = [code for code in codes[bad:] if code not in ("", "no_reply", "unavailable")]
        if len(told) != len(asked) or wrong or (bad and codes[0] != "invalid_field"):
            self.problems.append(f"in bulk: {len(asked)} requests, {codes}")

    async def _send_events(self, client: httpx.AsyncClient) -> None:
        """Send events until the gateway says of each what became of it; then read one of them."""
        user, events = self._load.user(), list[dict[str, Any]]()
        for _ in range(self._rng.randint(1, AT_ONCE)):
            self._number += 1
            event = self._load.event_of(user, now_ms(), f"{HTTP_EVENT}{self._number}")
            events.append(msgspec.to_builtins(event))
        if self._rng.random() < BAD:
            events[-1] |= {"type": "dwell", "dwell_ms": None}
        state = ""
        for _ in range(AGAIN_TIMES):
            answer = await self._call(client, "POST", "/events", json=events)
            if answer is not None:
                told = answer.json().get("events")
                if told is None:
                    self._stated(answer)
                else:
                    self._expect_status(answer, told)
                    state = self._note(told) or state
                    done = self.taken.keys() | self.refused
                    events = [event for event in events if event["event_id"] not in done]
            if not events:
                if state:
                    await self._ask(client, user, state)
                return
            await asyncio.sleep(AGAIN_S)

    def _note(self, told: Sequence[Mapping[str, Any]]) -> str:
        """Note what became of events; return the state that has the last one that was taken."""
        state = ""
        for one in told:
            if one["taken"]:
                self.taken[one["event_id"]] = one["partition"], one["offset"]
                state = one.get("state") or state
            elif one["error"]["code"] != "unavailable":
                self.refused.add(one["event_id"])
        return state

    def _expect_status(self, answer: httpx.Response, told: Sequence[Mapping[str, Any]]) -> None:
        self.answers["events"] += 1
        good = sum(one["taken"] for one in told)
        some = 200 if good == len(told) else 207
        if (good and answer.status_code != some) or (not good and answer.status_code not in (400, 503)):
            self.problems.append(f"{answer.status_code}, but {good} of {len(told)} events were taken")

    async def _call(
        self, client: httpx.AsyncClient, method: str, path: str, **what: Any
    ) -> httpx.Response | None:
        """Return the answer; None when the gateway ended meanwhile, or is not there."""
        before = self._process()
        listens = before in self._heard  # one that has just been started may not yet
        self.calls += 1
        try:
            answer = await client.request(method, path, **what)
        except httpx.TransportError as exc:
            self.cut += 1
            await asyncio.sleep(0.5)  # a process that has just ended is noticed
            if listens and before == self._process():
                self.problems.append(f"{method} {path} got no answer of a gateway that runs: {exc!r}")
            return None
        if before:
            self._heard.add(before)
        return answer

    def _stated(self, answer: httpx.Response) -> None:
        """Note an error; every one has a code, and some say when to try again."""
        code = (answer.json().get("error") or {}).get("code", "")
        self.answers[code] += 1
        if not code or answer.status_code < 400:
            self.problems.append(f"{answer.status_code} without an error: {answer.text[:300]}")
        elif answer.status_code in LATER and not answer.headers.get("retry-after", "").isdigit():
            self.problems.append(f"{code} does not say when to try again")
        elif answer.status_code < 500 and code != "rate_limited":
            self.problems.append(f"a good call got {code}: {answer.text[:300]}")

    def compare(self, found: Found) -> list[str]:
        """Return what is wrong with the events in the topic, from what the gateway said of them."""
        out = list(self.problems[:5])
        lost = [i for i, at in self.taken.items() if not _is_at(found, i, at)]
        if lost:
            out.append(f"{len(lost)} events over HTTP were taken and are not there, the first: {lost[0]}")
        if surplus := sorted(self.refused & found.by_http.keys()):
            out.append(f"{len(surplus)} events over HTTP were refused and written: {surplus[0]}")
        if not (self.answers["list"] and self.taken and self.refused):
            out.append(f"over HTTP came no list, or no event was taken, or none refused: {self.answers}")
        return out

    def figures(self) -> dict[str, Any]:
        """Return the numbers for the report."""
        return {
            "http_calls": self.calls,
            "http_answers": dict(sorted(self.answers.items())),
            "http_cut": self.cut,
            "http_events": len(self.taken),
        }


def _is_at(found: Found, event_id: str, at: tuple[int, int]) -> bool:
    """Return whether an event is where the gateway says; anywhere when it does not know."""
    partition, offset = at
    places = found.by_http.get(event_id, [])
    return bool(places) if offset < 0 else any(place[1:] == (partition, offset) for place in places)
