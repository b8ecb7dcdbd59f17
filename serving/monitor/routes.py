"""The routes of the dashboard: its page, the figures, a user, an item. It keeps nothing of its own.

The page comes from this package alone: its content security policy forbids everything else, scripts in the
page, and turning text into HTML (trusted types). The files of the page are open; every figure needs the
token, if there is one. The page asks for it and sends it as a header, so there is no cookie to abuse.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headrace.serving.gateway.bodies import id_in_path
from headrace.serving.gateway.faults import FaultError, answer, known_error, no_route
from headrace.serving.monitor.backend import Backend
from headrace.serving.monitor.board import RANGES, Board
from headrace.streams.errors import HeadraceError

#: File of the page -> its type.
FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "uplot.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "overview.js": "text/javascript; charset=utf-8",
    "person.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
#: Surfaces of lists that need nothing but a user.
SURFACES: Final = ("home", "digest")
_LONGEST_MODEL: Final = 64
_PAGE = resources.files(__package__) / "page"


def is_open(path: str) -> bool:
    """Return whether a path is one of the page itself, which has no figures."""
    return path in ("/", "/health") or path.removeprefix("/page/") in FILES


class Routes:
    """The routes.

    Parameters
    ----------
    board
        The figures.
    backend
        What users and items are looked up in.
    """

    def __init__(self, board: Board, backend: Backend) -> None:
        self._board, self._backend = board, backend
        self._files = {name: (_PAGE / name).read_bytes() for name in FILES}

    def app(self) -> Starlette:
        """Return the application, without the guard."""
        errors: dict[Any, Any] = {
            HeadraceError: known_error,
            TimeoutError: known_error,
            HTTPException: no_route,
            Exception: known_error,
        }
        table = [
            Route("/", self._file),
            Route("/page/{name}", self._file),
            Route("/health", self._health),
            Route("/now", self._now),
            Route("/stream", self._stream),
            Route("/history/{range}", self._history),
            Route("/users/{id:any}", self._row("user_id", self._user)),
            Route("/items/{id:any}", self._row("item_id", self._item)),
            Route("/lists/{id:any}", self._row("user_id", self._list)),
        ]
        middleware = [Middleware(GZipMiddleware, minimum_size=2048, compresslevel=3)]
        app = Starlette(routes=table, exception_handlers=errors, middleware=middleware)
        app.router.redirect_slashes = False
        return app

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            raise HTTPException(404)
        headers = {**HEADERS, "cache-control": "no-cache"}
        return Response(self._files[name], headers=headers, media_type=FILES[name])

    async def _health(self, _: Request) -> Response:
        return answer({"status": "ok"})

    async def _now(self, _: Request) -> Response:
        return answer(self._board.frame)

    async def _history(self, request: Request) -> Response:
        name = request.path_params["range"]
        if name not in RANGES:
            raise FaultError("unknown", f"a range is one of {', '.join(RANGES)}", "range")
        return answer(self._board.history(name))

    async def _stream(self, _: Request) -> Response:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._board.stream(), headers=headers, media_type="text/event-stream")

    def _row(
        self, field: str, read: Callable[[Request, str], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            found = await read(request, id_in_path(request, field))
            if found is None:
                raise FaultError("unknown", "nothing is kept of this id", field)
            return answer(found)

        return route

    async def _user(self, _: Request, user_id: str) -> Any:
        return await self._backend.user(user_id, names=True)

    async def _item(self, _: Request, item_id: str) -> Any:
        return await self._backend.item(item_id)

    async def _list(self, request: Request, user_id: str) -> Any:
        surface = request.query_params.get("surface", "home")
        if surface not in SURFACES:
            raise FaultError("invalid_field", f"a surface is one of {', '.join(SURFACES)}", "surface")
        model = request.query_params.get("model", "")
        if len(model) > _LONGEST_MODEL:
            raise FaultError("invalid_field", "no version is as long as that", "model")
        return await self._backend.list_now(user_id, surface, model)
