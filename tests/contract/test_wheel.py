"""Installing the package: beside other packages, without a compiler, and editable.

Needs the network. Runs only with ``make test-wheel``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from project import ROOT

from headrace.console.extras import EXTRAS, compiled_modules
from headrace.demo.embedded import EmbeddedBroker
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.wheel

Maker = Callable[[Path], Path]
Installed = Callable[[Maker], Path]
Command = partial[subprocess.CompletedProcess[str]]

#: It installs a top-level package ``agents``.
OPENAI_AGENTS = "openai-agents==0.24.0"
NO_COMPILER = {"CC": "false", "CXX": "false"}


def run(command: list[object], *, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program without the environment of this checkout; check its exit code."""
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
    """Copy the sources of the package, so that the checkout does not change. Links stay links."""
    rooms = [link.name for link in (ROOT / "src" / "headrace").iterdir() if link.is_symlink()]
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.egg-info")
    for name in ("src", *rooms):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=built)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


# --- what is installed: made once, two at a time ---


def beside(folder: Path) -> Path:
    """Build the wheel and install it beside a package that is called ``agents``.

    Its compiled parts are not optimised: that would take longer than all the rest.
    """
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {os.environ.get("CC", "cc")} "$@" -O0\n')
    compiler.chmod(0o755)
    source = copy_of_the_checkout(folder / "source")
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", folder, source, CC=str(compiler))
    python = fresh_environment(folder / "venv")
    pip(python, "install", *folder.glob("*.whl"), OPENAI_AGENTS)
    return python


def client(folder: Path) -> Path:
    """Install from source, without extras and without a compiler."""
    python = fresh_environment(folder / "venv")
    pip(python, "install", copy_of_the_checkout(folder / "source"), **NO_COMPILER)
    return python


def editable(folder: Path) -> Path:
    """Install so that the package is the checkout itself."""
    python = fresh_environment(folder / "venv")
    source = copy_of_the_checkout(folder / "source")
    pip(python, "install", "--no-deps", "--editable", source, **NO_COMPILER)
    return python


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[Installed]:
    """Return a function that waits for an installation; it returns ``<folder>/venv/bin/python``."""
    with TemporaryDirectory(prefix="headrace-wheel-") as root, ThreadPoolExecutor(2) as pool:

        def start(make: Maker) -> Future[Path]:
            folder = Path(root) / make.__name__
            folder.mkdir()
            return pool.submit(make, folder)

        made = {make: start(make) for make in (beside, client, editable)}
        yield lambda make: made[make].result()


def headrace(python: Path, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    return run([python.parent / "headrace", *arguments], code=code, TERM="dumb", COLUMNS="120", **env)


# --- the wheel ---


def test_the_wheel_installs_one_top_level_package(installed: Installed) -> None:
    (wheel,) = installed(beside).parents[2].glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        paths = [line.split(",")[0] for line in archive.read(record).decode().splitlines()]
    assert {path.split("/")[0] for path in paths} == {"headrace", record.split("/")[0]}
    compiled = {path.split(".")[0].replace("/", ".") for path in paths if path.endswith(".so")}
    assert compiled == {*compiled_modules(), "headrace._cython"}


def test_the_wheel_goes_beside_a_package_named_agents(installed: Installed) -> None:
    code = """
import agents, headrace.agents, headrace.serving.requests.client
print(agents.Runner.__module__, agents.__file__, headrace.agents.__file__)
"""
    runner, theirs, ours = run([installed(beside), "-c", code]).stdout.split()
    assert runner.startswith("agents.")
    assert Path(theirs).parent.parent == Path(ours).parent.parent.parent
    assert Path(ours).parent.parent.name == "headrace"


# --- a client ---


def test_a_client_has_nothing_of_a_worker(installed: Installed) -> None:
    names = [*(module for modules in EXTRAS.values() for module in modules), *compiled_modules()]
    code = f"""
import importlib.util
import headrace.serving.requests.client
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # its package needs what is not installed
        return False
print([name for name in {names!r} if there(name)])
"""
    assert run([installed(client), "-c", code]).stdout == "[]\n"
    assert "recommend" in headrace(installed(client), "--help").stdout


@pytest.mark.parametrize(
    "command",
    ["worker serve", "demo", "train", "eval globo clicks.csv", "verify", "replay clicks.csv --format globo"],
)
def test_a_client_is_told_how_to_become_a_worker(installed: Installed, command: str) -> None:
    done = headrace(installed(client), *command.split(), code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("headrace: ")
    assert "pip install 'headrace[worker]'" in line
    assert done.stdout == ""


@pytest.fixture(scope="module")
def ask(installed: Installed) -> Iterator[Command]:
    """Return a function that runs the client's ``headrace`` on a broker of its own, with all topics."""
    with EmbeddedBroker() as broker:
        command = partial(headrace, installed(client), HEADRACE_BROKERS=broker.bootstrap)
        assert "created rec-requests" in command("topics", "create").stdout
        assert command("topics", "check").stdout == "all topics fit\n"
        yield command


def test_a_client_asks(ask: Command) -> None:
    done = ask("recommend", "user-1", "--timeout", "1", code=1)
    assert "no reply within 1 s" in done.stderr


def test_a_client_checks_callers(ask: Command) -> None:
    lines = ask("conformance", "--no-serve", "--check", "first", "--timeout", "20").stdout.splitlines()
    assert lines[-1] == "4 checks, 0 failed"


async def test_a_client_looks_at_lag(ask: Command) -> None:
    settings = Settings(brokers=ask.keywords["HEADRACE_BROKERS"])
    await leave_a_record_behind(settings)
    found = [row for row in json.loads(ask("lag", "--now", "--json").stdout)["partitions"] if row["records"]]
    assert [(row["agent"], row["topic"], row["records"]) for row in found] == [
        ("aggregate", Topics(settings).item_events, 1)
    ]
    assert found[0]["seconds"] is not None  # read from a compressed batch


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


def test_an_editable_install_sees_a_new_file(installed: Installed) -> None:
    python = installed(editable)
    (python.parents[2] / "source" / "models" / "new_file.py").write_text("ANSWER = 42\n")
    code = "from headrace.models.new_file import ANSWER; print(ANSWER)"
    assert run([python, "-c", code]).stdout == "42\n"
