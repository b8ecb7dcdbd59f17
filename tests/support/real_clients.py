"""Programs with client libraries of other languages: built once for every state of their sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pages import DEFAULTS, PAGES, blocks
from project import ROOT

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from ops.kafka.run import cached, jars_of, java

CLIENTS = ROOT / "tests" / "clients"
GO, SPRING = CLIENTS / "go", CLIENTS / "spring"


def example(language: str, settings: Settings) -> str:
    """Return an example of docs/caller.md, with the broker and the topics of an installation."""
    (text,) = (block for block in blocks(PAGES["docs/caller.md"], language) if "rec-requests" in block)
    text = text.replace(DEFAULTS.brokers, settings.brokers)
    return re.sub(r"\b(rec-(?:requests|replies-shop))\b", rf"{settings.topic_prefix}\1", text)


def go_caller() -> list[str]:
    sources = [GO / name for name in ("go.mod", "go.sum", "caller/main.go")]
    made_from = b"\0".join(map(Path.read_bytes, sources))
    folder = cached("go-caller", made_from, lambda out: build_go(GO, "./caller", out))
    return [str(folder / "caller")]


def go_example(settings: Settings, folder: Path) -> list[str]:
    for name in ("go.mod", "go.sum"):
        shutil.copy(GO / name, folder)
    (folder / "example").mkdir()
    (folder / "example" / "main.go").write_text(example("go", settings), "utf-8")
    build_go(folder, "./example", folder / "bin")
    return [str(folder / "bin" / "example")]


def build_go(module: Path, package: str, out: Path) -> None:
    out.mkdir()
    _build([tool("go", "golang-go"), "build", "-mod=readonly", "-o", f"{out}{os.sep}", package], module)


def spring_caller(replies: str) -> list[str]:
    sources = [SPRING / "pom.xml", SPRING / "Caller.java"]
    made_from = b"\0".join(map(Path.read_bytes, sources))
    classes = cached("spring-caller", made_from, lambda out: compile_java(out, sources[1]))
    return [*_spring(classes), "Caller", replies]


def spring_example(settings: Settings, folder: Path) -> list[str]:
    text = folder / "Recommender.java"
    text.write_text(example("java", settings), "utf-8")
    compile_java(folder / "classes", text, SPRING / "Main.java")
    return [*_spring(folder / "classes"), "Main", settings.brokers]


def compile_java(out: Path, *sources: Path) -> None:
    compiler = tool("javac", "openjdk-17-jdk-headless")
    _build([compiler, "-d", str(out), "-cp", f"{_jars()}/*", *map(str, sources)], SPRING)


def _jars() -> Path:
    return jars_of(SPRING / "pom.xml", "spring-kafka")


def _spring(classes: Path) -> list[str]:
    # Spring's log goes to stderr, from this level on.
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    return [java(), log, "-XX:TieredStopAtLevel=1", "-cp", f"{classes}{os.pathsep}{_jars()}/*"]


def kcat() -> list[str]:
    tool("kcat", "kcat")
    return [str(CLIENTS / "kcat" / "caller.sh")]


def aiokafka() -> list[str]:
    return [sys.executable, str(CLIENTS / "aiokafka" / "caller.py")]


def faust() -> list[str]:
    return [sys.executable, str(CLIENTS / "faust" / "caller.py")]


CALLERS = {
    "spring": lambda: spring_caller("group"),
    "spring-partition": lambda: spring_caller("partition"),
    "franz-go": go_caller,
    "kcat": kcat,
    "aiokafka": aiokafka,
    "faust": faust,
}


def tool(name: str, package: str) -> str:
    """Return the path of a program; raise when it is not here."""
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(f"no {name} here; on Debian: {package}")
    return path


def _build(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command[:2])} failed:\n{done.stderr[-4000:]}")


def needed(exc: UnavailableError) -> None:
    """Skip the test, or fail it where nothing may be missing."""
    if os.environ.get("HEADRACE_TEST_REQUIRE") == "1":
        pytest.fail(f"required program is missing: {exc}", pytrace=False)
    pytest.skip(str(exc))
