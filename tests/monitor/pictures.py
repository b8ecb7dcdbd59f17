"""Take the pictures of the dashboard in docs/, from a running demo: ``make pictures``.

Runs the demo, and a headless Chromium on its dashboard. Look at the pictures before they are committed: they
show what the machine did, and a busy one looks bad.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from chromium import Page, page  # noqa: E402

DOCS = ROOT / "docs"
#: Length of the demo, and when the pictures are taken, s after its first reply.
SECONDS, AFTER_S = 240, 170
USER = "user-00005"
#: The parts of a page that come last.
OVERVIEW = "document.querySelectorAll('canvas').length > 5"
OF_USER = "document.querySelectorAll('details').length > 3"


async def take(tab: Page, url: str) -> None:
    """Take all pictures."""
    for name, place, there, width, height, dark, phone in (
        ("dashboard", "", OVERVIEW, 1440, 1000, False, False),
        ("dashboard-dark", "", OVERVIEW, 1440, 1000, True, False),
        ("dashboard-phone", "", OVERVIEW, 390, 844, False, True),
        ("dashboard-user", f"#/user/{USER}", OF_USER, 1440, 1000, False, False),
    ):
        await tab.look(width, height, dark=dark, phone=phone)
        await tab.goto("about:blank")
        await tab.goto(url + place)
        await tab.until(there)
        if name == "dashboard-user":
            await tab.value("document.querySelector('details').open = true")
        await asyncio.sleep(6)  # points come every two seconds
        await tab.picture(DOCS / f"{name}.png")
        print(f"docs/{name}.png", flush=True)


async def main() -> int:
    """Run the demo and take the pictures; return its exit code."""
    command = [sys.executable, "-m", "headrace", "demo", "--seconds", str(SECONDS), "--plain", "--no-open"]
    demo = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert demo.stdout is not None
    try:
        url = ""
        while not url and (line := await demo.stdout.readline()):
            url = line.decode().partition("dashboard: ")[2].strip()
        reading = asyncio.create_task(demo.stdout.read())
        await asyncio.sleep(AFTER_S)
        async with page() as tab:
            await take(tab, url)
        print((await reading).decode()[-1500:])
        return await demo.wait()
    finally:
        if demo.returncode is None:
            demo.terminate()
            await demo.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
