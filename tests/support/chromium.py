"""A headless Chromium, driven over its own protocol (CDP): nothing but aiohttp and the browser is needed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

START_S = 60.0


def program() -> str:
    """Return the browser; skip the test where there is none, unless tests must not be skipped."""
    found = next(
        (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
    )
    if found is None:
        if os.environ.get("HEADRACE_TEST_REQUIRE"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return found


class Page:
    """One tab.

    Attributes
    ----------
    errors
        Exceptions of scripts, errors on the console, violations of the content security policy.
    asked
        URLs that the page has asked for.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []
        self.asked: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
            elif told["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(told["params"]["exceptionDetails"]))
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.errors.append(str(told["params"]["entry"]))
            elif told["method"] == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        told = await asyncio.wait_for(waiting, 60)
        assert "error" not in told, told
        return dict(told["result"])

    async def goto(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is awaited."""
        told = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str, timeout: float = 60.0) -> Any:
        """Wait until an expression is true; one that throws is not, yet."""
        deadline = time.monotonic() + timeout
        safe = f"(() => {{ try {{ return {expression} }} catch {{ return null }} }})()"
        while not (found := await self.value(safe)):
            assert time.monotonic() < deadline, (expression, self.errors, await self.text())
            await asyncio.sleep(0.05)
        return found

    async def text(self) -> str:
        return str(await self.value("document.body.innerText"))

    async def press(self, key: str, text: str = "") -> None:
        """Press a key: ``Tab``, ``Enter``, or one that writes ``text``."""
        code = {"Tab": 9, "Enter": 13}.get(key, 0)
        text = text or ("\r" if key == "Enter" else "")
        down = {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text}
        await self.call("Input.dispatchKeyEvent", **down)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def look(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the screen, and the theme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        told = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(told["data"]))

    async def close(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading


@asynccontextmanager
async def page() -> AsyncIterator[Page]:
    """Run a browser with one empty tab."""
    with tempfile.TemporaryDirectory(prefix="headrace-browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                url = await _tab(session, Path(folder) / "DevToolsActivePort", process)
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    tab = Page(socket)
                    try:
                        yield tab
                    finally:
                        await tab.close()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _tab(session: aiohttp.ClientSession, told: Path, process: asyncio.subprocess.Process) -> str:
    """Return the URL of the first tab's socket, when the browser is up."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.returncode is None, f"chromium ended with {process.returncode}"
        with suppress(OSError, IndexError, aiohttp.ClientError):
            port = told.read_text().splitlines()[0]
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
                return str(tabs[0]["webSocketDebuggerUrl"])
        await asyncio.sleep(0.05)
    raise AssertionError(f"chromium did not start within {START_S:g} s")
