"""The metrics of a worker, as Prometheus reads them."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from headrace.streams.settings import Settings


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def all(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the values of all samples with these labels, by their other labels."""
        return {
            tuple(v for k, v in s.labels.items() if k not in labels): s.value
            for s in self.samples
            if s.name == name and labels.items() <= s.labels.items()
        }

    def one(self, name: str, **labels: str) -> float | None:
        """Return the value of the only sample with these labels, None when it is absent."""
        found = self.all(name, **labels)
        assert len(found) < 2, f"{name} has {len(found)} samples: {found}"
        return next(iter(found.values()), None)


async def scrape(settings: Settings) -> Scraped:
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.metrics_port)
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    assert " 200 OK" in head, answer
    return Scraped(body)
