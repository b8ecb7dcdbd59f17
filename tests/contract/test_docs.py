"""The documentation matches the code: files, commands, settings, topics, links, examples, schemas.

``python tests/contract/test_docs.py`` writes the schemas of docs/asyncapi.yaml anew.
"""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import sys
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import yaml  # type: ignore[import-untyped]
from aiokafka import codec
from command_line import parse_headrace
from project import ROOT

from headrace.agents.roles import run_worker
from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state import users as user_state
from headrace.streams.messages import schemas
from headrace.streams.messages.columns import PACKED
from headrace.streams.messages.nulls import nullable
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.dead_letters import dead_letter
from headrace.streams.topics.names import Topics, TopicSpec
from headrace.streams.topics.reader import read_partition

DOCS = ROOT / "docs"
ASYNCAPI = DOCS / "asyncapi.yaml"
PAGES = {
    p.relative_to(ROOT).as_posix(): p.read_text("utf-8")
    for p in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
}
OPERATOR = PAGES["docs/operator.md"]
#: Variables of the tests, not of the product.
TEST_VARIABLES = {"HEADRACE_TEST_BROKER", "HEADRACE_TEST_REDIS", "HEADRACE_TEST_REQUIRE"}
DEFAULTS = Settings.model_construct()


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose first header is ``first``."""
    table = re.search(rf"^\| {first} \|.*\n\|[-| ]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    assert table, f"there is no table with a first column {first!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


# --- the diagram ---


def diagram(page: str) -> str:
    (text,) = blocks(page, "mermaid")
    return text


ROOMS = "streams|models|serving|agents|console|demo|oracle|src|tests|bench|ops"


def files_in(text: str) -> set[str]:
    return set(re.findall(rf"\b(?:{ROOMS})/[\w/]+\.\w+", text))


def agent_files() -> set[str]:
    """Return the files whose docstring names their topics, or that attach an agent to an app."""
    found = set()
    for path in (ROOT / "agents").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        attaches = any(isinstance(n, ast.FunctionDef) and n.name == "attach" for n in tree.body)
        if attaches or re.match(rf"{path.stem}: reads .*; writes ", ast.get_docstring(tree) or "", re.DOTALL):
            found.add(f"agents/{path.name}")
    return found


def test_the_diagram_names_files_that_exist() -> None:
    named = files_in(diagram(PAGES["docs/architecture.md"]))
    assert len(named) > 25
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_every_agent_is_in_the_diagram() -> None:
    agents = agent_files()
    assert {"agents/track_users.py", "agents/recommend.py", "agents/trainer.py"} <= agents
    assert agents - files_in(diagram(PAGES["docs/architecture.md"])) == set()


def test_every_topic_is_in_the_diagram() -> None:
    text = diagram(PAGES["docs/architecture.md"])
    assert {s.name for s in Topics(DEFAULTS).specs(DEFAULTS) if s.name not in text} == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_a_page_exist(page: str) -> None:
    assert {name for name in files_in(PAGES[page]) if not (ROOT / name).exists()} == set()


# --- settings ---


def shown(default: Any) -> str:
    """Return a default in the form of the table: its text in an environment variable."""
    if isinstance(default, tuple):
        return f"`{msgspec.json.encode(default).decode()}`"
    return f"`{default}`" if str(default) else "(empty)"


def test_the_settings_table_is_complete_and_right() -> None:
    table = {name.strip("`"): default for name, default, _ in rows(OPERATOR, "variable")}
    assert table == {f"HEADRACE_{n.upper()}": shown(f.default) for n, f in Settings.model_fields.items()}


def test_shown_defaults_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, default, _ in rows(OPERATOR, "variable"):
        monkeypatch.setenv(name.strip("`"), "" if default == "(empty)" else default.strip("`"))
    assert Settings.model_validate({}) == DEFAULTS


@pytest.mark.parametrize("page", PAGES)
def test_variables_exist(page: str) -> None:
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields} | TEST_VARIABLES
    assert set(re.findall(r"HEADRACE_[A-Z_]*[A-Z]", PAGES[page])) - known == set()


# --- topics ---


def kept(spec: TopicSpec) -> str:
    days = spec.retention_ms // DAY_MS
    return "for ever" if spec.compacted else "1 day" if days == 1 else f"{days} days"


def test_the_topics_table_is_complete_and_right() -> None:
    settings = Settings.model_construct(partitions=97)
    table = {row[0].strip("`"): row[2:5] for row in rows(OPERATOR, "topic")}
    assert table == {
        s.name: ["P" if s.partitions == 97 else str(s.partitions), "yes" if s.compacted else "no", kept(s)]
        for s in Topics(settings).specs(settings)
    }


def test_sizes_are_those_of_the_code() -> None:
    (most,) = re.findall(r"holds up to (\d+) events of about 17 bytes each", OPERATOR)
    assert int(most) == PACKED
    table = {row[0].split(":")[0][-1]: row[1] for row in rows(OPERATOR, "key")}
    for kind, module in (("u", user_state), ("n", neighbours), ("i", item_state)):
        assert table[kind].endswith(f"{module.ROW.itemsize} bytes"), kind
        assert f"({module.ROW.itemsize / 1000:.1f} kB" in OPERATOR, kind


# --- reasons ---


def reasons() -> set[str]:
    """Return every reason for which the code refuses a message."""
    found = set()
    for path in (
        path for room in ("streams", "models", "serving", "agents") for path in (ROOT / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RejectedError":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_reason_of_a_refusal_is_explained() -> None:
    assert {"undecodable", "too_late", "no_reply_address"} <= reasons()
    pages = "".join(PAGES[f"docs/{name}.md"] for name in ("producer", "caller", "operator"))
    assert {reason for reason in reasons() if f"`{reason}`" not in pages} == set()


# --- commands ---


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every ``headrace ...`` in code blocks for a shell, code spans and comments."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", without_blocks(text) + "".join(blocks(text, "python")))
    for line in lines:
        words = shlex.split(line, comments=True)
        words = words[words.index("headrace") :] if "headrace" in words else words
        if words and words[0] in {"headrace", ".venv/bin/headrace"} and len(words) > 1:
            yield words[1:]


def test_command_lines_are_found() -> None:
    text = "`headrace lag` and `headrace`\n```sh\ndocker compose exec serve headrace train # now\n```\n"
    assert sorted(command_lines(text)) == [["lag"], ["train"]]
    assert sum(len(list(command_lines(page))) for page in PAGES.values()) > 20


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str) -> None:
    for arguments in command_lines(PAGES[page]):
        try:
            parse_headrace(arguments)
        except Exception as exc:  # say which one
            pytest.fail(f"headrace {shlex.join(arguments)}: {exc}")


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    code = "\n".join([*blocks(PAGES[page], "sh"), *re.findall(r"`[^`\n]+`", without_blocks(PAGES[page]))])
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code)) - targets == set()


@pytest.mark.parametrize("page", PAGES)
def test_compose_services_exist(page: str) -> None:
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"])
    named = re.findall(r"docker compose (?:exec|logs -f) (\w+)", PAGES[page])
    named += re.findall(r"--scale (\w+)=", PAGES[page])
    assert set(named) - services == set()


# --- links ---


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE):
        plain = unicodedata.normalize("NFC", heading.lower().replace("`", ""))
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(PAGES[page])):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{page}: {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    assert {p.name for p in DOCS.iterdir() if f"(docs/{p.name})" not in PAGES["README.md"]} == set()


# --- examples ---

EXAMPLES = [(page, n) for page, text in PAGES.items() for n in range(len(blocks(text, "python")))]


def example(page: str, n: int) -> str:
    return blocks(PAGES[page], "python")[n]


@pytest.mark.parametrize(("page", "n"), EXAMPLES)
def test_python_examples_compile(page: str, n: int) -> None:
    compile(example(page, n), f"{page}, example {n + 1}", "exec")


def adapted(code: str, settings: Settings) -> str:
    """Return an example that talks to the test's broker and topics instead of the default ones."""
    assert DEFAULTS.brokers in code
    topics = [s.name for s in Topics(DEFAULTS).specs(DEFAULTS)]
    code = re.sub(rf'"({"|".join(topics)})"', rf'"{settings.topic_prefix}\1"', code)
    prefix = f'topic_prefix="{settings.topic_prefix}", ' if settings.topic_prefix else ""
    return code.replace("Settings(", f"Settings({prefix}").replace(DEFAULTS.brokers, settings.brokers)


