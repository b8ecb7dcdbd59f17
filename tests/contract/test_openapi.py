"""docs/openapi.yaml is the contract that the gateway keeps: it follows from the code.

``python tests/contract/test_openapi.py`` writes it anew.
"""

from __future__ import annotations

from typing import Any

import yaml  # type: ignore[import-untyped]
from pages import DOCS, PAGES
from references import resolved
from starlette.routing import Route

from headrace.serving.gateway import faults, openapi
from headrace.serving.gateway.backend import Backend
from headrace.serving.gateway.routes import Routes
from headrace.streams.settings import Settings

OPENAPI = DOCS / "openapi.yaml"


class Nobody:
    """A backend that is never asked."""


def test_the_document_is_that_of_the_code() -> None:
    documented = yaml.safe_load(OPENAPI.read_text("utf-8"))
    assert documented == openapi.document(), "run: python tests/contract/test_openapi.py"


def test_every_route_is_documented_and_no_other() -> None:
    backend: Any = Nobody()
    typed: Backend = backend
    told = {
        (path.replace("{item_id}", "{id:any}").replace("{user_id}", "{id:any}"), method.upper())
        for path, operations in openapi.document()["paths"].items()
        for method in operations
        if method != "parameters"
    }
    routes = [route for route in Routes(Settings(), typed).app().routes if isinstance(route, Route)]
    assert told == {(r.path, method) for r in routes for method in r.methods or () if method != "HEAD"}


def test_references_resolve() -> None:
    assert resolved(openapi.document()) > 15


def test_every_code_of_the_gateway_is_explained_with_its_status() -> None:
    rows = [line for line in PAGES["docs/gateway.md"].splitlines() if line.startswith("| ")]
    told = {
        code: int(cells[1])
        for line in rows
        if (cells := [cell.strip() for cell in line.split("|")])[1].isdigit()
        for code in cells[2].replace("`", "").split(", ")
    }
    assert told == dict(faults.STATUS)


if __name__ == "__main__":
    text = yaml.safe_dump(openapi.document(), sort_keys=False, allow_unicode=True, width=110)
    OPENAPI.write_text(
        "# Written by `python tests/contract/test_openapi.py`; docs/gateway.md explains it.\n" + text, "utf-8"
    )
