"""Learners share the partitions: whatever dies and whatever is late, every record is learnt exactly once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import leaf_world
import msgspec
import numpy as np
import pytest
from shown_lists import shown
from strategies import T0

from headrace.agents.partitions.learning import Learning, Merged, Verdict
from headrace.models.features.spec import SPEC
from headrace.models.learning import leaves, online, parts, ranker
from headrace.models.learning.objectives import OBJECTIVES
from headrace.models.outcomes import SlotOutcome, examples_of
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.schemas import Example

#: One slot of so many has the outcome of each objective.
EVERY = 4, 6, 8
RANKER, VERSION = ranker.encode(leaf_world.trained().text, T0, {})


class Row(NamedTuple):
    key: bytes
    value: bytes


def examples(partition: int, n: int) -> list[Example]:
    """Return what is learnt of the record ``n`` of a partition: one slot.

    Every fourth is clicked, every sixth watched for long, every eighth liked.
    """
    rng = np.random.default_rng((partition, n))
    one = shown(f"r{partition}-{n}", items=[f"i{n % 7}"], ts=T0)
    one.features = rng.standard_normal(len(SPEC)).astype("<f4").tobytes()
    outcomes = SlotOutcome(clicked=True), SlotOutcome(dwell_ms=60_000), SlotOutcome(liked=True)
    came = [o for o, every in zip(outcomes, EVERY, strict=True) if n % every == 0]
    return [*examples_of(one, {}), *(e for outcome in came for e in examples_of(one, {0: outcome}))]


@dataclass
class World:
    """The topic `models`, workers with their partitions, and what is on its way."""

    models: list[Row] = field(default_factory=lambda: [Row(b"ranker", RANKER)])
    workers: dict[int, Worker] = field(default_factory=dict)


class Worker:
    def __init__(self, world: World, name: str, owned: set[int]) -> None:
        self.world, self.owned = world, owned
        self.learning = Learning(name)
        self.merged = Merged() if 0 in owned else None
        for keeper in (self.learning, self.merged):
            if keeper is not None:
                keeper.restore(world.models)
        self.followed = len(world.models)
        known = {p: self.learning.known("impressions", p) or 0 for p in owned}
        self.learning.begin({"impressions": known, "events": {}})

    def learn(self, partition: int, count: int) -> None:
        at = self.learning.read["impressions"]
        for n in range(at[partition], at[partition] + count):
            self.learning.learn(examples(partition, n))
        at[partition] += count

    def follow(self) -> bool:
        """Read what was published; return whether this worker must begin again."""
        rows, self.followed = self.world.models[self.followed :], len(self.world.models)
        verdicts = [self.learning.follow(*row) for row in rows if self.merged is None]
        return Verdict.LOST in verdicts

    def publish(self) -> None:
        assert self.merged is not None
        own = self.learning.give_part()
        assert own is None or self.merged.fits(own)
        self.merged.merge(own)
        self.learning.settle(self.merged)
        if not self.merged.changed:
            return
        weights, quality, read, moved = self.merged.to_publish()
        value, _ = online.encode(weights, T0, quality, read)
        self.world.models.append(Row(b"online", value))
        if moved is not None:
            self.world.models.append(Row(b"leaves", leaves.encode(moved[0], T0, moved[1])[0]))


def newest(world: World, key: bytes) -> bytes:
    return next(row.value for row in reversed(world.models) if row.key == key)


@pytest.mark.parametrize("seed", range(12))
def test_every_record_is_learnt_once_whatever_is_lost_late_or_told_twice(seed: int) -> None:
    rng, world, number = random.Random(seed), World(), 0
    on_the_way: list[bytes] = []
    owners: list[set[int]] = [{0}, {1, 2}, {3}]

    def start(owned: set[int]) -> Worker:
        nonlocal number
        number += 1
        return Worker(world, f"learner-{number}", owned)

    workers = [start(owned) for owned in owners]
    gone: list[Worker] = []
    for _ in range(150):
        i = rng.randrange(3)
        worker, what = workers[i], rng.random()
        if what < 0.45:
            worker.learn(rng.choice(sorted(worker.owned)), rng.randrange(1, 6))
        elif what < 0.65 and worker.merged is None:
            part = worker.learning.sent or worker.learning.give_part()
            on_the_way += [parts.encode(part)] * rng.choice([0, 1, 1, 2]) if part is not None else []
        elif what < 0.75:
            rng.shuffle(on_the_way)
            for value in on_the_way[:2]:
                assert workers[0].merged is not None
                workers[0].merged.offer(parts.decode(value))
            if rng.random() < 0.7:  # else it comes again, late
                del on_the_way[:2]
        elif what < 0.85:
            workers[0].publish()
        elif what < 0.95:
            if worker.follow():
                workers[i] = start(worker.owned)
        elif rng.random() < 0.5:  # killed: what it had not told is lost; another worker gets its partitions
            workers[i] = start(worker.owned)
            gone.append(worker)
        else:  # partitions move
            workers[1:] = (
                [start({1}), start({2, 3})] if 2 in workers[1].owned else [start({1, 2}), start({3})]
            )
    on_the_way.clear()
    for _ in range(8):
        for i, worker in enumerate(workers[1:], 1):
            if worker.follow():
                workers[i] = worker = start(worker.owned)
            part = worker.learning.sent or worker.learning.give_part()
            if part is not None:
                assert workers[0].merged is not None
                workers[0].merged.offer(parts.decode(parts.encode(part)))
        workers[0].publish()
    value = newest(world, b"online")
    read = online.read_up_to(value)[0]["impressions"]
    clicked = sum(-(-at // 4) for at in read.values())
    assert online.learnt(value) == (sum(read.values()), clicked)
    want = [sum(-(-at // every) for at in read.values()) for every in EVERY[1:]]
    assert [head.happened for head in online.decode(value).heads.values()] == want
    assert online.learnt(newest(world, b"leaves"))[0] == sum(read.values())
    for worker in workers:
        assert all(read[p] == at for p, at in worker.learning.read["impressions"].items() if at)
    assert set(read) == {0, 1, 2, 3}
    assert all(read.values())


def test_the_leader_learns_what_it_would_learn_alone() -> None:
    """Without others, merging changes nothing."""
    world = World()
    worker, alone = Worker(world, "one", {0, 1}), Learning("alone")
    alone.restore(world.models)
    for n in range(0, 400, 40):
        worker.learn(0, 40)
        for k in range(n, n + 40):
            alone.learn(examples(0, k))
        worker.publish()
    assert worker.merged is not None
    want, got = alone.model.weights(), worker.merged.model.weights()
    for name in ("mean", "scale", "weights", "terms"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(want, name), rtol=2e-3, atol=2e-5, err_msg=name
        )
    assert [*got.heads] == [*want.heads] == [*OBJECTIVES[1:]]
    for name, head in want.heads.items():
        for array in ("weights", "terms", "squares"):
            theirs, ours = getattr(head, array), getattr(got.heads[name], array)
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5, err_msg=f"{name}, {array}")
        assert head.weights.any()
    of_alone, of_merged = alone.leaves.learner, worker.merged.leaves.learner
    assert of_alone is not None
    assert of_merged is not None
    np.testing.assert_allclose(of_merged.deltas().deltas, of_alone.deltas().deltas, rtol=2e-3, atol=2e-5)


def test_what_is_not_finite_is_given_up_and_its_records_are_not_learnt_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    leader, other = Worker(world, "one", {0}), Worker(world, "two", {1})
    other.learn(1, 20)
    poisoned = other.learning.model.weights()
    poisoned.bias = float("nan")
    other.learning.model.restore(poisoned, 20, 5)
    other.learn(1, 12)
    part = other.learning.give_part()
    assert "not finite" in caplog.text
    assert part is not None
    assert leader.merged is not None
    leader.learn(0, 8)
    leader.merged.offer(parts.decode(parts.encode(part)))
    leader.publish()
    assert not other.follow()
    other.learn(1, 4)
    part = other.learning.give_part()
    assert part is not None
    leader.merged.offer(parts.decode(parts.encode(part)))
    leader.publish()
    value = newest(world, b"online")
    assert online.sound(online.decode(value))
    assert online.read_up_to(value)[0]["impressions"] == {0: 8, 1: 36}


def test_a_part_that_is_damaged_or_of_other_features_is_refused() -> None:
    worker = Worker(World(), "one", {1})
    worker.learn(1, 20)
    part = worker.learning.give_part()
    assert part is not None
    value = parts.encode(part)
    for bad in (b"", value[:-3], value.replace(SPEC.version.encode(), b"x" * len(SPEC.version))):
        with pytest.raises(ArtefactError):
            parts.decode(bad)
    part.online.heads["like"].weights.moved[0] = np.inf
    with pytest.raises(ArtefactError, match="finite"):
        parts.decode(parts.encode(part))


def test_a_part_comes_through_its_record() -> None:
    worker: Any = Worker(World(), "one", {1})
    worker.learn(1, 60)
    part = worker.learning.give_part()
    got = parts.decode(parts.encode(part))
    assert (got.learner, got.known, got.read) == ("one", {"impressions": {}, "events": {}}, part.read)
    for name in ("steps", "seen", "clicks"):
        assert getattr(got.online, name) == getattr(part.online, name)
    for mine, theirs in (
        *((part.online.heads[name].weights, got.online.heads[name].weights) for name in OBJECTIVES),
        *((part.online.heads[name].terms, got.online.heads[name].terms) for name in OBJECTIVES),
        (part.leaves.deltas, got.leaves.deltas),
        (part.leaves.terms, got.leaves.terms),
    ):
        assert mine.moved.any()
        np.testing.assert_allclose(theirs.moved, mine.moved, rtol=1e-6)
        np.testing.assert_allclose(theirs.squares, mine.squares, rtol=1e-6)


def test_learners_go_on_from_a_model_of_clicks_alone_and_take_parts_without_the_other_objectives() -> None:
    """Workers of an older version: their models and parts have clicks only."""
    world = World()
    before = Worker(world, "old", {0, 1})
    before.learn(0, 40)
    before.publish()
    document = online.decode(newest(world, b"online"))
    document.heads, document.shares = {}, {}
    read = online.read_up_to(newest(world, b"online"))[0]
    value, _ = online.encode(document, T0, {"examples": 40.0, "clicks": 10.0}, read)
    world.models.append(Row(b"online", value))
    leader, other = Worker(world, "new", {0}), Worker(world, "older", {1})
    leader.merged = Merged(objectives={"click": 0.3, "long_view": 0.5, "like": 0.2}, least=2)
    leader.merged.restore(world.models)
    leader.learn(0, 24)
    other.learn(1, 12)
    part = other.learning.give_part()
    assert part is not None
    message = msgspec.msgpack.decode(parts.encode(part))
    del message["heads"]
    leader.merged.offer(parts.decode(msgspec.msgpack.encode(message)))
    leader.publish()
    got = newest(world, b"online")
    assert online.learnt(got) == (40 + 24 + 12, 10 + 6 + 3)
    model = online.decode(got)
    assert {name: head.happened for name, head in model.heads.items()} == {"long_view": 4, "like": 3}
    assert model.shares == pytest.approx({"click": 0.3, "long_view": 0.5, "like": 0.2})
    message["heads"] = {"hate": msgspec.msgpack.decode(parts.encode(part))["heads"]["like"]}
    later = parts.decode(msgspec.msgpack.encode(message)).online  # of a version with more objectives
    assert later.heads.keys() == {*OBJECTIVES}
    assert later.heads["like"].happened == 0


def test_the_figures_of_learners_are_put_together_by_objective() -> None:
    world = World()
    leader, other = Worker(world, "one", {0}), Worker(world, "two", {1})
    for worker, partition, count in ((leader, 0, 1200), (other, 1, 600)):
        for _ in range(2):
            worker.learn(partition, count // 2)
    part = other.learning.give_part()
    assert part is not None
    assert leader.merged is not None
    leader.merged.offer(parts.decode(parts.encode(part)))
    mine = leader.learning.model.quality()
    leader.publish()
    merged = leader.merged.quality()
    assert merged.keys() == mine.keys()
    for name in ("auc", "long_view_auc", "like_calibration", "long_view_log_loss"):
        assert merged[name] == pytest.approx((2 * mine[name] + part.quality[name]) / 3), name
    assert merged["like_drifts"] == mine["like_drifts"] + part.quality["like_drifts"]
    counts = {"examples": 1800.0, "clicks": 450.0, "long_views": 300.0, "likes": 225.0}
    assert {name: merged[name] for name in counts} == counts


def test_a_learner_without_some_figures_does_not_count_in_their_mean() -> None:
    world = World()
    leader, other = Worker(world, "one", {0}), Worker(world, "two", {1})
    for worker, partition in ((leader, 0), (other, 1)):
        worker.learn(partition, 600)
    part = other.learning.give_part()
    assert part is not None
    assert leader.merged is not None
    part.quality = {"auc": part.quality["auc"]}  # of a version that foresees clicks only
    leader.merged.offer(parts.decode(parts.encode(part)))
    mine = leader.learning.model.quality()
    leader.publish()
    merged = leader.merged.quality()
    assert merged["long_view_auc"] == mine["long_view_auc"] > 0
    assert merged["auc"] == pytest.approx((mine["auc"] + part.quality["auc"]) / 2)
