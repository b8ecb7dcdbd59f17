"""The dashboard in a browser."""

from __future__ import annotations

from chromium import page
from dashboards import EVIL, People, dashboard, fill_board, lag_row, publish
from gateways import TOKEN
from installation import now_ms

from headrace.serving.monitor.board import Board

CHARTS = "document.querySelectorAll('.plot canvas').length"


def full_board() -> Board:
    board = Board()
    fill_board(board, now_ms(), 450)
    return board


async def test_the_overview_shows_what_is_and_what_is_wrong() -> None:
    board = full_board()
    async with dashboard(board) as url, page() as tab:
        await tab.look(1440, 1000)
        await tab.goto(f"{url}/")
        await tab.until(f"{CHARTS} >= 4")
        await tab.until("document.body.innerText.includes('all is well')")
        text = await tab.text()
        for words in (
            "ingest",
            "1.5 s",
            "\u22123/s",
            "aa11",
            "7.38 % \u2013 10.93 %",
            "serve",
            "live",
            "97 %",
            "surely -10 % to 30 %",
        ):
            assert words in text, words
        assert EVIL in text  # as text
        assert await tab.value("window.broken === undefined && document.querySelector('main img') === null")
        rows = [lag_row(verdict="STALL", records=900, seconds=90.0), lag_row("learn", deleted=5)]
        lag = {
            "verdict": "STALL",
            "rows": rows,
            "missing": ["log reads examples, which does not exist"],
            "error": "",
        }
        worker = {
            "worker": "serve:9464",
            "trouble": "does not answer",
            "roles": [],
            "cpu": None,
            "memory": None,
        }
        publish(board, now_ms(), ["lag:0"], lag=lag, workers=[worker])
        await tab.until("document.body.innerText.includes('needs somebody')")
        problems = await tab.value("document.querySelector('.problems').innerText")
        assert "ingest on events: stands still" in problems
        assert "5 records were deleted before it read them" in problems
        assert "log reads examples, which does not exist" in problems
        assert "serve:9464 does not answer" in problems
        assert tab.errors == []
        assert tab.asked
        assert all(asked.startswith(f"{url}/") for asked in tab.asked)


async def test_thirty_days_are_one_choice_away_and_new_points_are_drawn() -> None:
    board = full_board()
    async with dashboard(board) as url, page() as tab:
        await tab.look(1440, 1000)
        await tab.goto(f"{url}/")
        await tab.until(f"{CHARTS} >= 4")
        publish(board, now_ms() + 2000, ["lag:0", "lag:newcomer"])
        await tab.until("document.querySelector('.legend').innerText.includes('newcomer')")
        await tab.value("document.getElementById('range-30d').click()")
        await tab.until(
            "performance.getEntriesByType('resource').some((e) => e.name.endsWith('/history/30d'))"
        )
        await tab.until(f"{CHARTS} >= 4")
        assert await tab.value("sessionStorage.getItem('headrace-range')") == "30d"
        assert tab.errors == []


async def test_lag_that_is_old_says_so() -> None:
    board, note = full_board(), "[...document.querySelectorAll('.card .note')][1].innerText"
    lag = {"verdict": "OK", "rows": [lag_row()], "missing": [], "error": ""}
    async with dashboard(board) as url, page() as tab:
        await tab.goto(f"{url}/")
        at = now_ms()
        board.publish(at, lag={**lag, "at": at - 90_000})
        await tab.until(f"{note}.startsWith('seen 9')")
        board.publish(at, lag={**lag, "at": at + 600_000})
        await tab.until(f"{note} === 'ingest on events'")
        board.publish(at, lag={**lag, "at": at - 1000})
        await tab.until(f"{note}.startsWith('seen ')")  # no other one came
        board.publish(at + 60_000, workers=[])
        await tab.until(f"{note}.startsWith('seen 6')")  # other figures do not make it younger
        assert tab.errors == []


