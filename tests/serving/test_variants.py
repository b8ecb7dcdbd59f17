"""Settings that differ from user to user: which may, what they do, and who gets them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from strategies import T0, record
from worlds import World, item, request

from headrace.models.learning import pointers, tried_settings
from headrace.models.learning.arms import CANDIDATE, arm_of
from headrace.models.learning.kinds import SETTINGS
from headrace.models.learning.pointers import Pointers
from headrace.models.outcomes import examples_of
from headrace.serving.mirrors import Mirrors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.variants import Variants
from headrace.serving.varied import NAMES, RULES, parse, varied
from headrace.streams.errors import ArtefactError, ConfigError
from headrace.streams.settings import Settings

OURS = Settings(
    rules={"epsilon": "0", "welcome": "0", "fresh_share": "0"}, parts={"source:hot": "off"},
    part_ms=60_000, candidates_ms=60_000,  # a busy machine leaves nothing out
)  # fmt: skip
BASE, TRIED = {}, {"strength": "0.9", "epsilon": "1", "candidates": "7", "source:trending": "off"}


def texts(*changes: dict[str, str]) -> tuple[list[Any], list[str]]:
    """Return records with settings, and their versions."""
    made = [tried_settings.encode(each, T0) for each in changes]
    return [record(value, key=SETTINGS.key(version)) for value, version in made], [v for _, v in made]


def pointed(number: int, live: str, candidate: str = "", share: int = 0) -> Any:
    found = Pointers(number, live, candidate=candidate, share=share, rollout=candidate and f"{candidate}-1")
    return record(pointers.encode(found), key=SETTINGS.pointers)


def test_what_is_written_is_what_is_meant() -> None:
    words = ["strength=0.5", "HEADRACE_RULES=epsilon=0.05, diversity=dpp", "HEADRACE_CANDIDATES=300"]
    words += ["HEADRACE_PARTS=source:hot=100", " source:new = off "]
    assert parse(words) == {
        "strength": "0.5",
        "epsilon": "0.05",
        "diversity": "dpp",
        "candidates": "300",
        "source:hot": "100",
        "source:new": "off",
    }
    for word in ("strength", "=1", "strength=", ""):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            parse([word])


def test_each_setting_changes_its_number_and_no_other() -> None:
    plain = Policy.of(OURS)
    assert varied(OURS, {}) == plain
    assert varied(OURS, {"strength": "0.9"}) == replace(plain, rules=replace(plain.rules, strength=0.9))
    assert varied(OURS, {"candidates": "7"}) == replace(plain, candidates=7)
    assert varied(OURS, {"source:new": "9"}) == replace(plain, sizes={"new": 9})
    for name, value in {
        "fresh_hours": "1",
        "fresh_shown": "3",
        "tail_clicks": "3",
        "clicked_rest_s": "5",
        "shown_rest_s": "5",
    }.items():
        assert varied(OURS, {name: value}) != plain
    assert {"strength", "epsilon", "thompson", "fresh_share", "category_at_most"} <= set(RULES)
    assert set(NAMES) <= set(Settings.model_fields)
    assert not set(NAMES) & set(RULES)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("mmr_lambda", "0.5", "'mmr_lambda' cannot differ from user to user; what can: .*strength"),
        ("brokers", "elsewhere:9092", "cannot differ"),
        ("partitions", "8", "cannot differ"),
        ("filter:age", "off", "cannot differ"),
        ("strength", "much", "strength='much'"),
        ("strength", "1.5", "strength is from 0 to 1"),
        ("diversity", "lots", "mmr, dpp or none"),
        ("candidates", "0", "candidates='0'"),
        ("candidates", "many", "candidates='many'"),
        ("shown_most", "2.5", "shown_most"),
        ("source:hot", "100", "no source of this installation, or it is off"),
        ("source:nowhere", "100", "no source"),
        ("source:new", "-1", "off, or a number"),
        ("source:new", "1000000", "off, or a number up to"),
    ],
)
def test_a_wrong_name_or_value_is_refused_and_the_reason_names_it(name: str, value: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        varied(OURS, {name: value})


def test_the_same_settings_have_the_same_version_and_nothing_else_is_read() -> None:
    one, version = tried_settings.encode({"a": "1", "b": "2"}, 5)
    assert tried_settings.encode({"b": "2", "a": "1"}, 6)[1] == version
    assert tried_settings.encode({"b": "2"}, 5)[1] != version
    assert tried_settings.decode(one) == {"a": "1", "b": "2"}
    for value in (b"", b"{}", one.replace(b'"settings"', b'"ranker"', 1)):
        with pytest.raises(ArtefactError):
            tried_settings.decode(value)


def world() -> tuple[World, Mirrors]:
    out = World()
    out.recommender = Recommender(Policy.of(OURS), settings=OURS)
    for n in range(60):
        out.publish(item(n))
    return out, Mirrors(out.recommender)


def answers(some: World, users: int = 120) -> dict[str, Any]:
    return {f"u{n}": some.answer(request(f"u{n}", request_id=f"r{n}", n=5)) for n in range(users)}


def test_a_share_of_the_users_gets_them_and_reply_and_log_say_so() -> None:
    some, mirrors = world()
    records, (base, tried) = texts(BASE, TRIED)
    before = answers(some)
    assert {a.reply.model.settings for a in before.values()} == {""}
    mirrors.models([*records, pointed(1, base, tried, 50)])
    for user, answer in answers(some).items():
        theirs = arm_of(user, f"{tried}-1", 50) == CANDIDATE
        shown = answer.impression
        assert answer.reply.model.settings == shown.settings == (tried if theirs else base)
        assert {e.settings for e in examples_of(shown, {})} == {shown.settings}
        assert any(shown.explored) is theirs, "everything is drawn by chance, or nothing"
        assert len(answer.ranked.score) <= 7 or not theirs
        if not theirs:
            assert answer.reply.items == before[user].reply.items
    mirrors.models([pointed(2, base)])
    after = answers(some)
    assert {a.reply.model.settings for a in after.values()} == {base}
    assert [a.reply.items for a in after.values()] == [a.reply.items for a in before.values()]


def test_a_source_that_is_off_for_some_proposes_nothing_to_them() -> None:
    some, mirrors = world()
    records, (base, tried) = texts(BASE, {"source:catalog": "off", "source:new": "3"})
    mirrors.models([*records, pointed(1, base, tried, 50)])
    found: dict[str, set[str]] = {base: set(), tried: set()}
    most = {base: 0, tried: 0}
    for answer in answers(some).values():
        pool = answer.ranked.pool
        named = [pool.sources(i) for i in range(len(pool.mask))]
        version = answer.reply.model.settings
        found[version] |= {name for names in named for name in names}
        most[version] = max(most[version], sum("new" in names for names in named))
    assert "catalog" not in found[tried]
    assert most[tried] == 3 < most[base]


def test_processes_agree_and_users_stay_while_the_share_grows() -> None:
    records, (base, tried) = texts(BASE, TRIED)
    one, other = (
        Variants(lambda changes: varied(OURS, changes)),
        Variants(lambda changes: varied(OURS, changes)),
    )
    users, before = [f"u{n}" for n in range(2000)], set[str]()
    for number, share in enumerate((1, 10, 50), 1):
        change = [*records, pointed(number, base, tried, share)]
        one.apply(change)
        for each in change:
            other.apply([each])
        got, theirs = ({u for u in users if some.of(u) == some.candidate} for some in (one, other))
        assert got == theirs
        assert before <= got
        assert len(got) == pytest.approx(20 * share, abs=25 + 2 * share)
        before = got
    kept = one.candidate
    one.apply([pointed(9, base, tried, 10)])
    assert one.candidate is kept, "a variant is made once"


def test_the_shares_of_a_ranker_and_of_settings_have_nothing_to_do_with_each_other() -> None:
    users = [f"u{n}" for n in range(8000)]
    both = [(arm_of(u, "a" * 12 + "-3", 50), arm_of(u, "b" * 12 + "-3", 50)) for u in users]
    together = sum(arms == (CANDIDATE, CANDIDATE) for arms in both)
    assert together == pytest.approx(2000, abs=200)


def test_settings_that_do_not_fit_here_are_logged_and_used_for_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    some, mirrors = world()
    records, (base, bad) = texts(BASE, {"source:hot": "100"})  # it is off here
    with caplog.at_level(logging.ERROR):
        mirrors.models([*records, pointed(1, base, bad, 50)])
        mirrors.models([pointed(2, base, bad, 10)])
    assert {a.reply.model.settings for a in answers(some, 40).values()} == {base}
    refused = [r for r in caplog.records if getattr(r, "action", "") == "settings_refused"]
    assert len(refused) == 1
    assert "it is off" in refused[0].getMessage()
    plain = World(5)
    Mirrors(plain.recommender).models([*records, pointed(1, base)])
    assert plain.answer(request("u", n=2)).reply.model.settings == ""  # type: ignore[union-attr]


def test_how_long_clicked_items_rest_can_differ() -> None:
    some, mirrors = world()
    records, (base, tried) = texts(BASE, BASE | {"clicked_rest_s": "0"})
    mirrors.models([*records, pointed(1, base, tried, 50)])
    users = [f"u{n}" for n in range(40)]
    for user in users:
        some.click(user, 3)
    again: dict[str, set[bool]] = {}
    for user in users:
        reply = some.answer(request(user, n=60)).reply
        assert reply.model
        again.setdefault(reply.model.settings, set()).add("repeated" in reply.degraded)
    assert again == {base: {True}, tried: {False}}
