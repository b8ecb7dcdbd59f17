"""What callers demand in a chaos run: tokens, and the replies that must have what they name."""

from __future__ import annotations

from collections import Counter

from chaos_found import Found
from chaos_http import Http
from chaos_load import Limits, Load
from chaos_states import OLD_NUMBERS_S, Demands, Got, Stated, States, first_places, unstated
from chaos_strangers import expected_partition
from chaos_world import World

from headrace.streams.messages.state import marks_of

OWN = expected_partition(b"u", 4)
OTHER = (OWN + 1) % 4


Places = list[tuple[str, int, int]]
Copies = dict[tuple[str, int, int], tuple[str, int, int]]


def asked(at_least: str, *replies: Got, places: Places = (), copies: Copies | None = None) -> Demands:
    demands = Demands()
    firsts = first_places({("u", "e-1"): places}, copies or {}, 4)
    demands.ask(b"c-1", b'{"user_id": "u", "at_least": "%b"}' % at_least.encode())
    for reply in replies:
        demands.answer(b"c-1", reply, 4, firsts, "events")
    return demands


def test_a_reply_has_the_record_or_says_that_it_has_not() -> None:
    token = f"1.e{OWN}-17"
    there = [Got(f"1.e{OWN}-17.u{OWN}-3.mff"), Got(f"1.e{OWN}-18"), Got(degraded=["online", "state"])]
    fine = asked(token, *there, Got(error=Stated("rate_limited", 10)), Got("", ["user"]))
    assert (fine.reflected, fine.not_yet, fine.unnamed, fine.behind) == (2, 1, 1, [])
    for bad in (Got(f"1.e{OWN}-16"), Got("1.mff"), Got(f"1.u{OWN}-17"), Got(f"1.e{OTHER}-20"), Got()):
        demands = asked(token, bad)
        assert [name for name, _ in demands.behind] == [b"c-1"], bad
        assert demands.unmet()


def test_a_record_in_a_wrong_partition_counts_where_it_first_arrived() -> None:
    copies: Copies = {("events", OWN, 40): ("events", OTHER, 7), ("events", OWN, 30): ("events", OTHER, 7)}
    places, token = [("events", OTHER, 7), *copies], f"1.e{OTHER}-7"
    fine = asked(token, Got(f"1.e{OWN}-30"), places=places, copies=copies)
    assert (fine.elsewhere, fine.behind, fine.unmet()) == (1, [], [])
    assert asked(token, Got(f"1.e{OWN}-29"), places=places, copies=copies).behind


def test_a_record_of_an_event_that_was_there_before_is_behind_a_reply_with_the_first_one() -> None:
    places, token = [("events", OWN, 9), ("events", OWN, 17), ("events", OTHER, 3)], f"1.e{OWN}-17"
    fine = asked(token, Got(f"1.e{OWN}-9"), places=places)
    assert (fine.reflected, fine.behind) == (1, [])
    assert asked(token, Got(f"1.e{OWN}-8"), places=places).behind
    assert asked(f"1.e{OTHER}-3", Got(f"1.e{OWN}-8"), places=places).behind
    assert asked(f"1.u{OWN}-17", Got(f"1.e{OWN}-17.u{OWN}-16"), places=places).behind
    nowhere = asked(f"1.e{OTHER}-3", Got(f"1.e{OWN}-8"), places=[("events", OTHER, 3)])
    assert (nowhere.reflected, nowhere.behind) == (1, [])


def test_no_token_is_demanded_that_may_have_the_numbers_of_the_log_before() -> None:
    now = [100.0]
    states = States(1, lambda: now[0])
    states.seen(7, f"1.e{OWN}-17")
    assert states.one() == (7, f"1.e{OWN}-17")
    states.made_again()
    assert states.one() is None
    now[0] += OLD_NUMBERS_S - 0.1
    states.seen(7, f"1.e{OWN}-18")
    assert states.one() is None
    now[0] += 0.1
    states.seen(7, f"1.e{OWN}-3")
    assert states.one() == (7, f"1.e{OWN}-3")
    assert {states.demand() for _ in range(200)} == {"reply", ""}


def test_users_who_were_forgotten_have_nothing_behind_their_replies() -> None:
    found = Found(demands=asked(f"1.e{OWN}-17", Got("1")))
    assert len(found.problems()) == 1
    found.forgotten = {b"u"}
    assert found.problems() == []


def test_every_reply_is_a_list_or_an_error_that_says_what_to_do() -> None:
    good = [(b"a", False, None), (b"b", True, Stated("too_large")), (b"c", False, Stated("overloaded", 9))]
    assert unstated(good) == []
    bad = [
        (b"a", True, None),
        (b"b", False, Stated("internal")),
        (b"c", False, Stated("rate_limited")),
        (b"d", True, Stated()),
    ]
    assert [name for name, _ in unstated(bad)] == [b"a", b"b", b"c", b"d"]
    assert Found(verdicts=bad).errors() == {"internal": 1, "rate_limited": 1, "": 1}


def test_callers_demand_states_of_replies_and_events_some_in_wrong_partitions() -> None:
    states, again = States(1), States(1)
    states.seen(3, "1.mff")
    assert states.one() is None
    states.seen(3, "1.e0-5.mff")
    again.seen(3, "1.e0-5.mff")
    assert states.one() == again.one() == (3, "1.e0-5.mff")
    demands = [states.demand() for _ in range(1000)]
    assert demands == [again.demand() for _ in range(1000)]
    assert min(Counter(demands).values()) > 100
    partitions = Counter(states.partition(b"u", 4) for _ in range(1000))
    assert len(partitions) == 4
    assert partitions[OWN] > 500
    states.made_again()
    assert states.one() is None
    assert marks_of("1.e0-5.mff")


def test_what_the_gateway_said_of_events_is_compared_with_the_topic() -> None:
    load = Load(1, World(1, 10, 10), Limits(1, 1, 1, 1))
    http = Http(1, "http://127.0.0.1:1", load, States(1), lambda: 0)
    http.answers["list"] = 1
    http.taken, http.refused = {"a": (0, 5), "b": (1, -1)}, {"c"}
    found = Found(by_http={"a": [("events", 0, 5)], "b": [("events", 1, 8)]})
    assert http.compare(found) == []
    found.by_http["a"] = [("events", 0, 6)]
    found.by_http["c"] = [("events", 0, 7)]
    assert len(http.compare(found)) == 2


def test_after_a_topic_was_made_again_no_state_of_an_event_is_demanded() -> None:
    states = States(1)
    assert {states.demand() for _ in range(200)} == {"", "reply", "event"}
    states.seen(3, "1.e0-5")
    states.made_again()
    assert states.one() is None
    assert {states.demand() for _ in range(200)} == {"", "reply"}
