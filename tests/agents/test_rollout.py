"""The rollout on a broker: bad candidates go, good ones arrive, and every example counts once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_topics import make_topics
from installation import read_all, until
from join_world import encode
from logged_examples import example
from msgspec import structs
from prometheus_client import generate_latest
from scraped import Scraped

from headrace.agents import rollout
from headrace.agents.rollout import Rollout
from headrace.agents.stage.pointing import point, read_shelf
from headrace.agents.wiring import Wiring
from headrace.console.verification.rollout_topic import counted_again, newest_counts
from headrace.models.learning import arm_counts, pointers, ranker, registry
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.registry import Registry
from headrace.oracle.compare.arms import compare_arms
from headrace.oracle.compare.findings import Findings
from headrace.serving.rankers import Rankers
from headrace.serving.store.memory import MemoryStore
from headrace.streams.messages.schemas import Example, ShadowSlot
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender, partition_of
from headrace.streams.topics.tail import Tail

pytestmark = pytest.mark.broker


@pytest.fixture
async def wiring(make_settings: Callable[..., Settings], tmp_path: Path) -> AsyncIterator[Wiring]:
    s = make_settings(
        data_dir=tmp_path,
        partitions=2,
        rollout_min_s=0,
        rollout_min_examples=500,
        rollout_max_s=3600,
        rollout_return_s=3.0,
    )
    await make_topics(s)
    sender = BatchSender(s)
    await sender.start()
    yield Wiring(s, sender, sender, MemoryStore())
    await sender.stop()


@asynccontextmanager
async def running(wiring: Wiring) -> AsyncIterator[Rollout]:
    tail, rankers, settings = rollout.attach(wiring)
    for service in (tail, rankers, settings):
        await service.start()
    try:
        yield rankers
    finally:
        for service in (settings, rankers, tail):
            await service.stop()


async def tried(wiring: Wiring, share: int = 0) -> Pointers:
    """Publish a live ranker and a candidate at a stage."""

    def change(p: Pointers) -> Pointers:
        p = pointers.offered(pointers.offered(p, "a" * 12, 1, "t"), "b" * 12, 1, "t")
        while p.share < share:
            p = pointers.promoted(p, wiring.clock.now_ms(), "t", "")
        return p

    texts = [(v * 12, b"{}") for v in "ab"]
    return await point(wiring.settings, wiring.topics.models, wiring.sender, change, texts)


async def steps(wiring: Wiring) -> dict[tuple[str, ...], float]:
    """Return the steps of the rollout of rankers that were counted, by stage and step."""
    scraped = Scraped(generate_latest(wiring.metrics.registry).decode())
    return {k: n for k, n in scraped.all("headrace_rollout_steps_total", kind="ranker").items() if n}


async def pointed(wiring: Wiring) -> Pointers:
    return (await read_shelf(wiring.settings, wiring.topics.models)).pointers


def happened(p: Pointers, seed: int, rates: tuple[float, float], n: int = 6000) -> list[Example]:
    """Return examples of 600 users, half of them in either arm, shown after the stage began, one each ms."""
    rng, out = np.random.default_rng(seed), list[Example]()
    for k in range(n):
        user = int(rng.integers(600))
        one = example(k, rng, user=f"user-{user}", request=f"r{seed}-{k}")
        one.ranker, one.ts = (p.live, p.candidate)[user % 2], p.stage_ts + k
        one.clicked = bool(rng.random() < rates[user % 2])
        one.dwell_ms = 5000 * one.clicked
        one.propensity, one.score = float(rng.uniform(0.005, 1)), float(rng.normal(0.5, 0.5))
        if rng.random() < 0.3:
            version = p.candidates()[k % len(p.candidates())]
            one.shadow = ShadowSlot(version, bool(rng.random() < 0.5), float(rng.normal(0.5, 0.5)))
        out.append(one)
    return out


async def write(wiring: Wiring, examples: list[Example]) -> None:
    n = wiring.settings.partitions
    for number in range(n):
        mine = [e for e in examples if partition_of(e.user_id.encode(), n) == number]
        records = [(e.user_id.encode(), encode(e), None, ()) for e in mine]
        await wiring.sender.send_many(wiring.topics.examples, records, partition=number)


async def verified(wiring: Wiring) -> Findings:
    """Compare the newest counts with the oracle's."""
    (record,), findings = await newest_counts(wiring.settings), Findings()
    again = await counted_again(wiring.settings, record)
    assert again is not None
    compare_arms(findings, record, again)
    changed = [[list(cells) for cells in arm] for arm in record.totals]
    changed[1][1][7] += 1
    wrong = Findings()
    compare_arms(wrong, replace(record, totals=changed), again)
    assert wrong.differences == findings.differences + 1, "a wrong count is found"
    returns = [[list(cells) for cells in arm] for arm in record.returns]
    returns[0][1][7] += 1
    wrong = Findings()
    compare_arms(wrong, replace(record, returns=returns), again)
    assert wrong.differences == findings.differences + 1, "and so is a wrong return"
    for version, shadow in record.shadows.items():
        cells = [list(row) for row in shadow]
        cells[3][7] += 1
        wrong = Findings()
        compare_arms(wrong, replace(record, shadows=record.shadows | {version: cells}), again)
        assert wrong.differences == findings.differences + 1, "and a wrong shadow, of each candidate"
    return findings


