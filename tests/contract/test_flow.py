"""One declaration of the topics that agents read and write: code, docs and diagram must match it."""

from __future__ import annotations

import ast
import re

import pytest
from project import ROOT

from headrace.agents.roles import ROLES
from headrace.streams.settings import Settings
from headrace.streams.topics.flow import AGENTS, AgentFlow, agent, group_reads, roles
from headrace.streams.topics.names import Topics

SETTINGS = Settings.model_construct()
TOPICS = Topics(SETTINGS)
NAMES = set(vars(TOPICS))
#: Topics that an agent reads or writes by a name it is given, not through ``Topics``.
BY_ADDRESS = {"recommend": {"replies"}, "canary": {"requests"}}  # the canary: through its client


def full(names: tuple[str, ...]) -> set[str]:
    return {getattr(TOPICS, name) for name in names}


def topics_in_code(flow: AgentFlow) -> set[str]:
    """Return the topics that an agent's file names, as attributes of a ``Topics``."""
    tree = ast.parse((ROOT / "agents" / f"{flow.name}.py").read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            owner = (
                node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            )
            if owner in {"topics", "t"}:
                found.add(node.attr)
        if isinstance(node, ast.Attribute) and node.attr == "bury":
            found.add("dead_letters")
    return found


def test_every_agent_has_a_file_and_every_file_of_an_agent_is_declared() -> None:
    declared = {flow.name for flow in AGENTS}
    files = {
        path.stem
        for path in (ROOT / "agents").glob("*.py")
        if re.match(rf'"""{path.stem}: reads ', path.read_text("utf-8"))
    }
    assert files == declared


@pytest.mark.parametrize("flow", AGENTS, ids=lambda flow: flow.name)
def test_declared_topics_exist(flow: AgentFlow) -> None:
    assert {*flow.reads, *flow.tails, *flow.writes, *flow.state} <= NAMES


@pytest.mark.parametrize("flow", AGENTS, ids=lambda flow: flow.name)
def test_an_agent_names_no_topic_that_it_does_not_declare(flow: AgentFlow) -> None:
    declared = {*flow.reads, *flow.tails, *flow.writes, *flow.state}
    assert topics_in_code(flow) - declared == set()


@pytest.mark.parametrize("flow", AGENTS, ids=lambda flow: flow.name)
def test_an_agent_declares_no_topic_that_its_code_does_not_use(flow: AgentFlow) -> None:
    used = topics_in_code(flow) | BY_ADDRESS.get(flow.name, set())
    text = (ROOT / "agents" / f"{flow.name}.py").read_text("utf-8")
    if "FLOW.input_topics(" in text or re.search(r"drive\(app, wiring, FLOW,", text):
        used |= set(flow.reads)
    assert {*flow.reads, *flow.tails, *flow.writes, *flow.state} - used == set()


def test_roles_follow() -> None:
    assert ROLES == {
        "ingest": ("track_users",),
        "aggregate": ("aggregate_items",),
        "learn": ("join_outcomes", "learn"),
        "log": ("log_sink",),
        "trainer": (),
        "index": (),
        "serve": ("recommend",),
        "gateway": (),
        "canary": (),
        "monitor": (),
    }
    assert {role: [flow.name for flow in flows] for role, flows in roles().items()}["serve"] == [
        "recommend",
        "follow_catalog",
    ]


def test_what_the_groups_read_follows() -> None:
    assert group_reads() == {
        "ingest": ("users", "events", "impressions", "items"),
        "aggregate": ("item_events",),
        "learn": ("impressions", "events", "examples"),
        "log": ("examples",),
        "serve": ("requests", "bulk_requests"),
    }


# -- the tables of docs/operator.md

OPERATOR = (ROOT / "docs" / "operator.md").read_text("utf-8")


def table(first: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first header is ``first``, by their first name in backticks."""
    found = re.search(rf"^\| {first} \|.*\n\|[-| ]+\|\n((?:\|.*\|\n)+)", OPERATOR, re.MULTILINE)
    assert found, first
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return {re.findall(r"`([^`]+)`", row[0])[0]: row for row in cells}


def named(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_table_of_roles_follows() -> None:
    told = {role: (named(row[1]), named(row[2])) for role, row in table("role").items()}
    assert told == {
        role: ({f.name for f in flows}, set().union(*(full(f.reads) | full(f.tails) for f in flows)))
        for role, flows in roles().items()
    }


def test_the_table_of_topics_follows() -> None:
    told = {name: (named(row[5]), named(row[6])) for name, row in table("topic").items()}
    every = {flow.name for flow in AGENTS}
    for name in NAMES:
        topic = getattr(TOPICS, name)
        writers = {f.name for f in AGENTS if name in (*f.writes, *f.state)}
        readers = {f.name for f in AGENTS if name in (*f.reads, *f.tails, *f.state)}
        written_by = told[topic][0]
        assert written_by & every == writers, topic
        assert told[topic][1] & every == readers, topic


# -- the diagram of docs/architecture.md


def edges() -> set[tuple[str, str]]:
    """Return the arrows of the diagram between agents and topics, (from, to)."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (text,) = re.findall(r"^```mermaid\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found = set()
    for left, arrow, right in re.findall(r"^ *([\w-]+)[^\n]*? (<-->|-->) ([\w-]+)", text, re.MULTILINE):
        found.add((left, right))
        if arrow == "<-->":
            found.add((right, left))
    return found


def test_the_arrows_of_the_diagram_follow() -> None:
    """An arrow for every topic that an agent reads or writes, and no other; dead letters are left out."""
    expected = set()
    for flow in AGENTS:
        for topic in full(flow.reads) | full(flow.tails) | full(flow.state):
            expected.add((topic, flow.name))
        for topic in full(flow.writes) | full(flow.state):
            if topic != TOPICS.dead_letters:
                expected.add((flow.name, topic))
    names = {flow.name for flow in AGENTS}
    topics = {getattr(TOPICS, name) for name in NAMES}
    drawn = {(a, b) for a, b in edges() if (a in names and b in topics) or (a in topics and b in names)}
    assert drawn == expected


def test_an_agent_is_found_by_its_name() -> None:
    assert agent("learn").role == "learn"


def test_the_diagram_names_the_writers_of_dead_letters() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (listed,) = re.findall(r"all\(\[(.*?)\]\) -\. .* \.-> dead-letters", page)
    assert set(re.findall(r"\w+", listed.replace("<br>", " "))) == {
        flow.name for flow in AGENTS if "dead_letters" in flow.writes
    }
