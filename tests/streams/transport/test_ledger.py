"""The committed offset never passes batches in flight, for any order of delivery, acks and rebalances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.transport.batches import BatchMessage, RecordBatch
from headrace.streams.transport.ledger import OffsetLedger
from headrace.streams.transport.places import Place

P = ("events", 0)
Q = ("events", 1)


def test_nothing_is_committable_before_the_first_ack():
    ledger = OffsetLedger()
    assert ledger.committable(P) is None
    ledger.open(P, 99)
    assert ledger.committable(P) is None
    assert ledger.in_flight(P) == 1


def test_offset_after_the_longest_acked_prefix():
    #   [..99]  [..199]  [..299]
    #     3rd     1st      2nd     <- order of the acks
    ledger = OffsetLedger()
    a, b, c = (ledger.open(P, last) for last in (99, 199, 299))
    b.ack()
    assert ledger.committable(P) is None
    c.ack()
    assert ledger.committable(P) is None
    a.ack()
    assert ledger.committable(P) == 300
    assert ledger.in_flight(P) == 0
    assert ledger.committable(P) == 300, "asking again gives the same answer: a failed commit is tried again"


def test_holes_of_a_compacted_topic_need_no_attention():
    #   offsets 3, 17, 18 | 90 | 1000, 5000
    ledger = OffsetLedger()
    a, b, c = (ledger.open(P, last) for last in (18, 90, 5000))
    a.ack()
    b.ack()
    assert ledger.committable(P) == 91
    c.ack()
    assert ledger.committable(P) == 5001


def test_holes_at_the_end_belong_to_the_batch_before_them():
    #   0..9 | marker 10 | (compacted) ..19
    ledger = OffsetLedger()
    a = ledger.open(P, 9)
    ledger.skip(P, 11)
    ledger.skip(P, 20)
    ledger.skip(P, 20)
    assert ledger.committable(P) is None, "not before the batch is done"
    a.ack()
    assert ledger.committable(P) == 20
    ledger.skip(P, 25)  # nothing in flight
    assert ledger.committable(P) == 25
    assert ledger.partitions() == [P]
    b = ledger.open(P, 29)
    ledger.skip(P, 30)
    assert ledger.committable(P) == 25
    b.ack()
    assert ledger.committable(P) == 30


def test_a_partition_with_nothing_but_holes_is_read_to_its_end():
    ledger = OffsetLedger()
    ledger.skip(P, 7)
    assert ledger.partitions() == [P]
    assert ledger.committable(P) == 7
    assert ledger.in_flight(P) == 0


@pytest.mark.parametrize("offset", [50, 1000])
def test_a_seek_voids_what_is_in_flight_and_is_committed_itself(offset):
    ledger = OffsetLedger()
    old = ledger.open(P, 99)
    ledger.restart(P, offset)
    assert old.void
    old.ack()
    assert ledger.committable(P) == offset
    new = ledger.open(P, offset + 9)
    assert not new.void
    assert ledger.committable(P) == offset
    new.ack()
    assert ledger.committable(P) == offset + 10


def test_partitions_do_not_touch_each_other():
    ledger = OffsetLedger()
    ledger.open(P, 9)
    ledger.open(Q, 4).ack()
    assert ledger.committable(P) is None
    assert ledger.committable(Q) == 5


def test_ack_is_idempotent():
    ledger = OffsetLedger()
    a = ledger.open(P, 9)
    ledger.open(P, 19)
    a.ack()
    a.ack()
    assert ledger.committable(P) == 10


def test_late_ack_of_an_older_assignment_moves_nothing():
    ledger = OffsetLedger()
    old = ledger.open(P, 99)
    ledger.forget([P])
    again = ledger.open(P, 99)  # the same records, delivered again
    old.ack()
    assert ledger.committable(P) is None
    again.ack()
    assert ledger.committable(P) == 100


def test_forgetting_takes_back_what_was_committable():
    ledger = OffsetLedger()
    ledger.open(P, 99).ack()
    assert ledger.committable(P) == 100
    ledger.forget([P])
    assert ledger.committable(P) is None
    assert ledger.partitions() == []


def test_batches_out_of_order_are_refused():
    ledger = OffsetLedger()
    ledger.open(P, 99)
    with pytest.raises(ValueError, match="99 is in flight"):
        ledger.open(P, 99)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, 50)),
        st.tuples(st.just("ack"), st.integers(0, 30)),
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("rebalance"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_never_past_unfinished_work(script):
    ledger = OffsetLedger()
    tickets = []  # every one ever made, of any assignment
    current = []  # (ticket, first offset) of this assignment
    next_offset, committed = 0, 0
    for step, n in script:
        if step == "open":
            ticket = ledger.open(P, next_offset + n - 1)
            tickets.append(ticket)
            current.append((ticket, next_offset))
            next_offset += n
        elif step == "ack" and tickets:
            tickets[n % len(tickets)].ack()
        elif step == "ask":
            offset = ledger.committable(P)
            if offset is not None:
                unfinished = [first for ticket, first in current if not ticket.acked]
                assert offset <= min(unfinished, default=next_offset)
                assert offset >= committed
                committed = offset
        elif step == "rebalance":
            ledger.forget([P])
            current, next_offset = [], committed  # the next assignment starts at the committed offset


def test_every_way_in_which_faust_acks_hands_the_ticket_in():
    ledger = OffsetLedger()
    calls = []

    def message(last):
        m = BatchMessage("events", 0, last, 0.0, 0, None, None, RecordBatch("events", 0, [None]), None)
        m.ticket, m.on_acked = ledger.open(P, last), lambda: calls.append(last)
        return m

    class Consumer:  # what Faust's own ack does at the end of its bookkeeping
        def ack(self, m):
            m.acked = True
            return True

    shared, inlined = message(9), message(19)
    shared.incref(2)  # two agents read the topic
    assert not shared.ack(Consumer())
    assert ledger.committable(P) is None
    assert shared.ack(Consumer())
    assert ledger.committable(P) == 10
    inlined.acked = True  # the compiled stream iterator sets the attribute
    assert ledger.committable(P) == 20
    assert calls == [9, 19]


def test_after_a_turn_old_batches_make_no_offset_of_the_new_log_committable():
    ledger = OffsetLedger()
    a, b = ledger.open(P, 49, Place(50)), ledger.open(P, 99, Place(100))
    ledger.turn(P, Place(80, 20))
    c = ledger.open(P, 89, Place(90, 20))
    b.ack()
    c.ack()
    assert ledger.committable(P) is None
    assert not b.void, "its records are processed all the same"
    a.ack()
    assert ledger.committable(P) == 90
    assert ledger.place(P, 90) == Place(90, 20)
    assert ledger.place(P, 89) is None


def test_a_turn_takes_back_what_was_committable():
    ledger = OffsetLedger()
    ledger.open(P, 99, Place(100)).ack()
    assert (ledger.committable(P), ledger.place(P, 100)) == (100, Place(100))
    ledger.turn(P, Place(0, 100))
    assert (ledger.committable(P), ledger.place(P, 0)) == (0, Place(0, 100))
    ledger.forget([P])
    assert ledger.place(P, 0) is None