async def test_a_candidate_that_is_worse_goes_and_the_reason_is_kept(wiring: Wiring, trained: Ranker) -> None:
    kept = Registry(registry.folder_of(wiring.settings))
    value, version = ranker.encode(trained.text, 1, {})
    kept.add(value, "trained")
    await point(
        wiring.settings,
        wiring.topics.models,
        wiring.sender,
        lambda p: pointers.offered(pointers.offered(p, "a" * 12, 1, "t"), version, 1, "t"),
        [("a" * 12, b"{}"), (version, value)],
    )
    async with running(wiring):
        p = await until(lambda: pointed(wiring), lambda p: p.share == 1)  # out of the shadow
        await write(wiring, happened(p, 1, (0.2, 0.05)))
        p = await until(lambda: pointed(wiring), lambda p: not p.candidate)
        assert (p.live, p.by) == ("a" * 12, "rollout")
        assert "worse in clicks" in p.reason
        assert "worse in clicks" in kept.about(version).refused
        wanted = {("shadow", "promote"): 1, ("1 %", "roll back"): 1}
        await until(lambda: steps(wiring), lambda found: found == wanted)
    findings = await verified(wiring)
    assert (findings.differences, findings.compared) == (0, (2 * 3 + 2 * 2 + 6) * 128)


async def test_a_candidate_that_is_better_arrives(wiring: Wiring) -> None:
    await tried(wiring)
    async with running(wiring):
        for share, seed in ((1, 1), (10, 2), (50, 3)):
            p = await until(lambda: pointed(wiring), lambda p, s=share: p.share == s)
            await write(wiring, happened(p, seed, (0.1, 0.3), 12_000))
        p = await until(lambda: pointed(wiring), lambda p: not p.candidate)
        assert (p.live, p.previous) == ("b" * 12, "a" * 12)
        assert "better in clicks" in p.reason
        wanted = {(stage, "promote"): 1 for stage in ("shadow", "1 %", "10 %", "50 %")}
        await until(lambda: steps(wiring), lambda found: found == wanted)
    assert (await verified(wiring)).differences == 0


async def test_of_three_in_the_shadow_one_goes_further_and_the_others_are_counted_and_wait(
    wiring: Wiring,
) -> None:
    await tried(wiring)
    texts = [(v * 12, b"{}") for v in "cd"]

    def offered(p: Pointers) -> Pointers:
        for v in "cd":
            p = pointers.offered(p, v * 12, 1, "t", most=3)
        return p

    await point(wiring.settings, wiring.topics.models, wiring.sender, offered, texts)
    async with running(wiring):
        p = await until(lambda: pointed(wiring), lambda p: p.share == 1)
        assert (p.candidate, p.candidates()[1:]) == ("d" * 12, ["b" * 12, "c" * 12])
        assert "the newest of 3" in p.reason
        await write(wiring, happened(p, 1, (0.2, 0.05)))
        after = await until(lambda: pointed(wiring), lambda p: "d" * 12 not in p.candidates())
        assert "worse in clicks" in after.reason
        p = await until(lambda: pointed(wiring), lambda p: p.share == 1)
        assert (p.live, p.candidates()) == ("a" * 12, ["c" * 12, "b" * 12])
    assert (await verified(wiring)).differences == 0
    (record,) = await newest_counts(wiring.settings)
    assert set(record.shadows) == {v * 12 for v in "bcd"}


