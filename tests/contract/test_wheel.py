"""The package as it is installed: beside others' packages, without a compiler, and editable.

Needs the network. Runs when asked for: ``make test-wheel``. A group of tests shares an installation; groups run side
by side.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from project import ROOT

from headrace.console.extras import COMPILED, EXTRAS
from headrace.demo.embedded import EmbeddedBroker
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.wheel

#: It installs a top-level package ``agents``.
OPENAI_AGENTS = "openai-agents==0.24.0"
NO_COMPILER = {"CC": "false", "CXX": "false"}


def run(command: list[object], *, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program that sees nothing of this checkout's environment; check its exit code."""
    hidden = ("PYTHONPATH", "HEADRACE_", "VIRTUAL_ENV")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [str(word) for word in command],
        cwd="/",
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    return done


def pip(python: Path, *arguments: object, **env: str) -> None:
    """Run this environment's pip for another one, with the locked versions."""
    if arguments[0] == "install":  # Python compiles what is imported: quicker than pip compiling all there is
        arguments += ("--no-compile", "--constraint", ROOT / "requirements.lock")
    run([sys.executable, "-m", "pip", "--python", python, "-q", *arguments], **env)


def fresh_environment(folder: Path) -> Path:
    """Make an empty virtual environment; return its Python."""
    venv.create(folder, symlinks=True, with_pip=False)
    return folder / "bin" / "python"


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy what the package is built from: the checkout itself stays as it is. Links stay links."""
    rooms = [link.name for link in (ROOT / "src" / "headrace").iterdir() if link.is_symlink()]
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.egg-info")
    for name in ("src", *rooms):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=built)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout, with its compiled parts. They are not optimised: that takes longer."""
    folder = tmp_path_factory.mktemp("wheel")
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {os.environ.get("CC", "cc")} "$@" -O0\n')
    compiler.chmod(0o755)
    source = copy_of_the_checkout(folder / "source")
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", folder, source, CC=str(compiler))
    (built,) = folder.glob("headrace-*.whl")
    return built


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with Headrace from source, without extras and without a compiler."""
    folder = tmp_path_factory.mktemp("client")
    python = fresh_environment(folder / "venv")
    pip(python, "install", copy_of_the_checkout(folder / "source"), **NO_COMPILER)
    return python


def headrace(python: Path, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    return run([python.parent / "headrace", *arguments], code=code, TERM="dumb", COLUMNS="120", **env)


# --- the wheel ---


@pytest.mark.xdist_group("wheel")
def test_the_wheel_installs_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        paths = [line.split(",")[0] for line in archive.read(record).decode().splitlines()]
    assert {path.split("/")[0] for path in paths} == {"headrace", record.split("/")[0]}
    compiled = {path.split(".")[0].replace("/", ".") for path in paths if path.endswith(".so")}
    assert compiled == set(COMPILED)


@pytest.mark.xdist_group("wheel")
def test_the_wheel_goes_beside_a_package_named_agents(wheel: Path, tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "venv")
    pip(python, "install", wheel, OPENAI_AGENTS)
    code = """
import agents, headrace.agents, headrace.serving.requests.client
print(agents.Runner.__module__, agents.__file__, headrace.agents.__file__)
"""
    runner, theirs, ours = run([python, "-c", code]).stdout.split()
    assert runner.startswith("agents.")
    assert Path(theirs).parent.parent == Path(ours).parent.parent.parent
    assert Path(ours).parent.parent.name == "headrace"


# --- a client ---


@pytest.mark.xdist_group("client")
def test_a_client_has_nothing_of_a_worker(client: Path) -> None:
    names = [*(module for modules in EXTRAS.values() for module in modules), *COMPILED]
    code = f"""
import importlib.util
import headrace.serving.requests.client
print([name for name in {names!r} if importlib.util.find_spec(name)])
"""
    assert run([client, "-c", code]).stdout == "[]\n"
    assert "recommend" in headrace(client, "--help").stdout


@pytest.mark.xdist_group("client")
@pytest.mark.parametrize(
    "command",
    ["worker serve", "demo", "train", "eval globo clicks.csv", "verify", "replay clicks.csv --format globo"],
)
def test_a_client_is_told_how_to_become_a_worker(client: Path, command: str) -> None:
    done = headrace(client, *command.split(), code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("headrace: ")
    assert "pip install 'headrace[worker]'" in line
    assert done.stdout == ""


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.mark.xdist_group("client")
async def test_a_client_asks_and_looks_at_lag(client: Path, bootstrap: str) -> None:
    env = {"HEADRACE_BROKERS": bootstrap}
    assert "created rec-requests" in headrace(client, "topics", "create", **env).stdout
    assert headrace(client, "topics", "check", **env).stdout == "all topics fit\n"
    assert (
        "no reply within 1 s"
        in headrace(client, "recommend", "user-1", "--timeout", "1", code=1, **env).stderr
    )
    settings = Settings(brokers=bootstrap)
    await leave_a_record_behind(settings)
    (row,) = (r for r in json.loads(headrace(client, "lag", "--json", **env).stdout) if r["records"])
    assert (row["agent"], row["topic"], row["records"]) == ("aggregate", Topics(settings).item_events, 1)
    assert row["seconds"] is not None  # read from a compressed batch


async def leave_a_record_behind(settings: Settings) -> None:
    """Write a compressed record that a group of ours has not read."""
    topic = Topics(settings).item_events
    sender = BatchSender(settings)
    await sender.start()
    await sender.send_keyed(topic, [(b"key", bytes(10_000), None, [])])
    await sender.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.brokers, group_id="headrace-aggregate")
    await consumer.start()
    consumer.assign([TopicPartition(topic, partition) for partition in range(settings.partitions)])
    await consumer.commit(dict.fromkeys(consumer.assignment(), 0))
    await consumer.stop()


# --- an editable install ---


@pytest.mark.xdist_group("editable")
def test_an_editable_install_sees_a_new_file(tmp_path: Path) -> None:
    source = copy_of_the_checkout(tmp_path / "source")
    python = fresh_environment(tmp_path / "venv")
    pip(python, "install", "--no-deps", "--editable", source, **NO_COMPILER)
    (source / "models" / "new_file.py").write_text("ANSWER = 42\n")
    code = "from headrace.models.new_file import ANSWER; print(ANSWER)"
    assert run([python, "-c", code]).stdout == "42\n"
