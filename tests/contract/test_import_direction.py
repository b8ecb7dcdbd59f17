"""Imports have one direction, and pure modules import no Kafka, Faust or Redis, also not indirectly."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import grimp
import pytest
from project import ROOT

CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
#: Highest first; rooms of one layer are separated by a colon.
LAYERS: list[str] = CONTRACT["contracts"][0]["layers"]
ROOMS = ["streams", "models", "serving", "agents", "oracle", "demo", "console"]

WIRING = ("aiokafka", "kafka", "faust", "mode", "redis", "valkey")
#: These modules, and everything in these rooms, must not import the libraries in ``WIRING``, even indirectly.
PURE = (
    "headrace.streams.windows",
    "headrace.streams.dedup",
    "headrace.streams.tables.rows",
    "headrace.streams.messages",
    "headrace.models",
    "headrace.serving",
)
#: The modules of serving with a connection to Redis, or to Kafka (for callers and for replies).
MAY_WIRE = {
    *(
        f"headrace.serving.store.{name}"
        for name in ("redis", "cluster_store", "opened", "calls", "clients", "cluster", "exchange")
    ),
    "headrace.serving.requests.blocking",
    "headrace.serving.requests.client",
    "headrace.serving.requests.link",
    "headrace.serving.requests.replies",
}
#: Our packages that the oracle may import: it shares no code with the live system.
ORACLE_MAY = {"headrace.oracle"}


def build(packages: Sequence[str]) -> grimp.ImportGraph:
    """Return the import graph of ``packages`` with what they import from outside."""
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


def wrong_way(graph: grimp.ImportGraph, layers: Sequence[str]) -> list[str]:
    """Return the import chains that go from a lower to a higher layer (``layers``: highest first)."""
    parts = [grimp.Layer(*layer.split(" : "), independent=False) for layer in layers]
    illegal = graph.find_illegal_dependencies_for_layers(parts)
    routes = [route for dependency in illegal for route in dependency.routes]
    return sorted(" -> ".join([min(r.heads), *r.middle, min(r.tails)]) for r in routes)


def wired(graph: grimp.ImportGraph, pure: Iterable[str], wiring: Sequence[str]) -> list[str]:
    """Return the import chains from a module in ``pure`` (or below one) to a package in ``wiring``."""
    chains = []
    for name in pure:
        for module in sorted({name} | graph.find_descendants(name)):
            for external in set(wiring) & graph.modules:
                chain = None if module in MAY_WIRE else graph.find_shortest_chain(module, external)
                if chain:
                    chains.append(" -> ".join(chain))
    return sorted(chains)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return build(["headrace"])


def test_the_contract_is_the_house() -> None:
    named = [room for layer in LAYERS for room in layer.split(" : ")]
    assert sorted(named) == sorted(f"headrace.{room}" for room in ROOMS if room != "oracle")
    links = {p.name: p for p in (ROOT / "src" / "headrace").iterdir() if p.is_symlink()}
    assert sorted(links) == sorted(ROOMS)
    assert {name: p.resolve() for name, p in links.items()} == {name: ROOT / name for name in ROOMS}


def test_imports_point_one_way(graph: grimp.ImportGraph) -> None:
    assert wrong_way(graph, LAYERS) == []


def test_pure_modules_do_not_reach_kafka_faust_or_redis(graph: grimp.ImportGraph) -> None:
    assert set(PURE) <= graph.modules
    assert wired(graph, PURE, WIRING) == []


@pytest.fixture
def crooked_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> grimp.ImportGraph:
    """Two layers: a file of the lower one imports the upper one, another imports Redis indirectly."""
    files = {
        "crooked_low/__init__.py": "",
        "crooked_low/pure.py": "from crooked_low import helper",
        "crooked_low/helper.py": "def late():\n    import redis.asyncio",
        "crooked_low/upward.py": "from crooked_high import service",
        "crooked_high/__init__.py": "",
        "crooked_high/service.py": "from crooked_low import pure",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return build(["crooked_low", "crooked_high"])


def test_the_check_finds_an_import_the_wrong_way(crooked_house: grimp.ImportGraph) -> None:
    assert wrong_way(crooked_house, ["crooked_high", "crooked_low"]) == [
        "crooked_low.upward -> crooked_high.service"
    ]


def test_the_check_finds_indirect_and_late_wiring(crooked_house: grimp.ImportGraph) -> None:
    assert wired(crooked_house, ["crooked_low.pure"], WIRING) == [
        "crooked_low.pure -> crooked_low.helper -> redis"
    ]


def test_the_oracle_shares_no_code_with_what_it_checks(graph: grimp.ImportGraph) -> None:
    strangers = {
        (module, imported)
        for module in graph.find_descendants("headrace.oracle")
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.startswith("headrace.") and not any(imported.startswith(may) for may in ORACLE_MAY)
    }
    assert strangers == set()