async def run(code: str) -> str:
    """Run an example as a program of its own; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode()


@asynccontextmanager
async def worker(settings: Settings, *roles: str) -> AsyncIterator[None]:
    ready, stop = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_worker(settings, roles, ready=ready, stop=stop))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({running, waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), "the worker did not start"
        yield
    finally:
        waiting.cancel()
        stop.set()
        await asyncio.wait_for(running, 30)


async def read_all(settings: Settings, topic: str) -> list[Any]:
    found: list[Any] = []
    for partition in range(settings.partitions):
        await read_partition(settings, topic, partition, lambda batch: found.extend(batch))
    return found


@pytest.mark.broker
async def test_the_examples_for_producers_and_callers_run(settings: Settings) -> None:
    topics = Topics(settings)
    await create_topics(settings)
    await run(adapted(example("docs/producer.md", 0), settings))
    async with worker(settings, "ingest", "aggregate", "serve"):
        reply = msgspec.json.decode(await run(adapted(example("docs/caller.md", 0), settings)))
        assert reply.get("error") is None
        assert "request_id" in reply
        printed = await run(adapted(example("docs/caller.md", 1), settings))
        assert printed.startswith("["), printed
        first, *rest = blocks(PAGES["README.md"], "python")
        assert rest == []
        assert "request_id" in msgspec.json.decode(await run(adapted(first, settings)))
        (shown_row,) = (block for block in blocks(OPERATOR, "python") if "item_state" in block)
        local = shown_row.replace(DEFAULTS.redis_url, settings.redis_url)
        printed = await run(local.replace('f"i:', f'f"{settings.topic_prefix}i:'))
        assert re.search(r"'click': [1-9]", printed), printed
    assert await read_all(settings, topics.dead_letters) == []
    states = [r.value for r in await read_all(settings, topics.user_state) if r.value]
    assert max(unpack(states, user_state.ROW)[0]["n_clicks"]) >= 1, "the event did not count"


@pytest.mark.broker
async def test_the_example_for_dead_letters_runs(topics_made: Settings, sender: Any) -> None:
    topics = Topics(topics_made)

    class Refused:
        key, value, offset, timestamp, headers = b"user-1", b"{}", 3, 0, (("a", b"b"),)

    # A broker deletes what is older than the topic keeps.
    Refused.timestamp = sent = time.time_ns() // 1_000_000 - HOUR_MS
    letters = [
        dead_letter(Refused, topics.events, 0, agent="a", reason=reason, field="ts")
        for reason in ("too_late", "too_late", "too_large")
    ]
    await sender.send_keyed(topics.dead_letters, letters)
    (found,) = (block for block in blocks(OPERATOR, "python") if "read_dead_letter" in block)
    code = adapted(found, topics_made)
    code, count = re.subn(r"= set\(\) .*", '= {"too_large"}', code)
    assert count == 1
    printed = await run(code)
    assert [line.split() for line in printed.splitlines()] == [
        ["2", topics.events, "too_late", "ts"],
        ["1", topics.events, "too_large", "ts"],
    ]
    resent = await read_all(topics_made, topics.events)
    assert [(r.key, r.value, r.timestamp) for r in resent] == [(b"user-1", b"{}", sent)]
    assert list(resent[0].headers) == [("a", b"b")]


def test_compression_is_read_as_promised() -> None:
    assert "gzip, snappy, lz4 and zstd are read" in PAGES["docs/producer.md"]
    assert all((codec.has_gzip(), codec.has_snappy(), codec.has_lz4(), codec.has_zstd()))


# --- the contract for machines ---


def documented() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text("utf-8"))
    return loaded


def generated() -> dict[str, Any]:
    """Return the JSON Schemas of the public messages, from the code."""
    read = [schemas.Event, schemas.Item, schemas.UserProfile, schemas.RecRequest]
    public = [*map(nullable, read), schemas.RecReply]  # what is read may have nulls
    _, components = msgspec.json.schema_components(public, ref_template="#/components/schemas/{name}")
    return components


def test_the_schemas_are_those_of_the_code() -> None:
    assert documented()["components"]["schemas"] == generated(), "run: python tests/contract/test_docs.py"


def test_channels_are_the_public_topics() -> None:
    topics = Topics(DEFAULTS)
    public = {topics.events, topics.items, topics.users, topics.requests, topics.dead_letters}
    specs = {s.name: s for s in topics.specs(DEFAULTS)}
    channels = {c["address"]: c for c in documented()["channels"].values() if c["address"] is not None}
    assert set(channels) == public
    for name, channel in channels.items():
        kafka = channel["bindings"]["kafka"]
        config = specs[name].config(Settings())
        assert kafka["partitions"] == specs[name].partitions
        assert kafka["topicConfiguration"] == {
            "cleanup.policy": [config["cleanup.policy"]],
            "retention.ms": int(config["retention.ms"]),
        }


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_references_resolve() -> None:
    document = documented()
    found = list(references(document))
    assert len(found) > 15
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_the_examples_of_the_contract_are_valid_messages() -> None:
    document = documented()
    checked = 0
    for message in document["components"]["messages"].values():
        for shown_message in message.get("examples", []):
            name = message["payload"]["$ref"].rpartition("/")[2]
            msgspec.convert(shown_message["payload"], getattr(schemas, name), strict=True)
            checked += 1
    assert checked >= 6


def test_dead_letter_headers_are_those_of_the_code() -> None:
    class Refused:
        key, value, offset, timestamp, headers = b"k", None, 3, 4, (("h", b"x" * 40_000),)

    written = {name for name, _ in dead_letter(Refused, "events", 0, agent="a", reason="r")[3]}
    headers = documented()["components"]["messages"]["deadLetter"]["headers"]
    assert set(headers["properties"]) == written
    assert set(headers["required"]) == written - {"origin-null", "origin-headers-dropped"}


def rewrite_schemas() -> None:
    """Write the schemas of docs/asyncapi.yaml anew."""
    marker = "  schemas: # generated\n"
    head, found, _ = ASYNCAPI.read_text("utf-8").partition(marker)
    assert found, f"{ASYNCAPI} lacks the line {marker.strip()!r}"
    body = yaml.safe_dump(generated(), sort_keys=False, allow_unicode=True, width=110)
    indented = "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    ASYNCAPI.write_text(head + marker + indented, "utf-8")


if __name__ == "__main__":
    rewrite_schemas()
