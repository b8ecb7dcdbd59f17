"""Quality and cost of the two towers: next-click recall, cost of a click learnt and an item embedded.

    python bench/bench_towers.py --globo CLICKS.csv.gz --movies FOLDER [--clicks N] [--embedding]

It prints one JSON object.

Prequential: blocks of 256 clicks are predicted, then learnt, in the order of time. A prediction ranks all
items clicked before the block, without those that the user clicked before (Globo: in the same session).
Recall@k is the share of predictions whose item is among the first k; a new item is a miss.
Globo has no content: vectors come from ids alone. Predicted are the clicks that are not the first of their
session. MovieLens has genres (tags) and titles. ``popular``: clicks of the last hour; all ratings so far.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.embeddings.features import Users
from headrace.models.embeddings.interests import Interests, interests
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.towers import PLACES, Embedded, Towers, with_ids
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Item

BLOCK = 256
KS = (20, 100)
HOUR_MS = 3_600_000
Score = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


@dataclass
class Log:
    """Clicks in the order of time; ``item`` are numbers of ``keys``."""

    name: str
    users: Users
    item: np.ndarray
    ts: np.ndarray
    keys: np.ndarray
    content: ItemContent
    predicted: np.ndarray
    excluded: list[list[int]]
    window_ms: int

    def __len__(self) -> int:
        return len(self.item)


class LogBuilder:
    """Collects clicks, and what was known of their users before."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.history: dict[str, list[int]] = {}
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self, user: str, item: str, ts: int, country: str, device: str, session: str, in_session: bool
    ) -> None:
        number = self.numbers.setdefault(item, len(self.numbers))
        history = self.history.setdefault(user, [])
        before = self.history.setdefault(session, []) if session != user else history
        self.rows.append((number, ts, country, device, in_session, list(before), history[-PLACES:][::-1]))
        for clicked in (history, before) if before is not history else (history,):
            clicked.append(number)

    def log(self, name: str, content: ItemContent, window_ms: int) -> Log:
        keys = hash_many(list(self.numbers))
        numbers, times, countries, devices, predicted, excluded, recent = zip(*self.rows, strict=True)
        columns = np.zeros((len(numbers), PLACES), np.uint64)
        for row, items in zip(columns, recent, strict=True):
            row[: len(items)] = keys[list(items)] if items else 0
        none = np.zeros((len(numbers), 0), np.uint64)
        users = Users(columns, none, none, hash_many(list(countries)), hash_many(list(devices)))
        arrays = (np.array(numbers), np.array(times), keys)
        return Log(name, users, *arrays, content, np.array(predicted), list(excluded), window_ms)


def globo(path: Path, clicks: int) -> Log:
    """Return the first clicks on news of Globo, ids only."""
    builder, sessions = LogBuilder(), set[str]()
    with gzip.open(path, "rt") as lines:
        for n, row in enumerate(csv.DictReader(lines)):
            if n >= clicks:
                break
            session = f"session {row['session_id']}"
            place = (row["click_country"] + "/" + row["click_region"], row["click_deviceGroup"])
            ts = int(row["click_timestamp"])
            builder.add(row["user_id"], row["click_article_id"], ts, *place, session, session in sessions)
            sessions.add(session)
    return builder.log("globo", ItemContent(), HOUR_MS)


def movies(folder: Path, clicks: int) -> Log:
    """Return the ratings of MovieLens 100K, with genres and titles."""
    content = ItemContent()
    with gzip.open(folder / "ml-100k.item.gz", "rt") as lines:
        next(lines)
        for line in lines:
            item, title, _year, genres = line.rstrip("\n").split("\t")
            put = Item(item_id=item, published_ts=10**12, title=title, tags=genres.split())
            content.put(put)
    with gzip.open(folder / "ml-100k.inter.gz", "rt") as lines:
        next(lines)
        ratings = sorted((line.split("\t") for line in lines), key=lambda r: int(r[3]))
    builder = LogBuilder()
    for user, item, _rating, ts in ratings[:clicks]:
        known = f"u{user}" in builder.history
        builder.add(f"u{user}", item, int(ts) * 1000, "", "", f"u{user}", known)
    return builder.log("ml-100k", content, 10**15)


