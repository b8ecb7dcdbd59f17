"""The public messages (JSON, UTF-8). Unknown fields are ignored; times are milliseconds since the epoch, UTC.

A field with a default is optional. Null for it is as if it were absent (``headrace.streams.messages.nulls``).
Types and ranges are checked while decoding (msgspec); ``check_*`` check what a type cannot express.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from headrace.streams.errors import RejectedError
from headrace.streams.messages import state

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Label = Annotated[str, Meta(max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
#: The year 2100, ms.
MAX_TS = 4_102_444_800_000
#: March 1973, ms. A smaller number is a time in seconds: every time of these days, in seconds, is below.
MIN_TS = 100_000_000_000
#: A time. Every time of every message has this type, so that one in the wrong unit is refused everywhere.
Millis = Annotated[int, Meta(ge=MIN_TS, le=MAX_TS)]
#: One number of a vector. The bounds leave out what is not finite; they are far beyond any embedding.
Component = Annotated[float, Meta(ge=-1e30, le=1e30)]
#: Duration of an item, ms.
Duration = Annotated[int, Meta(ge=0, le=MAX_TS)]
Surface = Literal["home", "related", "digest"]
EventType = Literal["click", "skip", "dwell", "like", "save", "follow", "hide"]
#: What a ``hide`` hides: the item, or the item and everything by its creator.
Scope = Literal["item", "creator"]

#: Most slots of all lists of a page; most characters of its ``request_id``.
MOST_OF_PAGE, LONGEST_OF_PAGE = 500, 62

#: Which records an answer must have (``state.py``).
StateToken = Annotated[str, Meta(max_length=state.LONGEST, pattern=state.PATTERN)]

#: What a user did with a shown slot (``models/slot_labels.py``).
SlotLabel = Literal["", "touched", "skipped", "passed", "unseen"]


class Context(Struct):
    """Country, device and age (years) of a user. All fields are optional; ``ts`` is only for requests."""

    country: Label = ""
    device: Label = ""
    ts: Millis | None = None
    age: Annotated[int, Meta(ge=0, le=150)] | None = None


class Event(Struct):
    """One thing a user did with an item."""

    event_id: Id
    type: EventType
    user_id: Id
    item_id: Id
    ts: Millis
    dwell_ms: Annotated[int, Meta(ge=0, le=86_400_000)] | None = None
    request_id: Annotated[str, Meta(max_length=64)] = ""
    position: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    surface: Surface | None = None
    context: Context = msgspec.field(default_factory=Context)
    scope: Scope = "item"


class Item(Struct):
    """One item of the catalogue."""

    item_id: Id
    published_ts: Millis
    title: Annotated[str, Meta(max_length=1000)] = ""
    category: Label = ""
    tags: Annotated[list[Label], Meta(max_length=64)] = []
    creator_id: Annotated[str, Meta(max_length=64)] = ""
    language: Label = ""
    duration_ms: Duration | None = None
    countries: Annotated[list[Label], Meta(max_length=300)] = []
    blocked_countries: Annotated[list[Label], Meta(max_length=300)] = []
    min_age: Annotated[int, Meta(ge=0, le=150)] = 0
    flags: Annotated[list[Label], Meta(max_length=64)] = []
    boost: Annotated[float, Meta(ge=0, le=100)] = 1.0
    vector: Annotated[list[Component], Meta(max_length=4096)] = []


class UserProfile(Struct):
    """The profile of a user, from the account service."""

    user_id: Id
    country: Label = ""
    age: Annotated[int, Meta(ge=0, le=150)] | None = None
    language: Label = ""
    preferred_categories: Annotated[list[Label], Meta(max_length=64)] = []
    followed_creators: Annotated[list[Label], Meta(max_length=5000)] = []


class AnyNone(Struct):
    """What a field of an item may be: one of ``any``, if it names something; and none of ``none``."""

    any: Annotated[list[Name], Meta(max_length=100)] = []
    none: Annotated[list[Name], Meta(max_length=100)] = []


class Filters(Struct):
    """Which items a list may have. Each filter that is given must hold.

    Of the tags of an item, one must be among ``tags.any``. An item without the field fits ``none``, and not
    ``any``. ``published_after``: only items that were published later.
    """

    category: AnyNone = msgspec.field(default_factory=AnyNone)
    creator: AnyNone = msgspec.field(default_factory=AnyNone)
    language: AnyNone = msgspec.field(default_factory=AnyNone)
    tags: AnyNone = msgspec.field(default_factory=AnyNone)
    published_after: Millis | None = None


class ListRequest(Struct):
    """One list of a page; see ``RecRequest.lists``. Without filters, it has those of the request."""

    surface: Surface
    n: Annotated[int, Meta(ge=1, le=500)] = 20
    item_id: Annotated[str, Meta(max_length=64)] = ""
    filters: Filters = msgspec.field(default_factory=Filters)


class RecRequest(Struct):
    """A request for a ranked list, or for the lists of a page."""

    request_id: Id
    user_id: Id
    surface: Surface
    n: Annotated[int, Meta(ge=1, le=500)] = 20
    item_id: Annotated[str, Meta(max_length=64)] = ""
    context: Context = msgspec.field(default_factory=Context)
    exclude: Annotated[list[Id], Meta(max_length=5000)] = []
    deadline_ms: Annotated[int, Meta(ge=1, le=60_000)] = 150
    explain: bool = False
    seen: Annotated[list[Id], Meta(max_length=500)] = []
    filters: Filters = msgspec.field(default_factory=Filters)
    candidates: Annotated[list[Id], Meta(max_length=500)] = []
    lists: Annotated[list[ListRequest], Meta(max_length=8)] = []
    at_least: StateToken = ""
    caller: Annotated[str, Meta(max_length=64)] = ""


class RecItem(Struct, omit_defaults=True):
    """One slot of a reply."""

    item_id: str
    score: float
    objectives: dict[str, float]
    sources: list[str]
    explored: bool
    propensity: float
    why: list[str] | None = None


class ModelInfo(Struct):
    """The versions of the models behind a reply; empty where there was no model yet."""

    ranker: str = ""
    online: str = ""
    variant: str = ""
    leaves: str = ""
    embeddings: str = ""
    settings: str = ""


class RecList(Struct, omit_defaults=True):
    """One list of a page; ``request_id`` is that of the list."""

    request_id: str
    items: list[RecItem] = []
    model: ModelInfo | None = None
    degraded: list[str] = []


class ErrorInfo(Struct, omit_defaults=True):
    """Why a reply has no list; ``retry_after_ms``: after which time to send the request again, if not 0."""

    code: str
    message: str
    field: str = ""
    retry_after_ms: int = 0


class RecReply(Struct, omit_defaults=True):
    """A reply: a list, the lists of a page, or an error that names the field.

    For a page, ``model`` is that of the first list, and ``degraded`` has what any of the lists lacks.
    ``state`` is the token of what is behind the reply (``state.py``).
    """

    request_id: str
    items: list[RecItem] = []
    model: ModelInfo | None = None
    degraded: list[str] = []
    took_ms: float = 0.0
    error: ErrorInfo | None = None
    lists: list[RecList] = []
    state: str = ""


class ShadowList(Struct):
    """What a ranker in the shadow would have shown, slot by slot.

    ``match``: the same item; ``value``: the score that the live ranker gives the shadow's item.
    """

    ranker: str
    match: Annotated[list[bool], Meta(max_length=500)]
    value: list[float]


class ShadowSlot(Struct):
    """One slot of a ``ShadowList``."""

    ranker: str
    match: bool
    value: float


class Unshown(Struct):
    """A sample of the candidates of a request that did not come onto its list. One entry for each of them.

    ``probabilities`` says how likely each was to be in the sample.
    """

    item_ids: Annotated[list[str], Meta(max_length=500)]
    probabilities: list[Annotated[float, Meta(gt=0, le=1)]]
    scores: list[float]
    features: bytes  # float32, little-endian, (n, n_features), base64 in JSON
    durations: list[Duration] = []  # of the items, ms; 0 for one without


class Impression(Struct):
    """The list shown for one request, with the feature values of its slots (one row per slot, spec order)."""

    request_id: str
    user_id: str
    surface: str
    ts: Millis
    country: str
    device: str
    ranker: str
    online: str
    spec: str
    item_ids: Annotated[list[str], Meta(max_length=500)]
    propensities: list[float]
    explored: list[bool]
    scores: list[float]
    features: bytes  # float32, little-endian, (n, n_features), base64 in JSON
    sources: list[list[str]] = []
    shadow: ShadowList | None = None
    unshown: Unshown | None = None  # of some of the requests
    durations: list[Duration] = []  # of the items, ms; 0 for one without
    leaves: str = ""  # version of the leaf deltas that the scores have; empty: none
    settings: str = ""  # version of the settings that it was made with; empty: those of the installation
    age_group: Annotated[int, Meta(ge=0, le=7)] = 0  # of the user (``ages.py``); 0: unknown


class Example(Struct):
    """One shown slot with its outcome: a training example.

    With ``unshown``, it is of a candidate that was not shown: the outcome is what its user did with the item
    without a list. ``position`` counts on after the slots, ``propensity`` is the probability of its
    being in the sample.

    ``label`` says what the user did with a shown slot: ``touched`` it, ``skipped`` it, ``passed`` it, or it
    was ``unseen``. It is empty for what was not shown, and in examples of older versions.
    """

    request_id: str
    user_id: str
    item_id: str
    surface: str
    position: Annotated[int, Meta(ge=0, le=10_000)]
    ts: Millis
    country: str
    device: str
    ranker: str
    spec: str
    propensity: float
    explored: bool
    score: float
    clicked: bool
    dwell_ms: Annotated[int, Meta(ge=0, le=86_400_000)]
    liked: bool
    hidden: bool
    features: bytes  # float32, little-endian, (n_features,)
    sources: list[str] = []
    shadow: ShadowSlot | None = None
    unshown: bool = False
    duration_ms: Duration = 0
    leaves: str = ""  # version of the leaf deltas that the score has; empty: none
    settings: str = ""  # version of the settings that its list was made with
    label: SlotLabel = ""


def check_event(event: Event, record_ts: int, lateness_ms: int, future_ms: int) -> None:
    """Raise ``RejectedError`` for faults that types cannot express: a missing field, too late, in the future.

    ``ts`` is compared with the timestamp of the record (the producer's send time), not with a clock. So every
    replay rejects the same events.

    Parameters
    ----------
    record_ts
        Timestamp of the record, ms.
    lateness_ms, future_ms
        How far ``event.ts`` may be before and after ``record_ts``, ms.
    """
    if event.type == "dwell" and event.dwell_ms is None:
        raise RejectedError("missing_field", "dwell_ms", "a dwell event needs dwell_ms")
    late = record_ts - event.ts
    if late > lateness_ms:
        raise RejectedError("too_late", "ts", f"ts is {late} ms before the record's timestamp")
    if -late > future_ms:
        raise RejectedError("from_the_future", "ts", f"ts is {-late} ms past the record's timestamp")


def check_request(request: RecRequest) -> None:
    """Raise ``RejectedError`` when a field that a surface needs is missing, or fields exclude each other.

    It is also raised when ``at_least`` is no token.
    """
    state.marks_of(request.at_least)
    if request.lists:
        _check_lists(request)
    elif request.surface == "related" and not request.item_id:
        raise RejectedError("missing_field", "item_id", "surface 'related' needs item_id")


def _check_lists(request: RecRequest) -> None:
    for at, one in enumerate(request.lists):
        if one.surface == "related" and not one.item_id:
            raise RejectedError("missing_field", f"lists[{at}].item_id", "surface 'related' needs item_id")
    total = sum(one.n for one in request.lists)
    if total > MOST_OF_PAGE:
        raise RejectedError("invalid_field", "lists", f"n of all lists is {total}, at most {MOST_OF_PAGE}")
    if request.candidates:
        raise RejectedError("invalid_field", "candidates", "candidates and lists exclude each other")
    if len(request.request_id) > LONGEST_OF_PAGE:
        text = f"with lists, at most {LONGEST_OF_PAGE} characters: each list adds its number"
        raise RejectedError("invalid_field", "request_id", text)
