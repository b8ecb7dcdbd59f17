"""The examples of docs/transport.md run unchanged except for addresses and topic names."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from fresh_topics import make_changelog
from project import ROOT

from headrace.demo.embedded import free_port
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import DEFAULTS, QUEUED_BATCHES
from headrace.streams.transport.bodies import BODY_TIMEOUT_S
from headrace.streams.transport.fetching import MAX_LIST_BYTES
from headrace.streams.transport.patience import MAX_PAUSE_S, MIN_PAUSE_S, QUIET_PAUSE_S, QUIET_S

PAGE = (ROOT / "docs" / "transport.md").read_text("utf-8")
SHOP, OWN_CLASS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def adapted(code: str, settings: Settings) -> str:
    """Return an example with the test's broker, topics and group."""
    code = code.replace("127.0.0.1:9092", settings.brokers)
    code = code.replace('"events"', repr(Topics(settings).events))
    return code.replace('App("shop"', f'App("{settings.name("shop")}"')


async def counts(folder: Path, code: str, sender, topic: str, eventually) -> None:
    """Run a ``shop.py`` by the command of the page; it must count what is sent."""
    (folder / "shop.py").write_text(code)
    port = free_port()
    words = shlex.split(COMMAND.replace("6066", str(port)))
    assert words[0] == "faust"
    words = [sys.executable, "-m", "faust", "--workdir", str(folder), *words[1:], "--web-host", "127.0.0.1"]
    with (folder / "output").open("wb") as output:
        worker = subprocess.Popen(
            [*words, "--web-bind", "127.0.0.1"], cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{folder}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    try:
        events = [(b"u%d" % n, b'{"item_id": "i%d"}' % (n % 3), None, ()) for n in range(600)]
        await sender.send_keyed(topic, events)

        def shown():
            assert worker.poll() is None, (folder / "output").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/clicks/", timeout=2) as answer:
                    return json.load(answer)
            except OSError:
                return {}

        async def counted():
            return await asyncio.to_thread(shown) == {"i0": 200, "i1": 200, "i2": 200}

        await eventually(counted, 40)
        worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait, 20)
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.broker
async def test_the_complete_example_counts(topics_made, sender, eventually, tmp_path):
    await make_changelog(topics_made, topics_made.name("shop"), "clicks")
    code = adapted(SHOP, topics_made)
    await counts(tmp_path, code, sender, Topics(topics_made).events, eventually)


@pytest.mark.broker
async def test_the_class_of_ones_own_counts_too(topics_made, sender, eventually, tmp_path):
    code = SHOP.replace("from headrace.streams.transport.app import BatchApp\n", "")
    await make_changelog(topics_made, topics_made.name("shop"), "clicks")
    code = adapted(code.replace("BatchApp(", "App("), topics_made)
    await counts(tmp_path, OWN_CLASS + code, sender, Topics(topics_made).events, eventually)


def test_the_folder_imports_nothing_else_of_ours():
    assert "It is the folder `streams/transport/`. It imports nothing else of ours" in PAGE
    files = {path.stem: path for path in (ROOT / "streams" / "transport").glob("*.py")}
    compiled = {path.stem for path in (ROOT / "streams" / "transport").glob("*.pyx")}
    assert len(files) > 7
    assert compiled == set(re.findall(r"`(\w+)\.pyx`", PAGE))
    for path in files.values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("headrace"), (path.name, node.module)
                if node.level:
                    named = [node.module] if node.module else [alias.name for alias in node.names]
                    assert node.level == 1, path.name
                    assert set(named) <= files.keys() | compiled, (path.name, named)


def test_the_numbers_are_those_of_the_code():
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE))
    assert table == {**{k: str(v) for k, v in DEFAULTS.items()}, "queued_batches": str(QUEUED_BATCHES)}
    settings = Settings()
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS, "ours are the same"
    assert f"({BODY_TIMEOUT_S:.0f} s, and half a session at most)" in PAGE
    assert f"about {MAX_LIST_BYTES // 1024**2} MB" in PAGE
    asked = (
        f"every {MIN_PAUSE_S * 1000:.0f} to {MAX_PAUSE_S * 1000:.0f} ms, every {QUIET_PAUSE_S * 1000:.0f} ms"
    )
    assert f"{asked} after {QUIET_S:.0f} s of silence" in PAGE.replace("\n", " ")