def blocks(log: Log) -> Iterator[tuple[int, int]]:
    for start in range(0, len(log), BLOCK):
        yield start, min(start + BLOCK, len(log))


def recall(log: Log, score: Score, learn: Callable[[int, int], None]) -> dict[str, float]:
    """Predict and learn block by block; return recall, also of the last half alone."""
    hits: dict[int, list[np.ndarray]] = {k: [] for k in KS}
    known = 0
    for start, end in blocks(log):
        at = start + np.flatnonzero(log.predicted[start:end])
        if len(at) and known:
            ranks = _ranks(log, at, known, *score(start, known))
            for k in KS:
                hits[k].append(ranks < k)
        else:
            for k in KS:
                hits[k].append(np.zeros(len(at), bool))
        learn(start, end)
        known = max(known, int(log.item[start:end].max()) + 1)
    out = {}
    for k in KS:
        all_hits = np.concatenate(hits[k])
        out[f"recall@{k}"] = round(float(all_hits.mean()), 4)
        out[f"recall@{k}_last_half"] = round(float(all_hits[len(all_hits) // 2 :].mean()), 4)
    return out


def _ranks(log: Log, at: np.ndarray, known: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return how many items are scored above the one clicked; items are numbered as they come."""
    picked = at % BLOCK
    scores = users[picked] @ items.T if users.shape[-1] == items.shape[-1] else users[picked]
    for row, click in zip(scores, at.tolist(), strict=True):
        row[[number for number in log.excluded[click] if number < known]] = -np.inf
    target = log.item[at]
    inside = target < known
    own = scores[np.arange(len(at)), np.where(inside, target, 0)]
    ranks = (scores > own[:, None]).sum(1) + ((scores == own[:, None]).sum(1) - 1) / 2
    return np.where(inside & np.isfinite(own) & (own != 0), ranks, 10**9)


class TowerRun:
    """The towers, scoring and learning a log.

    With ``several``, an item's score is that of the interest of the user that is nearest to it.
    """

    def __init__(self, log: Log, plan: Plan | None, several: bool = False) -> None:
        self.log, self.towers, self.several = log, Towers(), several
        self.learner = Learner(self.towers, log.content, plan) if plan else None
        self.learn_s = self.embed_s = 0.0
        self.embedded = 0

    def score(self, start: int, known: int) -> tuple[np.ndarray, np.ndarray]:
        log, end = self.log, min(start + BLOCK, len(self.log))
        began = time.process_time()
        items = self.towers.item_vectors(log.keys[:known], log.content)
        self.embed_s += time.process_time() - began
        self.embedded += known
        users = log.users.part(start, end)
        vectors = dict(zip(log.keys[:known].tolist(), range(known), strict=True))
        recent = np.zeros((end - start, PLACES, items.shape[1]), np.float32)
        for row, keys in zip(recent, users.recent.tolist(), strict=True):
            numbers = [vectors.get(key, -1) for key in keys if key]
            for place, number in enumerate(numbers):
                if number >= 0:
                    row[place] = items[number]
        if self.several:
            found = interests(self.towers, users, recent, log.content)
            return self._best(found, items), np.zeros((known, 0))
        return self.towers.user_vectors(users, recent, log.content), items

    def _best(self, found: Interests, items: np.ndarray) -> np.ndarray:
        """Return the scores of all items, float32 ``(users, items)``."""
        best = found.vectors[:, 0] @ items.T
        for other in range(1, found.vectors.shape[1]):
            scores = found.vectors[:, other] @ items.T
            np.maximum(best, scores, out=best, where=found.shares[:, other, None] > 0)
        return best

    def learn(self, start: int, end: int) -> None:
        if self.learner:
            began = time.process_time()
            part = self.log.users.part(start, end)
            self.learner.learn(part, self.log.keys[self.log.item[start:end]], self.log.ts[start:end])
            self.learn_s += time.process_time() - began

    def figures(self) -> dict[str, float]:
        out = recall(self.log, self.score, self.learn)
        out["us_per_item_embedded"] = round(1e6 * self.embed_s / max(1, self.embedded), 2)
        if self.learner:
            out["us_per_click_learnt"] = round(1e6 * self.learn_s / len(self.log), 1)
            out["rows"] = len(self.towers.table)
            out["loss"] = round(self.learner.loss, 3)
        return out


def popular(log: Log) -> dict[str, float]:
    """Return the recall of the most clicked items."""
    counts = np.zeros(len(log.keys), np.float32)
    first = 0

    def score(start: int, known: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal first
        while log.ts[first] < log.ts[start] - log.window_ms:
            counts[log.item[first]] -= 1
            first += 1
        return np.tile(counts[:known], (BLOCK, 1)), np.zeros((known, 1))

    def learn(start: int, end: int) -> None:
        np.add.at(counts, log.item[start:end], 1)

    return recall(log, score, learn)


def embedding(items: int = 50_000, batch: int = 4096) -> dict[str, float]:
    """Return the cost of an item of a catalogue, with about 11 features: version 0, and with all learnt."""
    rng, content = np.random.default_rng(1), ItemContent()
    words = (rng.zipf(1.2, (items, 6)) % 300_000).astype(str)
    for n, title in enumerate(words.tolist()):
        tags, creator = [f"t{t}" for t in rng.zipf(1.3, 3) % 50_000], f"by {rng.integers(items // 5)}"
        title = " ".join("word" + word for word in title)
        content.put(Item(f"i{n}", 10**12, title, f"c{n % 40}", tags, creator, duration_ms=1000 * (n % 5000)))
    towers, keys, out = Towers(), hash_many([f"i{n}" for n in range(items)]), {}
    order = rng.permutation(items)
    for name in ("version_0_first_time", "version_0", "learnt"):
        if name == "learnt":
            found = content.features_of(keys)
            all_keys, all_kinds, _ = with_ids(keys, found)
            different = Embedded.of(all_keys, all_kinds)
            towers.table.add(different.keys, different.kinds, 1)
        began = time.process_time()
        for start in range(0, items, batch):
            towers.item_vectors(keys[order[start : start + batch]], content)
        out[name] = round(1e6 * (time.process_time() - began) / items, 2)
    return {"items": items, "rows": len(towers.table)} | {f"{k}_us_per_item": v for k, v in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--globo", type=Path)
    parser.add_argument("--movies", type=Path)
    parser.add_argument("--clicks", type=int, default=120_000)
    parser.add_argument("--plan", type=json.loads, default={}, help="other values of Plan, as JSON")
    parser.add_argument("--embedding", action="store_true", help="cost of the items of a made-up catalogue")
    parser.add_argument("--only", default="", help="only these methods, with commas between them")
    args = parser.parse_args()
    plan = replace(Plan(), **args.plan)
    logs = [globo(args.globo, args.clicks)] if args.globo else []
    logs += [movies(args.movies, args.clicks)] if args.movies else []
    out: dict[str, Any] = {"plan": asdict(plan)}
    if args.embedding:
        out["embedding"] = embedding()
    for log in logs:
        methods: dict[str, Callable[[], dict[str, float]]] = {
            "popular": lambda log=log: popular(log),
            "version_0": lambda log=log: TowerRun(log, None).figures(),
            "learnt": lambda log=log: TowerRun(log, plan).figures(),
            "learnt_several_interests": lambda log=log: TowerRun(log, plan, several=True).figures(),
            "learnt_without_log_q": lambda log=log: TowerRun(log, replace(plan, log_q=False)).figures(),
        }
        wanted = args.only.split(",") if args.only else list(methods)
        out[log.name] = {"predictions": int(log.predicted.sum())} | {m: methods[m]() for m in wanted}
    json.dump(out, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
