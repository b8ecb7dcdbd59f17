"""Rights follow from what the agents declare; nothing is allowed twice, and nothing to everybody."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from command_line import run_headrace

from headrace.streams.settings import Settings
from headrace.streams.topics.acls import Grant, commands, grants, reply_topics, topics_of, users
from headrace.streams.topics.flow import AGENTS, group_reads, roles
from headrace.streams.topics.names import Topics

SETTINGS = Settings.model_construct(topic_prefix="a-", brokers="k1:9092,k2:9092")


STATE = ("user-state", "shown-state", "item-features", "item-countries", "item-neighbours")


def allowed(user: str, operation: str, kind: str = "topic") -> set[str]:
    return {g.name for g in grants(user, SETTINGS) if operation in g.operations and g.kind == kind}


@pytest.mark.parametrize("role", roles())
def test_a_role_reads_and_writes_what_its_agents_declare_and_no_more(role: str) -> None:
    topics = Topics(SETTINGS)
    flows = [flow for flow in AGENTS if flow.role == role]
    reads = {getattr(topics, n) for flow in flows for n in (*flow.reads, *flow.tails, *flow.state)}
    writes = {getattr(topics, n) for flow in flows for n in (*flow.writes, *flow.state)}
    own = {name for name in allowed(role, "Read") | allowed(role, "Write") if "rec-replies" in name}
    of_lag = allowed("lag", "Read") if role == "monitor" else set()
    assert allowed(role, "Read") - own - of_lag == reads - of_lag
    assert allowed(role, "Read") >= reads
    assert allowed(role, "Write") - own == writes - own
    assert (topics.replies in own) == (topics.replies in writes)
    assert allowed(role, "Read", "group") == ({f"a-headrace-{role}"} if role in group_reads() else set())


def test_nobody_may_change_what_is_not_theirs() -> None:
    for user in users():
        assert allowed(user, "Delete") == {
            "operator": {"a-rec-replies-", "a-conformance-"},
            "repartition": {f"a-{name}{end}" for name in STATE for end in ("", "-growing")},
        }.get(user, set())
        every = {spec.name for spec in Topics(SETTINGS).specs(SETTINGS)}
        assert allowed(user, "Alter") == (every if user == "repartition" else set())
        assert all(grant.name.startswith("a-") or grant.kind == "cluster" for grant in grants(user, SETTINGS))
        assert len({(g.kind, g.name, g.prefixed) for g in grants(user, SETTINGS)}) == len(
            grants(user, SETTINGS)
        )
    assert {user for user in users() if "Create" in str(grants(user, SETTINGS))} == {
        "gateway", "canary", "monitor", "caller", "operator", "repartition"
    }  # fmt: skip
    assert {user for user in users() if allowed(user, "IdempotentWrite", "cluster")} == {"log", "index"}
    assert allowed("lag", "Write") == allowed("producer", "Read") == set()


def test_only_declared_topics_are_needed_at_the_start() -> None:
    assert topics_of(["log"], SETTINGS) == {"a-examples", "a-item-events", "a-dead-letters"}
    assert topics_of(["gateway"], SETTINGS) == {
        "a-events", "a-items", "a-users", "a-rec-requests", "a-rec-requests-bulk"
    }  # fmt: skip


def test_roles_with_a_group_look_at_the_topics_that_grow_first_and_last() -> None:
    for role in group_reads():
        assert topics_of([role], SETTINGS) >= {"a-item-events", "a-dead-letters"}
        given = [g for g in grants(role, SETTINGS) if g.name in {"a-item-events", "a-dead-letters"}]
        assert all({"Describe", "Read", "Write"} & {*g.operations} for g in given)
        assert all("DescribeConfigs" in g.operations for g in given)
    assert topics_of(["trainer"], SETTINGS) == {"a-models", "a-examples"}
    assert Grant("topic", "a-dead-letters", ("Describe", "DescribeConfigs")) in grants("log", SETTINGS)
    assert allowed("serve", "Describe") == {"a-item-events"}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("rec-replies*",), [("a-rec-replies", True)]),
        (("one", "rec-*-replies"), [("a-one", False), ("a-rec-", True)]),
        (("*",), [("a-", True)]),
        (("x[12]", "y?"), [("a-x", True), ("a-y", True)]),
    ],
)
def test_patterns_of_reply_topics(patterns: tuple[str, ...], expected: list[tuple[str, bool]]) -> None:
    assert reply_topics(SETTINGS.model_copy(update={"reply_topics": patterns})) == expected


def test_any_reply_topic_without_a_prefix_is_every_topic() -> None:
    every = Settings.model_construct(reply_topics=("*",))
    assert reply_topics(every) == [("*", False)]


def test_a_command_names_what_has_the_same_rights() -> None:
    (examples, looked_at, group, cluster) = commands("log", SETTINGS, "User:CN=log, O=we")
    to = ["kafka-acls.sh", "--bootstrap-server", "k1:9092", "--command-config", "admin.properties", "--add"]
    to += ["--allow-principal", "User:CN=log, O=we", "--operation"]
    assert shlex.split(examples) == [
        *to, "Read", "--operation", "DescribeConfigs", "--topic", "a-examples"
    ]  # fmt: skip
    assert shlex.split(looked_at) == [
        *to, "Describe", "--operation", "DescribeConfigs",
        "--topic", "a-item-events", "--topic", "a-dead-letters",
    ]  # fmt: skip
    assert shlex.split(group) == [*to, "Read", "--group", "a-headrace-log"]
    assert shlex.split(cluster) == [*to, "IdempotentWrite", "--cluster"]
    replies = [c for c in commands("serve", SETTINGS, "User:s") if "rec-replies" in c]
    assert [shlex.split(c)[8:] for c in replies] == [
        [
            "--operation",
            "Write",
            "--operation",
            "DescribeConfigs",
            "--topic",
            "a-rec-replies",
            "--resource-pattern-type",
            "prefixed",
        ]
    ]


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "a-")
    with_file = ("--brokers", "k1:9092", "--json", str(tmp_path / "acls.json"))
    assert run_headrace(monkeypatch, "acls", "log", "--principal", "User:CN={role}", *with_file) == 0
    settings = SETTINGS.model_copy(update={"brokers": "k1:9092"})
    assert capsys.readouterr().out.splitlines() == list(commands("log", settings, "User:CN=log"))
    told = json.loads((tmp_path / "acls.json").read_text())
    assert told.keys() == {"log"}
    assert told["log"][0] == {
        "kind": "topic", "name": "a-examples", "operations": ["Read", "DescribeConfigs"], "prefixed": False
    }  # fmt: skip
    assert run_headrace(monkeypatch, "acls") == 0
    out = capsys.readouterr().out
    assert all(f"--allow-principal User:headrace-{user} " in out for user in users())
    assert run_headrace(monkeypatch, "acls", "nobody") == 2
    assert "unknown role nobody: choose from ingest, " in capsys.readouterr().err


def test_a_grant_says_how_names_begin() -> None:
    assert Grant("topic", "a-rec-replies-monitor-", ("Read", "Create"), True) in grants("monitor", SETTINGS)
