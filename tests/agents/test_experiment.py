"""Settings tried on some users, end to end on a broker: started, half of the users get them, taken back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_headrace
from fresh_topics import make_topics
from installation import until
from join_world import encode
from worlds import item, request

from headrace.agents import rollout
from headrace.agents.stage.pointing import read_shelf
from headrace.agents.wiring import Wiring
from headrace.console.verification.rollout_topic import counted_again, newest_counts
from headrace.models.learning.arms import CANDIDATE, arm_of
from headrace.models.learning.kinds import SETTINGS
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.registry import Registry, folder_of
from headrace.models.outcomes import SlotOutcome, examples_of
from headrace.oracle.compare.arms import compare_arms
from headrace.oracle.compare.findings import Findings
from headrace.serving.mirrors import Mirrors
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.store.memory import MemoryStore
from headrace.streams.messages.schemas import Example, Impression
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender, partition_of
from headrace.streams.topics.tail import Tail

pytestmark = pytest.mark.broker
USERS, ROUNDS = [f"user-{n}" for n in range(400)], 2


class Serving:
    """A serving process: its recommender follows `models`."""

    def __init__(self, wiring: Wiring) -> None:
        self.recommender = Recommender(Policy.of(wiring.settings), settings=wiring.settings)
        for n in range(30):
            self.recommender.catalog.put(item(n))
        mirrors = Mirrors(self.recommender)
        self.tail = Tail(
            wiring.settings, wiring.topics.models, lambda b: mirrors.models(list(b)), name="models"
        )

    def shown(self, user: str, now: int, name: str = "r") -> Impression:
        """Return what a user is shown."""
        answer = self.recommender.answer(
            request(user, request_id=f"{name}-{user}", n=3), None, Anchors(), now
        )
        assert answer.impression is not None
        return answer.impression

    async def versions(self) -> dict[str, str]:
        """Return by which settings each user's list is made, now."""
        found = {user: self.recommender.data.models.variants.of(user) for user in USERS}
        assert self.shown(USERS[0], 1_790_000_000_000).settings == (getattr(found[USERS[0]], "version", ""))
        return {user: variant.version if variant else "" for user, variant in found.items()}


