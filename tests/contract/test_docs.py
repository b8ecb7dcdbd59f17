"""The documentation matches the code: files, commands, settings, topics, links."""

from __future__ import annotations

import ast
import re
import shlex
import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml  # type: ignore[import-untyped]
from aiokafka import codec
from command_line import parse_headrace
from pages import DEFAULTS, DOCS, OPERATOR, PAGES, blocks
from project import ROOT

from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.streams.messages.columns import PACKED
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings
from headrace.streams.topics.names import Topics, TopicSpec

#: Variables of the tests, not of the product.
TEST_VARIABLES = {"HEADRACE_TEST_BROKER", "HEADRACE_TEST_REDIS", "HEADRACE_TEST_REQUIRE"}


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
    if isinstance(default, tuple | dict):
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
    if not days:
        return f"{spec.retention_ms // HOUR_MS} hour"
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
    for kind, module in (("u", user_state), ("s", shown_state), ("n", neighbours), ("i", item_state)):
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


def test_compression_is_read_as_promised() -> None:
    assert "gzip, snappy, lz4 and zstd are read" in PAGES["docs/producer.md"]
    assert all((codec.has_gzip(), codec.has_snappy(), codec.has_lz4(), codec.has_zstd()))
