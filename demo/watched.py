"""Observations of the running demo from outside: model records, dead letters, lag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headrace.models.learning import artefact, online, ranker
from headrace.streams.errors import ArtefactError
from headrace.streams.topics.dead_letters import is_letter, read_dead_letter
from headrace.streams.topics.lag_groups import AgentLag


@dataclass(slots=True)
class Watched:
    """The observations so far.

    Attributes
    ----------
    rankers, ranker_metrics
        How many rankers were published, and the metrics of the newest.
    quality
        The metrics of the newest online model.
    first_letter
        The first dead letter, in one line.
    lag
        The latest lag of each agent.
    max_lag_s
        The largest lag of each agent.
    """

    rankers: int = 0
    ranker_metrics: dict[str, float] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    dead_letters: int = 0
    first_letter: str = ""
    lag: list[AgentLag] = field(default_factory=list)
    max_lag_s: dict[str, float] = field(default_factory=dict)

    def on_models(self, batch: Any) -> None:
        """Note the models that are published."""
        for record in batch:
            try:
                document = artefact.decode(record.value or b"")
            except ArtefactError:
                continue
            metrics = document.get("metrics", {})
            if document["name"] == ranker.NAME:
                self.rankers += 1
                self.ranker_metrics = metrics
            elif document["name"] == online.NAME:
                self.quality = metrics

    def on_dead_letters(self, batch: Any) -> None:
        """Count dead letters."""
        letters = [record for record in batch if is_letter(record)]
        self.dead_letters += len(letters)
        for record in letters:
            letter = read_dead_letter(record)
            self.first_letter = self.first_letter or (
                f"{letter.agent} on {letter.topic}: {letter.reason} {letter.field} {letter.detail}"
            )

    def on_lag(self, rows: list[AgentLag]) -> None:
        """Note the present lag."""
        self.lag = rows
        for row in rows:
            if row.seconds is not None:
                self.max_lag_s[row.agent] = max(row.seconds, self.max_lag_s.get(row.agent, 0.0))