async def test_what_came_while_the_page_was_hidden_is_shown_when_it_is_seen_again() -> None:
    board = full_board()
    async with dashboard(board) as url, page() as tab:
        await tab.look(1440, 1000)
        await tab.goto(f"{url}/")
        await tab.until("document.body.innerText.includes('all is well')")
        await tab.call("Target.createTarget", url="about:blank")
        await tab.until("document.hidden")
        publish(board, now_ms(), ["lag:0"], lag={"error": "no broker answers"})
        await tab.until("document.getElementById('live').innerText.startsWith('no answer for')")
        assert "all is well" in await tab.text(), "nobody looks: nothing is drawn"
        await tab.call("Page.bringToFront")
        await tab.until("document.body.innerText.includes('no broker answers')")
        assert tab.errors == []


async def test_a_table_below_the_screen_is_written_when_it_comes_into_sight() -> None:
    board, workers = full_board(), "document.querySelector('[aria-label=Workers]')"
    worker = {"worker": "serve:9464", "trouble": "", "roles": ["serve"], "memory": 3e8}
    clicks = {"ranker": "aa11", "clicked": 90, "rate": 0.09, "low": 0.07, "high": 0.11}
    async with dashboard(board) as url, page() as tab:
        await tab.look(1440, 700)
        await tab.goto(f"{url}/")
        await tab.until(f"{workers}.textContent.includes('10 %')")  # the first figures are everywhere
        for cpu in range(20, 90):  # until the browser has told where the table is
            rows = [{**worker, "cpu": cpu / 100}]
            publish(board, now_ms(), ["lag:0"], workers=rows, clicks=[{**clicks, "shown": 3000 + cpu}])
            await tab.until(f"document.querySelector('.cards').innerText.includes('of 3,0{cpu} slots')")
            if f"{cpu} %" not in await tab.value(f"{workers}.textContent"):
                break
        else:
            raise AssertionError("a table that nobody sees is written again and again")
        await tab.value(f"{workers}.scrollIntoView()")
        await tab.until(f"{workers}.textContent.includes('{cpu} %')")
        assert tab.errors == []


async def test_a_user_and_an_item_are_found_by_keyboard_and_text_stays_text() -> None:
    people = People()
    async with dashboard(full_board(), people) as url, page() as tab:
        await tab.look(1280, 900, dark=True)
        await tab.goto(f"{url}/")
        await tab.until(f"{CHARTS} >= 1")
        await tab.press("/", "/")
        await tab.until("document.activeElement.id === 'id'")
        await tab.type("user-1")
        await tab.press("Enter")
        await tab.until("document.querySelector('h1')?.innerText === 'User user-1'")
        await tab.until("document.querySelectorAll('main summary').length === 4")
        text = await tab.text()
        assert text.count(EVIL) >= 4  # clicked, shown, a category, the list with its reason
        assert "#00000000000000ff" in text
        assert "Not all names could be looked up" in text
        assert "null" not in text
        assert people.listed == [("user-1", "home", "")]
        await tab.value("document.querySelector('main a').click()")
        await tab.until("document.querySelector('h1')?.innerText.startsWith('<img')")
        assert await tab.value("location.hash") == "#/item/item%2F1"
        assert await tab.value("document.activeElement.id") == "main"
        assert await tab.value("window.broken === undefined && document.querySelector('main img') === null")
        await tab.value("location.hash = '#/user/nobody'")
        await tab.until("document.body.innerText.includes('nothing is kept of this id')")
        answered = [error for error in tab.errors if "404" not in error]
        assert answered == []


CHOOSE = (
    "document.getElementById('model').value = '{}';"
    "document.getElementById('model').dispatchEvent(new Event('change'))"
)


