"""Callers with the client libraries of services keep the contract, on a real Kafka; the examples run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from fresh_topics import make_topic
from installation import worker
from project import ROOT
from real_clients import CALLERS, example, go_example, needed, spring_example, tool

from headrace.console.callers.program import ProgramCaller
from headrace.console.callers.run import all_results, chosen
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import Settings

pytestmark = pytest.mark.broker


@pytest.fixture
async def serving(topics_made: Settings, real_kafka: bool) -> AsyncIterator[Settings]:
    """Return the settings of an installation that answers, on a real Kafka."""
    if not real_kafka:
        pytest.skip("clients of other languages are tried on a real Kafka: make test-kafka")
    async with worker(topics_made, ["serve"]):
        yield topics_made


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """Skip the test when a program it needs is missing; fail it where nothing may be missing."""
    try:
        yield
    except UnavailableError as exc:
        needed(exc)


@pytest.mark.parametrize("name", CALLERS)
async def test_a_caller_keeps_the_contract(name: str, serving: Settings) -> None:
    with skipping():
        command = await asyncio.to_thread(CALLERS[name])
    found = await all_results(serving, ProgramCaller(command, serving.brokers), chosen([]), timeout_s=20)
    assert len(found) == len(chosen([]))
    assert [(r.check.name, r.verdict, r.detail) for r in found if r.verdict != "ok"] == []


def kcat_example(settings: Settings, folder: Path) -> list[str]:
    tool("kcat", "kcat")
    path = folder / "example.sh"
    path.write_text(example("bash", settings), "utf-8")
    return ["bash", str(path)]


def spring_asks(settings: Settings, folder: Path) -> list[str]:
    request = {"request_id": "home-1", "user_id": "user-42", "surface": "home"}
    return [*spring_example(settings, folder), "user-42", msgspec.json.encode(request).decode()]


@pytest.mark.parametrize("prepare", [spring_asks, go_example, kcat_example])
async def test_an_example_gets_its_first_reply(
    prepare: Callable[[Settings, Path], list[str]], serving: Settings, tmp_path: Path
) -> None:
    await make_topic(serving, f"{serving.topic_prefix}rec-replies-shop", 1)
    with skipping():
        command = await asyncio.to_thread(prepare, serving, tmp_path)
    printed = await run(command)
    reply = msgspec.json.decode(printed[printed.index("{") :], type=RecReply)
    assert reply.error is None
    assert reply.request_id.startswith("home-")
    assert reply.degraded, "there are no items here, and the reply says so"


async def run(command: list[str]) -> str:
    """Run a program; return what it printed. Nothing of its process group is left."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert process.returncode == 0, (out + err).decode()[-3000:]
    return out.decode()
