"""trainer: trains when the log has grown; a stop waits for no training, and publishes nothing of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_topics import make_topics
from logged_examples import example, processes_with, write
from object_store import object_store
from prometheus_client import generate_latest
from scraped import Scraped

from headrace.agents import trainer
from headrace.agents.stage.pointing import read_shelf
from headrace.agents.stage.watching import Watching
from headrace.agents.trainer import Trainer, train_once
from headrace.agents.wiring import Wiring
from headrace.models.features.spec import GROUPS, SPEC
from headrace.models.learning import artefact, histograms, pointers, ranker, registry
from headrace.models.learning.log_files import folder_of, newest
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.registry import Registry
from headrace.models.learning.shelf import Shelf
from headrace.serving.store.memory import MemoryStore
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker
FEW = RankerParams(trees=20, min_leaf=20)  # each tree sees a part of the features


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Wiring]:
    await make_topics(settings)
    sender = BatchSender(settings)
    await sender.start()
    yield Wiring(settings, sender, sender, MemoryStore())
    await sender.stop()


@pytest.fixture
def quick(make_settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., Settings]:
    def make(**more: Any) -> Settings:
        values = {"train_every_s": 0.02, "train_min_rows": 100, "train_min_clicks": 1, "data_dir": tmp_path}
        return make_settings(**{**values, **more})

    return make


def fill(wiring: Wiring, rows: int = 300, first: int = 0, *, flipped: bool = False, ts: int = 0) -> None:
    rng, out = np.random.default_rng(first), list[Example]()
    for i in range(rows):
        one = example(first + i, rng)
        one.clicked ^= flipped
        one.ts += ts
        out.append(one)
    write(folder_of(wiring.settings), out, first=first)


async def shelf_of(wiring: Wiring) -> Shelf:
    return await read_shelf(wiring.settings, wiring.topics.models)


def trainings(wiring: Wiring) -> dict[str, float]:
    scraped = Scraped(generate_latest(wiring.metrics.registry).decode())
    return {outcome: n for (outcome,), n in scraped.all("headrace_trainings_total").items()}


async def test_each_installation_trains_on_its_own_log(quick: Callable[..., Settings]) -> None:
    for rows in (300, 200):
        async with wired(quick()) as wiring:
            fill(wiring, rows)
            done = await train_once(wiring, FEW)
            assert done is not None
            assert done[0].rows == rows
            shelf = await shelf_of(wiring)
            assert list(shelf.texts) == [done[1]]
            assert ranker.decode(shelf.texts[done[1]]).version == done[1]


async def test_it_trains_from_a_store_and_keeps_the_ranker_there(
    quick: Callable[..., Settings], tmp_path: Path
) -> None:
    with object_store() as store:
        async with wired(quick(data_url=store.url)) as wiring:
            versions = []
            for first in (0, 300):
                fill(wiring, first=first, ts=first)
                done = await train_once(wiring, FEW)
                assert done is not None
                versions.append(done[1])
            assert done[0].rows == 600
            kept = Registry(registry.folder_of(wiring.settings))
            assert kept.names() == set(versions)
            shelf = await shelf_of(wiring)
            assert shelf.pointers.live == versions[0]
            assert kept.record(versions[0]) == shelf.texts[versions[0]]
    assert list(tmp_path.iterdir()) == [], "nothing of it is on the disk"


async def test_a_store_that_does_not_answer_ends_no_trainer(
    quick: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    with object_store() as store:
        port, url = store.port, store.url
    async with wired(quick(data_url=url)) as wiring:
        service = Trainer(wiring)
        await service.start()
        try:
            async with asyncio.timeout(60):
                while "the training waits" not in caplog.text:
                    await asyncio.sleep(0.01)
                with object_store(port):
                    fill(wiring)
                    while not (await shelf_of(wiring)).pointers.live:
                        await asyncio.sleep(0.01)
        finally:
            await service.stop()


async def train_four(wiring: Wiring) -> list[str]:
    """Train four times, each time with more of the log; return the versions."""
    versions = []
    for n in range(4):
        fill(wiring, first=300 * n)
        done = await train_once(wiring, FEW)
        assert done is not None
        versions.append(done[1])
    return versions


async def test_the_first_ranker_is_live_and_the_next_one_a_candidate(quick: Callable[..., Settings]) -> None:
    async with wired(quick(rollout_candidates=1)) as wiring:
        versions = await train_four(wiring)
        shelf = await shelf_of(wiring)
        assert (shelf.pointers.live, shelf.pointers.candidate) == (versions[0], versions[3])
        assert set(shelf.texts) == {versions[0], *versions[2:]}, "the text of one that was replaced goes"
        kept = Registry(registry.folder_of(wiring.settings))
        assert {about.version for about in kept.versions()} == set(versions)
        assert kept.record(versions[0]) == shelf.texts[versions[0]]


async def test_several_are_candidates_and_the_registry_says_which_one_made_room(
    quick: Callable[..., Settings],
) -> None:
    async with wired(quick(rollout_candidates=2)) as wiring:
        versions = await train_four(wiring)
        pointed = (await shelf_of(wiring)).pointers
        assert (pointed.live, pointed.candidates()) == (versions[0], [versions[1], versions[3]])
        kept = Registry(registry.folder_of(wiring.settings))
        notes = {version: kept.about(version).refused for version in versions}
        assert notes.pop(versions[2]) == f"its place among the candidates went to {versions[3]}"
        assert set(notes.values()) == {""}


async def test_report_and_distributions_are_kept_beside_each_ranker(quick: Callable[..., Settings]) -> None:
    async with wired(quick()) as wiring:
        fill(wiring, 2000)
        done = await train_once(wiring, FEW, ablation=True)
        assert done is not None
        folder = Registry(registry.folder_of(wiring.settings)).folder_of_version(done[1])
        kept = histograms.load(folder)
        assert kept == done[0].features
        assert kept is not None
        assert kept.rows == 2000
        report = json.loads((folder / "report.json").read_bytes())
        assert (report["version"], report["rows"], len(report["ablation"])) == (
            done[1],
            2000,
            1 + len(GROUPS),
        )
        assert report["objectives"]["click"]["views"]["position_fixed"]["slots"] == 400
        assert done[1] in (folder / "report.html").read_text("utf-8")


async def test_what_is_served_is_watched_for_drift_from_the_live_ranker(
    quick: Callable[..., Settings],
) -> None:
    async with wired(quick()) as wiring:
        fill(wiring, 2000)
        done = await train_once(wiring, FEW)
        assert done is not None
        watching = Watching(wiring, await shelf_of(wiring))

        def seen() -> Scraped:
            return Scraped(generate_latest(wiring.metrics.registry).decode())

        assert seen().one("headrace_drift_most_ratio") is None
        await watching.once()
        assert seen().one("headrace_drift_rows") == 2000
        assert seen().one("headrace_drift_most_ratio") == 0
        rng, moved = np.random.default_rng(5), list[Example]()
        for i in range(2000, 6000):
            one = example(i, rng)
            x = np.frombuffer(one.features, "<f4").copy()
            x[SPEC.index("vector_user")] += 2
            one.features, one.ranker = x.tobytes(), done[1]
            moved.append(one)
        write(folder_of(wiring.settings), moved, first=2000, ts=2000)
        await watching.once()
        drift = seen().all("headrace_drift_ratio")
        assert len(drift) == 5
        assert max(drift, key=lambda labels: drift[labels]) == ("vector_user",)
        assert seen().one("headrace_drift_most_ratio") == drift["vector_user",] > 0.25
        made_up = seen().one("headrace_skew_differs_total", what="example_score")
        checked = seen().one("headrace_skew_checked_total", what="example_score")
        assert made_up == checked == 2000, "their scores are not the ranker's"
        looked = watching.watch.checked
        await watching.once()
        assert watching.watch.checked == looked, "the log has not grown"


async def test_without_rollouts_the_newest_is_live(quick: Callable[..., Settings]) -> None:
    async with wired(quick(rollout="off")) as wiring:
        for n in range(2):
            fill(wiring, first=300 * n)
            done = await train_once(wiring, FEW)
        assert done is not None
        pointed = (await shelf_of(wiring)).pointers
        assert (pointed.live, pointed.candidate, bool(pointed.previous)) == (done[1], "", True)


async def test_a_ranker_that_is_clearly_worse_is_kept_and_never_published(
    quick: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    async with wired(quick()) as wiring:
        fill(wiring, 2000)
        good = await train_once(wiring, FEW)
        assert good is not None
        # Somebody swaps labels in the log; the newest examples are right.
        later = wiring.clock.now_ms() + 1000
        fill(wiring, 6000, 2000, flipped=True, ts=later)
        fill(wiring, 2000, 8000, ts=2 * later)
        bad = await train_once(wiring, FEW)
        assert bad is not None
        assert bad[0].metrics["gate_auc"] < 0.5 < bad[0].metrics["gate_live_auc"]
        shelf = await shelf_of(wiring)
        assert (shelf.pointers.live, shelf.pointers.candidate) == (good[1], "")
        assert list(shelf.texts) == [good[1]]
        about = Registry(registry.folder_of(wiring.settings)).about(bad[1])
        assert "clearly below" in about.refused
        assert [r.action for r in caplog.records if hasattr(r, "action")] == ["ranker_refused"]
        assert trainings(wiring) == {"candidate": 1, "refused": 1}


async def test_a_ranker_of_an_older_version_stays_live_and_gets_a_key_of_its_own(
    quick: Callable[..., Settings],
) -> None:
    async with wired(quick()) as wiring:
        fill(wiring)
        value, version = ranker.encode(older_text(), 1, {})
        await wiring.sender.send_many(wiring.topics.models, [(b"ranker", value, None, ())], partition=0)
        done = await train_once(wiring, RankerParams(trees=6, min_leaf=20))
        assert done is not None
        shelf = await shelf_of(wiring)
        assert (shelf.pointers.live, shelf.pointers.candidate) == (version, done[1])
        assert shelf.texts[version] == value


async def test_in_place_of_a_live_ranker_of_other_features_the_next_one_is_live_at_once(
    quick: Callable[..., Settings],
) -> None:
    """Nobody is answered by the old one any more: a rollout beside it would leave all without a ranker."""
    async with wired(quick()) as wiring:
        fill(wiring)
        old, version = artefact.encode("ranker", ranker.KIND, older_text().encode(), SPEC.names[:-4], 1, {})
        change = lambda p: pointers.made_live(p, version, 1, "operator", "")  # noqa: E731
        await trainer.point(wiring.settings, wiring.topics.models, wiring.sender, change, [(version, old)])
        done = await train_once(wiring, FEW)
        assert done is not None
        pointed = (await shelf_of(wiring)).pointers
        assert (pointed.live, pointed.candidate, pointed.previous) == (done[1], "", version)
        fill(wiring, first=300)
        again = await train_once(wiring, FEW)
        assert again is not None
        pointed = (await shelf_of(wiring)).pointers
        assert (pointed.live, pointed.candidate) == (done[1], again[1])


def older_text() -> str:
    """Return the text of some ranker."""
    rng = np.random.default_rng(0)
    found = [example(i, rng) for i in range(300)]
    x = np.frombuffer(b"".join(e.features for e in found), "<f4").reshape(300, -1)
    return ranker.train(x, np.array([e.clicked for e in found], np.float32), FEW)


async def test_changes_of_the_pointers_at_the_same_moment_all_count(quick: Callable[..., Settings]) -> None:
    async with wired(quick()) as wiring:
        s, topic = wiring.settings, wiring.topics.models

        def offer(version: str) -> Any:
            value, _ = artefact.encode("ranker", "lightgbm", version.encode(), (), 1, {})
            change = lambda p: pointers.made_live(p, version, 1, version, "")  # noqa: E731
            return trainer.point(s, topic, wiring.sender, change, [(version, value)])

        await asyncio.gather(*(offer(v) for v in ("a", "b", "c")))
        shelf = await shelf_of(wiring)
        assert shelf.pointers.number == 3
        assert not shelf.overwritten
        assert shelf.pointers.named() <= set(shelf.texts)


async def test_a_change_that_lost_is_made_again_though_another_one_was_built_on_the_winner(
    quick: Callable[..., Settings],
) -> None:
    async with wired(quick()) as wiring:
        s, topic = wiring.settings, wiring.topics.models

        def offer(version: str, sender: Any) -> Any:
            value, _ = artefact.encode("ranker", "lightgbm", version.encode(), (), 1, {})
            change = lambda p: pointers.made_live(p, version, 1, version, "")  # noqa: E731
            return trainer.point(s, topic, sender, change, [(version, value)])

        class Between:
            """Lets two others change the pointers around the first write."""

            first = True

            async def send_many(self, topic: str, records: Iterable[Any], *, partition: int) -> None:
                first, self.first = self.first, False
                if first:
                    await offer("c", wiring.sender)
                await wiring.sender.send_many(topic, records, partition=partition)
                if first:
                    await offer("b", wiring.sender)

        found = await offer("a", Between())
        assert (found.number, found.live, found.previous) == (3, "a", "b")
        assert (await shelf_of(wiring)).pointers == found


async def test_a_training_begins_when_the_log_has_grown(
    quick: Callable[..., Settings],
    eventually: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def counted(folder: Path) -> Any:
        nonlocal looks
        looks += 1
        return newest(folder)

    monkeypatch.setattr(trainer.log_files, "newest", counted)
    async with wired(quick()) as wiring:
        fill(wiring)
        kept = Registry(registry.folder_of(wiring.settings))
        service = Trainer(wiring)
        await service.start()
        try:
            await eventually(lambda: len(kept.versions()) == 1, 30)
            seen = looks
            await eventually(lambda: looks > seen + 3)
            assert len(kept.versions()) == 1, "there is nothing new to learn"
            fill(wiring, first=300)
            await eventually(lambda: len(kept.versions()) == 2, 30)
        finally:
            await service.stop()


async def test_a_training_that_fails_is_counted(
    quick: Callable[..., Settings],
    eventually: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "RankerParams", lambda: RankerParams(trees=-5))  # LightGBM refuses it
    async with wired(quick()) as wiring:
        fill(wiring)
        service = Trainer(wiring)
        assert trainings(wiring) == {"candidate": 0, "refused": 0, "failed": 0}
        await service.start()
        try:
            await eventually(lambda: trainings(wiring)["failed"] == 1, 30)
        finally:
            await service.stop()
        assert (await shelf_of(wiring)).texts == {}


async def test_a_stop_ends_a_training_and_publishes_nothing(
    quick: Callable[..., Settings],
    eventually: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(trainer, "RankerParams", lambda: RankerParams(trees=1_000_000))
    async with wired(quick()) as wiring:
        fill(wiring)
        service = Trainer(wiring)
        await service.start()
        await eventually(lambda: processes_with(str(tmp_path)), 20)
        began = time.monotonic()
        await asyncio.wait_for(service.stop(), 10)
        assert time.monotonic() - began < 5
        assert processes_with(str(tmp_path)) == []
        assert (await shelf_of(wiring)).texts == {}