async def test_whoever_goes_on_every_example_counts_once(wiring: Wiring) -> None:
    wiring = replace(wiring, settings=wiring.settings.model_copy(update={"rollout_return_s": 0.2}))
    p = await tried(wiring, 50)
    parts = [happened(p, seed, (0.1, 0.1), 700) for seed in range(3)]
    old = happened(structs.replace(p, stage_ts=p.stage_ts - 10_000_000), 9, (1.0, 1.0), 50)
    expected = ArmCounts(p, {}, 200)

    async def counted() -> int:
        found = [r for r in await read_all(wiring.settings, wiring.topics.models) if r.key == arm_counts.KEY]
        return int(ArmCounts.decode(found[-1].value).totals[:, 0].sum()) if found else 0

    for number, part in enumerate(parts):
        await write(wiring, [*old, *part])
        expected.add(part)
        async with running(wiring):  # each one begins with what the one before has published
            await until(counted, lambda n, total=700 * (number + 1): n == total)
    records = await read_all(wiring.settings, wiring.topics.models)
    last = [r.value for r in records if r.key == arm_counts.KEY][-1]
    assert np.array_equal(ArmCounts.decode(last).totals, expected.totals)
    assert np.array_equal(ArmCounts.decode(last).shadows[p.candidate], expected.shadows[p.candidate])
    assert np.array_equal(ArmCounts.decode(last).returns, expected.returns)
    came, returned = expected.returns.sum(axis=(0, 2)).tolist()
    assert came > returned > 100
    assert expected.shadows[p.candidate].any()
    assert (await verified(wiring)).differences == 0


async def test_pointers_that_were_written_over_are_written_again(wiring: Wiring) -> None:
    p = await tried(wiring, 50)
    late = (pointers.KEY, pointers.encode(Pointers(p.number, "c" * 12)), None, ())
    await wiring.sender.send_many(wiring.topics.models, [late], partition=0)
    async with running(wiring):
        again = await until(lambda: pointed(wiring), lambda found: found.number > p.number)
    assert again == pointers.renumbered(p)


async def test_texts_that_nothing_names_are_deleted_after_a_while(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "FORGET_S", 0.0)
    await tried(wiring, 50)
    stray: Any = (pointers.text_key("c" * 12), b"{}", None, ())
    await wiring.sender.send_many(wiring.topics.models, [stray], partition=0)
    async with running(wiring):
        await until(
            lambda: read_shelf(wiring.settings, wiring.topics.models),
            lambda shelf: set(shelf.texts) == {"a" * 12, "b" * 12},
        )


async def test_a_rollback_is_known_in_serving_within_five_seconds(wiring: Wiring, trained: Ranker) -> None:
    (one, live), (two, new) = (ranker.encode(trained.text + end, 1, {}) for end in ("", "\n"))
    s, topic, rankers = wiring.settings, wiring.topics.models, Rankers()
    tail = Tail(s, topic, lambda batch: (rankers.apply(batch), None)[1], name="models")
    await tail.start()
    try:
        await point(
            s,
            topic,
            wiring.sender,
            lambda p: pointers.made_live(pointers.offered(p, live, 1, "t"), new, 1, "t", ""),
            [(live, one), (new, two)],
        )
        await until(lambda: pointed(wiring), lambda p: p.live == new)
        began = time.monotonic()
        await point(s, topic, wiring.sender, lambda p: pointers.rolled_back(p, 2, "operator", ""))

        async def in_use() -> str:
            return rankers.live.version if rankers.live else ""

        await until(in_use, lambda version: version == live, 5)
        assert time.monotonic() - began < 5
    finally:
        await tail.stop()