@pytest.fixture
async def wiring(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Wiring]:
    changes = {"rollout_min_s": 0.0, "rollout_min_examples": 500, "rollout_return_s": 0.0}
    s = make_settings(data_dir=tmp_path, partitions=2, **changes)
    for name in ("brokers", "topic_prefix", "data_dir"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", str(getattr(s, name)))
    await make_topics(s)
    sender = BatchSender(s)
    await sender.start()
    yield Wiring(s, sender, sender, MemoryStore())
    await sender.stop()


@asynccontextmanager
async def started(*services: Any) -> AsyncIterator[None]:
    for service in services:
        await service.start()
    try:
        yield
    finally:
        for service in reversed(services):
            await service.stop()


async def pointed(wiring: Wiring) -> Pointers:
    return (await read_shelf(wiring.settings, wiring.topics.models, SETTINGS)).pointers


async def log(wiring: Wiring, examples: list[Example]) -> None:
    n = wiring.settings.partitions
    for number in range(n):
        mine = [e for e in examples if partition_of(e.user_id.encode(), n) == number]
        records = [(e.user_id.encode(), encode(e), None, ()) for e in mine]
        await wiring.sender.send_many(wiring.topics.examples, records, partition=number)


def clicked(serving: Serving, p: Pointers, rates: dict[str, float]) -> list[Example]:
    """Return examples of lists that the users are shown, with clicks by the settings that made them."""
    rng, out = np.random.default_rng(1), list[Example]()
    for k in range(ROUNDS):
        for user in USERS:
            shown = serving.shown(user, p.stage_ts + k, f"r{k}")
            chance = rates[shown.settings]
            happened = {j: SlotOutcome(clicked=bool(rng.random() < chance), dwell_ms=1000) for j in range(3)}
            out += examples_of(shown, happened, range(3))
    return out


async def test_half_of_the_users_get_them_and_bad_ones_are_everywhere_gone_within_five_seconds(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(run_headrace, monkeypatch, *arguments)

    one, other = Serving(wiring), Serving(wiring)
    tail, *rollouts = rollout.attach(wiring)
    async with started(one.tail, other.tail):
        before = await one.versions()
        assert set(before.values()) == {""}
        assert await run("experiment", "start", "--set", "mmr_lambda=0.5") == 2
        assert "'mmr_lambda' cannot differ from user to user" in " ".join(capsys.readouterr().err.split())
        assert await run("experiment", "start", "--set", "strength=7") == 2
        assert "strength is from 0 to 1" in capsys.readouterr().err
        start = "experiment", "start", "--set", "strength=0.9", "--set", "epsilon=0.5"
        assert await run(*start, "--share", "50", "--reason", "more variety") == 0
        assert "epsilon=0.5" in capsys.readouterr().out
        p = await pointed(wiring)
        assert (p.share, p.reason) == (50, "more variety")
        expected = {u: p.candidate if arm_of(u, p.rollout, 50) == CANDIDATE else p.live for u in USERS}
        for each in (one, other):
            assert await until(each.versions, lambda found: found == expected) == expected
        half = sum(version == p.candidate for version in expected.values())
        assert half == pytest.approx(200, abs=40)
        assert await run(*start) == 2
        assert "tried now" in capsys.readouterr().err

        async with started(tail, *rollouts):
            examples = clicked(one, p, {p.live: 0.4, p.candidate: 0.1})
            assert any(e.explored for e in examples if e.settings == p.candidate)
            await log(wiring, examples)
            gone = await until(lambda: pointed(wiring), lambda found: not found.candidate)
            began = time.monotonic()
            assert (gone.live, gone.by) == (p.live, "rollout")
            assert "worse in clicks" in gone.reason
            for each in (one, other):
                await until(each.versions, lambda found: set(found.values()) == {p.live}, 5)
            assert time.monotonic() - began < 5
        kept = Registry(folder_of(wiring.settings, SETTINGS), SETTINGS)
        assert "worse in clicks" in kept.about(p.candidate).refused

    (record,), findings = await newest_counts(wiring.settings), Findings()
    again = await counted_again(wiring.settings, record)
    assert again is not None
    compare_arms(findings, record, again)
    assert (record.kind, findings.differences, len(again)) == ("settings", 0, ROUNDS * 3 * len(USERS))

    figures = tmp_path / "list.json"
    assert await run("models", "list", "--json", str(figures)) == 0
    page = capsys.readouterr().out
    assert "strength=0.9" in page
    versions = json.loads(figures.read_text())["settings"]["versions"]
    told = {row["version"]: (row["use"], row["changes"]) for row in versions}
    assert told == {p.live: ("live", {}), p.candidate: ("", {"epsilon": "0.5", "strength": "0.9"})}


async def test_the_operator_sees_them_takes_them_further_and_back(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def run(*arguments: str) -> str:
        code = await asyncio.to_thread(run_headrace, monkeypatch, *arguments)
        told = capsys.readouterr()
        assert code == 0, told.err
        return " ".join(told.out.split())

    serving = Serving(wiring)
    tail, *rollouts = rollout.attach(wiring)
    async with started(serving.tail):
        await run("experiment", "start", "--set", "HEADRACE_RULES=creator_at_most=1", "--share", "50")
        p = await pointed(wiring)
        await until(serving.versions, lambda found: p.candidate in found.values())
        assert "creator_at_most=1" in await run("models", "show", p.candidate)
        async with started(tail, *rollouts):
            # As good as the others: it is counted, and nothing is decided.
            await log(wiring, clicked(serving, p, {p.live: 0.2, p.candidate: 0.2}))

            async def counted() -> int:
                found = await newest_counts(wiring.settings)
                return sum(map(sum, (cells[0] for cells in found[0].totals))) if found else 0

            await until(counted, lambda n: n == ROUNDS * 3 * 400)
        assert "live" in await run("models", "compare", "--settings")
        await run("models", "promote", "--settings", "--reason", "I like it")
        now = await pointed(wiring)
        assert (now.live, now.candidate, now.reason) == (p.candidate, "", "I like it")
        await until(serving.versions, lambda found: set(found.values()) == {p.candidate})

        # The next one is made from what is live now.
        await run("experiment", "start", "--set", "strength=0.3")
        after = await pointed(wiring)
        texts = (await read_shelf(wiring.settings, wiring.topics.models, SETTINGS)).texts
        assert after.share == 1
        assert {p.live, p.candidate, after.candidate} <= set(texts)
        page = await run("models", "show", after.candidate)
        assert "creator_at_most=1, strength=0.3" in page
        await run("models", "rollback", "--settings")  # the experiment
        assert "live settings" in await run("models", "rollback", "--settings")  # and what it was made from
        assert (await pointed(wiring)).live == p.live
        await until(serving.versions, lambda found: set(found.values()) == {p.live})
