"""`headrace why-lag` asks the schema registry, of the roles that read events."""

from __future__ import annotations

from pathlib import Path

from schema_registry import running

from headrace.streams.settings import Settings
from headrace.streams.topics.lag_cause import Dependency
from headrace.streams.topics.lag_evidence import dependencies


async def test_a_registry_that_is_away_is_what_they_lack(tmp_path: Path) -> None:
    with running() as registry:
        s = Settings(events_format="detect", registry_url=registry.url, data_dir=tmp_path)
        assert await dependencies(s, "learn") == [Dependency("the schema registry", "", holds=True)]
        assert await dependencies(s, "trainer") == []
        registry.broken = 503
        (found,) = await dependencies(s, "learn")
        assert "503" in found.wrong
        registry.stop()
        (found,) = await dependencies(s, "learn")
        assert "does not answer" in found.wrong
    assert await dependencies(Settings(data_dir=tmp_path), "learn") == []
