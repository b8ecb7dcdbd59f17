"""docker-compose.yml and the image, checked as far as can be without a container engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from command_line import UsageError, parse_headrace
from project import ROOT

from headrace.agents.roles import ROLES
from headrace.streams.settings import Settings
from ops.image_size import EXTRAS

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"topics"}
OURS = {name: s for name, s in SERVICES.items() if "build" in s}
DOCKERFILE = (ROOT / "ops" / "Dockerfile").read_text("utf-8")


def headrace_commands() -> list[tuple[str, list[str]]]:
    """Return every (service, arguments) at which the file calls ``headrace``."""
    found = []
    for name, service in OURS.items():
        found.append((name, list(service["command"])))
        if "healthcheck" in service:
            kind, *test = service["healthcheck"]["test"]
            assert kind == "CMD", f"{name}: a list of words needs no shell"
            found.append((name, test))
    return found


@pytest.mark.parametrize(("service", "command"), headrace_commands(), ids=lambda v: str(v)[:60])
def test_every_command_parses(service: str, command: list[str]) -> None:
    assert command[0] == "headrace"
    parse_headrace(command[1:])


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["topics", "destroy"], ["worker"], ["lag", "--no-such-option"]]
)
def test_the_parser_refuses_what_does_not_exist(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_headrace(arguments)


def test_one_service_per_role_and_no_other() -> None:
    workers = {n: s["command"][2:] for n, s in OURS.items() if s["command"][:2] == ["headrace", "worker"]}
    together = workers.pop("workers")
    assert workers == {role: [role] for role in ROLES}
    assert set(SERVICES) == {"kafka", "redis", "prometheus", "grafana", "workers"} | ONE_SHOT | set(ROLES)
    assert SERVICES["workers"]["profiles"] == ["small"]
    assert set(together[0].split(",")) == set(ROLES) - {"serve", "gateway", "canary", "monitor"}


def started(*profiles: str) -> set[str]:
    """Return the services that start with some profiles."""
    return {n for n, s in SERVICES.items() if not s.get("profiles") or set(profiles) & set(s["profiles"])}


def test_small_runs_every_role_that_lists_need_in_two_containers_of_ours() -> None:
    assert started("small") == {"kafka", "redis", "topics", "serve", "workers"}


def test_full_runs_every_role_and_what_watches_them() -> None:
    assert started("full") == set(SERVICES) - {"workers"}


def test_without_a_profile_every_role_runs_that_needs_no_secret() -> None:
    default = re.findall(r"^COMPOSE_PROFILES=(\w+)$", (ROOT / ".env").read_text("utf-8"), re.MULTILINE)
    assert default == ["standard"]
    assert started(*default) == set(SERVICES) - {"workers", "gateway", "monitor", "grafana"}


@pytest.mark.parametrize("profile", ["small", "standard", "full", "gateway", "monitor", "grafana"])
def test_what_a_service_waits_for_starts_with_it(profile: str) -> None:
    """docker compose refuses a project whose service depends on one that its profiles leave out."""
    there = started(profile)
    assert {name: set(SERVICES[name].get("depends_on", {})) - there for name in there} == {
        name: set() for name in there
    }


def test_a_role_is_healthy_while_its_own_group_keeps_up() -> None:
    for role in (role for role, agents in ROLES.items() if agents):  # without agents there is no group
        test = SERVICES[role]["healthcheck"]["test"]
        assert test[test.index("--group") + 1] == f"headrace-{role}"


def test_the_bound_of_a_role_leaves_room_for_what_it_holds_by_design() -> None:
    held_s = {"learn": "outcome_wait_ms", "log": "log_flush_s"}
    for role in (role for role, agents in ROLES.items() if agents):
        service = SERVICES[role]
        fields = {k.removeprefix("HEADRACE_").lower(): v for k, v in service["environment"].items()}
        settings = Settings(**fields)
        name = held_s.get(role, "durable_every_ms")
        held = getattr(settings, name) / (1000 if name.endswith("_ms") else 1)
        test = service["healthcheck"]["test"]
        bound = float(test[test.index("--max-seconds") + 1])
        assert held + 45 <= bound <= held + 300, f"{role}: holds {held:g} s, unhealthy after {bound:g} s"


@pytest.mark.parametrize("name", SERVICES)
def test_settings_exist_and_have_valid_values(name: str) -> None:
    variables = {k: v for k, v in SERVICES[name].get("environment", {}).items() if k.startswith("HEADRACE_")}
    fields = {k.removeprefix("HEADRACE_").lower(): v for k, v in variables.items()}
    assert set(fields) <= set(Settings.model_fields)
    Settings(**fields)
    if name in OURS:
        assert {"brokers", "redis_url", "data_dir"} <= set(fields)


def test_addresses_in_the_settings_are_services() -> None:
    for service in OURS.values():
        env = service["environment"]
        assert env["HEADRACE_BROKERS"] in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert re.match(r"redis://redis:6379/\d", env["HEADRACE_REDIS_URL"])


def test_volumes_used_and_declared_are_the_same() -> None:
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    folders = {name for name in used if name.startswith("./")}
    assert used - folders == set(COMPOSE["volumes"])
    assert all((ROOT / folder).is_dir() for folder in folders)
    for role in ("log", "trainer", "index", "serve"):
        folder = SERVICES[role]["environment"]["HEADRACE_DATA_DIR"]
        assert f"data:{folder}" in SERVICES[role]["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_can_be_met(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert other in ONE_SHOT


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_long_running_services_restart_and_have_a_healthcheck(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])


def test_ports_are_published_on_loopback_only() -> None:
    published = [p for s in SERVICES.values() for p in s.get("ports", [])]
    assert published
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", p) for p in published)


def test_images_are_pinned() -> None:
    images = [s["image"] for s in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), f"{image} names no version"


def test_kafka_is_the_one_the_tests_run_on() -> None:
    pom = (ROOT / "ops" / "kafka" / "pom.xml").read_text("utf-8")
    version = re.search(r"<kafka\.version>(.+?)<", pom)
    assert version
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_the_image_is_built_from_files_that_exist() -> None:
    allowed = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copies for source in line.split()[:-1]}
    assert {"requirements.lock", "streams", "models", "serving", "agents"} <= sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed, f".dockerignore keeps {source} out of the build"
    assert {s["build"]["dockerfile"] for s in OURS.values()} == {"ops/Dockerfile"}


def test_the_image_has_what_every_role_needs() -> None:
    """Also for events in other forms. What is installed is checked, and counted by ops/image_size.py."""
    installed = re.search(r'"\.\[([a-z,]+)\]"', DOCKERFILE)
    checked = re.search(r"require\((.+?)\)", DOCKERFILE)
    assert installed
    assert checked
    extras = set(installed[1].split(","))
    assert extras == set(re.findall(r"'(\w+)'", checked[1])) == set(EXTRAS)
    assert {"worker", "gateway", "formats"} <= extras


def test_the_image_runs_as_an_ordinary_user_without_a_compiler() -> None:
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^USER (?!root)\w+", final, re.MULTILINE)
    assert "g++" not in final