async def test_the_list_of_another_ranker_is_beside_the_one_of_now_with_what_moved() -> None:
    people = People()
    async with dashboard(full_board(), people) as url, page() as tab:
        await tab.look(1280, 900)
        await tab.goto(f"{url}/#/user/user-1")
        await tab.until("document.querySelectorAll('#model option').length === 3")
        assert await tab.value("[...document.querySelectorAll('#model option')].map((o) => o.innerText)") == [
            "no other ranker",
            "aa11, live",
            "bb22, candidate, 10 %",
        ]
        await tab.value(CHOOSE.format("bb22"))
        await tab.until("document.body.innerText.includes('1 of 4 slots are the same')")
        rows = await tab.value(
            "[...document.querySelectorAll('[aria-label=\"The list now, and under bb22\"] tbody tr')]"
            ".map((r) => [...r.cells].map((c) => (c.querySelector('a') ?? c).innerText)"
            ".concat(r.querySelector('.verdict').innerText))"
        )
        assert rows == [
            ["1", EVIL, "i3", "0.250 \u2192 0.500", "up 2"],
            ["2", "two", "two", "0.250 \u2192 0.500", "same"],
            ["3", "i3", EVIL, "0.250 \u2192 0.500", "down 2"],
            ["4", "i4", "i9", "0.250 \u2192 0.500", "new"],
        ]
        assert "slots are the same, of the best 103 candidates" in await tab.text()
        assert "these are not on the other list:" in await tab.text()
        assert await tab.value("document.getElementById('model').value") == "bb22"
        assert await tab.value("window.broken === undefined && document.querySelector('main img') === null")
        await tab.value(CHOOSE.format(""))
        await tab.until("document.querySelectorAll('main summary').length === 4")
        assert people.listed == [("user-1", "home", model) for model in ("", "bb22", "")]
        assert tab.errors == []


async def test_the_first_tab_goes_to_the_content_and_everything_has_a_name() -> None:
    async with dashboard(full_board()) as url, page() as tab:
        await tab.look(1280, 900)
        await tab.goto(f"{url}/")
        await tab.until(f"{CHARTS} >= 1")
        await tab.press("Tab")
        assert await tab.value("document.activeElement.className") == "skip"
        nameless = await tab.value(
            "[...document.querySelectorAll('input, select, button, a, [role=region], [role=img], meter')]"
            ".filter((e) => "
            "!(e.labels?.length || e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)"
        )
        assert nameless == []
        assert await tab.value("[...document.querySelectorAll('table')].every((t) => t.caption?.textContent)")
        assert await tab.value("document.documentElement.lang") == "en"


async def test_it_fits_on_a_phone_in_both_themes() -> None:
    async with dashboard(full_board()) as url, page() as tab:
        await tab.look(360, 740, phone=True)
        for hash_ in ("#/", "#/user/user-1", "#/item/item%2F1"):
            await tab.goto(f"{url}/{hash_}")
            await tab.until("document.querySelector('main h2') !== null")
            assert await tab.value("document.documentElement.scrollWidth") <= 360
        await tab.goto(f"{url}/#/user/user-1")
        await tab.until("document.querySelectorAll('#model option').length === 3")
        await tab.value(CHOOSE.format("bb22"))
        await tab.until("document.body.innerText.includes('1 of 4 slots are the same')")
        assert await tab.value("document.documentElement.scrollWidth") <= 360
        colours = []
        for dark in (False, True):
            await tab.look(360, 740, phone=True, dark=dark)
            colours.append(await tab.until("getComputedStyle(document.body).backgroundColor"))
        assert colours[0] != colours[1]


async def test_the_token_is_asked_for_once_and_kept_in_the_tab() -> None:
    async with dashboard(full_board(), token=TOKEN) as url, page() as tab:
        await tab.look(1280, 900)
        await tab.goto(f"{url}/")
        await tab.until("document.getElementById('ask-token').open")
        assert "all is well" not in await tab.text()
        await tab.type(TOKEN)
        await tab.press("Enter")
        await tab.until("document.body.innerText.includes('all is well')")
        await tab.goto(f"{url}/#/user/user-1")
        await tab.until("document.querySelector('h1')?.innerText === 'User user-1'")
        assert not await tab.value("document.getElementById('ask-token').open")
        assert await tab.value("document.cookie") == ""


async def test_a_page_that_lost_its_server_says_so() -> None:
    async with page() as tab:
        async with dashboard(full_board()) as url:
            await tab.look(1280, 900)
            await tab.goto(f"{url}/")
            await tab.until("document.getElementById('live').innerText === 'live'")
        await tab.until("document.getElementById('live').innerText.startsWith('no answer for')")
