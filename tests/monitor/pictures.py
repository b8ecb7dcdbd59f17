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
#: Length of the demo, when the pictures are taken, s after its first reply, and visits a second: few, because
#: a browser without a graphics card takes a core.
SECONDS, AFTER_S, RATE = 420, 240, 20
USER = "user-00005"
#: The parts of a page that come last, and what is done before its picture is taken.
OVERVIEW = (  # charts below the screen are not drawn: on a phone there are few
    "[...document.querySelectorAll('.plot')].filter((p) => p.getBoundingClientRect().top < innerHeight)"
    ".every((p) => p.querySelector('canvas') || p.dataset.empty) && document.querySelector('canvas') !== null"
)
OF_USER = "document.querySelectorAll('details').length > 3 && document.getElementById('model').length > 1"
OF_ITEM = "document.querySelectorAll('tbody tr').length > 3"
FIRST_OPEN = "document.querySelector('details').open = true"
OTHER = (
    "(() => { const one = document.getElementById('model'); one.value = one.options[one.length - 1].value;"
    " one.dispatchEvent(new Event('change')) })()"
)
COMPARED = "document.body.innerText.includes('slots are the same')"
#: The item of the first slot of a user's list.
FIRST_ITEM = "document.querySelector('td a').getAttribute('href')"


async def take(tab: Page, url: str) -> None:
    """Take all pictures."""
    await tab.call("Emulation.setScrollbarsHidden", hidden=True)
    item = ""
    for name, place, there, act, then, size, dark in (
        ("dashboard", "", OVERVIEW, "", "", (1440, 1000), False),
        ("dashboard-dark", "", OVERVIEW, "", "", (1440, 1000), True),
        ("dashboard-phone", "", OVERVIEW, "", "", (390, 844), False),
        ("dashboard-user", f"#/user/{USER}", OF_USER, FIRST_OPEN, "", (1440, 1000), False),
        ("dashboard-compared", f"#/user/{USER}", OF_USER, OTHER, COMPARED, (1440, 1000), False),
        ("dashboard-item", "", OF_ITEM, "", "", (1440, 480), False),
    ):
        await tab.look(*size, dark=dark, phone=size[0] < 500)
        await tab.goto("about:blank")
        await tab.goto(url + (place or (item if name == "dashboard-item" else "")))
        await tab.until(there)
        if name == "dashboard-user":
            item = await tab.value(FIRST_ITEM)
        if act:
            await tab.value(act)
        if then:
            await tab.until(then)
        await asyncio.sleep(6)  # points come every two seconds
        await tab.picture(DOCS / f"{name}.png")
        print(f"docs/{name}.png", flush=True)


async def main() -> int:
    """Run the demo and take the pictures; return its exit code."""
    command = [sys.executable, "-m", "headrace", "demo", "--seconds", str(SECONDS), "--rate", str(RATE)]
    command += ["--plain", "--no-open"]
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
