"""Every connection to Kafka is opened with the settings of security."""

from __future__ import annotations

import ast
from pathlib import Path

from pages import DEFAULTS, PAGES
from project import ROOT

from headrace.streams.topics.acls import table

ROOMS = ("streams", "models", "serving", "agents", "console", "demo", "oracle", "bench")
#: What opens connections to Kafka.
CLIENTS = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaClient", "AIOKafkaAdminClient", "create_conn"}
#: The consumer of Faust gets Faust's own credentials, which ``streams/app.py`` sets.
BY_FAUST = "streams/transport/consumer_thread.py"


def trees() -> dict[str, ast.Module]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in files}


def name_of(node: ast.expr) -> str:
    """Return the last name of what is called."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def opened(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node.func) in CLIENTS]


def is_secured(call: ast.Call, tree: ast.Module) -> bool:
    """Return whether a call has ``**connection(...)``, or ``**how`` where ``how = connection(...)``."""
    by_name = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and name_of(node.value.func) == "connection"
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for keyword in call.keywords:
        if keyword.arg is None:
            value = keyword.value
            if isinstance(value, ast.Call) and name_of(value.func) == "connection":
                return True
            if isinstance(value, ast.Name) and value.id in by_name:
                return True
    return False


def test_every_client_of_kafka_is_opened_with_the_settings_of_security() -> None:
    calls = {name: opened(tree) for name, tree in trees().items()}
    assert sum(len(found) for found in calls.values()) > 20
    plain = [
        f"{name}:{call.lineno}"
        for name, tree in trees().items()
        if name != BY_FAUST
        for call in opened(tree)
        if not is_secured(call, tree)
    ]
    assert plain == []


def test_addresses_are_named_in_one_place() -> None:
    """Nobody gives ``bootstrap_servers`` but the function for it, and Faust's transport."""
    found = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "bootstrap_servers"
    }
    assert found == {BY_FAUST}


def test_the_apps_of_faust_get_credentials() -> None:
    source = Path(ROOT, BY_FAUST).read_text("utf-8")
    assert "**driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)" in source
    assert '"broker_credentials": faust_credentials(settings)' in Path(ROOT, "streams/app.py").read_text(
        "utf-8"
    )
    # Another app of Faust would not have them.
    apps = [
        f"{name}:{node.lineno}"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name_of(node.func) in ("HeadraceApp", "BatchApp")
    ]
    assert [place.split(":")[0] for place in apps] == ["streams/app.py"]


def test_the_table_of_rights_is_that_of_the_code() -> None:
    lines = PAGES["docs/operator.md"].splitlines()
    start = lines.index("| user | reads | writes | groups | also |") + 2
    expected = [f"| {' | '.join(row)} |" for row in table(DEFAULTS)]
    assert lines[start : start + len(expected)] == expected
    assert not lines[start + len(expected)].startswith("|")
